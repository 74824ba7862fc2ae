//! The lock file's text: read, checked, written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::image::{Digest, Platform, Reference};

use super::address::Address;

/// The name of a lock file, which lies beside its Dockerfile.
pub const LOCK_FILE_NAME: &str = "rpub.lock";
/// The newest version that is understood.
const VERSION: u64 = 1;
/// Largest lock file that is read: an entry has a few hundred bytes.
const MAX_LOCK_BYTES: u64 = 4 << 20;
/// What a reader of the file is told.
const HEADING: &str = "\
# What a Dockerfile starts from and adds, by digest. Written by `rpub lock`;
# `rpub lock --update` refreshes it.
";

/// What a Dockerfile starts from and adds, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::operations) struct LockFile {
    /// For which platforms it was made.
    pub(in crate::operations) platforms: BTreeSet<String>,
    /// The images by name.
    pub(in crate::operations) images: BTreeMap<Reference, LockedImage>,
    /// The digests of what URLs give.
    pub(in crate::operations) files: BTreeMap<Address, Digest>,
    /// The commits that references of repositories are.
    pub(in crate::operations) repositories: BTreeMap<Address, String>,
}

/// What an image's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operations) struct LockedImage {
    /// The index, or the manifest of an image that has none.
    pub(in crate::operations) digest: Digest,
    /// The manifest of each platform that it is needed for.
    pub(in crate::operations) manifests: BTreeMap<String, Digest>,
    /// Whether only a trigger (`ONBUILD`) of another base names it.
    pub(in crate::operations) is_of_trigger: bool,
}

/// Why a lock file cannot be used.
#[derive(Debug, Error)]
pub(in crate::operations) enum InvalidLock {
    /// It is of a later version of the program.
    #[error("it is of version {0}, and this rpub knows version {VERSION}")]
    Newer(u64),
    /// It is not what `rpub lock` writes.
    #[error("line {line}: {reason}")]
    Damaged {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It is larger than any lock file.
    #[error("it is larger than {MAX_LOCK_BYTES} bytes")]
    TooLarge,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Deserialize)]
struct Version {
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(default)]
    platforms: Vec<Spanned<String>>,
    #[serde(default)]
    image: Vec<ImageTable>,
    #[serde(default)]
    file: Vec<FileTable>,
    #[serde(default)]
    repository: Vec<RepositoryTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageTable {
    name: Spanned<Reference>,
    source: Spanned<String>,
    digest: Digest,
    #[serde(default)]
    onbuild: bool,
    #[serde(default)]
    platforms: BTreeMap<Spanned<String>, Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    url: Spanned<String>,
    key: Option<Digest>,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryTable {
    url: Spanned<String>,
    key: Option<Digest>,
    commit: Spanned<String>,
}

/// A text and what is wrong at a place in it.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn damaged<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> InvalidLock {
        self.damaged_at(at.span().start, reason.into())
    }

    fn damaged_at(&self, position: usize, reason: String) -> InvalidLock {
        let before = self.0.bytes().take(position);
        let line = before.filter(|byte| *byte == b'\n').count() + 1;
        InvalidLock::Damaged { line, reason }
    }

    fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, InvalidLock> {
        toml::from_str(self.0).map_err(|error| {
            let position = error.span().map_or(0, |span| span.start);
            self.damaged_at(position, error.message().trim().replace('\n', ", "))
        })
    }

    fn platform(&self, text: &Spanned<String>) -> Result<String, InvalidLock> {
        match text.get_ref().parse::<Platform>() {
            Ok(platform) => Ok(platform.to_string()),
            Err(error) => Err(self.damaged(text, error.to_string())),
        }
    }

    fn address(&self, url: &Spanned<String>, key: Option<Digest>) -> Result<Address, InvalidLock> {
        Address::read(url.get_ref(), key)
            .ok_or_else(|| self.damaged(url, "the URL is empty or holds what no URL does"))
    }
}

