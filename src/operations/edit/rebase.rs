//! `rebase`: another base below the layers of an image.

use crate::image::{Content, Digest, Manifest, Platform, Reference};
use crate::operations::push::BASE_NAME;
use crate::operations::{Error, Kind, Session};

use super::append::{BASE_DIGEST, name_of};
use super::changes::rename;
use super::draft::{Draft, DraftLayer};
use super::json;
use super::run::edit;
use super::target::{EditReport, EditTarget, MediaFamily};
use crate::operations::place::{ImageSource, Top};

/// Which bases are meant. What is `None` is what the image's annotations say.
#[derive(Debug, Clone, Default)]
pub struct RebaseRequest {
    /// The base that the image was made of.
    pub old_base: Option<Reference>,
    /// The base that it gets.
    pub new_base: Option<Reference>,
}

/// Whether an image has the newest base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCheck {
    /// What the image is for, as far as it says.
    pub platform: Option<Platform>,
    /// The base's name.
    pub base: Reference,
    /// The digest of the base that the image was made of, when it says so.
    pub made_of: Option<Digest>,
    /// What the name stands for now, for that platform.
    pub current: Digest,
    /// Whether the image has another one.
    pub is_outdated: bool,
}

/// Puts another base below the images of `target`; their configs stay, except for the base's part
/// of the history.
///
/// # Errors
///
/// When the image does not begin with the layers of the old base, or does not say what that was;
/// when the new base has no image for the platform; whatever the registry or the store says.
pub async fn rebase(
    session: &Session,
    target: &EditTarget,
    request: &RebaseRequest,
) -> Result<EditReport, Error> {
    let change = async |mut draft: Draft| {
        draft.expect_image()?;
        let noted = Noted::of(&draft);
        let old = request
            .old_base
            .clone()
            .or_else(|| noted.old())
            .ok_or_else(|| unnamed(&draft, "--old_base"))?;
        let new =
            request.new_base.clone().or(noted.name).ok_or_else(|| unnamed(&draft, "--new_base"))?;
        let platform = draft.platform().unwrap_or_else(Platform::host);
        let old = base(session, target, &old, &platform).await?;
        let new_draft = base(session, target, &new, &platform).await?;
        put_on(&mut draft, &old, &new_draft)?;
        if !draft.is_docker() {
            let digest = new_draft.previous().map(ToString::to_string).unwrap_or_default();
            let notes = [(BASE_NAME.to_owned(), name_of(&new)), (BASE_DIGEST.to_owned(), digest)];
            json::set_texts(&mut draft.manifest, "annotations", &notes.into(), &[]);
        }
        Ok(draft)
    };
    edit(session, target, change, |_| Ok(())).await
}

/// Says for each image of `target` whether its base has moved on.
///
/// # Errors
///
/// When an image does not say what its base is; whatever the registry says.
pub async fn check_base(
    session: &Session,
    target: &EditTarget,
    request: &RebaseRequest,
) -> Result<Vec<BaseCheck>, Error> {
    let source = target
        .source
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Settings, "no image to check").hint("name an image"))?;
    let top = Top::read(session, &target.at(source)).await?;
    let mut checks = Vec::new();
    for manifest in images(session, &top, target).await? {
        let draft = Draft::open(session, &top.place, &top.name, &manifest).await?;
        if draft.config.is_null() {
            continue;
        }
        checks.push(check(session, target, request, &draft).await?);
    }
    Ok(checks)
}

async fn images(session: &Session, top: &Top, target: &EditTarget) -> Result<Vec<Manifest>, Error> {
    let Content::Index(index) = &top.manifest.content else {
        return Ok(vec![top.manifest.clone()]);
    };
    let mut images = Vec::new();
    for entry in super::platforms::chosen(index, &target.platforms, &top.name)? {
        images.push(top.place.manifest(session, &entry.digest, Some(&entry.media_type)).await?);
    }
    Ok(images)
}

async fn check(
    session: &Session,
    target: &EditTarget,
    request: &RebaseRequest,
    draft: &Draft,
) -> Result<BaseCheck, Error> {
    let noted = Noted::of(draft);
    let name = request.new_base.clone().or(noted.name);
    let name = name.ok_or_else(|| unnamed(draft, "--new_base"))?;
    let made_of = request.old_base.as_ref().and_then(|old| old.digest.clone()).or(noted.digest);
    let platform = draft.platform().unwrap_or_else(Platform::host);
    let top = Top::read(session, &target.at(&name)).await?;
    let image = top.image(session, &platform).await?;
    let is_outdated = if let Some(digest) = &made_of {
        // Tools note the digest of the base's index, or that of its image for the platform.
        *digest != image.digest && *digest != top.manifest.digest
    } else {
        let base = Draft::open(session, &top.place, &top.name, &image).await?;
        !begins_with(&draft.layers()?, &base.layers()?)
    };
    let (current, platform) = (image.digest, draft.platform());
    Ok(BaseCheck { platform, base: name, made_of, current, is_outdated })
}

/// What an image's annotations say of its base.
struct Noted {
    name: Option<Reference>,
    digest: Option<Digest>,
}

