//! `validate`: everything of an image is read and hashed again.
//!
//! [`rules`] says what documents must say of one another, without touching anything; `contents`
//! reads blobs. All faults are found, not only the first; what keeps rpub from looking, as a network
//! that fails, is an error and no fault.

mod contents;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::image::{
    Content, Descriptor, DiffId, Digest, ImageConfig, ImageManifest, Index, Manifest, Platform,
    media_type,
};

use super::place::{ImageSource, Place, Top};
use super::{Error, Kind, Session};
use contents::{Blob, check_blob};

/// How many blobs are read at once: each takes a processor to decompress, and some memory.
const BLOBS_AT_ONCE: usize = 4;
/// How deep indexes may be nested, and how many manifests one name may have.
const MAX_DEPTH: usize = 8;
const MAX_MANIFESTS: usize = 4096;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// Every byte.
    Everything,
    /// Manifests and configs; of the layers, whether they are there with the right size.
    Fast,
}

/// What is the matter with a part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// It is missing, or not what something else says that it is.
    Wrong,
    /// It could not be read though the rest could: it may be missing, or the network failed.
    Unreadable,
}

/// Something that is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// The platform of the image that has it, as far as it is one image's.
    pub platform: Option<Platform>,
    /// The manifest, config or layer.
    pub digest: Digest,
    /// What is wrong with it.
    pub message: String,
}

/// A fault, before it is known whose.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    kind: FaultKind,
    message: String,
}

impl Finding {
    fn wrong(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Wrong, message: message.into() }
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The manifest or index.
    pub digest: Digest,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// How many manifests and indexes were read.
    pub manifests: usize,
    /// How many configs and layers were looked at.
    pub blobs: usize,
    /// Their size.
    pub blob_bytes: u64,
    /// Layers that are not kept beside the image, and were not looked at.
    pub foreign: usize,
}

/// Looks at everything that the name `source` stands for.
///
/// # Errors
///
/// When the name stands for nothing, or something cannot be looked at.
pub async fn validate(
    session: &Session,
    source: &ImageSource,
    thoroughness: Thoroughness,
) -> Result<Validation, Error> {
    let top = Top::read(session, source).await?;
    let mut walk = Walk::new(session, &top.place);
    walk.manifest(&top.manifest, None, 0).await?;
    let Walk { mut faults, blobs, seen, foreign, .. } = walk;
    let looked_at = blobs.len();
    let blob_bytes = blobs.values().map(|blob| blob.descriptor.size).sum();
    faults.extend(check_blobs(session, &top.place, blobs, thoroughness).await?);
    let (digest, manifests) = (top.manifest.digest, seen.len());
    Ok(Validation { digest, faults, manifests, blobs: looked_at, blob_bytes, foreign })
}

/// The documents of an image, as they are read.
struct Walk<'a> {
    session: &'a Session,
    place: &'a Place,
    faults: Vec<Fault>,
    /// Configs and layers by digest and size: two manifests may not agree on the latter.
    blobs: BTreeMap<(Digest, u64), Blob>,
    seen: BTreeSet<Digest>,
    foreign: usize,
}

impl<'a> Walk<'a> {
    fn new(session: &'a Session, place: &'a Place) -> Self {
        let (faults, blobs, seen) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { session, place, faults, blobs, seen, foreign: 0 }
    }

    fn fault(&mut self, platform: Option<&Platform>, digest: &Digest, message: impl Into<String>) {
        self.found(platform, digest, Finding::wrong(message));
    }

    fn found(&mut self, platform: Option<&Platform>, digest: &Digest, found: Finding) {
        let Finding { kind, message } = found;
        let (platform, digest) = (platform.cloned(), digest.clone());
        self.faults.push(Fault { kind, platform, digest, message });
    }

    async fn manifest(
        &mut self,
        manifest: &Manifest,
        platform: Option<&Platform>,
        depth: usize,
    ) -> Result<(), Error> {
        if !self.seen.insert(manifest.digest.clone()) {
            return Ok(());
        }
        match &manifest.content {
            Content::Image(image) => self.image(manifest, image, platform).await,
            Content::Index(_) if depth >= MAX_DEPTH || self.seen.len() > MAX_MANIFESTS => {
                Err(Error::new(Kind::User, "the index holds too many manifests"))
            }
            Content::Index(index) => Box::pin(self.index(manifest, index, depth)).await,
        }
    }

    async fn index(
        &mut self,
        manifest: &Manifest,
        index: &Index,
        depth: usize,
    ) -> Result<(), Error> {
        for message in rules::index(index, &manifest.media_type) {
            self.fault(None, &manifest.digest, message);
        }
        for entry in &index.manifests {
            let platform = entry.platform.as_ref();
            let kind = Some(entry.media_type.as_str());
            let child = match self.place.manifest(self.session, &entry.digest, kind).await {
                Ok(child) => child,
                Err(error) => {
                    let found = finding_of(error, "the index names it, but")?;
                    self.found(platform, &entry.digest, found);
                    continue;
                }
            };
            for message in rules::entry(entry, &child) {
                self.fault(platform, &entry.digest, message);
            }
            self.manifest(&child, platform, depth + 1).await?;
        }
        Ok(())
    }

