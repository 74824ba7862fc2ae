//! `mutate`: other configs, manifests and formats for images that are there.

use serde_json::Value;

use crate::build::AnnotationPlace;
use crate::image::{Index, media_type};
use crate::operations::{Error, Kind, Session};

use super::changes::{Changes, rename};
use super::draft::Draft;
use super::run::edit;
use super::target::{EditReport, EditTarget, MediaFamily};
use super::{json, layers, platforms};

/// Makes `changes` in the images of `target`.
///
/// # Errors
///
/// When an image cannot be so; whatever the registry or the store says. A name moves only when
/// everything is there.
pub async fn mutate(
    session: &Session,
    target: &EditTarget,
    changes: &Changes,
) -> Result<EditReport, Error> {
    if changes.family.is_some() && !target.platforms.is_empty() {
        let message = "one index cannot hold images of both Docker's and OCI's format";
        return Err(Error::new(Kind::Settings, message)
            .hint("convert all of its images: leave out `--platform`"));
    }
    let change = async |mut draft: Draft| {
        if changes.rewrites_layers {
            layers::rewrite_times(session, &mut draft, changes.time.unwrap_or(0)).await?;
        }
        if let Some(compression) = changes.compression.filter(|_| !draft.config.is_null()) {
            layers::recompress(session, &mut draft, compression, changes.family).await?;
        }
        changes.apply(&mut draft)?;
        Ok(draft)
    };
    edit(session, target, change, |index| change_index(index, changes)).await
}

/// Makes the changes that concern the index itself.
fn change_index(index: &mut Value, changes: &Changes) -> Result<(), Error> {
    if let Some(family) = changes.family {
        convert(index, family)?;
    }
    let notes = changes.annotations.of(AnnotationPlace::Index, None);
    let is_docker = index["mediaType"] == media_type::DOCKER_INDEX;
    let of_entries = changes.annotations.any_for(AnnotationPlace::ManifestDescriptor);
    if is_docker && (!notes.is_empty() || of_entries) {
        let message = "Docker's manifest lists have no annotations";
        return Err(Error::new(Kind::User, message).hint("add `--to-oci` to change the format"));
    }
    json::set_texts(index, "annotations", &notes, &[]);
    let parsed: Index = serde_json::from_value(index.clone())
        .map_err(|error| Error::new(Kind::User, "unusable index").because(error))?;
    let entries = json::list(index, "manifests").iter_mut().zip(&parsed.manifests);
    for (entry, parsed) in entries.filter(|(_, parsed)| !platforms::is_attestation(parsed)) {
        let place = AnnotationPlace::ManifestDescriptor;
        let notes = changes.annotations.of(place, parsed.platform.as_ref());
        json::set_texts(entry, "annotations", &notes, &[]);
    }
    Ok(())
}

fn convert(index: &mut Value, family: MediaFamily) -> Result<(), Error> {
    let own = match family {
        MediaFamily::Oci => media_type::OCI_INDEX,
        MediaFamily::Docker => media_type::DOCKER_INDEX,
    };
    if family == MediaFamily::Docker && !index["annotations"].is_null() {
        let message = "the index has annotations, for which Docker's format has no place";
        return Err(Error::new(Kind::User, message)
            .hint("remove them by `rpub index annotate --unset-annotation KEY`"));
    }
    json::set(index, "mediaType", own);
    let entries = json::list(index, "manifests").iter_mut();
    entries.into_iter().try_for_each(|entry| {
        let is_other = entry["mediaType"].as_str().is_some_and(|have| match family {
            MediaFamily::Oci => media_type::is_docker(have),
            MediaFamily::Docker => !media_type::is_docker(have),
        });
        // Images were converted with their entries: what is left is no image.
        if is_other { rename_refused(entry) } else { rename(entry, family, "the index") }
    })
}

fn rename_refused(entry: &Value) -> Result<(), Error> {
    let message = format!(
        "the index holds {}, which is no image and cannot be converted",
        entry["digest"].as_str().unwrap_or_default()
    );
    Err(Error::new(Kind::User, message).hint("take it out first by `rpub index rm`"))
}
