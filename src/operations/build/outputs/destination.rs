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
        (Destination::Stdout, Some(stdout)) => {
            let result = write(&mut stdout.as_ref());
            result.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })
        }
        (Destination::Stdout, None) => {
            Err(Error::new(Kind::Settings, "refusing to write to console"))
        }
    }
}

fn failed(path: &Path) -> Error {
    Error::new(Kind::User, format!("failed to write `{}`", path.display()))
}

fn about(path: &Path, error: Error) -> Error {
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
