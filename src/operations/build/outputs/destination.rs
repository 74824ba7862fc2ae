//! Writing to a file or to standard output: whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::operations::{Error, Kind};

use super::choice::is_special;
use super::spec::Destination;

/// Lets `write` write to `to`. A file gets its name when it is complete. Whoever reads standard
/// output may stop at any time: that is no error. Blocks.
pub(super) fn write_to(
    to: &Destination,
    stdout: Option<&Arc<File>>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    match (to, stdout) {
        (Destination::File(path), _) if is_special(path) => {
            let file = fs_err::OpenOptions::new().write(true).open(path);
            let mut file = file.map_err(|error| failed(path).because(error))?;
            write(&mut file).map_err(|error| about(path, error))
        }
        (Destination::File(path), _) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            let mut file = tempfile::Builder::new()
                .prefix(".rpub-output-")
                .tempfile_in(directory)
                .map_err(|error| failed(path).because(error))?;
            write(&mut file).map_err(|error| about(path, error))?;
            let mode = std::fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(mode).map_err(|error| failed(path).because(error))?;
            file.persist(path).map_err(|error| failed(path).because(error.error))?;
            Ok(())
        }
        (Destination::Stdout, stdout) => {
            let mut stdout = standard_output(stdout)?.as_ref();
            unless_closed(write(&mut stdout))
        }
    }
}

/// Returns standard output, when it is no terminal.
pub(super) fn standard_output(stdout: Option<&Arc<File>>) -> Result<&Arc<File>, Error> {
    stdout.ok_or_else(|| Error::new(Kind::Settings, "refusing to write to console"))
}

/// Whoever reads standard output may stop at any time: that is no error.
pub(super) fn unless_closed(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })
}

fn failed(path: &Path) -> Error {
    Error::new(Kind::User, format!("failed to write `{}`", path.display()))
}

pub(super) fn about(path: &Path, error: Error) -> Error {
    error.about(format!("failed to write `{}`", path.display()))
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let error_of_pipe = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if error_of_pipe {
            return true;
        }
        current = error.source();
    }
    false
}
