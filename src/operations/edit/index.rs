//! `index create|add|rm|annotate`: images of several platforms under one name.

use serde_json::Value;

use crate::image::{Content, Descriptor, Manifest, Platform, Reference, Repository, media_type};
use crate::operations::{Error, Kind, Session};

use super::edition::Edition;
use super::notes::{Note, Removal, Selector};
use super::run::{Edits, index_of};
use super::target::{EditReport, EditTarget};
use super::{entries, json, platforms};
use crate::operations::place::{Place, Top};

/// Something that an index is made of.
#[derive(Debug, Clone)]
pub enum IndexSource {
    /// What a reference names: an image, or an index whose entries are taken.
    Reference(Reference),
    /// A descriptor of something in the result's own repository, as a JSON object.
    Descriptor(Box<Value>),
}

/// What an index is made of.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The parts, in order.
    pub sources: Vec<IndexSource>,
    /// Whether the parts are added to what the first name stands for.
    pub appends: bool,
    /// Annotations of the index and of its entries.
    pub notes: Vec<Note>,
    /// Whether a single image becomes an index of one.
    pub prefers_index: bool,
}

/// Makes an index. With one index and nothing to change it is a copy, byte for byte. `target` names
/// the results and, by its platforms, what is taken of the sources.
///
/// # Errors
///
/// When a source is not there or has no image for a platform; whatever the registry says.
pub async fn create_index(
    session: &Session,
    target: &EditTarget,
    request: &CreateRequest,
) -> Result<EditReport, Error> {
    let mut composition = Composition::default();
    if request.appends {
        let name = target.names.first().ok_or_else(|| {
            Error::new(Kind::Settings, "nothing to append to").hint("name it by `-t NAME`")
        })?;
        match Top::read(session, &target.at(name)).await {
            Ok(top) => composition.begin_with(session, top).await?,
            Err(error) if error.kind == Kind::NotFound => {
                session.note(format!("`{}` is not there yet: it begins anew", name.familiar()));
            }
            Err(error) => return Err(error),
        }
    }
    for source in &request.sources {
        composition.add(session, target, source).await?;
    }
    composition.finish(session, target, request).await
}

/// Adds images to an index that is there.
///
/// # Errors
///
/// Those of [`create_index`], and when there is no index.
pub async fn add_to_index(
    session: &Session,
    target: &EditTarget,
    request: &CreateRequest,
) -> Result<EditReport, Error> {
    let source = index_of_target(target)?;
    let top = Top::read(session, &target.at(source)).await?;
    top.index()?;
    let mut composition = Composition::default();
    composition.begin_with(session, top).await?;
    for source in &request.sources {
        composition.add(session, target, source).await?;
    }
    composition.finish(session, target, request).await
}

/// Takes entries out of an index, with the attestations about them.
///
/// # Errors
///
/// When one is not there, or nothing would be left; whatever the registry says.
pub async fn remove_from_index(
    session: &Session,
    target: &EditTarget,
    selectors: &[Selector],
) -> Result<EditReport, Error> {
    let source = index_of_target(target)?;
    let top = Top::read(session, &target.at(source)).await?;
    top.index()?;
    let mut document = json::document(&top.manifest);
    let dropped = entries::remove(&mut document, selectors, &top.name)?;
    let mut edition = Edition::of(&top);
    edition.manifest = index_of(&top.manifest, &document)?;
    let edits = Edits { edition, images: Vec::new(), dropped };
    edits.deliver(session, target, Some(&top.manifest)).await
}

/// Annotates an index or its entries; its images stay as they are.
///
/// # Errors
///
/// When a note is for an entry that is not there; whatever the registry says.
pub async fn annotate_index(
    session: &Session,
    target: &EditTarget,
    notes: &[Note],
    removals: &[Removal],
) -> Result<EditReport, Error> {
    let source = index_of_target(target)?;
    let top = Top::read(session, &target.at(source)).await?;
    top.index()?;
    let mut document = json::document(&top.manifest);
    entries::annotate(&mut document, notes, removals, &top.name)?;
    if document != json::document(&top.manifest) {
        settle(session, &mut document, &top.manifest.media_type)?;
    }
    let mut edition = Edition::of(&top);
    edition.manifest = index_of(&top.manifest, &document)?;
    let edits = Edits { edition, images: Vec::new(), dropped: Vec::new() };
    edits.deliver(session, target, Some(&top.manifest)).await
}

fn index_of_target(target: &EditTarget) -> Result<&Reference, Error> {
    target
        .source
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Settings, "no index to edit").hint("name an index"))
}

/// Gives an index the media type that its content needs, and says when that is another one.
fn settle(session: &Session, document: &mut Value, before: &str) -> Result<(), Error> {
    let settled = entries::settle_media_type(document)?;
    if media_type::is_docker(before) && settled == media_type::OCI_INDEX {
        session.note("the result is an OCI index: Docker's manifest lists cannot hold all of it");
    }
    Ok(())
}

/// An index in the making.
#[derive(Default)]
struct Composition {
    /// What it began with.
    before: Option<Top>,
    document: Option<Value>,
    /// Where the parts are.
    places: Vec<(Descriptor, Place)>,
    dropped: Vec<Descriptor>,
    /// The only source, as long as there is only one.
    only: Option<Top>,
    sources: usize,
}

impl Composition {
    /// Begins with what is there; an image becomes an index of one.
    async fn begin_with(&mut self, session: &Session, top: Top) -> Result<(), Error> {
        match &top.manifest.content {
            Content::Index(_) => self.document = Some(json::document(&top.manifest)),
            Content::Image(_) => {
                let entry = described(session, &top).await?;
                self.insert(&entry, &top.place)?;
            }
        }
        self.before = Some(top);
        Ok(())
    }