impl LockFile {
    /// Reads the file at `path`; `None` when there is none. Blocks.
    pub(in crate::operations) fn open(path: &Path) -> Result<Option<Self>, InvalidLock> {
        let file = match fs_err::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MAX_LOCK_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_LOCK_BYTES {
            return Err(InvalidLock::TooLarge);
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text).map(Some),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                Err(Text(&valid).damaged_at(valid.len(), "it is not UTF-8".to_owned()))
            }
        }
    }

    /// Reads the text of a lock file.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidLock> {
        let text = Text(text);
        // Later versions may have anything else.
        let version = text.read::<Version>()?.version;
        if let Some(newer) = version.filter(|version| *version > VERSION) {
            return Err(InvalidLock::Newer(newer));
        }
        let document: Document = text.read()?;
        let mut lock = Self::default();
        for platform in &document.platforms {
            lock.platforms.insert(text.platform(platform)?);
        }
        for table in document.image {
            lock.add_image(&text, table)?;
        }
        for FileTable { url, key, digest } in document.file {
            let address = text.address(&url, key)?;
            if lock.files.insert(address, digest).is_some() {
                return Err(text.damaged(&url, format!("`{}` is there twice", url.get_ref())));
            }
        }
        for RepositoryTable { url, key, commit } in document.repository {
            let address = text.address(&url, key)?;
            let id = commit.get_ref().clone();
            let is_hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hex || !matches!(id.len(), 40 | 64) {
                return Err(text.damaged(&commit, format!("`{id}` is not the name of a commit")));
            }
            if lock.repositories.insert(address, id).is_some() {
                return Err(text.damaged(&url, format!("`{}` is there twice", url.get_ref())));
            }
        }
        Ok(lock)
    }

    fn add_image(&mut self, text: &Text<'_>, table: ImageTable) -> Result<(), InvalidLock> {
        let name = table.name.get_ref().clone().or_latest();
        if *table.source.get_ref() != name.repository.to_string() {
            let reason = format!("`{}` comes from `{}`", name.familiar(), name.repository);
            return Err(text.damaged(&table.source, reason));
        }
        let mut manifests = BTreeMap::new();
        for (platform, digest) in table.platforms {
            manifests.insert(text.platform(&platform)?, digest);
        }
        let image = LockedImage { digest: table.digest, manifests, is_of_trigger: table.onbuild };
        let reason = format!("`{}` is there twice", name.familiar());
        match self.images.insert(name, image) {
            Some(_) => Err(text.damaged(&table.name, reason)),
            None => Ok(()),
        }
    }

    /// Returns the text of the file: sorted, so that only what has changed differs.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEADING}version = {VERSION}\n");
        let platforms: Vec<String> = self.platforms.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(text, "platforms = [{}]", platforms.join(", "));
        let mut images: Vec<_> = self.images.iter().collect();
        images.sort_by_key(|(name, _)| name.familiar());
        for (name, image) in images {
            let (familiar, source) = (quoted(&name.familiar()), &name.repository);
            let _ = write!(text, "\n[[image]]\nname = {familiar}\nsource = \"{source}\"\n");
            let _ = writeln!(text, "digest = \"{}\"", image.digest);
            if image.is_of_trigger {
                text.push_str("onbuild = true\n");
            }
            text.push_str("\n[image.platforms]\n");
            for (platform, digest) in &image.manifests {
                let _ = writeln!(text, "{} = \"{digest}\"", quoted(platform));
            }
        }
        for (address, digest) in &self.files {
            let _ = write!(text, "\n[[file]]\n{}digest = \"{digest}\"\n", lines(address));
        }
        for (address, commit) in &self.repositories {
            let _ = write!(text, "\n[[repository]]\n{}commit = \"{commit}\"\n", lines(address));
        }
        text
    }

    /// Writes the file, whole or not at all. Blocks.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        io::Write::write_all(&mut file, self.to_text().as_bytes())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_data()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

fn lines(address: &Address) -> String {
    let url = quoted(address.shown());
    let key = address.key().map(|key| format!("key = \"{key}\"\n"));
    format!("url = {url}\n{}", key.unwrap_or_default())
}

/// Returns a text as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn full() -> LockFile {
        let mut lock = LockFile::default();
        let platforms = ["linux/amd64".to_owned(), "linux/arm64".to_owned()];
        lock.platforms.extend(platforms.clone());
        let manifests = platforms.map(|platform| (platform.clone(), digest(&platform)));
        for (name, is_of_trigger) in [("python:3", false), ("r.example:5000/a/b", true)] {
            let image = LockedImage {
                digest: digest(name),
                manifests: manifests.clone().into_iter().collect(),
                is_of_trigger,
            };
            lock.images.insert(name.parse::<Reference>().unwrap().or_latest(), image);
        }
        lock.files.insert(Address::of_url("https://u:p@h.example/a?token=x"), digest("a"));
        lock.files.insert(Address::of_url("https://h.example/\"b\\"), digest("b"));
        let git = Address::of_url("https://h.example/c.git");
        lock.repositories.insert(git, "0123456789".repeat(4));
        lock
    }

    #[test]
    fn what_is_written_is_read_again() {
        for lock in [full(), LockFile::default()] {
            assert_eq!(LockFile::parse(&lock.to_text()).unwrap(), lock);
        }
        let text = full().to_text();
        assert!(!text.contains("token=x") && !text.contains("u:p"), "{text}");
        assert!(text.contains("name = \"python:3\"\nsource = \"docker.io/library/python\"\n"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let full = full().to_text();
        let cases = [
            ("version = 1", "version = 2", "it is of version 2, and this rpub knows version 1"),
            ("platforms = [", "platforms [", "line 4: "),
            ("linux/amd64\",", "linux/a/b/c\",", "line 4: "),
            ("name = \"python:3\"", "name = \"Python:3\"", "line 7: "),
            (
                "source = \"docker.io/library/python\"",
                "source = \"x.example/y\"",
                "line 8: `python:3` comes from `docker.io/library/python`",
            ),
            ("r.example:5000/a/b:latest", "python:3", "twice"),
            ("onbuild = true", "on-build = true", "unknown field"),
            ("commit = \"0", "commit = \"x", "is not the name of a commit"),
            ("digest = \"sha256:", "digest = \"sha256:z", "line 9: "),
            ("[[file]]", "<<<<<<< mine\n[[file]]", "line 25: "),
        ];
        for (old, new, expected) in cases {
            let mut text = full.replacen(old, new, 1);
            if expected == "twice" {
                text = text.replace("\"r.example:5000/a/b\"", "\"docker.io/library/python\"");
            }
            assert_ne!(text, full, "{old}");
            let error = LockFile::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{old} -> {new}: {error}");
        }
    }
}
