//! How much disk a tree takes, as `du` counts.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_err as fs;

/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK: u64 = 512;

/// Returns the bytes that the tree at `path` takes on disk: blocks, directories too, a file with
/// several names once. What vanishes meanwhile takes nothing. Follows no link.
///
/// # Errors
///
/// When a directory cannot be read.
pub fn disk_use(path: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut bytes = 0;
    while let Some(path) = waiting.pop() {
        let Some(metadata) = present(fs::symlink_metadata(&path))? else { continue };
        let is_directory = metadata.is_dir();
        let has_names = metadata.nlink() > 1 && !is_directory;
        if has_names && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        bytes += metadata.blocks() * BLOCK;
        if !is_directory {
            continue;
        }
        let Some(entries) = present(fs::read_dir(&path))? else { continue };
        for entry in entries {
            waiting.push(entry?.path());
        }
    }
    Ok(bytes)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/a"), vec![1; 100_000]).unwrap();
        let before = disk_use(root.path()).unwrap();
        assert!(before >= 100_000);
        fs::hard_link(root.path().join("d/a"), root.path().join("b")).unwrap();
        assert_eq!(disk_use(root.path()).unwrap(), before);
        assert_eq!(disk_use(&root.path().join("absent")).unwrap(), 0);
    }
}
