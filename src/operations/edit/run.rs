//! How every edit runs: each image is taken apart, changed and put together, then all is delivered.

use serde_json::Value;

use crate::image::{Content, Descriptor, Digest, Index, Manifest, Platform, media_type};
use crate::operations::publish::Traffic;
use crate::operations::{Error, Kind, Session};

use super::draft::{Draft, Finished};
use super::edition::Edition;
use super::target::{EditReport, EditTarget, EditedImage};
use super::{entries, json, platforms, referrers};
use crate::operations::place::Top;

/// Edits each image that `target` means by `change`, and an index around them by `change_index`.
pub(super) async fn edit(
    session: &Session,
    target: &EditTarget,
    change: impl AsyncFn(Draft) -> Result<Draft, Error>,
    change_index: impl FnOnce(&mut Value) -> Result<(), Error>,
) -> Result<EditReport, Error> {
    let source = target
        .source
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Settings, "no image to edit").hint("name an image"))?;
    let top = Top::read(session, &target.at(source)).await?;
    let mut edits = Edits { edition: Edition::of(&top), images: Vec::new(), dropped: Vec::new() };
    match &top.manifest.content {
        Content::Image(_) => {
            let draft = Draft::open(session, &top.place, &top.name, &top.manifest).await?;
            expect_platform(&draft, &target.platforms)?;
            let finished = change(draft).await?.finish()?;
            edits.edition.manifest = edits.take(finished, &top.manifest);
        }
        Content::Index(index) => {
            let mut document = json::document(&top.manifest);
            edits.change_images(session, &top, index, target, &change, &mut document).await?;
            change_index(&mut document)?;
            edits.edition.manifest = index_of(&top.manifest, &document)?;
        }
    }
    edits.deliver(session, target, Some(&top.manifest)).await
}

/// What was edited so far.
pub(super) struct Edits {
    pub(super) edition: Edition,
    pub(super) images: Vec<EditedImage>,
    pub(super) dropped: Vec<Descriptor>,
}

impl Edits {
    async fn change_images(
        &mut self,
        session: &Session,
        top: &Top,
        index: &Index,
        target: &EditTarget,
        change: &impl AsyncFn(Draft) -> Result<Draft, Error>,
        document: &mut Value,
    ) -> Result<(), Error> {
        for entry in platforms::chosen(index, &target.platforms, &top.name)? {
            if media_type::is_index(&entry.media_type) {
                continue;
            }
            let manifest =
                top.place.manifest(session, &entry.digest, Some(&entry.media_type)).await?;
            let name = match &entry.platform {
                Some(platform) => format!("{} ({platform})", top.name),
                None => format!("{}@{}", top.name, entry.digest),
            };
            let draft = Draft::open(session, &top.place, &name, &manifest).await?;
            let before = draft.platform();
            if draft.config.is_null() && target.platforms.is_empty() {
                // An artifact beside the images.
                continue;
            }
            let finished = change(draft).await?.finish()?;
            let platform = finished.platform.clone().filter(|now| before.as_ref() != Some(now));
            let new = self.take(finished, &manifest);
            if new.digest != manifest.digest {
                let descriptor = new.descriptor();
                entries::replace(document, &manifest.digest, &descriptor, platform.as_ref());
                self.dropped.extend(entries::drop_attestations(document, &manifest.digest)?);
            }
        }
        Ok(())
    }

    /// Takes an image that was `before` in.
    fn take(&mut self, finished: Finished, before: &Manifest) -> Manifest {
        if finished.manifest.digest == before.digest {
            return before.clone();
        }
        let platform = finished.platform.clone();
        let new = self.edition.take(finished);
        let (previous, digest) = (before.digest.clone(), new.digest.clone());
        self.images.push(EditedImage { platform, previous, digest });
        new
    }

    /// Delivers the result, unless it is only to be seen.
    pub(super) async fn deliver(
        self,
        session: &Session,
        target: &EditTarget,
        before: Option<&Manifest>,
    ) -> Result<EditReport, Error> {
        let Self { edition, images, dropped } = self;
        let previous = before.map(|manifest| manifest.digest.clone());
        let (mut names, mut traffic) = (Vec::new(), Traffic::default());
        let mut left_behind = Vec::new();
        if !target.is_dry_run {
            (names, traffic) = edition.deliver(session, target, previous.as_ref()).await?;
            if let Some(repository) = edition.place.repository() {
                let now = &edition.manifest.digest;
                let top = previous.iter().filter(|previous| *previous != now);
                let edited = images.iter().map(|image| &image.previous);
                let mut replaced: Vec<Digest> = top.chain(edited).cloned().collect();
                replaced.sort();
                replaced.dedup();
                left_behind = referrers::left_behind(session, repository, replaced).await;
            }
        }
        Ok(EditReport {
            names,
            manifest: edition.manifest.descriptor(),
            bytes: edition.manifest.bytes,
            previous,
            images,
            dropped,
            left_behind,
            traffic,
        })
    }
}

/// Returns the index that `document` is; when it is what `before` was, with the bytes it had.
pub(super) fn index_of(before: &Manifest, document: &Value) -> Result<Manifest, Error> {
    if json::document(before) == *document {
        return Ok(before.clone());
    }
    let own = document["mediaType"].as_str();
    let media_type = own.unwrap_or(&before.media_type).to_owned();
    Ok(Manifest::parse(json::bytes(document), Some(&media_type))?)
}

/// Refuses an image that is for none of the platforms asked for.
fn expect_platform(draft: &Draft, wanted: &[Platform]) -> Result<(), Error> {
    let Some(have) = draft.platform() else { return Ok(()) };
    match wanted.iter().find(|wanted| have.rank_for(wanted) != Some(0)) {
        None => Ok(()),
        Some(wanted) => {
            let message = format!("`{}` has no image for {wanted}", draft.name);
            Err(Error::new(Kind::NotFound, message).hint(format!("it is one image for {have}")))
        }
    }
}
