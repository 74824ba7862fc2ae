//! Finding what the source arguments name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::files::Xattrs;
use super::pattern::{Pattern, has_wildcard};
use super::tree::{Kind, Meta, Tree, clean, failed};
use super::walk::{Node, walk};
use super::{CopyError, CopyRequest, Filter, Ignore, SourceTree};

/// What the source arguments of one COPY or ADD name, with the metadata of every file.
#[derive(Debug)]
pub struct Selection {
    pub(super) tree: Tree,
    pub(super) sources: Vec<Source>,
    pub(super) keep_ownership: bool,
    pub(super) extract: bool,
}

/// One thing that a source argument, or a match of its wildcard, names.
#[derive(Debug)]
pub(super) struct Source {
    /// The name that a file gets below a destination directory: that of the argument, even if it is a
    /// link to a file of another name.
    pub(super) name: OsString,
    /// What is there, links followed.
    pub(super) node: Node,
    /// Everything below, when it is a directory.
    pub(super) content: Vec<Node>,
}

/// Finds what the sources of `request` name in `tree`, and reads the metadata of all of it. Blocks.
///
/// # Errors
///
/// [`CopyError::NotFound`] for a source without wildcards that is not there; a wildcard may match
/// nothing. [`CopyError::Pattern`] for a malformed one.
pub fn select(tree: &SourceTree<'_>, request: &CopyRequest) -> Result<Selection, CopyError> {
    let selector = Selector { tree: Tree::open(tree.root)?, filter: tree.ignored };
    let mut sources = Vec::new();
    for argument in &request.sources {
        let path = clean(Path::new(argument));
        let is_pattern = |name: &OsStr| has_wildcard(name.as_bytes());
        match path.iter().position(is_pattern) {
            None => sources.push(selector.literal(argument, &path)?),
            Some(first) => sources.extend(selector.wildcard(argument, &path, first)?),
        }
    }
    let CopyRequest { keep_ownership, extract, .. } = *request;
    Ok(Selection { tree: selector.tree, sources, keep_ownership, extract })
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
        self.sources.iter().flat_map(|source| std::iter::once(&source.node).chain(&source.content))
    }
}

struct Selector<'a> {
    tree: Tree,
    filter: Option<&'a Filter<'a>>,
}

impl Selector<'_> {
    /// Finds what an argument without wildcards names.
    fn literal(&self, argument: &str, path: &Path) -> Result<Source, CopyError> {
        let not_found = |excluded| CopyError::NotFound { pattern: argument.to_owned(), excluded };
        let (real, meta) = self.tree.follow(path)?.ok_or_else(|| not_found(false))?;
        let is_directory = meta.kind == Kind::Directory;
        if argument.ends_with('/') && !is_directory {
            return Err(not_found(false));
        }
        let verdict = self.judge(&real, is_directory);
        if verdict == Ignore::SkipTree || (verdict == Ignore::Skip && !is_directory) {
            return Err(not_found(true));
        }
        let source = self.source(path, real, meta)?;
        if verdict == Ignore::Skip && source.content.is_empty() {
            return Err(not_found(true));
        }
        Ok(source)
    }

    /// Finds what an argument matches whose component number `first` is the first with a wildcard.
    fn wildcard(
        &self,
        argument: &str,
        path: &Path,
        first: usize,
    ) -> Result<Vec<Source>, CopyError> {
        let patterns = path.iter().skip(first).map(|component| {
            let pattern = Pattern::parse(component.as_bytes());
            pattern.ok_or_else(|| CopyError::Pattern(argument.to_owned()))
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        let start: PathBuf = path.iter().take(first).collect();
        let mut sources = Vec::new();
        let Some((start, meta)) = self.tree.follow(&start)? else { return Ok(sources) };
        if meta.kind != Kind::Directory || self.judge(&start, true) == Ignore::SkipTree {
            return Ok(sources);
        }
        for path in self.matches(&start, &patterns)? {
            // A link may lead nowhere; what a wildcard matches then is nothing.
            let Some((real, meta)) = self.tree.follow(&path)? else { continue };
            let verdict = self.judge(&real, meta.kind == Kind::Directory);
            if verdict == Ignore::SkipTree {
                continue;
            }
            let source = self.source(&path, real, meta)?;
            if verdict == Ignore::Keep || !source.content.is_empty() {
                sources.push(source);
            }
        }
        Ok(sources)
    }

    /// Returns the paths below the directory `start` whose components match `patterns`, sorted.
    fn matches(&self, start: &Path, patterns: &[Pattern]) -> Result<Vec<PathBuf>, CopyError> {
        let Some((pattern, rest)) = patterns.split_first() else {
            return Ok(vec![start.to_owned()]);
        };
        let failed_here = failed("list", start);
        let directory = self.tree.open_directory(start).map_err(&failed_here)?;
        let mut entries =
            rustix::fs::Dir::read_from(&directory).map_err(|error| failed_here(error.into()))?;
        let mut found = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|error| failed_here(error.into()))?;
            let name = entry.file_name();
            if name == c"." || name == c".." || !pattern.matches(name.to_bytes()) {
                continue;
            }
            let Ok(meta) = Meta::of(&directory, name) else { continue };
            let is_directory = meta.kind == Kind::Directory;
            let path = start.join(OsStr::from_bytes(name.to_bytes()));
            match self.filter.map_or(Ignore::Keep, |filter| filter(&path, is_directory)) {
                Ignore::SkipTree => continue,
                Ignore::Skip if !is_directory => continue,
                Ignore::Keep | Ignore::Skip => {}
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

    /// Reads all of what is at `real`.
    fn source(&self, path: &Path, real: PathBuf, meta: Meta) -> Result<Source, CopyError> {
        let (xattrs, content) = match meta.kind {
            Kind::Directory => walk(&self.tree, &real, self.filter)?,
            _ => (Xattrs::new(), Vec::new()),
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Source { name, node: Node { path: real, meta, target: None, xattrs }, content })
    }

    /// Asks the filter about `path` and the directories it is in.
    fn judge(&self, path: &Path, is_directory: bool) -> Ignore {
        let Some(filter) = self.filter else { return Ignore::Keep };
        if path.as_os_str().is_empty() {
            return Ignore::Keep;
        }
        let mut parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        if parents.any(|parent| filter(parent, true) == Ignore::SkipTree) {
            return Ignore::SkipTree;
        }
        filter(path, is_directory)
    }
}
