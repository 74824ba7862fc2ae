//! The form that an image is written in: what an output asks for beside the content.

use std::collections::BTreeMap;

use crate::image::Platform;
use crate::layer::{Compression, Times};

/// How an image is written.
///
/// Steps make their layers in one way only, and the cache knows these; an image in another form gets
/// other layers, made of them. So a form never makes a step run again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// How layers are compressed.
    pub compression: Compression,
    /// Which layers are compressed so.
    pub compressed: Compressed,
    /// What happens to the times in new layers. The base's are never touched.
    pub times: Times,
    /// The date of the image and of its new history entries, in seconds since 1970; `None` for when
    /// the layers were made.
    pub epoch: Option<i64>,
    /// Whether there is one new layer or one for each step.
    pub new_layers: NewLayers,
    /// Whose names the documents' and layers' media types are.
    pub media_types: MediaTypes,
    /// Notes on manifests and on their descriptors.
    pub annotations: Annotations,
}

/// Which layers get a [`Form`]'s compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compressed {
    /// Those that the build made.
    #[default]
    New,
    /// Those of the base as well.
    All,
}

/// What becomes of the layers that the build made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewLayers {
    /// They stay as they are.
    #[default]
    Separate,
    /// They become one.
    Squashed,
}

/// A family of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaTypes {
    /// Those of the OCI image-spec.
    #[default]
    Oci,
    /// Docker's, from before there was one.
    Docker,
}

/// Notes on an image, each for one kind of place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotations(Vec<Annotation>);

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it goes.
    pub place: AnnotationPlace,
    /// For which platform's manifest; `None` for all.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Where an annotation goes (BuildKit, `docs/annotations.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// The image manifest.
    Manifest,
    /// The manifest's descriptor in an index.
    ManifestDescriptor,
    /// The index.
    Index,
    /// The descriptor that names the whole image in an OCI layout.
    IndexDescriptor,
}

impl Form {
    /// Returns whether the layers of base images stay as they are.
    #[must_use]
    pub fn keeps_base(&self) -> bool {
        self.compressed == Compressed::New
    }

    /// Returns whether the layers that steps make are those of the image.
    #[must_use]
    pub fn keeps_new(&self) -> bool {
        self.compression == Compression::default()
            && self.times == Times::Keep
            && self.new_layers == NewLayers::Separate
    }
}

impl Annotations {
    /// Adds an annotation.
    pub fn push(&mut self, annotation: Annotation) {
        self.0.push(annotation);
    }

    /// Adds those of `others`.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
    }

    /// Returns whether there is one for `place`.
    #[must_use]
    pub fn any_for(&self, place: AnnotationPlace) -> bool {
        self.0.iter().any(|annotation| annotation.place == place)
    }

    /// Returns those for `place`, with those for `platform` only in force over those for all; the
    /// last of a name wins.
    #[must_use]
    pub fn of(
        &self,
        place: AnnotationPlace,
        platform: Option<&Platform>,
    ) -> BTreeMap<String, String> {
        let here = || self.0.iter().filter(|annotation| annotation.place == place);
        let general = here().filter(|annotation| annotation.platform.is_none());
        let special = here().filter(|annotation| {
            annotation.platform.is_some() && annotation.platform.as_ref() == platform
        });
        let pairs = general.chain(special);
        pairs.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    }
}

/// Returns `epoch`, in seconds since 1970, as configs have dates (RFC 3339).
#[must_use]
pub fn date(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_of_a_platform_win() {
        let note = |place, platform: Option<&str>, value: &str| Annotation {
            place,
            platform: platform.map(|text| text.parse().expect("valid")),
            key: "k".into(),
            value: value.into(),
        };
        let mut annotations = Annotations::default();
        annotations.push(note(AnnotationPlace::Manifest, Some("linux/arm64"), "arm"));
        annotations.push(note(AnnotationPlace::Manifest, None, "all"));
        annotations.push(note(AnnotationPlace::Index, None, "index"));
        let of = |place, platform: Option<&str>| {
            let platform = platform.map(|text| text.parse().expect("valid"));
            annotations.of(place, platform.as_ref()).remove("k")
        };
        assert_eq!(of(AnnotationPlace::Manifest, Some("linux/arm64")).as_deref(), Some("arm"));
        assert_eq!(of(AnnotationPlace::Manifest, Some("linux/amd64")).as_deref(), Some("all"));
        assert_eq!(of(AnnotationPlace::Index, None).as_deref(), Some("index"));
        assert_eq!(of(AnnotationPlace::IndexDescriptor, None), None);
    }

    #[test]
    fn dates_are_whole_seconds_of_utc() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
