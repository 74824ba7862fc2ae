//! Making and refreshing a lock file.

use std::path::PathBuf;

use crate::dockerfile::suggest;
use crate::operations::build::{BuildRequest, Interrupt, Project};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, PullPolicy, Session};

use super::difference::{LockChange, difference};
use super::file::LockFile;
use super::pins::Pins;

/// What to lock, and how.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// The Dockerfile and what decides about its bases. Without platforms, those of the lock file
    /// count, else this machine's.
    pub build: BuildRequest,
    /// Which entries are looked up though the file has them.
    pub refresh: Refresh,
    /// Whether the file is written.
    pub mode: LockMode,
}

/// Which entries of a lock file are looked up anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// None: only what the file lacks is looked up.
    Nothing,
    /// Those of these names.
    Names(Vec<String>),
    /// All.
    All,
}

/// Whether a lock file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// It is.
    Write,
    /// It is only said in what it would differ.
    Check,
}

/// What a lock file has become, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockReport {
    /// The file.
    pub path: PathBuf,
    /// What has changed, by name.
    pub changes: Vec<LockChange>,
    /// How many entries it has.
    pub count: usize,
    /// Whether its text differs, or did before it was written.
    pub has_drifted: bool,
}

/// Looks up what a Dockerfile starts from and adds, and keeps it in its lock file.
///
/// # Errors
///
/// The Dockerfile's faults with their place, a base that does not exist, a damaged lock file. The file
/// is then as it was.
pub async fn lock(
    session: &Session,
    request: LockRequest,
    interrupt: &Interrupt,
) -> Result<LockReport, Error> {
    let LockRequest { mut build, refresh, mode } = request;
    build.pull = PullPolicy::Always;
    let platforms_are_given = !build.platforms.is_empty();
    let mut project = Project::open(session, build, interrupt).await?;
    let Some(path) = project.pins().path.clone() else {
        let message = "a Dockerfile that is in no directory has no place for a lock file";
        return Err(Error::new(Kind::Settings, message).hint("name one by `--lock-file FILE`"));
    };
    let old = project.pins().file.clone().unwrap_or_default();
    if !platforms_are_given {
        project.use_locked_platforms()?;
    }
    project.use_pins(Pins { path: Some(path.clone()), file: Some(kept(&old, &refresh)) });
    let survey = project.survey().await?;
    let new = project.lock(survey).await?;
    if let Refresh::Names(names) = &refresh {
        check_names(names, &old, &new)?;
    }
    let has_drifted = !path.exists() || old != new;
    let count = new.images.len() + new.files.len() + new.repositories.len();
    let changes = difference(&old, &new);
    if has_drifted && mode == LockMode::Write {
        let path = path.clone();
        blocking(move || {
            new.write(&path).map_err(|error| {
                let message = format!("failed to write the lock file `{}`", path.display());
                Error::new(Kind::User, message).because(error)
            })
        })
        .await?;
    }
    Ok(LockReport { path, changes, count, has_drifted })
}

/// Returns what of a lock file still counts.
fn kept(old: &LockFile, refresh: &Refresh) -> LockFile {
    let mut kept = match refresh {
        Refresh::All => {
            return LockFile { platforms: old.platforms.clone(), ..LockFile::default() };
        }
        Refresh::Nothing | Refresh::Names(_) => old.clone(),
    };
    if let Refresh::Names(names) = refresh {
        let is_named = |names: &[String], name: &str| names.iter().any(|other| other == name);
        kept.images.retain(|name, _| !names.iter().any(|other| is_image(other, name)));
        kept.files.retain(|address, _| !is_named(names, address.shown()));
        kept.repositories.retain(|address, _| !is_named(names, address.shown()));
    }
    kept
}

fn is_image(text: &str, name: &crate::image::Reference) -> bool {
    text.parse::<crate::image::Reference>().is_ok_and(|reference| reference.or_latest() == *name)
}

/// Refuses a name to refresh that nothing has.
fn check_names(names: &[String], old: &LockFile, new: &LockFile) -> Result<(), Error> {
    let mut known: Vec<String> = Vec::new();
    for lock in [old, new] {
        known.extend(lock.images.keys().map(crate::image::Reference::familiar));
        let addresses = lock.files.keys().chain(lock.repositories.keys());
        known.extend(addresses.map(|address| address.shown().to_owned()));
    }
    let is_known = |name: &String| {
        known.contains(name)
            || [old, new].iter().any(|lock| lock.images.keys().any(|image| is_image(name, image)))
    };
    let Some(unknown) = names.iter().find(|name| !is_known(name)) else { return Ok(()) };
    let message = format!("nothing is called `{unknown}` that could be locked");
    let hint = match suggest(unknown, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if std::path::Path::new(unknown).exists() => {
            format!("name the build context before the names: `rpub lock {unknown} --update`")
        }
        None => format!("there is {}", known.join(", ")),
    };
    Err(Error::new(Kind::Settings, message).hint(hint))
}
