//! Rewriting the times of a layer.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layer::writer::{OPAQUE, WHITEOUT};
use crate::layer::{LayerTar, Member, Result, TarReader};

/// What happens to the modification times of a layer's entries, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// They stay.
    #[default]
    Keep,
    /// Those that are later become this.
    Clamp(i64),
    /// All become this.
    Set(i64),
}

impl Times {
    /// Returns what becomes of `mtime`.
    #[must_use]
    pub fn of(self, mtime: i64) -> i64 {
        match self {
            Self::Keep => mtime,
            Self::Clamp(latest) => mtime.min(latest),
            Self::Set(time) => time,
        }
    }
}

/// What a member of a layer's tar says beside the files it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// The path is deleted from the layers below.
    Path(PathBuf),
    /// The directory hides its content in the layers below.
    Opaque(PathBuf),
    /// Something of aufs, which means nothing here.
    Other,
}

impl Deletion {
    /// Returns the deletion that a member called `path`, a clean path, stands for.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_bytes().strip_prefix(WHITEOUT)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Some(if path.file_name().is_some_and(|name| name.as_bytes() == OPAQUE) {
            Self::Opaque(parent.to_owned())
        } else if name.starts_with(WHITEOUT) || matches!(name, b"" | b"." | b"..") {
            Self::Other
        } else {
            Self::Path(parent.join(OsStr::from_bytes(name)))
        })
    }
}

/// Writes the layer `tar` again with other times, everything else as it is. Blocks.
///
/// # Errors
///
/// Those of [`TarReader::next_member`], [`Member::entry`] and [`LayerTar::append`].
pub fn rewrite<W: Write>(tar: impl Read, times: Times, out: &mut LayerTar<W>) -> Result<()> {
    let mut reader = TarReader::new(tar);
    while let Some(member) = reader.next_member()? {
        copy(&member, times, &mut reader, out)?;
    }
    reader.drain()
}

fn copy<R: Read, W: Write>(
    member: &Member,
    times: Times,
    reader: &mut TarReader<R>,
    out: &mut LayerTar<W>,
) -> Result<()> {
    let mut entry = member.entry()?;
    match Deletion::of(&entry.path) {
        Some(Deletion::Path(path)) => return out.whiteout(&path),
        Some(Deletion::Opaque(path)) => return out.opaque(&path),
        Some(Deletion::Other) => return Ok(()),
        None => {}
    }
    entry.mtime = times.of(entry.mtime);
    out.append(&entry, Some(reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, EntryKind};

    fn layer(mtime: i64) -> Vec<u8> {
        let mut tar = LayerTar::new(Vec::new());
        let file = |path: &str, mtime| Entry {
            mtime,
            ..Entry::new(path, EntryKind::File { size: 2 }, 0o644)
        };
        tar.append(&file("a", mtime), Some(&mut &b"aa"[..])).expect("a file");
        tar.whiteout(Path::new("b")).expect("a deletion");
        let mut directory = Entry::new("c", EntryKind::Directory, 0o755);
        directory.mtime = mtime;
        tar.append(&directory, None).expect("a directory");
        tar.opaque(Path::new("c")).expect("an opaque directory");
        let mut link = Entry::new("c/a", EntryKind::HardLink { target: "a".into() }, 0o644);
        link.mtime = mtime;
        tar.append(&link, None).expect("a link");
        tar.append(&file("d", 7), Some(&mut &b"dd"[..])).expect("an old file");
        tar.finish().expect("a tar").0
    }

    fn rewritten(tar: &[u8], times: Times) -> Vec<u8> {
        let mut out = LayerTar::new(Vec::new());
        rewrite(tar, times, &mut out).expect("rewritten");
        out.finish().expect("a tar").0
    }

    #[test]
    fn only_times_change() {
        assert_eq!(rewritten(&layer(1000), Times::Keep), layer(1000));
        assert_eq!(rewritten(&layer(1000), Times::Clamp(500)), layer(500));
        assert_eq!(rewritten(&layer(1000), Times::Clamp(2000)), layer(1000));
    }

    #[test]
    fn set_times_are_all_the_same() {
        let one = rewritten(&layer(1000), Times::Set(500));
        assert_eq!(one, rewritten(&layer(1), Times::Set(500)));
        assert_ne!(one, layer(500), "the old file's time is set as well");
    }

    #[test]
    fn names_of_deletions_are_understood() {
        for (name, expected) in [
            ("a/b", None),
            ("a/.wh.b", Some(Deletion::Path("a/b".into()))),
            ("a/.wh..wh..opq", Some(Deletion::Opaque("a".into()))),
            (".wh..wh..opq", Some(Deletion::Opaque("".into()))),
            (".wh..wh.plnk", Some(Deletion::Other)),
            ("a/.wh.", Some(Deletion::Other)),
        ] {
            assert_eq!(Deletion::of(Path::new(name)), expected, "{name}");
        }
    }
}
