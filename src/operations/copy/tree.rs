//! What hangs on a manifest, and what of it is copied.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use crate::image::{Content, Descriptor, Digest, Index, Manifest, Platform, media_type};
use crate::operations::place::{Place, Top};
use crate::operations::push::ForeignLayers;
use crate::operations::{Error, Kind, Session, edit};

/// How deep indexes may be nested: no known tool makes more than two levels.
const MAX_DEPTH: usize = 8;
/// How many manifests may hang on one.
const MAX_MANIFESTS: usize = 4096;
/// How many are asked for at once.
const QUESTIONS: usize = 8;

/// What to do with an index of which some platforms are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexShape {
    /// Take the entries of others out: it gets another digest, and signatures of it do not hold.
    #[default]
    Trimmed,
    /// Keep it as it is, though images that it names will be missing, which not every registry takes.
    Sparse,
}

/// An index that was made smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// The digest that it had.
    pub previous: Digest,
    /// The entries that it lost.
    pub left_out: Vec<Descriptor>,
}

/// A manifest with everything below it.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) top: Manifest,
    /// The manifests below, each after those that it names.
    pub(super) below: Vec<Manifest>,
    /// The blobs of all of them, each once.
    pub(super) blobs: Vec<Descriptor>,
}

impl Tree {
    /// Reads everything below `top` that `place` has to have. Of a sparse index, only what is for
    /// `platforms`.
    pub(super) async fn load(
        session: &Session,
        place: &Place,
        top: Manifest,
        platforms: &[Platform],
        foreign: ForeignLayers,
    ) -> Result<Self, Error> {
        let mut below = Vec::new();
        let mut seen = BTreeSet::from([top.digest.clone()]);
        let mut level = wanted_entries(&top, platforms)?;
        for _ in 0..MAX_DEPTH {
            level.retain(|entry| seen.insert(entry.digest.clone()));
            if level.is_empty() {
                below.reverse();
                let mut tree = Self { top, below, blobs: Vec::new() };
                tree.collect_blobs(foreign);
                return Ok(tree);
            }
            if seen.len() > MAX_MANIFESTS {
                break;
            }
            let read = level.into_iter().map(|entry| child(session, place, entry));
            let mut read: Vec<Manifest> =
                stream::iter(read).buffered(QUESTIONS).try_collect().await?;
            level = Vec::new();
            for manifest in &read {
                level.extend(wanted_entries(manifest, &[])?);
            }
            read.reverse();
            below.append(&mut read);
        }
        Err(Error::new(Kind::User, "the index holds too many manifests"))
    }

    fn collect_blobs(&mut self, foreign: ForeignLayers) {
        let mut seen = BTreeSet::new();
        for image in self.below.iter().chain([&self.top]).filter_map(Manifest::as_image) {
            for blob in image.layers.iter().chain([&image.config]) {
                let is_wanted = foreign == ForeignLayers::Push || !blob.is_elsewhere();
                if is_wanted && seen.insert(blob.digest.clone()) {
                    self.blobs.push(blob.clone());
                }
            }
        }
    }

    /// Returns all manifests, the top one last.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.below.iter().chain([&self.top])
    }
}

async fn child(session: &Session, place: &Place, entry: Descriptor) -> Result<Manifest, Error> {
    let read = place.manifest(session, &entry.digest, Some(&entry.media_type)).await;
    read.map_err(|error| match &entry.platform {
        Some(platform) => error.about(format!("failed to read the image for {platform}")),
        None => error.about(format!("failed to read the manifest {}", entry.digest)),
    })
}

fn wanted_entries(manifest: &Manifest, platforms: &[Platform]) -> Result<Vec<Descriptor>, Error> {
    let Content::Index(index) = &manifest.content else { return Ok(Vec::new()) };
    let is_below =
        |entry: &&Descriptor| media_type::is_manifest(&entry.media_type) || is_index(entry);
    if platforms.is_empty() {
        return Ok(index.manifests.iter().filter(is_below).cloned().collect());
    }
    let kept = kept(index, platforms, "the index")?;
    Ok(index.manifests.iter().filter(|entry| kept.contains(&entry.digest)).cloned().collect())
}

fn is_index(entry: &Descriptor) -> bool {
    media_type::is_index(&entry.media_type)
}

/// Returns which entries of an index are for `platforms`, and those that attest to them.
fn kept(index: &Index, platforms: &[Platform], name: &str) -> Result<BTreeSet<Digest>, Error> {
    let chosen = edit::chosen(index, platforms, name)?;
    let mut kept: BTreeSet<Digest> = chosen.iter().map(|entry| entry.digest.clone()).collect();
    let attestations = index
        .manifests
        .iter()
        .filter(|entry| chosen.iter().any(|image| edit::attests(entry, &image.digest)));
    kept.extend(attestations.map(|entry| entry.digest.clone()));
    Ok(kept)
}

/// Returns what of `top` is copied when only `platforms` are wanted: of an index, one image for one
/// platform and a smaller index for several; and what became of the index.
pub(super) async fn choose(
    session: &Session,
    top: &Top,
    platforms: &[Platform],
    shape: IndexShape,
) -> Result<(Manifest, Option<Trimmed>), Error> {
    let Content::Index(index) = &top.manifest.content else {
        expect_platform(session, top, platforms).await?;
        return Ok((top.manifest.clone(), None));
    };
    if platforms.is_empty() || shape == IndexShape::Sparse {
        return Ok((top.manifest.clone(), None));
    }
    if let [platform] = platforms {
        let image = top.image(session, platform).await?;
        let left_out = index.manifests.iter().filter(|entry| entry.digest != image.digest);
        let left_out = left_out.cloned().collect();
        let previous = top.manifest.digest.clone();
        return Ok((image, Some(Trimmed { previous, left_out })));
    }
    let kept = kept(index, platforms, &top.name)?;
    let mut document: Value = edit::document(&top.manifest);
    let left_out = edit::retain(&mut document, |entry| kept.contains(&entry.digest))?;
    if left_out.is_empty() {
        return Ok((top.manifest.clone(), None));
    }
    let trimmed = Manifest::parse(edit::bytes(&document), Some(&top.manifest.media_type))?;
    Ok((trimmed, Some(Trimmed { previous: top.manifest.digest.clone(), left_out })))
}

/// Refuses a single image that is for none of `platforms`.
async fn expect_platform(
    session: &Session,
    top: &Top,
    platforms: &[Platform],
) -> Result<(), Error> {
    let Some(image) = top.manifest.as_image().filter(|_| !platforms.is_empty()) else {
        return Ok(());
    };
    let Some(config) = top.place.config(session, image).await? else { return Ok(()) };
    let platform = config.platform();
    if platforms.iter().any(|wanted| platform.rank_for(wanted).is_some()) {
        return Ok(());
    }
    let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    let message = format!("`{}` has no image for {}", top.name, wanted.join(" or "));
    Err(Error::new(Kind::NotFound, message).hint(format!("it is one image, for {platform}")))
}
