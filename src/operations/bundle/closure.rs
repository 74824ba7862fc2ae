//! What images of an archive need.

use std::collections::BTreeMap;

use crate::archive::{Archive, Error as Fault};
use crate::image::{Content, Descriptor, Digest, Manifest};
use crate::operations::Error;

/// Most manifests that one archive may name.
const MAX_MANIFESTS: usize = 200_000;

/// Everything below some manifests, each once.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Manifests, configs and layers that are there.
    pub(super) here: BTreeMap<Digest, Descriptor>,
    /// What a delta leaves out.
    pub(super) left_out: BTreeMap<Digest, Descriptor>,
    /// What should be there and is not.
    pub(super) missing: BTreeMap<Digest, Descriptor>,
}

impl Closure {
    /// Finds everything below `tops`. Reads every manifest.
    pub(super) fn of(archive: &Archive, tops: Vec<Descriptor>) -> Result<Self, Error> {
        let mut closure = Self::default();
        let mut waiting = tops;
        while let Some(descriptor) = waiting.pop() {
            if closure.knows(&descriptor.digest) || closure.here.len() > MAX_MANIFESTS {
                continue;
            }
            if archive.size_of(&descriptor.digest).is_none() {
                closure.lack(archive, descriptor);
                continue;
            }
            if descriptor.is_manifest() {
                let manifest =
                    archive.manifest(&descriptor.digest, Some(&descriptor.media_type))?;
                waiting.extend(below(&manifest));
            }
            closure.here.insert(descriptor.digest.clone(), descriptor);
        }
        Ok(closure)
    }

    fn knows(&self, digest: &Digest) -> bool {
        [&self.here, &self.left_out, &self.missing].iter().any(|known| known.contains_key(digest))
    }

    fn lack(&mut self, archive: &Archive, descriptor: Descriptor) {
        let is_left_out = matches!(archive.lack(&descriptor.digest), Fault::LeftOut { .. });
        let place = if is_left_out { &mut self.left_out } else { &mut self.missing };
        place.insert(descriptor.digest.clone(), descriptor);
    }

    /// Returns the bytes of what is there.
    pub(super) fn bytes(&self) -> u64 {
        self.here.values().map(|it| it.size).sum()
    }
}

/// Returns what a manifest names, layers that are elsewhere left out.
fn below(manifest: &Manifest) -> Vec<Descriptor> {
    match &manifest.content {
        Content::Image(image) => {
            let layers = image.layers.iter().filter(|layer| !layer.is_elsewhere());
            layers.chain([&image.config]).cloned().collect()
        }
        Content::Index(index) => index.manifests.clone(),
    }
}
