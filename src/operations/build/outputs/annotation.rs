//! Annotations as `--annotation` and the attributes of outputs write them.

use crate::build::{Annotation, AnnotationPlace, Annotations};
use crate::dockerfile::suggest;
use crate::image::Platform;
use crate::operations::{Error, Kind};

const PLACES: [&str; 4] = ["manifest", "manifest-descriptor", "index", "index-descriptor"];

/// Reads `[TYPE[PLATFORM],...:]KEY=VALUE`; without a type, it is the manifest's (buildx,
/// `util/buildflags/export.go`).
///
/// # Errors
///
/// What is wrong with it, as a wrong setting.
pub fn annotations(texts: &[String]) -> Result<Annotations, Error> {
    let mut annotations = Annotations::default();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let invalid = |reason: &str| {
            Error::new(Kind::Settings, format!("invalid annotation `{text}`: {reason}"))
        };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| invalid("expected key=value").hint("write `--annotation KEY=VALUE`"))?;
        let (places, key) = key.split_once(':').unwrap_or(("manifest", key));
        if key.is_empty() {
            return Err(invalid("it has no key"));
        }
        for text in places.split(',') {
            let (place, platform) = place_and_platform(text)?;
            let (key, value) = (key.to_owned(), value.to_owned());
            annotations.push(Annotation { place, platform, key, value });
        }
    }
    Ok(annotations)
}

/// Reads an attribute: `annotation.KEY`, or `annotation-TYPE[PLATFORM].KEY`.
pub(super) fn from_attribute(attribute: &str, value: String) -> Result<Annotation, Error> {
    let invalid = || {
        let message = format!("invalid annotation attribute `{attribute}`");
        Error::new(Kind::Settings, message)
            .hint("write `annotation.KEY=VALUE` or `annotation-index.KEY=VALUE`")
    };
    let rest = attribute.strip_prefix("annotation").ok_or_else(invalid)?;
    // A platform may have a dot in it, so the key begins after its bracket.
    let closed = rest.find(']').map_or(0, |at| at + 1);
    let dot = rest[closed..].find('.').map(|at| closed + at).ok_or_else(invalid)?;
    let (place, key) = (&rest[..dot], &rest[dot + 1..]);
    if key.is_empty() {
        return Err(invalid());
    }
    let place = match place.strip_prefix('-') {
        Some(place) => place.to_owned(),
        None if place.is_empty() || place.starts_with('[') => format!("manifest{place}"),
        None => return Err(invalid()),
    };
    let (place, platform) = place_and_platform(&place)?;
    Ok(Annotation { place, platform, key: key.to_owned(), value })
}

fn place_and_platform(text: &str) -> Result<(AnnotationPlace, Option<Platform>), Error> {
    let (place, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((place, platform)) => {
            let platform: Platform = platform.parse().map_err(|error: crate::image::Error| {
                Error::new(Kind::Settings, format!("invalid annotation type `{text}`"))
                    .because(error)
            })?;
            (place, Some(platform))
        }
        None => (text, None),
    };
    let place = match place {
        "manifest" => AnnotationPlace::Manifest,
        "manifest-descriptor" => AnnotationPlace::ManifestDescriptor,
        "index" => AnnotationPlace::Index,
        "index-descriptor" => AnnotationPlace::IndexDescriptor,
        other => {
            let error = Error::new(Kind::Settings, format!("unknown annotation type `{other}`"));
            return Err(match suggest(other, PLACES) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the types are {}", PLACES.join(", "))),
            });
        }
    };
    Ok((place, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&str], place: AnnotationPlace, platform: Option<&str>) -> Vec<String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let platform = platform.map(|text| text.parse().expect("valid"));
        let annotations = annotations(&texts).expect("valid");
        let of = annotations.of(place, platform.as_ref());
        of.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn flags_name_places_and_platforms() {
        use AnnotationPlace::{Index, Manifest, ManifestDescriptor};
        let texts = ["a=1", "index,manifest:b=x=y", "manifest-descriptor[linux/arm64]:c=3"];
        assert_eq!(values(&texts, Manifest, None), ["a=1", "b=x=y"]);
        assert_eq!(values(&texts, Index, None), ["b=x=y"]);
        assert_eq!(values(&texts, ManifestDescriptor, Some("linux/arm64")), ["c=3"]);
        assert!(values(&texts, ManifestDescriptor, Some("linux/amd64")).is_empty());
    }

    #[test]
    fn attributes_name_places_and_keys_with_dots() {
        let read = |text: &str| from_attribute(text, "v".into()).expect(text);
        let plain = read("annotation.org.example.key");
        assert_eq!(
            (plain.place, plain.key.as_str()),
            (AnnotationPlace::Manifest, "org.example.key")
        );
        let index = read("annotation-index.a.b");
        assert_eq!((index.place, index.key.as_str()), (AnnotationPlace::Index, "a.b"));
        let special = read("annotation-manifest-descriptor[linux/arm64].k");
        assert_eq!(special.place, AnnotationPlace::ManifestDescriptor);
        assert_eq!(special.platform, Some("linux/arm64".parse().expect("valid")));
        assert!(read("annotation[linux/arm64].k").platform.is_some());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("novalue", "expected key=value"),
            ("manifests:a=b", "unknown annotation type `manifests`"),
            ("manifest[x/y/z/w]:a=b", "invalid annotation type"),
            (":=b", "it has no key"),
        ] {
            let error = annotations(&[text.to_owned()]).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
        }
    }
}
