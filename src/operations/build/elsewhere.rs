//! What a build gets by http and git: by the steps of its plan and by its named contexts.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::build::{ContextName, CopySource, Plan, Remote, Work};
use crate::dockerfile::GitReference;
use crate::image::Digest;
use crate::operations::lock::{Address, Pins};
use crate::operations::{Error, Kind};
use crate::remote::{FileName, GitTree};

use super::BuildRequest;
use super::contexts::{SINGLE_FILE, open_named};
use super::location::ContextLocation;
use super::online::Online;

/// Something that is got by http or git.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operations) enum Elsewhere {
    /// What `ADD` names.
    Added(Remote),
    /// The named context of this key.
    Context(String),
}

/// How it is got.
pub(super) enum Source {
    /// A file of an HTTP server.
    File { url: String, name: FileName<'static>, checksum: Option<Digest> },
    /// The files of a commit.
    Commit { reference: GitReference, checksum: Option<String>, keep_git_dir: bool },
}

/// What it is, exactly.
pub(super) enum Pin {
    File(Address, Digest),
    Commit(Address, String),
}

/// Returns what the steps of a plan get by http or git.
pub(super) fn elsewhere_of(plan: &Plan, request: &BuildRequest) -> BTreeSet<Elsewhere> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let sources = steps.filter_map(|step| match &step.work {
        Work::Copy(copy) => Some(&copy.sources),
        Work::Run(_) | Work::Directory(_) => None,
    });
    let added = sources.flatten().filter_map(|source| match source {
        CopySource::Remote(remote) => Some(Elsewhere::Added(remote.clone())),
        CopySource::Path(_) | CopySource::Inline { .. } => None,
    });
    let contexts = plan.contexts.iter().filter_map(|context| match context {
        ContextName::Named(name) => match request.named_context(name)? {
            ContextLocation::Http(_) | ContextLocation::Git(_) => {
                Some(Elsewhere::Context(name.clone()))
            }
            _ => None,
        },
        ContextName::Main => None,
    });
    added.chain(contexts).collect()
}

/// Reads the address of a repository that `ADD` names.
pub(super) fn parse_git(url: &str) -> Result<GitReference, Error> {
    GitReference::parse_known(url)
        .map_err(|error| Error::new(Kind::User, error.to_string()))?
        .ok_or_else(|| Error::new(Kind::User, "it is no address of a repository"))
}

impl Elsewhere {
    /// Returns how it is got; `None` for a context that is here.
    pub(super) fn source(&self, request: &BuildRequest) -> Result<Option<Source>, Error> {
        Ok(match self {
            Self::Added(Remote::Http { url, checksum }) => {
                let (url, checksum) = (url.clone(), checksum.clone());
                Some(Source::File { url, name: FileName::OfUrl, checksum })
            }
            Self::Added(Remote::Git { url, checksum, keep_git_dir }) => Some(Source::Commit {
                reference: parse_git(url)?,
                checksum: checksum.clone(),
                keep_git_dir: *keep_git_dir,
            }),
            Self::Context(name) => match request.named_context(name) {
                Some(ContextLocation::Http(url)) => {
                    let name = FileName::Given(SINGLE_FILE);
                    Some(Source::File { url: url.clone(), name, checksum: None })
                }
                Some(ContextLocation::Git(reference)) => {
                    let (reference, checksum) = ((**reference).clone(), None);
                    Some(Source::Commit { reference, checksum, keep_git_dir: false })
                }
                _ => None,
            },
        })
    }
}

impl Source {
    /// Returns its address, when it can come to mean something else.
    pub(super) fn moving(&self) -> Option<Address> {
        match self {
            Self::File { url, checksum: None, .. } => Some(Address::of_url(url)),
            Self::File { .. } => None,
            Self::Commit { reference, .. } => {
                (!self.tree()?.is_pinned()).then(|| Address::of_repository(reference))
            }
        }
    }

