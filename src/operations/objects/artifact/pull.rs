//! `artifact pull`: files come into a hidden directory, are checked there, and move to their places
//! all at once.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _};

use crate::image::{Descriptor, Digest, ImageManifest, Platform, Reference};
use crate::layer::{Leftover, place};
use crate::operations::objects::blobs::receive;
use crate::operations::objects::get_manifest;
use crate::operations::session::blocking;
use crate::operations::stage::{Stage, remove_abandoned};
use crate::operations::{Error, Kind, Session};

use super::paths::below;
use super::{TAR_DIGEST, TITLE, UNPACK, directory};

/// Files that are open at once: an artifact may have thousands.
const FILES_AT_ONCE: usize = 16;

/// What happens to files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Nothing: the pull fails before it changes anything.
    #[default]
    Refuse,
    /// They are replaced.
    Overwrite,
}

/// An artifact to be pulled.
#[derive(Debug, Clone)]
pub struct ArtifactToPull {
    /// The artifact.
    pub name: Reference,
    /// Which one of an index.
    pub platform: Option<Platform>,
    /// Where its files go.
    pub directory: PathBuf,
    /// What happens to files that are there already.
    pub existing: Existing,
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledArtifact {
    /// The manifest.
    pub manifest: Descriptor,
    /// The artifact type.
    pub artifact_type: Option<String>,
    /// The files and directories, as paths below the directory.
    pub files: Vec<(PathBuf, Descriptor)>,
    /// What has no name.
    pub unnamed: Vec<Descriptor>,
}

/// One file or directory of an artifact.
struct Item {
    title: PathBuf,
    descriptor: Descriptor,
    is_directory: bool,
    tar_digest: Option<Digest>,
}

/// Pulls the files of an artifact into a directory, which they never leave.
///
/// # Errors
///
/// [`Kind::User`] for names that lead elsewhere, for files that are there already, and for an index;
/// [`Kind::Integrity`]; else whatever the registry says. Nothing in the directory has changed then.
pub async fn pull_artifact(
    session: &Session,
    request: ArtifactToPull,
) -> Result<PulledArtifact, Error> {
    let name = request.name.familiar();
    let pulled = pull(session, request).await;
    pulled.map_err(|error| error.about(format!("failed to pull `{name}`")))
}

async fn pull(session: &Session, request: ArtifactToPull) -> Result<PulledArtifact, Error> {
    let manifest = get_manifest(session, &request.name, request.platform.as_ref()).await?;
    let Some(image) = manifest.as_image() else {
        let error = Error::new(Kind::User, "it is an index, not an artifact");
        return Err(error.hint("choose one of its manifests with `--platform`, or by digest"));
    };
    let (items, unnamed) = items_of(image)?;
    let files = items.iter().map(|item| (item.title.clone(), item.descriptor.clone())).collect();
    let report = PulledArtifact {
        artifact_type: manifest.as_referrer().artifact_type,
        manifest: manifest.descriptor(),
        files,
        unnamed,
    };
    let directory = request.directory.clone();
    let stage = blocking(move || prepare(&directory)).await?;
    let repository = &request.name.repository;
    let transfers = items.iter().enumerate().map(|(number, item)| {
        let path = place_of(&stage, item, number);
        async move {
            let file = blocking(move || make_file(&path)).await?;
            receive(session, repository, &item.descriptor, file).await
        }
    });
    let mut transfers = stream::iter(transfers).buffer_unordered(FILES_AT_ONCE);
    while let Some(done) = transfers.next().await {
        done?;
    }
    drop(transfers);
    blocking(move || finish(&stage, &items, &request)).await?;
    Ok(report)
}

/// Reads the names of an artifact's files.
fn items_of(image: &ImageManifest) -> Result<(Vec<Item>, Vec<Descriptor>), Error> {
    let (mut items, mut unnamed, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for descriptor in &image.layers {
        let Some(name) = descriptor.annotations.get(TITLE).filter(|name| !name.is_empty()) else {
            unnamed.push(descriptor.clone());
            continue;
        };
        let is_directory = descriptor.annotations.get(UNPACK).is_some_and(|text| text == "true");
        let shown: String = name.chars().filter(|c| !c.is_control()).take(300).collect();
        let refused = |why: &str| {
            let message = format!("refused the file name `{shown}`: {why}");
            Err(Error::new(Kind::User, message))
        };
        let Some(title) = below(Path::new(name)) else {
            return refused("it leads out of the directory");
        };
        if name.contains(char::is_control) {
            return refused("it has control characters");
        }
        if title.as_os_str().is_empty() && !is_directory {
            return refused("it names a directory");
        }
        if !seen.insert(title.clone()) {
            return refused("the artifact has two files of that name");
        }
        let tar_digest = descriptor.annotations.get(TAR_DIGEST).filter(|_| is_directory);
        let tar_digest = tar_digest.map(|text| text.parse()).transpose()?;
        items.push(Item { title, descriptor: descriptor.clone(), is_directory, tar_digest });
    }
    Ok((items, unnamed))
}

/// Where the files of an artifact wait, below a stage.
const TREE: &str = "tree";

fn prepare(directory: &Path) -> Result<Stage, Error> {
    let failed = |error| {
        let message = format!("failed to make files in `{}`", directory.display());
        Error::new(Kind::User, message).because(error)
    };
    fs_err::create_dir_all(directory).map_err(failed)?;
    remove_abandoned(directory);
    let stage = Stage::new(directory).map_err(failed)?;
    fs_err::create_dir(stage.path().join(TREE)).map_err(failed)?;
    Ok(stage)
}

/// Returns where a blob goes: to its place in the tree, or beside it when it is to be unpacked.
fn place_of(stage: &Stage, item: &Item, number: usize) -> PathBuf {
    if item.is_directory {
        stage.path().join(format!("archive-{number}"))
    } else {
        stage.path().join(TREE).join(&item.title)
    }
}

fn make_file(path: &Path) -> Result<File, Error> {
    let failed = |error| Error::new(Kind::User, "failed to make a file").because(error);
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent).map_err(failed)?;
    }
    let mut options = fs_err::OpenOptions::new();
    let file = options.write(true).create_new(true).open(path).map_err(failed)?;
    Ok(file.into_parts().0)
}

