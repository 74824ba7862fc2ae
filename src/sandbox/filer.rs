//! The worker's second process: everything that is done to files, in as many threads as requests.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::cache_mount::make_cache;
use super::protocol::{
    Answer, Attempt as _, CopyFromRequest, Failure, Reply, SealRequest, ToFiler, UnpackRequest,
    Work,
};
use super::stack::{load_indexes, make_directory, prepare_stack, tree_of};
use super::wire::{receive_message, send_message};
use crate::image::DiffId;
use crate::layer::{
    ApplyOptions, Compression, CopyError, Error as LayerError, LayerTar, LayerWriter, Metadata,
    PathIndex, SealedLayer, Selection, SourceTree, StatCache, VerifiedTar, View, apply, diff,
    disk_use, select,
};

/// Takes requests until the socket ends, and returns the process's exit code.
pub(super) fn main(socket: &OwnedFd) -> i32 {
    // Modes are set exactly, from what layers say.
    rustix::process::umask(rustix::fs::Mode::empty());
    let replies = match socket.try_clone() {
        Ok(replies) => Arc::new(Mutex::new(replies)),
        Err(_) => return 1,
    };
    while let Ok(Some((message, descriptors))) = receive_message::<ToFiler>(socket.as_fd()) {
        let answering = Arc::clone(&replies);
        let ToFiler { id, work } = message;
        let body = move || reply(&answering, id, perform(work, descriptors.into_iter().next()));
        let started = std::thread::Builder::new().name("request".to_owned()).spawn(body);
        if let Err(error) = started {
            reply(&replies, id, Err(Failure::new("start a thread", &error)));
        }
    }
    0
}

fn reply(socket: &Mutex<OwnedFd>, id: u64, result: Result<Answer, Failure>) {
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    // When the outer process is gone, the runner ends us.
    let _ = send_message(socket.as_fd(), &Reply { id, result }, &[]);
}

fn perform(work: Work, descriptor: Option<OwnedFd>) -> Result<Answer, Failure> {
    let descriptor = descriptor.ok_or_else(|| Failure::Failed {
        what: "take a request".to_owned(),
        reason: "its descriptor is missing".to_owned(),
    });
    match work {
        Work::Unpack(request) => unpack(&request, descriptor?).map(Answer::Unpacked),
        Work::Seal(request) => seal(&request, descriptor?).map(Answer::Sealed),
        Work::CopyFrom(request) => copy_from(&request, descriptor?).map(Answer::Sealed),
        Work::CopyDigest(request) => {
            let (selection, _held) = select_from(&request)?;
            let digest = selection.digest(&StatCache::default());
            Ok(Answer::Digest(digest.map_err(|error| copy_failure(&error))?))
        }
        Work::Remove(paths) => {
            paths.iter().try_for_each(|path| remove(path)).map(|()| Answer::Done)
        }
        Work::MakeCache(request) => {
            let made = make_cache(&request);
            if made.is_err() {
                let _ = remove(&request.path);
            }
            made.map(|()| Answer::Done)
        }
        Work::Measure(paths) => {
            let sizes = paths.iter().map(|path| {
                let what = || format!("measure `{}`", path.display());
                disk_use(path).attempting(what)
            });
            sizes.collect::<Result<_, _>>().map(Answer::Sizes)
        }
        Work::Stack(request) => prepare_stack(&request).map(Answer::Stack),
    }
}

/// How many of a layer's warnings are told: the first ones tell what sort there is.
const WARNINGS_TOLD: usize = 5;

fn unpack(request: &UnpackRequest, source: OwnedFd) -> Result<Vec<String>, Failure> {
    if request.target.exists() && request.index.exists() {
        return Ok(Vec::new());
    }
    let result = unpack_new(request, source);
    if result.is_err() {
        let _ = remove(&request.temporary);
    }
    result
}

fn unpack_new(request: &UnpackRequest, source: OwnedFd) -> Result<Vec<String>, Failure> {
    let what = || format!("unpack layer `{}`", request.diff_id);
    for place in [&request.temporary, &request.target, &request.index] {
        make_parent(place).attempting(what)?;
    }
    fs_err::create_dir(&request.temporary).attempting(what)?;
    set_mode(&request.temporary, 0o755).attempting(what)?;
    let file = std::fs::File::from(source);
    let mut tar = VerifiedTar::new(file, request.diff_id.clone()).attempting(what)?;
    let applied = apply(&mut tar, &request.temporary, &ApplyOptions::default())
        .map_err(|error| layer_failure(what(), &error))?;
    tar.finish().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => corrupt(what(), &error),
        _ => Failure::new(what(), &error),
    })?;
    // The index first: who finds a snapshot finds its index.
    applied.index.save(&request.index).attempting(what)?;
    place_snapshot(&request.temporary, &request.target).attempting(what)?;
    let warnings = applied.warnings.iter().take(WARNINGS_TOLD);
    Ok(warnings.map(|warning| format!("`{}`: {}", warning.path.display(), warning.what)).collect())
}

