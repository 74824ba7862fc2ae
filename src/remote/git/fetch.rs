//! Commits on their way into the bare repository.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;

use super::program::Program;
use super::references::Resolved;
use crate::remote::{Error, Kind, Result};

/// How long a fetch may take.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// How long git may take for what needs no other side.
pub(super) const LOCAL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Brings what `resolved` means into `repository`, unless it is there, and returns its commit.
pub(super) fn fetch(
    program: &Program<'_>,
    repository: &Path,
    resolved: &Resolved,
) -> Result<String> {
    if !repository.join("HEAD").exists() {
        fs::create_dir_all(repository)?;
        program.local(repository, &["init", "--quiet", "--bare", "--template="], LOCAL_LIMIT)?;
    }
    let object = &resolved.object;
    if let Some(commit) = commit_of(program, repository, object)? {
        return Ok(commit);
    }
    // We hold the entry's lock, so these are of a git that was killed.
    for left in ["shallow.lock", "packed-refs.lock"] {
        let _ = fs::remove_file(repository.join(left));
    }
    let mut last = None;
    for specs in ways(repository, resolved) {
        let mut args = vec!["fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head"];
        args.extend(specs.options.iter().copied());
        args.extend(["--", program.remote()]);
        args.extend(specs.references.iter().map(String::as_str));
        match program.transfer(repository, &args, LIMIT) {
            Ok(_) => last = None,
            // Another way would fail as well.
            Err(
                error @ (Error::Git { kind: Kind::Denied | Kind::Network, .. }
                | Error::GitTimeout { .. }
                | Error::NoGit(_)
                | Error::Canceled),
            ) => return Err(error),
            Err(error) => last = Some(error),
        }
        if let Some(commit) = commit_of(program, repository, object)? {
            let name = format!("refs/rpub/{object}");
            program.local(repository, &["update-ref", &name, object], LOCAL_LIMIT)?;
            return Ok(commit);
        }
    }
    Err(last.unwrap_or_else(|| Error::NoReference {
        remote: program.shown().to_owned(),
        reference: object.clone(),
    }))
}

/// One way to fetch.
struct Way {
    options: Vec<&'static str>,
    references: Vec<String>,
}

/// Returns the ways to get an object, the cheapest first: by its branch or tag, which every server
/// allows; by its name, which not all do; with everything else, which also suits servers that know
/// nothing of shallow histories.
fn ways(repository: &Path, resolved: &Resolved) -> Vec<Way> {
    let shallow = vec!["--depth=1"];
    let mut ways = Vec::new();
    if let Some(name) = &resolved.name {
        let references = vec![format!("+{name}:refs/rpub/fetched")];
        ways.push(Way { options: shallow.clone(), references });
    }
    let object = &resolved.object;
    ways.push(Way { options: shallow, references: vec![format!("+{object}:refs/rpub/fetched")] });
    let is_shallow = repository.join("shallow").exists();
    let references =
        ["+refs/heads/*:refs/rpub/heads/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned);
    ways.push(Way {
        options: if is_shallow { vec!["--unshallow"] } else { Vec::new() },
        references: references.to_vec(),
    });
    ways
}

/// Returns the commit that `object` is or names; `None` when it is not there.
fn commit_of(program: &Program<'_>, repository: &Path, object: &str) -> Result<Option<String>> {
    let name = format!("{object}^{{commit}}");
    let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &name];
    match program.local(repository, &args, LOCAL_LIMIT) {
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output).trim().to_owned())),
        Err(Error::Git { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