impl Noted {
    fn of(draft: &Draft) -> Self {
        let notes = &draft.manifest["annotations"];
        let text = |key: &str| notes[key].as_str();
        Self {
            name: text(BASE_NAME).and_then(|name| name.parse().ok()).map(Reference::or_latest),
            digest: text(BASE_DIGEST).and_then(|digest| digest.parse().ok()),
        }
    }

    /// Returns the reference of the base that the image was made of.
    fn old(&self) -> Option<Reference> {
        let (name, digest) = (self.name.as_ref()?, self.digest.clone()?);
        Some(Reference::by_digest(name.repository.clone(), digest))
    }
}

fn unnamed(draft: &Draft, flag: &str) -> Error {
    let message = format!("`{}` does not say which base it was made of", draft.name);
    Error::new(Kind::Settings, message).hint(format!("name the base by `{flag} NAME`"))
}

/// Takes a base apart.
async fn base(
    session: &Session,
    target: &EditTarget,
    reference: &Reference,
    platform: &Platform,
) -> Result<Draft, Error> {
    let source: ImageSource = target.at(reference);
    let top = Top::read(session, &source).await?;
    let image = top.image(session, platform).await?;
    let draft = Draft::open(session, &top.place, &top.name, &image).await?;
    draft.expect_image()?;
    match draft.platform() {
        Some(have) if have.rank_for(platform).is_none() => {
            let message = format!("the base `{}` is for {have}, not {platform}", draft.name);
            Err(Error::new(Kind::User, message))
        }
        _ => Ok(draft),
    }
}

/// Puts `new` in the place of `old` below the layers of `draft`.
fn put_on(draft: &mut Draft, old: &Draft, new: &Draft) -> Result<(), Error> {
    let (layers, old_layers) = (draft.layers()?, old.layers()?);
    if !begins_with(&layers, &old_layers) {
        let message = format!("`{}` does not begin with the layers of `{}`", draft.name, old.name);
        return Err(Error::new(Kind::User, message)
            .hint("name the base that it was made of by `--old_base NAME@DIGEST`"));
    }
    let family = if draft.is_docker() { MediaFamily::Docker } else { MediaFamily::Oci };
    let mut all = new.layers()?;
    for layer in &mut all {
        rename(&mut layer.entry, family, &new.name)?;
        draft.origins.insert(layer.descriptor()?.digest, new.place.clone());
    }
    all.extend(layers.into_iter().skip(old_layers.len()));
    draft.set_layers(all);
    let history = |draft: &Draft| draft.config["history"].as_array().cloned().unwrap_or_default();
    let (own, below) = (history(draft), history(old));
    if own.len() < below.len() {
        // A history that does not tell the base's part from its own is of no use to the new one.
        json::remove(&mut draft.config, "history");
        return Ok(());
    }
    let mut entries = history(new);
    entries.extend(own.into_iter().skip(below.len()));
    *json::list(&mut draft.config, "history") = entries;
    json::remove_if_empty(&mut draft.config, "history");
    Ok(())
}

/// Returns whether the layers have the same content as those of `base`, as far as those go: the
/// compression may be another one.
fn begins_with(layers: &[DraftLayer], base: &[DraftLayer]) -> bool {
    layers.len() >= base.len()
        && layers.iter().zip(base).all(|(have, want)| have.diff_id == want.diff_id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::image::{Descriptor, DiffId, media_type};

    fn draft(layers: &[&str], kind: &str) -> Draft {
        let mut draft = Draft::empty(&"linux/amd64".parse().expect("valid"));
        let entry = |name: &&str| DraftLayer {
            entry: json::descriptor(&Descriptor::of(kind, name.as_bytes())),
            diff_id: DiffId(Digest::of(format!("tar of {name}").as_bytes())),
        };
        draft.set_layers(layers.iter().map(entry).collect());
        let history = layers.iter().map(|name| json!({"created_by": name}));
        draft.config["history"] = history.collect();
        draft.config["config"]["Env"] = json!(["A=1"]);
        draft
    }

    #[test]
    fn the_old_base_gives_way_to_the_new() {
        let mut image = draft(&["a", "b", "app"], media_type::OCI_LAYER_GZIP);
        let old = draft(&["a", "b"], media_type::OCI_LAYER_GZIP);
        let new = draft(&["c"], media_type::DOCKER_LAYER_GZIP);
        put_on(&mut image, &old, &new).expect("rebased");
        let expected = draft(&["c", "app"], media_type::OCI_LAYER_GZIP);
        assert_eq!((&image.manifest, &image.config), (&expected.manifest, &expected.config));
    }

    #[test]
    fn another_base_is_refused() {
        let mut image = draft(&["a", "app"], media_type::OCI_LAYER_GZIP);
        let other = draft(&["b"], media_type::OCI_LAYER_GZIP);
        assert!(put_on(&mut image, &other, &other).is_err());
        let longer = draft(&["a", "app", "more"], media_type::OCI_LAYER_GZIP);
        assert!(put_on(&mut image, &longer, &other).is_err());
    }
}
