//! Results on standard output.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::operations::{Error, Kind};

use super::args::FormatArgs;
use super::render::{Table, fill};

/// Prints `text` and a newline.
pub(super) fn print(text: &str) -> Result<(), Error> {
    print_bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes. Whoever reads may stop reading at any time: that is no error.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Internal, "failed to write the result").because(error))
        }
        _ => Ok(()),
    }
}

/// What `--format` asks for.
pub(super) enum Format {
    /// The usual table or text.
    Table,
    /// JSON.
    Json,
    /// A template for each item.
    Template(String),
}

impl FormatArgs {
    /// Returns what `--format` asks for.
    pub(super) fn format(&self) -> Format {
        match self.format.as_deref() {
            None | Some("table") => Format::Table,
            Some("json" | "{{json .}}") => Format::Json,
            Some(template) => Format::Template(template.to_owned()),
        }
    }
}

impl FormatArgs {
    /// Prints one result: `text`, unless JSON or a template is asked for.
    pub(super) fn print(&self, text: &str, value: &Value) -> Result<(), Error> {
        match self.format() {
            Format::Table => print(text),
            Format::Json => print(&value.to_string()),
            Format::Template(template) => print(&from_template(&template, value)?),
        }
    }
}

/// Fills a template; a template that is not understood is a wrong flag.
pub(super) fn from_template(template: &str, value: &Value) -> Result<String, Error> {
    fill(template, value)
        .map_err(|reason| Error::new(Kind::Settings, format!("invalid `--format`: {reason}")))
}

/// Prints each row by a template; `table ...` puts docker's headers above the columns.
///
/// `id_header` is what the column of ids is called here.
pub(super) fn print_template(template: &str, rows: &[Value], id_header: &str) -> Result<(), Error> {
    let Some(columns) = template.strip_prefix("table ") else {
        return rows.iter().try_for_each(|row| print(&from_template(template, row)?));
    };
    let headers = json!({
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "ID": id_header,
        "CreatedAt": "CREATED AT",
        "CreatedSince": "CREATED",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    });
    let header = from_template(columns, &headers)?;
    let mut table = Table::new(&header.split('\t').collect::<Vec<_>>());
    for row in rows {
        table.row(from_template(columns, row)?.split('\t').map(ToOwned::to_owned).collect());
    }
    print_bytes(table.render().as_bytes())
}

/// Writes a file that was asked for, such as `--iidfile`: whole or not at all.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let staged = Staged::new(path)?;
    staged.writer()?.write_all(bytes).map_err(|error| unwritable(path, error))?;
    staged.commit()
}

/// A file that gets its name when it is whole. Dropping it leaves nothing behind.
pub(super) struct Staged {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// Makes a file without that name beside where it is to be.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(directory);
        let file = file.map_err(|error| unwritable(path, error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Returns a writer to it.
    pub(super) fn writer(&self) -> Result<File, Error> {
        self.file.as_file().try_clone().map_err(|error| unwritable(&self.path, error))
    }

    /// Gives it its name.
    pub(super) fn commit(self) -> Result<(), Error> {
        let Self { file, path } = self;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let permitted = file.as_file().set_permissions(mode);
        permitted.map_err(|error| unwritable(&path, error))?;
        file.persist(&path).map_err(|error| unwritable(&path, error.error))?;
        Ok(())
    }
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::User, format!("failed to write `{}`", path.display())).because(error)
}

/// `version`.
pub(super) fn version(args: &FormatArgs) -> Result<(), Error> {
    let platform = crate::image::Platform::host();
    let value = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": platform.os,
        "Arch": platform.architecture,
    });
    match args.format() {
        Format::Table => print(&format!("rpub {} ({platform})", env!("CARGO_PKG_VERSION"))),
        Format::Json => print(&value.to_string()),
        Format::Template(template) => print(&from_template(&template, &value)?),
    }
}