    async fn image(
        &mut self,
        manifest: &Manifest,
        image: &ImageManifest,
        platform: Option<&Platform>,
    ) -> Result<(), Error> {
        for message in rules::manifest(image, &manifest.media_type) {
            self.fault(platform, &manifest.digest, message);
        }
        let is_image = media_type::is_image_config(&image.config.media_type);
        let config = if is_image { self.config(image, platform).await? } else { None };
        let own = config.as_ref().map(ImageConfig::platform);
        let platform = platform.cloned().or(own);
        if let Some(config) = &config {
            for message in rules::config(config, image, platform.as_ref()) {
                self.fault(platform.as_ref(), &image.config.digest, message);
            }
        }
        self.blob(&image.config, None, platform.as_ref());
        let ids = config.as_ref().map(|config| config.rootfs.diff_ids.as_slice());
        for (at, layer) in image.layers.iter().enumerate() {
            if media_type::is_foreign_layer(&layer.media_type) && !layer.urls.is_empty() {
                self.foreign += 1;
                continue;
            }
            self.blob(layer, ids.and_then(|ids| ids.get(at)), platform.as_ref());
        }
        Ok(())
    }

    async fn config(
        &mut self,
        image: &ImageManifest,
        platform: Option<&Platform>,
    ) -> Result<Option<ImageConfig>, Error> {
        let bytes = match self.place.config_bytes(self.session, &image.config).await {
            Ok(bytes) => bytes,
            // The blob is looked at with the others, where its fault is found once more.
            Err(error) => return finding_of(error, "").map(|_| None),
        };
        match ImageConfig::parse(&bytes) {
            Ok(config) => Ok(Some(config)),
            Err(error) => {
                self.fault(platform, &image.config.digest, error.to_string());
                Ok(None)
            }
        }
    }

    fn blob(
        &mut self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
        platform: Option<&Platform>,
    ) {
        let key = (descriptor.digest.clone(), descriptor.size);
        let blob = self.blobs.entry(key).or_insert_with(|| Blob {
            descriptor: descriptor.clone(),
            diff_id: diff_id.cloned(),
            platform: platform.cloned(),
        });
        let (Some(known), Some(diff_id)) = (&blob.diff_id, diff_id) else {
            blob.diff_id = blob.diff_id.take().or_else(|| diff_id.cloned());
            return;
        };
        if known != diff_id {
            let message = format!("two configs give it different diffIDs: {known} and {diff_id}");
            self.fault(platform, &descriptor.digest, message);
        }
    }
}

async fn check_blobs(
    session: &Session,
    place: &Place,
    blobs: BTreeMap<(Digest, u64), Blob>,
    thoroughness: Thoroughness,
) -> Result<Vec<Fault>, Error> {
    let turns = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for blob in blobs.into_values() {
        let (session, place, turns) = (session.clone(), place.clone(), Arc::clone(&turns));
        tasks.spawn(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            let found = check_blob(&session, &place, &blob, thoroughness).await?;
            let fault = |Finding { kind, message }| {
                let (platform, digest) = (blob.platform.clone(), blob.descriptor.digest.clone());
                Fault { kind, platform, digest, message }
            };
            Ok::<Vec<Fault>, Error>(found.into_iter().map(fault).collect())
        });
    }
    let mut faults = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let done =
            done.map_err(|error| Error::new(Kind::Internal, "a check failed").because(error));
        faults.extend(done??);
    }
    faults.sort();
    Ok(faults)
}

/// Returns what an error says is wrong with the image; gives back one that is no fault of it.
fn finding_of(error: Error, before: &str) -> Result<Finding, Error> {
    let lead = if before.is_empty() { String::new() } else { format!("{before} ") };
    if error.kind == Kind::NotFound {
        return Ok(Finding::wrong(format!("{lead}it is not there")));
    }
    let mut causes = vec![error.to_string()];
    let mut is_unusable = error.kind == Kind::Integrity;
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        is_unusable |= cause.is::<crate::image::Error>();
        if causes.last() != Some(&cause.to_string()) {
            causes.push(cause.to_string());
        }
        next = cause.source();
    }
    // The parser's own words.
    is_unusable |= error.kind == Kind::User && causes.len() == 1;
    let message = format!("{lead}{}", causes.join(": "));
    match error.kind {
        _ if is_unusable => Ok(Finding::wrong(message)),
        Kind::Network => Ok(Finding { kind: FaultKind::Unreadable, message }),
        _ => Err(error),
    }
}
