//! From a repository of a request to repositories of the store.

use crate::image::{
    Content, DEFAULT_REGISTRY, Descriptor, Digest, Reference, RegistryName, Repository,
    RepositoryName,
};
use crate::store::ImageEntry;

use super::handler::Head;
use super::reply::{Code, Failure};
use super::route::Key;
use super::state::State;

/// The repositories of the store that a request's repository may mean, the likeliest first.
#[derive(Debug, Clone)]
pub(super) struct Candidates(pub(super) Vec<Repository>);

impl Candidates {
    pub(super) fn of(state: &State, head: &Head, name: &RepositoryName) -> Result<Self, Failure> {
        let Some(host) = head.query("ns") else {
            let own = Repository { registry: state.registry_name.clone(), name: name.clone() };
            return Ok(Self([Some(own), docker(name)].into_iter().flatten().collect()));
        };
        if host.ends_with("docker.io") {
            return Ok(Self(docker(name).into_iter().collect()));
        }
        let registry: RegistryName =
            host.parse().map_err(|error| Failure::because(Code::NameInvalid, &error))?;
        Ok(Self(vec![Repository { registry, name: name.clone() }]))
    }

    /// Returns whether the entry belongs here. Dangling images belong everywhere: a manifest whose
    /// tag moved on can still be had by digest.
    pub(super) fn holds(&self, entry: &ImageEntry) -> bool {
        entry.name.as_ref().is_none_or(|name| self.0.contains(&name.repository))
    }

    /// Finds a manifest.
    pub(super) fn find(&self, state: &State, key: &Key) -> Result<Option<Descriptor>, Failure> {
        match key {
            Key::Invalid(_) => Ok(None),
            Key::Digest(digest) => self.find_digest(state, digest),
            Key::Tag(tag) => {
                for repository in &self.0 {
                    let reference = Reference::tagged(repository.clone(), tag.clone());
                    if let Some(found) = state.store.resolve(&reference)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    fn find_digest(&self, state: &State, digest: &Digest) -> Result<Option<Descriptor>, Failure> {
        if !state.store.has_blob(digest) {
            return Ok(None);
        }
        let entries = state.store.images()?;
        let mut descriptors: Vec<_> = entries
            .into_iter()
            .filter(|entry| self.holds(entry))
            .map(|entry| entry.descriptor)
            .collect();
        if let Some(at) = descriptors.iter().position(|entry| entry.digest == *digest) {
            return Ok(Some(descriptors.swap_remove(at)));
        }
        // A manifest of one platform is known by the index that lists it.
        for descriptor in descriptors {
            if let Some(found) = find_child(state, &descriptor, digest, MAX_DEPTH)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Indexes within indexes are rare, and no deeper than this.
const MAX_DEPTH: usize = 4;

fn find_child(
    state: &State,
    parent: &Descriptor,
    wanted: &Digest,
    depth: usize,
) -> Result<Option<Descriptor>, Failure> {
    if depth == 0 || !crate::image::media_type::is_index(&parent.media_type) {
        return Ok(None);
    }
    let Some(manifest) = state.store.manifest(&parent.digest)? else { return Ok(None) };
    let Content::Index(index) = manifest.content else { return Ok(None) };
    for child in index.manifests {
        if child.digest == *wanted {
            return Ok(Some(child));
        }
        if let Some(found) = find_child(state, &child, wanted, depth - 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns what docker means by a name without a registry.
fn docker(name: &RepositoryName) -> Option<Repository> {
    let registry = DEFAULT_REGISTRY.parse().ok()?;
    let is_official = !name.as_str().contains('/');
    let name = if is_official { format!("library/{name}").parse().ok()? } else { name.clone() };
    Some(Repository { registry, name })
}
