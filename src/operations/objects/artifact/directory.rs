//! A directory of an artifact: into its tar, and out of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::image::{DiffId, Digest};
use crate::layer::{
    ApplyOptions, Entry, EntryKind, LayerTar, Ownership, VerifiedTar, WhiteoutForm, apply,
};
use crate::operations::{Error, Kind};

use super::paths::stays_below;

/// How deep directories may be.
const MAX_DEPTH: usize = 256;

/// Appends the directory `from` and all below it as `title`. Files belong to root, without set-id bits.
///
/// # Errors
///
/// [`Kind::User`] for what cannot be read, for links that lead out of the directory, and for what is
/// neither file, directory nor link.
pub(super) fn pack<W: Write>(
    from: &Path,
    title: &Path,
    tar: &mut LayerTar<W>,
) -> Result<(), Error> {
    Packing { root: from, title, tar }.directory(Path::new(""), 0)
}

struct Packing<'a, W: Write> {
    root: &'a Path,
    title: &'a Path,
    tar: &'a mut LayerTar<W>,
}

impl<W: Write> Packing<'_, W> {
    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            let message = format!("`{}` is too deep", self.root.join(path).display());
            return Err(Error::new(Kind::User, message));
        }
        let metadata = fs_err::metadata(self.root.join(path)).map_err(unreadable)?;
        self.append(path, EntryKind::Directory, &metadata, None)?;
        let mut names = Vec::new();
        for entry in fs_err::read_dir(self.root.join(path)).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort();
        for name in names {
            let below = path.join(name);
            let metadata = fs_err::symlink_metadata(self.root.join(&below)).map_err(unreadable)?;
            if metadata.is_dir() {
                self.directory(&below, depth + 1)?;
            } else {
                self.file(&below, path, &metadata)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        parent: &Path,
        metadata: &std::fs::Metadata,
    ) -> Result<(), Error> {
        let from = self.root.join(path);
        let refused = |why: &str| {
            Err(Error::new(Kind::User, format!("`{}` cannot be pushed: {why}", from.display())))
        };
        if metadata.is_symlink() {
            let target = fs_err::read_link(&from).map_err(unreadable)?;
            if !stays_below(parent, &target) {
                return refused("it is a link that may lead out of the directory");
            }
            return self.append(path, EntryKind::Symlink { target }, metadata, None);
        }
        if !metadata.is_file() {
            return refused("it is neither file, directory nor link");
        }
        let mut options = fs_err::OpenOptions::new();
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.read(true).options_mut().custom_flags(flags.bits().cast_signed());
        let mut file = options.open(&from).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        self.append(path, EntryKind::File { size }, metadata, Some(&mut file))
    }

    fn append(
        &mut self,
        path: &Path,
        kind: EntryKind,
        metadata: &std::fs::Metadata,
        content: Option<&mut dyn Read>,
    ) -> Result<(), Error> {
        let path: PathBuf = self.title.join(path).components().collect();
        let mode = if metadata.is_symlink() { 0o777 } else { metadata.mode() & 0o777 };
        let entry = Entry { mtime: metadata.mtime(), ..Entry::new(path, kind, mode) };
        Ok(self.tar.append(&entry, content)?)
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::User, "failed to read a directory").because(error)
}

/// Unpacks the compressed tar `blob` into the empty directory `stage`; all of it must be below `title`
/// there. Its uncompressed digest must be `expected` when one is given.
///
/// # Errors
///
/// [`Kind::Integrity`] for another digest, [`Kind::User`] for an archive that leaves its directory.
pub(super) fn unpack(
    blob: File,
    stage: &Path,
    title: &Path,
    expected: Option<&Digest>,
) -> Result<(), Error> {
    let options = ApplyOptions {
        ownership: Ownership::Ignore,
        whiteouts: WhiteoutForm::Plain,
        ..ApplyOptions::default()
    };
    if let Some(expected) = expected {
        let mut tar = VerifiedTar::new(blob, DiffId(expected.clone())).map_err(unstarted)?;
        apply(&mut tar, stage, &options)?;
        tar.finish().map_err(|error| {
            Error::new(Kind::Integrity, "the archive has not the content it should have")
                .because(error)
        })?;
    } else {
        apply(crate::layer::decompress(blob).map_err(unstarted)?, stage, &options)?;
    }
    let outside = || {
        let message = format!("its archive holds files outside of `{}`", title.display());
        Error::new(Kind::User, message)
    };
    let mut here = PathBuf::new();
    for component in title.components() {
        let mut entries = fs_err::read_dir(stage.join(&here)).map_err(unreadable)?;
        let only = entries.next().transpose().map_err(unreadable)?.ok_or_else(outside)?;
        let is_directory = only.file_type().map_err(unreadable)?.is_dir();
        if entries.next().is_some() || !is_directory || only.file_name() != component.as_os_str() {
            return Err(outside());
        }
        here.push(component);
    }
    tame(&stage.join(&here), Path::new(""), 0)
}

fn unstarted(error: std::io::Error) -> Error {
    Error::new(Kind::User, "failed to read the archive").because(error)
}

/// Refuses links that lead out of `root`, and takes set-id bits away.
fn tame(root: &Path, path: &Path, depth: usize) -> Result<(), Error> {
    let here = root.join(path);
    let metadata = fs_err::symlink_metadata(&here).map_err(unreadable)?;
    if metadata.is_symlink() {
        let target = fs_err::read_link(&here).map_err(unreadable)?;
        let is_root = path.as_os_str().is_empty();
        if is_root || !stays_below(path.parent().unwrap_or(Path::new("")), &target) {
            let (path, target) = (path.display(), target.display());
            let message = format!("its link `{path}` to `{target}` may lead out of the directory");
            return Err(Error::new(Kind::User, message));
        }
        return Ok(());
    }
    if metadata.mode() & 0o7000 != 0 {
        let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o777);
        fs_err::set_permissions(&here, mode).map_err(unreadable)?;
    }
    if metadata.is_dir() && depth <= MAX_DEPTH {
        for entry in fs_err::read_dir(&here).map_err(unreadable)? {
            tame(root, &path.join(entry.map_err(unreadable)?.file_name()), depth + 1)?;
        }
    }
    Ok(())
}
