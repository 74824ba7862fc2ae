//! Finding what the source arguments name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ignore::{Patterns, Verdict};
use crate::layer::{PathIndex, Record};

use super::files::Xattrs;
use super::filter::{Rules, Take};
use super::pattern::{Pattern, has_wildcard};
use super::stat_cache::now_ns;
use super::tree::{Kind, Meta, Tree, clean, failed};
use super::walk::{Node, walk};
use super::{CopyError, CopyInput, CopyRequest, Metadata, SourceTree};

/// What the source arguments of one COPY or ADD name, with the metadata of every file.
#[derive(Debug)]
pub struct Selection {
    pub(super) trees: Vec<Tree>,
    pub(super) sources: Vec<Source>,
}

/// One thing that a source argument, or a match of its wildcard, names.
#[derive(Debug)]
pub(super) struct Source {
    /// The number of the tree that it is in; of no importance for inline content.
    pub(super) tree: usize,
    /// The name that a file gets below a destination directory: that of the argument, even if it is a
    /// link to a file of another name.
    pub(super) name: OsString,
    /// What is there, links followed.
    pub(super) node: Node,
    /// Everything below, when it is a directory.
    pub(super) content: Vec<Node>,
    /// The content of a file that is in no tree.
    pub(super) inline: Option<Vec<u8>>,
    /// Whether its files' owners count.
    pub(super) keep_ownership: bool,
    /// Whether it is extracted when it is a tar.
    pub(super) extract: bool,
    /// Whether a directory is copied itself, not only what is in it.
    pub(super) whole: bool,
    /// What of the metadata counts.
    pub(super) metadata: Metadata,
}

/// Finds what the sources of `request` name, paths in `tree`, and reads the metadata of all of it.
/// Blocks.
///
/// # Errors
///
/// [`CopyError::NotFound`] for a source without wildcards that is not there; a wildcard may match
/// nothing. [`CopyError::Pattern`] and [`CopyError::Exclude`] for malformed ones.
pub fn select(
    tree: Option<&SourceTree<'_>>,
    request: &CopyRequest,
) -> Result<Selection, CopyError> {
    let (none, excluded) = (Patterns::default(), patterns(&request.exclude)?);
    let ignored = tree.and_then(|tree| tree.ignored).unwrap_or(&none);
    let needs_tree = |input: &CopyInput| matches!(input, CopyInput::Path(_) | CopyInput::Exact(_));
    let used = tree.filter(|_| request.sources.iter().any(needs_tree));
    let main = used.map(|tree| Tree::open(tree.root)).transpose()?;
    let selector = |path: &str, excluded| match &main {
        Some(tree) => Ok(Selector { tree, ignored, none: &none, excluded, request }),
        None => Err(CopyError::NotFound { pattern: path.to_owned(), excluded: false }),
    };
    let mut others = Vec::new();
    let mut sources = Vec::new();
    let is_portable = tree.is_some_and(|tree| tree.metadata == Metadata::Portable);
    for input in &request.sources {
        let before = sources.len();
        let number = usize::from(main.is_some()) + others.len();
        match input {
            CopyInput::Path(path) if request.parents => {
                sources.extend(selector(path, &excluded)?.with_parents(path)?);
            }
            CopyInput::Path(path) => {
                sources.extend(selector(path, &excluded)?.path_or_pattern(path)?);
            }
            CopyInput::Exact(path) => {
                sources.push(selector(path, &none)?.literal(
                    path,
                    &clean(Path::new(path)),
                    None,
                )?);
            }
            CopyInput::Inline { name, content } => sources.push(inline(name, content)),
            CopyInput::File { directory, name, extract } => {
                let mut source = elsewhere(&mut others, directory, name)?;
                (source.tree, source.extract) = (number, *extract);
                sources.push(source);
            }
            CopyInput::Directory(directory) => {
                let mut source = elsewhere(&mut others, directory, "")?;
                (source.tree, source.whole) = (number, true);
                sources.push(source);
            }
        }
        if is_portable && needs_tree(input) {
            sources[before..].iter_mut().for_each(Source::make_portable);
        }
    }
    if let Some(owners) = used.and_then(|tree| tree.owners) {
        let of_main = |input: &Source| input.tree == 0 && input.inline.is_none();
        sources.iter_mut().filter(|source| of_main(source)).for_each(|source| source.own(owners));
    }
    Ok(Selection { trees: main.into_iter().chain(others).collect(), sources })
}

/// Reads the patterns of `--exclude` or `--parents`.
fn patterns(texts: &[String]) -> Result<Patterns, CopyError> {
    Patterns::from_list(texts.iter().map(String::as_str)).map_err(|source| {
        let pattern = texts.get(source.line.saturating_sub(1)).cloned().unwrap_or_default();
        CopyError::Exclude { pattern, source }
    })
}

