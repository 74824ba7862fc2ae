//! Snapshots in the order and company in which overlayfs can stack them.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mounts::mount_read_only;
use super::protocol::{Attempt as _, Failure, StackRequest};
use crate::image::Digest;
use crate::layer::{
    ApplyOptions, Entry, Error as LayerError, LayerTar, PathIndex, Record, View, apply,
    implied_fixes,
};

/// The directory of fix-up layers, in that of the snapshots.
const FIXUPS: &str = "fixups";

/// Loads path indexes.
pub(super) fn load_indexes(paths: &[PathBuf]) -> Result<Vec<Arc<PathIndex>>, Failure> {
    let load = |path: &PathBuf| {
        let index = PathIndex::load(path)
            .attempting(|| format!("load the path index `{}`", path.display()))?;
        let missing = || Failure::Failed {
            what: format!("load the path index `{}`", path.display()),
            reason: "it does not exist, or is of another version".to_owned(),
        };
        index.map(Arc::new).ok_or_else(missing)
    };
    paths.iter().map(load).collect()
}

/// Returns the directories to stack, bottom first: the layers, and above each layer that uses
/// directories without listing them, one that gives those the metadata they have below.
pub(super) fn prepare_stack(request: &StackRequest) -> Result<Vec<PathBuf>, Failure> {
    let indexes = load_indexes(&request.indexes)?;
    let mut stack = Vec::with_capacity(request.layers.len());
    let mut chain = String::new();
    for (number, layer) in request.layers.iter().enumerate() {
        if indexes
            .get(number)
            .and_then(|index| index.get(Path::new("")))
            .is_some_and(Record::is_opaque)
        {
            // The layer hides everything below it, which overlayfs does not do for a layer's root.
            stack.clear();
        }
        stack.push(layer.clone());
        let name = layer.file_name().unwrap_or_default().to_string_lossy();
        Digest::of(format!("{chain} {name}").as_bytes()).hex().clone_into(&mut chain);
        let Some(index) = indexes.get(number) else { continue };
        if number == 0 || !index.records().any(Record::is_implied) {
            continue;
        }
        let what = || format!("stack layer `{name}`");
        let below = View::new(indexes[..number].to_vec());
        let fixes = implied_fixes(&below, index).attempting(what)?;
        if fixes.is_empty() {
            continue;
        }
        let directory = request.snapshots_directory.join(FIXUPS).join(&chain);
        if !directory.exists() {
            let whole = View::new(indexes[..=number].to_vec());
            make_fix_up(&directory, layer, fixes, &whole)?;
        }
        stack.push(directory);
    }
    Ok(without_repeats(stack))
}

/// Keeps of a directory that is stacked twice, such as the layer of a step that changes nothing,
/// the upper place: overlayfs refuses the same directory twice (ELOOP), and what the lower place
/// adds or hides, the upper one adds or hides again.
fn without_repeats(stack: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut kept: Vec<PathBuf> =
        stack.into_iter().rev().filter(|layer| seen.insert(layer.clone())).collect();
    kept.reverse();
    kept
}

/// Makes a layer of nothing but directories: `fixes` and, because overlayfs takes a directory's
/// metadata from the topmost layer that has it, everything above them as it should look.
fn make_fix_up(
    directory: &Path,
    layer: &Path,
    fixes: Vec<Entry>,
    whole: &View,
) -> Result<(), Failure> {
    let what = || format!("make the fix-up layer `{}`", directory.display());
    let mut entries: BTreeMap<PathBuf, Entry> =
        fixes.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    let parents: Vec<PathBuf> = entries
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    for path in parents {
        if !entries.contains_key(&path)
            && let Some(entry) = whole.lookup(&path)
        {
            entries.insert(path, entry);
        }
    }
    let fixups = directory.parent().unwrap_or(directory);
    make_directory(fixups).attempting(what)?;
    let temporary = tempfile::Builder::new().prefix(".new-").tempdir_in(fixups).attempting(what)?;
    let tar = tar_of(entries.values()).attempting(what)?;
    apply(tar.as_slice(), temporary.path(), &ApplyOptions::default()).attempting(what)?;
    let root = fs_err::metadata(layer).attempting(what)?;
    fs_err::set_permissions(temporary.path(), root.permissions()).attempting(what)?;
    match rustix::fs::rename(temporary.path(), directory) {
        // Ours now has the name, or another process was first and ours is deleted on drop.
        Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => Ok(()),
        Err(error) => Err(Failure::new(what(), &error)),
    }
}

fn tar_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<Vec<u8>, LayerError> {
    let mut tar = LayerTar::new(Vec::new());
    for entry in entries {
        tar.append(entry, None)?;
    }
    Ok(tar.finish()?.0)
}

/// Makes a directory and its parents, with mode 0755 where they are absent.
pub(super) fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Returns a path to the merged tree of `layers`, which is there as long as the descriptor.
pub(super) fn tree_of(
    layers: &[PathBuf],
    indexes: &[PathBuf],
    snapshots_directory: &Path,
) -> Result<(PathBuf, Option<OwnedFd>), Failure> {
    let mut stack = prepare_stack(&StackRequest {
        layers: layers.to_vec(),
        indexes: indexes.to_vec(),
        snapshots_directory: snapshots_directory.to_owned(),
    })?;
    // overlayfs wants two directories; the empty one changes nothing.
    let empty = snapshots_directory.join(FIXUPS).join("empty");
    make_directory(&empty).attempting(|| "merge the source's layers".to_owned())?;
    stack.insert(0, empty);
    if stack.len() == 1 {
        return Ok((stack.remove(0), None));
    }
    let mounted = mount_read_only(&stack)?;
    // A mount that is in no tree can be walked through its descriptor, and goes with it.
    let path = PathBuf::from(format!("/proc/self/fd/{}/.", mounted.as_raw_fd()));
    Ok((path, Some(mounted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_layer_keeps_its_upper_place() {
        let stack = ["base", "empty", "work", "empty"].map(PathBuf::from).to_vec();
        assert_eq!(without_repeats(stack), ["base", "work", "empty"].map(PathBuf::from));
    }
}