    fn tree(&self) -> Option<GitTree<'_>> {
        match self {
            Self::Commit { reference, checksum, keep_git_dir } => Some(GitTree {
                reference,
                checksum: checksum.as_deref(),
                keep_git_dir: *keep_git_dir,
            }),
            Self::File { .. } => None,
        }
    }
}

impl Online {
    /// Finds what something from elsewhere is, by the lock file or by asking; `None` when it says
    /// exactly itself. Blocks.
    pub(super) fn pin(&self, source: &Source) -> Result<Option<Pin>, Error> {
        let Some(address) = source.moving() else { return Ok(None) };
        let pins = self.pins.get().map(Arc::as_ref);
        Ok(Some(match (source, source.tree()) {
            (Source::File { url, name, .. }, _) => {
                let known = pins.and_then(|pins| pins.file(&address)).cloned();
                let digest = match known {
                    Some(digest) => digest,
                    None => self.file(url, *name, None)?.digest,
                };
                Pin::File(address, digest)
            }
            (Source::Commit { .. }, Some(tree)) => {
                let known = pins.and_then(|pins| pins.commit(&address)).map(str::to_owned);
                let commit = match known.filter(|commit| tree.can_be(commit)) {
                    Some(commit) => commit,
                    None => self.commit(&tree)?,
                };
                Pin::Commit(address, commit)
            }
            (Source::Commit { .. }, None) => return Ok(None),
        }))
    }

    /// Brings something from elsewhere into the store. Blocks.
    pub(super) fn bring(&self, one: &Elsewhere, request: &BuildRequest) -> Result<(), Error> {
        match one {
            Elsewhere::Added(remote) => self.get_remote(remote).map(drop),
            Elsewhere::Context(name) => match request.named_context(name) {
                Some(location) => open_named(name, location, self).map(drop),
                None => Ok(()),
            },
        }
    }

    /// Says what of something from elsewhere is not in the store; `None` when all of it is. Blocks.
    pub(super) fn lacks(
        &self,
        one: &Elsewhere,
        request: &BuildRequest,
    ) -> Result<Option<String>, Error> {
        let Some(source) = one.source(request)? else { return Ok(None) };
        let pins = self.pins.get().map(Arc::as_ref);
        match (&source, source.tree()) {
            (Source::File { url, name, checksum }, _) => {
                let address = Address::of_url(url);
                let locked = pins.and_then(|pins| pins.file(&address));
                let known = self.known_file(url, *name, checksum.as_ref().or(locked))?;
                let lacking = known.is_none().then(|| format!("what `{}` gives", address.shown()));
                Ok(lacking)
            }
            (Source::Commit { reference, .. }, Some(tree)) => {
                let address = Address::of_repository(reference);
                if !tree.is_pinned() && pins.and_then(|pins| pins.commit(&address)).is_none() {
                    let name = address.shown();
                    return Ok(Some(format!("which commit `{name}` is: `rpub lock` keeps that")));
                }
                let is_here = self.has_repository(&tree)?;
                Ok((!is_here).then(|| format!("the files of `{}`", address.shown())))
            }
            (Source::Commit { .. }, None) => Ok(None),
        }
    }
}

/// Returns the addresses of what can come to mean something else.
pub(super) fn moving(
    elsewhere: &BTreeSet<Elsewhere>,
    request: &BuildRequest,
) -> Result<BTreeSet<Address>, Error> {
    let mut addresses = BTreeSet::new();
    for one in elsewhere {
        addresses.extend(one.source(request)?.and_then(|source| source.moving()));
    }
    Ok(addresses)
}

/// Returns which of `addresses` a lock file lacks.
pub(super) fn lacking<'a>(
    pins: &'a Pins,
    addresses: &'a BTreeSet<Address>,
) -> impl Iterator<Item = String> + 'a {
    let lacking = addresses
        .iter()
        .filter(|address| pins.file(address).is_none() && pins.commit(address).is_none());
    lacking.map(|address| address.shown().to_owned())
}
