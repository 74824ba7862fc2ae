//! Directories of cache mounts: made, with their first files, and measured.

use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::{Deserialize, Serialize};

use super::protocol::{Attempt as _, Failure};
use super::request::FileOwner;
use super::stack::tree_of;
use crate::layer::{
    ApplyOptions, CopyInput, CopyRequest, LayerTar, Metadata, SourceTree, View, apply, select,
};

/// Makes the directory of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeCacheRequest {
    /// Where; nothing is there.
    pub path: PathBuf,
    /// Mode and ids, if there is no seed.
    pub owner: FileOwner,
    /// What is in it at first.
    pub seed: Option<CacheSeed>,
}

/// A directory of a stack of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSeed {
    /// Snapshot directories, bottom first.
    pub layers: Vec<PathBuf>,
    /// Their path index files, in the same order.
    pub indexes: Vec<PathBuf>,
    /// The directory that holds snapshots of this id mapping.
    pub snapshots_directory: PathBuf,
    /// Which directory: absolute in there; links are followed inside only.
    pub path: String,
    /// Whether the directory takes over mode and ids of the one it is copied from.
    pub keeps_owner: bool,
}

pub(super) fn make_cache(request: &MakeCacheRequest) -> Result<(), Failure> {
    let what = || format!("make the cache directory `{}`", request.path.display());
    fs_err::create_dir(&request.path).attempting(what)?;
    let mut owner = request.owner;
    if let Some(seed) = &request.seed {
        let found = fill(&request.path, seed)?;
        if seed.keeps_owner {
            owner = found;
        }
    }
    let FileOwner { mode, uid, gid } = owner;
    std::os::unix::fs::chown(&request.path, Some(uid), Some(gid)).attempting(what)?;
    fs_err::set_permissions(&request.path, std::fs::Permissions::from_mode(mode & 0o7777))
        .attempting(what)
}

/// Copies the seed's files, by way of a tar in an unnamed file. Returns the seed's own metadata.
fn fill(path: &Path, seed: &CacheSeed) -> Result<FileOwner, Failure> {
    let what = || format!("fill a cache directory with `{}`", seed.path);
    let (root, _held) = tree_of(&seed.layers, &seed.indexes, &seed.snapshots_directory)?;
    let owner = owner_in(&root, &seed.path)?;
    let copy = CopyRequest {
        sources: vec![CopyInput::Exact(seed.path.clone())],
        destination: "/".to_owned(),
        keep_ownership: true,
        ..CopyRequest::default()
    };
    let tree = SourceTree { root: &root, ignored: None, owners: None, metadata: Metadata::All };
    let selection = select(Some(&tree), &copy).attempting(what)?;
    let directory = path.parent().unwrap_or(path);
    let mut tar = LayerTar::new(tempfile::tempfile_in(directory).attempting(what)?);
    selection.write(&View::default(), &copy, &mut tar).attempting(what)?;
    let (mut file, _) = tar.finish().attempting(what)?;
    file.rewind().attempting(what)?;
    apply(io::BufReader::new(file), path, &ApplyOptions::default()).attempting(what)?;
    Ok(owner)
}

fn owner_in(root: &Path, path: &str) -> Result<FileOwner, Failure> {
    let what = || format!("find the cache's first files, `{path}`");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty()).attempting(what)?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&opened, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside);
    let found = found.map_err(|_| Failure::MountSourceNotFound(path.to_owned()))?;
    let status = fstat(&found).attempting(what)?;
    if !FileType::from_raw_mode(status.st_mode).is_dir() {
        let reason = "it is not a directory".to_owned();
        return Err(Failure::Failed { what: what(), reason });
    }
    Ok(FileOwner { mode: status.st_mode & 0o7777, uid: status.st_uid, gid: status.st_gid })
}
