//! The entries of an index, edited in its document.

use serde_json::{Value, json};

use crate::image::{Descriptor, Digest, Platform, media_type};
use crate::operations::{Error, Kind};

use super::json;
use super::notes::{Note, NotePlace, Removal, Selector};
use super::platforms::{attests, is_attestation};

/// Returns the entries as descriptors.
pub(super) fn entries(index: &Value) -> Result<Vec<Descriptor>, Error> {
    let entries = index["manifests"].as_array().into_iter().flatten();
    let entry = |value: &Value| {
        serde_json::from_value(value.clone())
            .map_err(|error| Error::new(Kind::User, "unusable entry of an index").because(error))
    };
    entries.map(entry).collect()
}

/// Returns an index of nothing.
pub(super) fn empty() -> Value {
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
}

/// Lets the entry of `old` name `new` instead, and say another platform when there is one.
pub(super) fn replace(
    index: &mut Value,
    old: &Digest,
    new: &Descriptor,
    platform: Option<&Platform>,
) {
    let old = old.to_string();
    for entry in json::list(index, "manifests").iter_mut().filter(|entry| entry["digest"] == *old) {
        json::point_to(entry, new);
        if let Some(platform) = platform {
            entry["platform"] = serde_json::to_value(platform).unwrap_or_default();
        }
    }
}

/// Keeps the entries that `keep` wants, and returns the others.
pub(in crate::operations) fn retain(
    index: &mut Value,
    keep: impl Fn(&Descriptor) -> bool,
) -> Result<Vec<Descriptor>, Error> {
    let parsed = entries(index)?;
    let mut wanted = parsed.iter().map(&keep);
    json::list(index, "manifests").retain(|_| wanted.next().unwrap_or(true));
    Ok(parsed.into_iter().filter(|entry| !keep(entry)).collect())
}

/// Takes out the attestations about `image`.
pub(super) fn drop_attestations(
    index: &mut Value,
    image: &Digest,
) -> Result<Vec<Descriptor>, Error> {
    retain(index, |entry| !attests(entry, image))
}

/// Adds an entry. One of the same digest is replaced in its place, and so is one for the same
/// platform, which nobody would choose any more; it is returned with the attestations about it.
pub(super) fn add(index: &mut Value, entry: &Value) -> Result<Vec<Descriptor>, Error> {
    let new: Descriptor = serde_json::from_value(entry.clone())
        .map_err(|error| Error::new(Kind::User, "unusable descriptor").because(error))?;
    let rivals = |other: &Descriptor| {
        let is_same = other.digest == new.digest;
        let both = !is_attestation(&new) && !is_attestation(other);
        is_same || (both && new.platform.is_some() && other.platform == new.platform)
    };
    let mut dropped = Vec::new();
    let old = entries(index)?;
    match old.iter().position(rivals) {
        Some(at) => {
            let list = json::list(index, "manifests");
            if old[at].digest == new.digest {
                merge(&mut list[at], entry);
            } else {
                list[at] = entry.clone();
                dropped.push(old[at].clone());
                dropped.extend(drop_attestations(index, &old[at].digest)?);
            }
        }
        None => json::list(index, "manifests").push(entry.clone()),
    }
    Ok(dropped)
}

/// Adds to an entry what another one says about the same manifest.
fn merge(entry: &mut Value, other: &Value) {
    for (key, value) in other.as_object().into_iter().flatten() {
        if key == "annotations" {
            let notes = json::object(entry, "annotations");
            notes.extend(value.as_object().cloned().unwrap_or_default());
        } else {
            entry[key.as_str()] = value.clone();
        }
    }
}

/// Sets and removes annotations of the index and of its entries.
pub(super) fn annotate(
    index: &mut Value,
    notes: &[Note],
    removals: &[Removal],
    name: &str,
) -> Result<(), Error> {
    for removal in removals {
        for value in noted(index, &removal.place, name)? {
            json::set_texts(value, "annotations", &[].into(), std::slice::from_ref(&removal.key));
        }
    }
    for note in notes {
        for value in noted(index, &note.place, name)? {
            let set = [(note.key.clone(), note.value.clone())].into();
            json::set_texts(value, "annotations", &set, &[]);
        }
    }
    Ok(())
}

/// Returns what the annotations of a place belong to.
fn noted<'a>(
    index: &'a mut Value,
    place: &NotePlace,
    name: &str,
) -> Result<Vec<&'a mut Value>, Error> {
    let selector = match place {
        NotePlace::Index => return Ok(vec![index]),
        NotePlace::Entries(selector) => selector,
    };
    let parsed = entries(index)?;
    let chosen: Vec<bool> = match selector {
        None => parsed.iter().map(|entry| !is_attestation(entry)).collect(),
        Some(selector) => {
            let chosen = parsed.iter().map(|entry| selector.selects(entry)).collect::<Vec<_>>();
            if !chosen.contains(&true) {
                return Err(selector.unknown(&parsed, name));
            }
            chosen
        }
    };
    let list = json::list(index, "manifests").iter_mut();
    Ok(list.zip(chosen).filter_map(|(entry, is_chosen)| is_chosen.then_some(entry)).collect())
}