/// Returns a file that is in no tree.
fn inline(name: &str, content: &str) -> Source {
    let name = Path::new(name).file_name().unwrap_or_default().to_owned();
    let meta = Meta {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: content.len() as u64,
        mtime_ns: now_ns(),
        ctime_ns: 0,
        device: 0,
        inode: 0,
        links: 1,
        device_number: (0, 0),
    };
    let path = PathBuf::from(&name);
    let node = Node { path, meta, target: None, xattrs: Xattrs::new(), is_parent: false };
    Source { inline: Some(content.as_bytes().to_vec()), ..Source::new(name, node, Vec::new()) }
}

/// Finds `name` in `directory`, which becomes one more of `trees`; all of it when there is no name.
fn elsewhere(trees: &mut Vec<Tree>, directory: &Path, name: &str) -> Result<Source, CopyError> {
    let tree = Tree::open(directory)?;
    let none = Patterns::default();
    let request = CopyRequest::default();
    let selector =
        Selector { tree: &tree, ignored: &none, none: &none, excluded: &none, request: &request };
    let source = selector.literal(name, &clean(Path::new(name)), None)?;
    trees.push(tree);
    Ok(source)
}

impl Selection {
    /// Returns whether nothing was selected: every wildcard matched nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Returns the number of files, directories and links.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes().count()
    }

    /// Returns the total size of the selected files in bytes; tars count as they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.nodes().filter(|node| node.meta.kind == Kind::File).map(|node| node.meta.size).sum()
    }

    /// Returns all that was selected, in order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.sources.iter().flat_map(Source::nodes)
    }
}

impl Source {
    /// Takes the owners of its files from `owners`; root has what is not in there.
    fn own(&mut self, owners: &PathIndex) {
        self.keep_ownership = true;
        for node in std::iter::once(&mut self.node).chain(&mut self.content) {
            let entry = owners.get(&node.path).and_then(Record::entry);
            let owner = entry.map(|entry| (entry.uid, entry.gid));
            (node.meta.uid, node.meta.gid) = owner.unwrap_or_default();
        }
    }

    fn new(name: OsString, node: Node, content: Vec<Node>) -> Self {
        let (tree, inline) = (0, None);
        let (keep_ownership, extract, whole) = (false, false, false);
        let metadata = Metadata::All;
        Self { tree, name, node, content, inline, keep_ownership, extract, whole, metadata }
    }

    /// Leaves out what differs between checkouts of the same files.
    fn make_portable(&mut self) {
        self.metadata = Metadata::Portable;
        for node in std::iter::once(&mut self.node).chain(&mut self.content) {
            let is_executable = node.meta.mode & 0o100 != 0;
            node.meta.mode = match node.meta.kind {
                Kind::Symlink => node.meta.mode,
                Kind::File if !is_executable => 0o644,
                _ => 0o755,
            };
            node.meta.links = 1;
            node.xattrs.clear();
        }
    }

    /// Returns the source itself and all that is below it, in order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.node).chain(&self.content)
    }
}

/// Looks source arguments up in a tree.
struct Selector<'a> {
    tree: &'a Tree,
    ignored: &'a Patterns,
    none: &'a Patterns,
    excluded: &'a Patterns,
    request: &'a CopyRequest,
}