    async fn add(
        &mut self,
        session: &Session,
        target: &EditTarget,
        source: &IndexSource,
    ) -> Result<(), Error> {
        self.sources += 1;
        let (top, given) = match source {
            IndexSource::Reference(reference) => {
                (Top::read(session, &target.at(reference)).await?, None)
            }
            IndexSource::Descriptor(value) => {
                let reference = in_own_repository(value, target)?;
                (Top::read(session, &target.at(&reference)).await?, Some(value))
            }
        };
        match &top.manifest.content {
            Content::Image(_) => {
                let mut entry = described(session, &top).await?;
                for (key, value) in given.and_then(|value| value.as_object()).into_iter().flatten()
                {
                    if key != "digest" && key != "size" {
                        entry[key.as_str()] = value.clone();
                    }
                }
                expect_one_of(&entry, &target.platforms, &top.name)?;
                self.insert(&entry, &top.place)?;
            }
            Content::Index(index) => {
                let chosen = platforms::chosen(index, &target.platforms, &top.name)?;
                let document = json::document(&top.manifest);
                for (entry, parsed) in
                    document["manifests"].as_array().into_iter().flatten().zip(&index.manifests)
                {
                    let is_about = |image: &&Descriptor| platforms::attests(parsed, &image.digest);
                    if chosen.contains(&parsed) || chosen.iter().any(is_about) {
                        self.insert(entry, &top.place)?;
                    }
                }
            }
        }
        self.only = (self.sources == 1 && given.is_none()).then_some(top);
        Ok(())
    }

    fn insert(&mut self, entry: &Value, place: &Place) -> Result<(), Error> {
        let document = self.document.get_or_insert_with(entries::empty);
        self.dropped.extend(entries::add(document, entry)?);
        let parsed: Descriptor = serde_json::from_value(entry.clone())
            .map_err(|error| Error::new(Kind::User, "unusable descriptor").because(error))?;
        self.places.push((parsed, place.clone()));
        Ok(())
    }

    async fn finish(
        self,
        session: &Session,
        target: &EditTarget,
        request: &CreateRequest,
    ) -> Result<EditReport, Error> {
        let mut document = self.document.ok_or_else(|| {
            Error::new(Kind::Settings, "an index of nothing").hint("name images to put into it")
        })?;
        let name = target.names.first().map(Reference::familiar).unwrap_or_default();
        entries::annotate(&mut document, &request.notes, &[], &name)?;
        let is_plain = request.notes.is_empty() && self.before.is_none();
        let copied = self.only.filter(|top| match &top.manifest.content {
            Content::Index(index) => {
                let is_whole = entries::entries(&document).is_ok_and(|all| all == index.manifests);
                is_plain && is_whole
            }
            Content::Image(_) => is_plain && !request.prefers_index,
        });
        let manifest = match (&copied, &self.before) {
            (Some(top), _) => top.manifest.clone(),
            (None, Some(before)) if json::document(&before.manifest) == document => {
                before.manifest.clone()
            }
            (None, before) => {
                let was = before.as_ref().map_or("", |top| top.manifest.media_type.as_str());
                settle(session, &mut document, was)?;
                let own = document["mediaType"].as_str().map(ToOwned::to_owned);
                Manifest::parse(json::bytes(&document), own.as_deref())?
            }
        };
        let home = self.before.as_ref().or(copied.as_ref()).map(|top| top.place.clone());
        let home = home.unwrap_or(Place::Store);
        let mut edition = Edition::new(manifest, home);
        for (part, place) in self.places {
            edition.found_at(part.digest, place);
        }
        let edits = Edits { edition, images: Vec::new(), dropped: self.dropped };
        edits.deliver(session, target, self.before.as_ref().map(|top| &top.manifest)).await
    }
}

/// Returns an image as an entry of an index, with the platform that its config says.
async fn described(session: &Session, top: &Top) -> Result<Value, Error> {
    let mut entry = top.manifest.descriptor();
    if let Some(image) = top.manifest.as_image() {
        entry.artifact_type.clone_from(&image.artifact_type);
        if let Some(config) = top.place.config(session, image).await?
            && !config.os.is_empty()
        {
            entry.platform = Some(config.platform());
        }
    }
    Ok(json::descriptor(&entry))
}

fn expect_one_of(entry: &Value, wanted: &[Platform], name: &str) -> Result<(), Error> {
    let parsed: Option<Platform> = serde_json::from_value(entry["platform"].clone()).ok();
    let Some(have) = parsed.filter(|_| !wanted.is_empty()) else { return Ok(()) };
    if wanted.iter().any(|wanted| have.rank_for(wanted) == Some(0)) {
        return Ok(());
    }
    let message = format!("`{name}` is an image for {have}, which was not asked for");
    Err(Error::new(Kind::NotFound, message))
}

/// Returns the reference of a descriptor's content in the result's own repository.
fn in_own_repository(descriptor: &Value, target: &EditTarget) -> Result<Reference, Error> {
    let name = target.names.first().or(target.source.as_ref());
    let repository: Repository = name.map(|name| name.repository.clone()).ok_or_else(|| {
        Error::new(Kind::Settings, "a descriptor or digest alone does not say where it is")
            .hint("name the result by `-t NAME`: it is looked for in the same repository")
    })?;
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    Ok(Reference::by_digest(repository, digest.parse()?))
}
