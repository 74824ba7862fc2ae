//! A selection as a list that can be kept: what a content key was made of, in words.

use serde::{Deserialize, Serialize};

use super::digest::{Content, Fingerprint};
use super::tree::Kind;
use super::walk::Node;

/// A file of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// Its path in the tree; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What kind of file it is, in a word.
    pub kind: String,
    /// Its mode, without the kind.
    pub mode: u32,
    /// Its owner; 0 where owners do not count.
    pub uid: u32,
    /// Its group; 0 where owners do not count.
    pub gid: u32,
    /// The size of a regular file.
    pub size: u64,
    /// The SHA-256 of a regular file, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// What a symbolic link says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Fingerprint<'_> {
    /// Returns the files, in order.
    #[must_use]
    pub fn listing(&self) -> Vec<ListedFile> {
        let mut contents = self.contents.iter();
        let mut files = Vec::new();
        for source in &self.selection.sources {
            for node in source.nodes() {
                let is_file = node.meta.kind == Kind::File;
                let content = if is_file { contents.next() } else { None };
                files.push(listed(node, content, source.keep_ownership));
            }
        }
        files
    }
}

fn listed(node: &Node, content: Option<&Content>, keeps_owner: bool) -> ListedFile {
    let meta = &node.meta;
    ListedFile {
        path: node.path.to_string_lossy().into_owned(),
        kind: kind_word(meta.kind).to_owned(),
        mode: if meta.kind == Kind::Symlink { 0 } else { meta.mode },
        uid: if keeps_owner { meta.uid } else { 0 },
        gid: if keeps_owner { meta.gid } else { 0 },
        size: if content.is_some() { meta.size } else { 0 },
        content: content.map_or_else(String::new, |content| hex(&content.sha256)),
        target: node.target.as_ref().map(|target| target.to_string_lossy().into_owned()),
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Symlink => "symbolic link",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