/// Removes what the selectors select, and the attestations about it; returns all that.
///
/// # Errors
///
/// When one selects nothing, or nothing would be left.
pub(super) fn remove(
    index: &mut Value,
    selectors: &[Selector],
    name: &str,
) -> Result<Vec<Descriptor>, Error> {
    let parsed = entries(index)?;
    let mut gone: Vec<Digest> = Vec::new();
    for selector in selectors {
        let selected: Vec<_> = parsed.iter().filter(|entry| selector.selects(entry)).collect();
        if selected.is_empty() {
            return Err(selector.unknown(&parsed, name));
        }
        gone.extend(selected.iter().map(|entry| entry.digest.clone()));
    }
    let is_gone = |entry: &Descriptor| {
        gone.contains(&entry.digest) || gone.iter().any(|image| attests(entry, image))
    };
    if parsed.iter().all(is_gone) {
        let message = format!("nothing would be left in the index `{name}`");
        return Err(Error::new(Kind::User, message));
    }
    retain(index, |entry| !is_gone(entry))
}

/// Gives the index the media type that its content needs: OCI's as soon as something in it is of
/// that family or annotated, as only OCI indexes may be.
pub(super) fn settle_media_type(index: &mut Value) -> Result<&'static str, Error> {
    let is_docker = |entry: &Descriptor| {
        media_type::is_docker(&entry.media_type) && entry.annotations.is_empty()
    };
    let parsed = entries(index)?;
    let all_docker = !parsed.is_empty() && parsed.iter().all(is_docker);
    let has_more =
        ["annotations", "subject", "artifactType"].iter().any(|key| !index[*key].is_null());
    let settled =
        if all_docker && !has_more { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
    index["mediaType"] = settled.into();
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, platform: &str) -> Descriptor {
        Descriptor {
            platform: Some(platform.parse().expect("valid")),
            ..Descriptor::of(media_type::OCI_MANIFEST, content.as_bytes())
        }
    }

    fn attestation(about: &Descriptor) -> Descriptor {
        let mut entry = entry(&format!("about {}", about.digest), "unknown/unknown");
        entry.annotations.insert("vnd.docker.reference.digest".into(), about.digest.to_string());
        entry
    }

    fn index(entries: &[Descriptor]) -> Value {
        let mut index = empty();
        for entry in entries {
            json::list(&mut index, "manifests").push(json::descriptor(entry));
        }
        index
    }

    #[test]
    fn a_platform_is_replaced_with_its_attestations() {
        let (amd, arm) = (entry("amd", "linux/amd64"), entry("arm", "linux/arm64"));
        let (about_amd, about_arm) = (attestation(&amd), attestation(&arm));
        let mut document = index(&[amd.clone(), arm.clone(), about_amd.clone(), about_arm.clone()]);
        let newer = entry("newer", "linux/amd64");
        let dropped = add(&mut document, &json::descriptor(&newer)).expect("added");
        assert_eq!(dropped, [amd, about_amd]);
        assert_eq!(entries(&document).expect("valid"), [newer, arm, about_arm]);
    }

    #[test]
    fn the_same_manifest_is_merged() {
        let amd = entry("amd", "linux/amd64");
        let mut document = index(std::slice::from_ref(&amd));
        let noted = Descriptor { annotations: [("k".into(), "v".into())].into(), ..amd };
        assert_eq!(add(&mut document, &json::descriptor(&noted)).expect("added"), []);
        assert_eq!(entries(&document).expect("valid"), [noted]);
    }

    #[test]
    fn removing_takes_attestations_along_and_leaves_something() {
        let (amd, arm) = (entry("amd", "linux/amd64"), entry("arm", "linux/arm64"));
        let about = attestation(&amd);
        let mut document = index(&[amd.clone(), arm.clone(), about.clone()]);
        let select = |text: &str| [text.parse::<Selector>().expect("valid")];
        let gone = remove(&mut document, &select("linux/amd64"), "app").expect("removed");
        assert_eq!(gone, [amd, about]);
        let error = remove(&mut document, &select("linux/s390x"), "app").expect_err("unknown");
        assert_eq!(error.hints, ["it has linux/arm64"]);
        assert!(remove(&mut document, &select(&arm.digest.to_string()), "app").is_err());
    }

    #[test]
    fn only_a_plain_list_of_dockers_manifests_is_dockers() {
        let docker = Descriptor {
            media_type: media_type::DOCKER_MANIFEST.into(),
            ..entry("d", "linux/arm")
        };
        let mut document = index(std::slice::from_ref(&docker));
        assert_eq!(settle_media_type(&mut document).expect("valid"), media_type::DOCKER_INDEX);
        document["annotations"] = json!({"k": "v"});
        assert_eq!(settle_media_type(&mut document).expect("valid"), media_type::OCI_INDEX);
        let mut mixed = index(&[docker, entry("o", "linux/amd64")]);
        assert_eq!(settle_media_type(&mut mixed).expect("valid"), media_type::OCI_INDEX);
    }
}