/// Renames a finished tree to its final name, or deletes it when another process was first.
fn place_snapshot(tree: &Path, target: &Path) -> io::Result<()> {
    match rustix::fs::rename(tree, target) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => remove_tree(tree),
        Err(error) => Err(error.into()),
    }
}

fn seal(request: &SealRequest, output: OwnedFd) -> Result<SealedLayer, Failure> {
    let what = || format!("make a layer of `{}`", request.upper.display());
    let (layer, index) = write_layer(output, request.compression, request.latest_mtime, |tar| {
        diff(&request.upper, &|_| false, tar).map_err(|error| layer_failure(what(), &error))
    })?;
    let target = request.snapshots_directory.join(layer.diff_id.0.hex());
    if target.exists() {
        remove(&request.upper)?;
    }
    save_index(&index, &request.paths_directory, &layer.diff_id)?;
    if request.upper.exists() {
        // What overlayfs noted on files that were copied up (`user.overlay.origin`, `.impure`) may
        // stay: it is not looked at in a lower layer without `index`, and never packed.
        make_directory(&request.snapshots_directory).attempting(what)?;
        place_snapshot(&request.upper, &target).attempting(what)?;
    }
    Ok(layer)
}

fn copy_from(request: &CopyFromRequest, output: OwnedFd) -> Result<SealedLayer, Failure> {
    let (selection, _held) = select_from(request)?;
    let view = View::new(load_indexes(&request.destination_indexes)?);
    let (layer, index) = write_layer(output, request.compression, request.latest_mtime, |tar| {
        selection.write(&view, &request.copy, tar).map_err(|error| copy_failure(&error))
    })?;
    save_index(&index, &request.paths_directory, &layer.diff_id)?;
    Ok(layer)
}

/// Selects from the merged tree of the source's layers, which stays there as long as what is held.
fn select_from(request: &CopyFromRequest) -> Result<(Selection, Option<OwnedFd>), Failure> {
    let (root, held) = tree_of(&request.layers, &request.indexes, &request.snapshots_directory)?;
    let tree = SourceTree { root: &root, ignored: None, owners: None, metadata: Metadata::All };
    let selection = select(Some(&tree), &request.copy).map_err(|error| copy_failure(&error))?;
    Ok((selection, held))
}

/// Writes a layer to `output`; `fill` gives its entries.
fn write_layer(
    output: OwnedFd,
    compression: Compression,
    latest_mtime: Option<i64>,
    fill: impl FnOnce(&mut LayerTar<LayerWriter<std::fs::File>>) -> Result<(), Failure>,
) -> Result<(SealedLayer, PathIndex), Failure> {
    let what = || "write the layer".to_owned();
    let writer = LayerWriter::new(std::fs::File::from(output), compression);
    let mut tar = LayerTar::new(writer).with_latest_mtime(latest_mtime);
    fill(&mut tar)?;
    let (writer, index) = tar.finish().attempting(what)?;
    Ok((writer.finish().attempting(what)?, index))
}

fn save_index(index: &PathIndex, directory: &Path, diff_id: &DiffId) -> Result<(), Failure> {
    let path = directory.join(diff_id.0.hex());
    if path.exists() {
        return Ok(());
    }
    let what = || format!("save the path index `{}`", path.display());
    make_directory(directory).attempting(what)?;
    index.save(&path).attempting(what)
}

fn remove(path: &Path) -> Result<(), Failure> {
    remove_tree(path).attempting(|| format!("remove `{}`", path.display()))
}

/// Deletes a tree or a file, following no links. It need not be there.
fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match fs_err::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_directory)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

fn corrupt(what: String, error: &dyn std::error::Error) -> Failure {
    match Failure::new(what, error) {
        Failure::Failed { what, reason } => Failure::Corrupt { what, reason },
        other => other,
    }
}

fn layer_failure(what: String, error: &LayerError) -> Failure {
    let is_corrupt = match error {
        LayerError::ReadTar(source) => {
            matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        LayerError::Truncated { .. } | LayerError::Header { .. } => true,
        _ => false,
    };
    if is_corrupt { corrupt(what, error) } else { Failure::new(what, error) }
}

fn copy_failure(error: &CopyError) -> Failure {
    match error {
        CopyError::NotFound { pattern, .. } => Failure::CopySourceNotFound(pattern.clone()),
        error => Failure::new("copy", error),
    }
}