/// Unpacks what is to be unpacked, and moves everything to its place.
fn finish(stage: &Stage, items: &[Item], request: &ArtifactToPull) -> Result<(), Error> {
    let tree = stage.path().join(TREE);
    for (number, item) in items.iter().enumerate().filter(|(_, item)| item.is_directory) {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Internal, "failed to unpack an archive").because(error)
        };
        let about = |error: Error| {
            error.about(format!("failed to unpack the directory `{}`", item.title.display()))
        };
        let unpacked = stage.path().join(format!("unpacked-{number}"));
        fs_err::create_dir(&unpacked).map_err(failed)?;
        let archive = place_of(stage, item, number);
        let blob = fs_err::File::open(&archive).map_err(failed)?.into_parts().0;
        let expected = item.tar_digest.as_ref();
        directory::unpack(blob, &unpacked, &item.title, expected).map_err(about)?;
        fs_err::remove_file(&archive).map_err(failed)?;
        check(&unpacked, &tree, Path::new(""), 0).map_err(about)?;
        place(&unpacked, &tree, Leftover::Keep)?;
    }
    if request.existing == Existing::Refuse {
        check(&tree, &request.directory, Path::new(""), 0)?;
    }
    Ok(place(&tree, &request.directory, Leftover::Keep)?)
}

/// Refuses to replace anything in `target`: only directories may meet there.
fn check(tree: &Path, target: &Path, path: &Path, depth: usize) -> Result<(), Error> {
    const MAX_DEPTH: usize = 600;
    let failed = |error| Error::new(Kind::Internal, "failed to compare directories").because(error);
    for entry in fs_err::read_dir(tree.join(path)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let here = path.join(entry.file_name());
        let there = match fs_err::symlink_metadata(target.join(&here)) {
            Ok(there) => there,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        if !is_directory || !there.is_dir() || depth > MAX_DEPTH {
            let message = format!("`{}` is there already", target.join(&here).display());
            return Err(Error::new(Kind::User, message).hint("replace files with `--overwrite`"));
        }
        check(tree, target, &here, depth + 1)?;
    }
    Ok(())
}
