//! Outputs `local` and `tar`: an image's files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::image::Platform;
use crate::layer::{
    self, Applied, ApplyOptions, Entry, EntryKind, LayerTar, Leftover, Merge, Ownership, Times,
    apply, place,
};
use crate::operations::stage::{Stage, remove_abandoned};
use crate::operations::{Error, Kind};

use super::choice::Choice;
use super::destination::write_to;
use super::spec::{OutputKind, Split};

/// The files of one platform's image.
pub(in crate::operations::build) struct PlatformFiles {
    pub(in crate::operations::build) platform: Platform,
    pub(in crate::operations::build) files: Merge,
}

/// Writes files as the output of `choice` says; returns what could not be reproduced. Blocks.
pub(in crate::operations::build) fn write_files(
    platforms: &[PlatformFiles],
    choice: &Choice,
    stdout: Option<&Arc<File>>,
) -> Result<Vec<String>, Error> {
    let is_split = |split: Split| match split {
        Split::IfSeveral => platforms.len() > 1,
        Split::Always => true,
        Split::Never => false,
    };
    match &choice.kind {
        OutputKind::Local { directory, split, leftover } => {
            let prefixes = prefixes(platforms, is_split(*split))?;
            let about =
                |error: Error| error.about(format!("failed to write to `{}`", directory.display()));
            write_directory(platforms, &prefixes, choice.times, directory, *leftover).map_err(about)
        }
        OutputKind::Tar { to, split } => {
            let prefixes = prefixes(platforms, is_split(*split))?;
            let write = |out: &mut dyn Write| write_tar(platforms, &prefixes, choice.times, out);
            write_to(to, stdout, write).map(|()| Vec::new())
        }
        OutputKind::Archive { .. } | OutputKind::Layout { .. } | OutputKind::Image(_) => {
            Ok(Vec::new())
        }
    }
}

/// Returns the directory of each platform: `linux_arm_v7`, or none. Without directories, no two
/// platforms may have the same file.
fn prefixes(platforms: &[PlatformFiles], is_split: bool) -> Result<Vec<PathBuf>, Error> {
    if is_split {
        let name = |files: &PlatformFiles| files.platform.to_string().replace('/', "_").into();
        return Ok(platforms.iter().map(name).collect());
    }
    let mut owners: BTreeMap<PathBuf, &Platform> = BTreeMap::new();
    if platforms.len() > 1 {
        for PlatformFiles { platform, files } in platforms {
            for path in files.paths_of_files() {
                if let Some(other) = owners.insert(path.clone(), platform) {
                    let path = path.display();
                    let message = format!(
                        "cannot overwrite `{path}` of {other} with that of {platform} when \
                         platform-split is disabled"
                    );
                    return Err(Error::new(Kind::User, message));
                }
            }
        }
    }
    Ok(vec![PathBuf::new(); platforms.len()])
}

fn write_tar(
    platforms: &[PlatformFiles],
    prefixes: &[PathBuf],
    times: Times,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut tar = LayerTar::new(out);
    for (PlatformFiles { files, .. }, prefix) in platforms.iter().zip(prefixes) {
        if !prefix.as_os_str().is_empty() {
            let mut directory = Entry::new(prefix.clone(), EntryKind::Directory, 0o755);
            directory.mtime = times.of(jiff::Timestamp::now().as_second());
            tar.append(&directory, None)?;
        }
        files.write(times, prefix, &mut tar)?;
    }
    tar.finish()?;
    Ok(())
}

/// Unpacks into a directory below `directory`, so that nothing of it changes when that fails, and
/// moves the files to their places.
fn write_directory(
    platforms: &[PlatformFiles],
    prefixes: &[PathBuf],
    times: Times,
    directory: &Path,
    leftover: Leftover,
) -> Result<Vec<String>, Error> {
    let failed = |what: &str, error: io::Error| Error::new(Kind::User, what).because(error);
    fs_err::create_dir_all(directory).map_err(|e| failed("the directory cannot be made", e))?;
    remove_abandoned(directory);
    let mut warnings = Vec::new();
    let mut leftover = leftover;
    let staging =
        || Stage::new(directory).map_err(|e| failed("no file can be made in the directory", e));
    let is_split = prefixes.iter().any(|prefix| !prefix.as_os_str().is_empty());
    let mut stage = staging()?;
    for (position, (PlatformFiles { files, .. }, prefix)) in
        platforms.iter().zip(prefixes).enumerate()
    {
        let target = stage.path().join(prefix);
        fs_err::create_dir_all(&target).map_err(|e| failed("the directory cannot be made", e))?;
        warnings.extend(unpack(files, times, &target)?);
        if is_split {
            set_mode(&target)?;
            continue;
        }
        place(stage.path(), directory, leftover)?;
        leftover = Leftover::Keep;
        if position + 1 < platforms.len() {
            stage = staging()?;
        }
    }
    if is_split {
        place(stage.path(), directory, leftover)?;
    }
    Ok(warnings)
}

/// A platform's directory is an ordinary one.
fn set_mode(path: &Path) -> Result<(), Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(path, mode)
        .map_err(|error| Error::new(Kind::User, "failed to set a directory's mode").because(error))
}

/// Unpacks into the empty directory `target`, with owners as far as the user may give them.
fn unpack(files: &Merge, times: Times, target: &Path) -> Result<Vec<String>, Error> {
    if rustix::process::geteuid().is_root() {
        match unpack_with(files, times, target, Ownership::Set) {
            // Root of a user namespace that lacks this id.
            Err(layer::Error::Owner { .. }) => {
                fs_err::remove_dir_all(target)
                    .and_then(|()| fs_err::create_dir(target))
                    .map_err(|e| Error::new(Kind::User, "failed to start anew").because(e))?;
                let applied = unpack_with(files, times, target, Ownership::Ignore)?;
                let mut warnings = vec!["the files' owners could not be set".to_owned()];
                warnings.extend(said(&applied));
                return Ok(warnings);
            }
            applied => return Ok(said(&applied?)),
        }
    }
    Ok(said(&unpack_with(files, times, target, Ownership::Ignore)?))
}

fn said(applied: &Applied) -> Vec<String> {
    let warnings = applied.warnings.iter();
    warnings.map(|warning| format!("{}: {}", warning.path.display(), warning.what)).collect()
}

/// Writes a tar on one end of a pipe and unpacks it at the other.
fn unpack_with(
    files: &Merge,
    times: Times,
    target: &Path,
    ownership: Ownership,
) -> layer::Result<Applied> {
    let (reader, writer) = io::pipe().map_err(layer::Error::ReadTar)?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let mut tar = LayerTar::new(writer);
            files.write(times, Path::new(""), &mut tar)?;
            tar.finish().map(|_| ())
        });
        let options = ApplyOptions { ownership, ..ApplyOptions::default() };
        // The reader goes with the call, so that a writer whose tar is refused does not wait.
        let applied = apply(reader, target, &options);
        match (written.join(), applied) {
            // A broken pipe only says that unpacking failed.
            (Ok(Err(error)), Ok(_)) => Err(error),
            (Ok(Err(error)), Err(layer::Error::Truncated { .. } | layer::Error::ReadTar(_))) => {
                Err(error)
            }
            (_, applied) => applied,
        }
    })
}