impl Selector<'_> {
    fn path_or_pattern(&self, argument: &str) -> Result<Vec<Source>, CopyError> {
        let path = clean(Path::new(argument));
        match first_wildcard(&path) {
            None => Ok(vec![self.literal(argument, &path, None)?]),
            Some(first) => self.wildcard(argument, &path, first, None),
        }
    }

    /// Finds what an argument means that keeps its directories: all of it, or what follows the first
    /// `/./`, is a pattern of paths below what precedes that, or below the tree's root.
    fn with_parents(&self, argument: &str) -> Result<Vec<Source>, CopyError> {
        let (base, pattern) = argument.split_once("/./").unwrap_or(("", argument));
        let (base, below) = (clean(Path::new(base)), clean(Path::new(pattern)));
        let below = below.to_string_lossy().into_owned();
        // A `!` at its start is a name here.
        let text = if below.starts_with('!') { format!("\\{below}") } else { below.clone() };
        let included = patterns(&[text])?;
        let included = (!below.is_empty()).then_some(&included);
        if let Some(first) = first_wildcard(&base) {
            return self.wildcard(argument, &base, first, included);
        }
        if first_wildcard(Path::new(&below)).is_none() {
            self.require(argument, &base.join(&below))?;
        }
        Ok(vec![self.literal(argument, &base, included)?])
    }

    /// Makes sure that something is at `path`, as an argument without wildcards must name something.
    fn require(&self, argument: &str, path: &Path) -> Result<(), CopyError> {
        let not_found = |excluded| CopyError::NotFound { pattern: argument.to_owned(), excluded };
        let (real, meta) = self.tree.follow(path)?.ok_or_else(|| not_found(false))?;
        match self.ignored.verdict(&real, meta.kind == Kind::Directory) {
            Verdict::Keep | Verdict::Skip => Ok(()),
            Verdict::SkipTree => Err(not_found(true)),
        }
    }

    /// Finds what an argument without wildcards names, its content only as far as it is `included`.
    fn literal(
        &self,
        argument: &str,
        path: &Path,
        included: Option<&Patterns>,
    ) -> Result<Source, CopyError> {
        let not_found = |excluded| CopyError::NotFound { pattern: argument.to_owned(), excluded };
        let (real, meta) = self.tree.follow(path)?.ok_or_else(|| not_found(false))?;
        let verdict = self.verdict(&real, meta);
        if verdict == Verdict::SkipTree {
            return Err(not_found(true));
        }
        let source = self.source(path, real, meta, included)?;
        if verdict == Verdict::Skip && source.content.is_empty() {
            return Err(not_found(true));
        }
        Ok(source)
    }

    /// Says what the ignore file does to `path`; the root is always there.
    fn verdict(&self, path: &Path, meta: Meta) -> Verdict {
        if path.as_os_str().is_empty() {
            return Verdict::Keep;
        }
        self.ignored.verdict(path, meta.kind == Kind::Directory)
    }

    /// Finds what an argument matches whose component number `first` is the first with a wildcard.
    fn wildcard(
        &self,
        argument: &str,
        path: &Path,
        first: usize,
        included: Option<&Patterns>,
    ) -> Result<Vec<Source>, CopyError> {
        let patterns = path.iter().skip(first).map(|component| {
            let pattern = Pattern::parse(component.as_bytes());
            pattern.ok_or_else(|| CopyError::Pattern(argument.to_owned()))
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        let start: PathBuf = path.iter().take(first).collect();
        let mut sources = Vec::new();
        let Some((start, meta)) = self.tree.follow(&start)? else { return Ok(sources) };
        if meta.kind != Kind::Directory || self.verdict(&start, meta) == Verdict::SkipTree {
            return Ok(sources);
        }
        for path in self.matches(&start, &patterns)? {
            // A link may lead nowhere; what a wildcard matches then is nothing.
            let Some((real, meta)) = self.tree.follow(&path)? else { continue };
            let verdict = self.verdict(&real, meta);
            if verdict == Verdict::SkipTree || self.is_excluded(&path, meta) {
                continue;
            }
            let source = self.source(&path, real, meta, included)?;
            if verdict == Verdict::Keep || !source.content.is_empty() {
                sources.push(source);
            }
        }
        Ok(sources)
    }

    /// Returns whether `--exclude` leaves out a file that a wildcard matched: by its name, as there
    /// is no directory that it is copied from (Dockerfile reference, "COPY --exclude"). BuildKit
    /// copies it all the same (moby/buildkit#5489).
    fn is_excluded(&self, path: &Path, meta: Meta) -> bool {
        let name = Path::new(path.file_name().unwrap_or_default());
        meta.kind != Kind::Directory && self.excluded.verdict(name, false) != Verdict::Keep
    }

    /// Returns the paths below the directory `start` whose components match `patterns`, sorted.
    fn matches(&self, start: &Path, patterns: &[Pattern]) -> Result<Vec<PathBuf>, CopyError> {
        let Some((pattern, rest)) = patterns.split_first() else {
            return Ok(vec![start.to_owned()]);
        };
        let failed_here = failed("list", start);
        let directory = self.tree.open_directory(start).map_err(&failed_here)?;
        let mut entries =
            rustix::fs::Dir::new(directory).map_err(|error| failed_here(error.into()))?;
        let rules = Rules { base: start, ..Rules::of_tree(self.ignored, self.none) };
        let above = rules.above();
        let mut found = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|error| failed_here(error.into()))?;
            let directory = entries.fd().map_err(|error| failed_here(error.into()))?;
            let name = entry.file_name();
            if name == c"." || name == c".." || !pattern.matches(name.to_bytes()) {
                continue;
            }
            let Ok(meta) = Meta::of(directory, name) else { continue };
            let is_directory = meta.kind == Kind::Directory;
            let path = start.join(OsStr::from_bytes(name.to_bytes()));
            if rules.decide(&path, is_directory, &above).0 == Take::Nothing {
                continue;
            }
            if rest.is_empty() {
                found.push(path);
            } else if is_directory {
                found.extend(self.matches(&path, rest)?);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads all of what is at `real`, as far as it is `included`.
    fn source(
        &self,
        path: &Path,
        real: PathBuf,
        meta: Meta,
        included: Option<&Patterns>,
    ) -> Result<Source, CopyError> {
        let (ignored, excluded) = (self.ignored, self.excluded);
        let rules = Rules { ignored, excluded, included, base: &real };
        let (xattrs, content) = match meta.kind {
            Kind::Directory => walk(self.tree, &real, &rules)?,
            _ => (Xattrs::new(), Vec::new()),
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        let node = Node { path: real, meta, target: None, xattrs, is_parent: false };
        let CopyRequest { keep_ownership, extract, .. } = *self.request;
        Ok(Source { keep_ownership, extract, ..Source::new(name, node, content) })
    }
}

/// Returns which component of `path` is the first with a wildcard.
fn first_wildcard(path: &Path) -> Option<usize> {
    path.iter().position(|name| has_wildcard(name.as_bytes()))
}
