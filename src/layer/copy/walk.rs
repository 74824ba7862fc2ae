//! Listing a directory of a tree with everything below it, on several threads.

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::CopyError;
use super::files::{Xattrs, read_xattrs};
use super::filter::{Above, Rules, Take};
use super::tree::{Kind, Meta, Tree, failed, read_link};

/// A directory tree with fewer directories than this is listed before a thread would have started.
const WORTH_THREADS: usize = 8;

/// More threads than this wait for one another's locks in the kernel.
const MOST_THREADS: usize = 8;

/// One file of a tree.
#[derive(Debug)]
pub(super) struct Node {
    /// Its path in the tree.
    pub(super) path: PathBuf,
    pub(super) meta: Meta,
    /// What a symbolic link holds.
    pub(super) target: Option<PathBuf>,
    /// The extended attributes of a directory; a file's are read with its content.
    pub(super) xattrs: Xattrs,
    /// Whether it is a directory that only others below it need: see [`Take::AsParent`].
    pub(super) is_parent: bool,
}

/// A directory's extended attributes, and its own files, sorted bytewise by name.
#[derive(Default)]
struct Listing {
    xattrs: Xattrs,
    children: Vec<Child>,
}

struct Child {
    node: Node,
    /// The number of a directory's listing.
    listing: Option<usize>,
    /// Whether the directory is only there for the sake of what it holds.
    only_for_children: bool,
    /// What is known of the patterns for what the directory holds.
    above: Above,
}

/// A directory that is to be listed.
struct Waiting {
    /// The number of its listing.
    number: usize,
    path: PathBuf,
    above: Above,
}

struct State {
    waiting: Vec<Waiting>,
    listings: Vec<Listing>,
    /// How many threads are listing a directory now.
    active: usize,
    error: Option<CopyError>,
}

/// Returns the extended attributes of the directory `top`, which is the rules' base, and all that is
/// below it: parents before children, siblings sorted bytewise.
pub(super) fn walk(
    tree: &Tree,
    top: &Path,
    rules: &Rules<'_>,
) -> Result<(Xattrs, Vec<Node>), CopyError> {
    let state = Mutex::new(State {
        waiting: vec![Waiting { number: 0, path: top.to_owned(), above: rules.above() }],
        listings: vec![Listing::default()],
        active: 0,
        error: None,
    });
    let changed = Condvar::new();
    work(tree, rules, &state, &changed, Some(WORTH_THREADS));
    let left = !state.lock().unwrap_or_else(PoisonError::into_inner).waiting.is_empty();
    if left {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| work(tree, rules, &state, &changed, None));
            }
            work(tree, rules, &state, &changed, None);
        });
    }
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.error {
        return Err(error);
    }
    let mut listings: Vec<_> = state.listings.into_iter().map(Some).collect();
    let mut nodes = Vec::new();
    let xattrs = flatten(&mut listings, 0, &mut nodes);
    Ok((xattrs, nodes))
}

/// Lists waiting directories until there are none, or `limit` were listed.
fn work(
    tree: &Tree,
    rules: &Rules<'_>,
    state: &Mutex<State>,
    changed: &Condvar,
    limit: Option<usize>,
) {
    let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    while guard.error.is_none() && limit.is_none_or(|limit| count < limit) {
        let Some(Waiting { number, path, above }) = guard.waiting.pop() else {
            if guard.active == 0 {
                return;
            }
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        guard.active += 1;
        drop(guard);
        let listed = list(tree, &path, rules, &above);
        guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.active -= 1;
        count += 1;
        match listed {
            Ok(listing) => guard.take(number, listing),
            Err(error) => guard.error = Some(error),
        }
        changed.notify_all();
    }
}

impl State {
    /// Keeps `listing` under its number, and lets its directories wait for theirs.
    fn take(&mut self, number: usize, mut listing: Listing) {
        for child in &mut listing.children {
            if child.node.meta.kind == Kind::Directory {
                let (number, path) = (self.listings.len(), child.node.path.clone());
                child.listing = Some(number);
                self.waiting.push(Waiting {
                    number,
                    path,
                    above: std::mem::take(&mut child.above),
                });
                self.listings.push(Listing::default());
            }
        }
        self.listings[number] = listing;
    }
}

/// Appends what is below the directory of listing `number`, and returns its extended attributes.
fn flatten(listings: &mut [Option<Listing>], number: usize, nodes: &mut Vec<Node>) -> Xattrs {
    let listing = listings[number].take().unwrap_or_default();
    for child in listing.children {
        let at = nodes.len();
        nodes.push(child.node);
        if let Some(number) = child.listing {
            nodes[at].xattrs = flatten(listings, number, nodes);
        }
        if child.only_for_children && nodes.len() == at + 1 {
            nodes.pop();
        }
    }
    listing.xattrs
}

/// Lists one directory.
fn list(tree: &Tree, path: &Path, rules: &Rules<'_>, above: &Above) -> Result<Listing, CopyError> {
    let failed_here = failed("list", path);
    let directory = tree.open_directory(path).map_err(&failed_here)?;
    let xattrs = read_xattrs(&directory);
    let mut entries = rustix::fs::Dir::new(directory).map_err(|e| failed_here(e.into()))?;
    let mut children = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(|error| failed_here(error.into()))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let directory = entries.fd().map_err(|error| failed_here(error.into()))?;
        children.extend(child(directory, path, name, rules, above)?);
    }
    children.sort_unstable_by(|a: &Child, b: &Child| {
        a.node.path.as_os_str().cmp(b.node.path.as_os_str())
    });
    Ok(Listing { xattrs, children })
}

fn child(
    directory: BorrowedFd<'_>,
    parent: &Path,
    name: &CStr,
    rules: &Rules<'_>,
    above: &Above,
) -> Result<Option<Child>, CopyError> {
    let path = parent.join(OsStr::from_bytes(name.to_bytes()));
    let meta = match Meta::of(directory, name) {
        Ok(meta) => meta,
        // It was removed since the directory was read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let is_directory = meta.kind == Kind::Directory;
    let (take, above) = rules.decide(&path, is_directory, above);
    if take == Take::Nothing {
        return Ok(None);
    }
    let target = match meta.kind {
        Kind::Symlink => Some(read_link(directory, name).map_err(failed("read the link", &path))?),
        _ => None,
    };
    let is_parent = take == Take::AsParent;
    let node = Node { path, meta, target, xattrs: Xattrs::new(), is_parent };
    let only_for_children = take != Take::All;
    Ok(Some(Child { node, listing: None, only_for_children, above }))
}
