//! What the layers so far say about each path.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::MergeInto;
use crate::layer::{Entry, EntryKind, Error, Result};

/// How many links a name may lead through, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Content {
    pub(super) fn end(self) -> u64 {
        self.start + self.size
    }
}

/// The merged tree. Keys are paths with NUL for `/`, so that their order is that of a walk.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    layer: u32,
    into: MergeInto,
}

#[derive(Debug)]
struct Node {
    /// The layer that said it last.
    layer: u32,
    /// What is there; `None` when it is deleted from the layers below all of these.
    entry: Option<Entry>,
    content: Option<Content>,
    is_opaque: bool,
}

/// One path of the result.
pub(super) struct Shown<'a> {
    pub(super) path: PathBuf,
    /// `None` for a deletion.
    pub(super) entry: Option<&'a Entry>,
    pub(super) content: Option<Content>,
    pub(super) is_opaque: bool,
}

impl Tree {
    pub(super) fn new(into: MergeInto) -> Self {
        Self { nodes: BTreeMap::new(), layer: 0, into }
    }

    pub(super) fn shape(&self) -> MergeInto {
        self.into
    }

    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Returns all paths: parents before children, siblings sorted bytewise.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Shown<'_>> {
        self.nodes.iter().map(|(key, node)| Shown {
            path: path_of(key),
            entry: node.entry.as_ref(),
            content: node.content,
            is_opaque: node.is_opaque,
        })
    }

    /// Places what a layer holds; a hard link becomes another name of what it names.
    pub(super) fn place(&mut self, mut entry: Entry, content: Option<Content>) -> Result<()> {
        let key = self.resolve(&entry.path)?;
        let mut content = content;
        if let EntryKind::HardLink { target } = &entry.kind {
            let outside = || {
                let (path, target) = (entry.path.clone(), target.clone());
                Error::HardLinkOutside { path, target }
            };
            let target_key = self.resolve(target)?;
            if target_key == key {
                return Ok(());
            }
            let node = self.nodes.get(&target_key).ok_or_else(outside)?;
            let file = node.entry.as_ref().filter(|file| !file.is_directory());
            content = node.content;
            entry = file.ok_or_else(outside)?.clone();
        }
        self.make_parents(&key);
        let is_opaque = self.clear_for(&key, entry.is_directory());
        let node = Node { layer: self.layer, entry: Some(entry), content, is_opaque };
        self.nodes.insert(key, node);
        Ok(())
    }

    /// Deletes `path` of the layers below. What this layer itself has there stays, whatever the
    /// order (OCI image-spec, layer.md, "Whiteouts").
    pub(super) fn delete(&mut self, path: &Path) -> Result<()> {
        let key = self.resolve(path)?;
        self.remove_older_below(&key);
        let layer = self.layer;
        match self.nodes.get_mut(&key) {
            Some(node) if node.layer == layer => {
                let is_directory = node.entry.as_ref().is_some_and(Entry::is_directory);
                node.is_opaque |= is_directory && self.into == MergeInto::Layer;
            }
            _ => {
                self.nodes.remove(&key);
                if self.into == MergeInto::Layer {
                    self.make_parents(&key);
                    let deleted = Node { layer, entry: None, content: None, is_opaque: false };
                    self.nodes.insert(key, deleted);
                }
            }
        }
        Ok(())
    }

    /// Deletes what the layers below have in the directory at `path`.
    pub(super) fn hide_below(&mut self, path: &Path) -> Result<()> {
        let key = self.resolve(path)?;
        self.remove_older_below(&key);
        if self.into == MergeInto::Tree {
            return Ok(());
        }
        self.make_parents(&key);
        let layer = self.layer;
        let node = self.nodes.entry(key).or_insert_with(|| implied(layer));
        if node.entry.is_none() {
            *node = implied(layer);
        }
        node.is_opaque = true;
        Ok(())
    }

    /// Makes way for something new at `key`; returns whether it must hide what is below it.
    fn clear_for(&mut self, key: &[u8], is_directory: bool) -> bool {
        let Some(node) = self.nodes.get(key) else { return false };
        let was_directory = node.entry.as_ref().is_some_and(Entry::is_directory);
        if was_directory && is_directory {
            return node.is_opaque;
        }
        if was_directory {
            for key in self.below(key) {
                self.nodes.remove(&key);
            }
        }
        is_directory && self.into == MergeInto::Layer
    }

    /// Makes the parents of `key` directories. In a layer, those that it does not list stay unsaid,
    /// unless something else is in their place.
    fn make_parents(&mut self, key: &[u8]) {
        let slashes: Vec<usize> = (0..key.len()).filter(|at| key[*at] == 0).collect();
        for at in slashes {
            let parent = &key[..at];
            match self.nodes.get(parent).map(|node| &node.entry) {
                Some(Some(entry)) if entry.is_directory() => {}
                None if self.into == MergeInto::Layer => {}
                found => {
                    let is_opaque = found.is_some() && self.into == MergeInto::Layer;
                    let node = Node { is_opaque, ..implied(self.layer) };
                    self.nodes.insert(parent.to_vec(), node);
                }
            }
        }
    }

    /// Removes what layers below the current one have below `key`.
    fn remove_older_below(&mut self, key: &[u8]) {
        let layer = self.layer;
        for key in self.below(key) {
            if self.nodes.get(&key).is_some_and(|node| node.layer < layer) {
                self.nodes.remove(&key);
            }
        }
    }

    fn below(&self, key: &[u8]) -> Vec<Vec<u8>> {
        if key.is_empty() {
            return self.nodes.keys().filter(|key| !key.is_empty()).cloned().collect();
        }
        let first = [key, &[0]].concat();
        let range = self.nodes.range(first.clone()..);
        range.map(|(key, _)| key).take_while(|key| key.starts_with(&first)).cloned().collect()
    }

    /// Returns the key of `path`, whose parents may lead through symbolic links.
    fn resolve(&self, path: &Path) -> Result<Vec<u8>> {
        let parts = |path: &Path| -> Vec<Vec<u8>> {
            let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
            parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
        };
        let mut left: VecDeque<Vec<u8>> = parts(path).into();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            if left.is_empty() {
                break;
            }
            let entry = self.nodes.get(&done.join(&0)).and_then(|node| node.entry.as_ref());
            let Some(EntryKind::Symlink { target }) = entry.map(|entry| &entry.kind) else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::LinkLoop(path.to_owned()));
            }
            done.pop();
            if target.is_absolute() {
                done.clear();
            }
            for part in parts(target).into_iter().rev() {
                left.push_front(part);
            }
        }
        Ok(done.join(&0))
    }
}

/// Returns a directory that no layer lists.
fn implied(layer: u32) -> Node {
    let entry = Some(Entry::implied_directory(""));
    Node { layer, entry, content: None, is_opaque: false }
}

fn path_of(key: &[u8]) -> PathBuf {
    let path: Vec<u8> = key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect();
    PathBuf::from(OsStr::from_bytes(&path))
}
