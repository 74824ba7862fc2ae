//! `append`: layers on top of an image, or of nothing.

use std::path::PathBuf;

use serde_json::json;

use crate::build::date;
use crate::image::{Platform, Reference, media_type};
use crate::layer::SealedLayer;
use crate::operations::push::BASE_NAME;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::draft::Draft;
use super::edition::Edition;
use super::run::{Edits, edit};
use super::target::{EditReport, EditTarget};
use super::{json, layers};
use crate::operations::place::Place;

/// The annotation that says which image was the base (OCI image-spec, annotations.md).
pub(super) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Where a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerSource {
    /// A tar of any compression.
    File(PathBuf),
    /// The same on standard input.
    Stdin,
}

impl std::fmt::Display for LayerSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Stdin => formatter.write_str("-"),
        }
    }
}

/// What to append.
#[derive(Debug, Clone, Default)]
pub struct AppendRequest {
    /// The layers, bottom first.
    pub layers: Vec<LayerSource>,
    /// Whether the result is annotated with its base's name and digest.
    pub annotates_base: bool,
    /// When the layers were made, in seconds since 1970; `None` for now.
    pub time: Option<i64>,
}

/// Appends layers to the images of `target`; one without a source begins with nothing.
///
/// # Errors
///
/// When a layer is no tar; whatever the registry or the store says.
pub async fn append(
    session: &Session,
    target: &EditTarget,
    request: &AppendRequest,
) -> Result<EditReport, Error> {
    let time = date(request.time.unwrap_or_else(|| jiff::Timestamp::now().as_second()));
    let mut made = Made { request, time, base: target.source.clone(), plain: None, docker: None };
    if target.source.is_none() {
        let platform = target.platforms.first().cloned().unwrap_or_else(Platform::host);
        let mut draft = Draft::empty(&platform);
        made.add_to(session, &mut draft).await?;
        let finished = draft.finish()?;
        let mut edition = Edition::new(finished.manifest.clone(), Place::Store);
        edition.take(finished);
        let edits = Edits { edition, images: Vec::new(), dropped: Vec::new() };
        return edits.deliver(session, target, None).await;
    }
    let made = tokio::sync::Mutex::new(made);
    let change = async |mut draft: Draft| {
        made.lock().await.add_to(session, &mut draft).await?;
        Ok(draft)
    };
    edit(session, target, change, |_| Ok(())).await
}

/// The layers, read once: standard input cannot be read again.
struct Made<'a> {
    request: &'a AppendRequest,
    time: String,
    base: Option<Reference>,
    plain: Option<Vec<SealedLayer>>,
    docker: Option<Vec<SealedLayer>>,
}

impl Made<'_> {
    async fn add_to(&mut self, session: &Session, draft: &mut Draft) -> Result<(), Error> {
        draft.expect_image()?;
        let is_docker = draft.is_docker();
        let mut all = draft.layers()?;
        for sealed in self.sealed(session, is_docker).await? {
            let layer = layers::new_layer(&sealed, is_docker)?;
            draft.origins.insert(sealed.digest, Place::Store);
            all.push(layer);
        }
        draft.set_layers(all);
        let names = self.request.layers.iter().map(|source| format!("rpub append {source}"));
        for created_by in names {
            let entry = json!({ "created": self.time, "created_by": created_by });
            json::list(&mut draft.config, "history").push(entry);
        }
        json::set(&mut draft.config, "created", self.time.as_str());
        if self.request.annotates_base {
            annotate_base(draft, self.base.as_ref())?;
        }
        Ok(())
    }

    /// Returns the layers as one family can name them.
    async fn sealed(
        &mut self,
        session: &Session,
        is_docker: bool,
    ) -> Result<Vec<SealedLayer>, Error> {
        if let Some(sealed) = if is_docker { &self.docker } else { &self.plain } {
            return Ok(sealed.clone());
        }
        let (store, sources) = (session.store.clone(), self.request.layers.clone());
        // What is on standard input was read for the other family.
        let known = if is_docker { self.plain.clone() } else { self.docker.clone() };
        let sealed = blocking(move || {
            let mut all = Vec::with_capacity(sources.len());
            for (at, source) in sources.iter().enumerate() {
                let about =
                    |error: Error| error.about(format!("failed to append the layer `{source}`"));
                let before = known.as_ref().and_then(|known| known.get(at));
                let usable = before
                    .filter(|layer| !is_docker || layer.media_type != media_type::OCI_LAYER_ZSTD);
                let sealed = match (usable, before, source) {
                    (Some(layer), _, _) => Ok(layer.clone()),
                    (None, Some(layer), _) => {
                        let blob = store.open_blob(&layer.digest)?;
                        layers::take(&store, blob, is_docker)
                    }
                    (None, None, LayerSource::Stdin) => {
                        layers::take(&store, std::io::stdin(), is_docker)
                    }
                    (None, None, LayerSource::File(path)) => {
                        let file = fs_err::File::open(path).map_err(|error| {
                            Error::new(Kind::User, "it cannot be opened").because(error)
                        });
                        file.and_then(|file| layers::take(&store, file, is_docker))
                    }
                };
                all.push(sealed.map_err(about)?);
            }
            Ok::<_, Error>(all)
        })
        .await?;
        *(if is_docker { &mut self.docker } else { &mut self.plain }) = Some(sealed.clone());
        Ok(sealed)
    }
}

/// Notes on the manifest what it was made of.
pub(super) fn annotate_base(draft: &mut Draft, base: Option<&Reference>) -> Result<(), Error> {
    let (Some(base), Some(digest)) = (base, draft.previous().cloned()) else { return Ok(()) };
    if draft.is_docker() {
        let message = format!("`{}` is in Docker's format, which has no annotations", draft.name);
        return Err(Error::new(Kind::User, message)
            .hint("change its format first by `rpub mutate --to-oci`"));
    }
    let notes =
        [(BASE_NAME.to_owned(), name_of(base)), (BASE_DIGEST.to_owned(), digest.to_string())];
    json::set_texts(&mut draft.manifest, "annotations", &notes.into(), &[]);
    Ok(())
}

/// Returns the name of a base as it is annotated: without a digest, which has its own annotation.
pub(super) fn name_of(base: &Reference) -> String {
    let named = Reference { digest: None, ..base.clone() };
    named.or_latest().to_string()
}
