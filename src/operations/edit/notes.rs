//! Annotations of indexes, and how one says which entries are meant.

use std::str::FromStr;

use crate::dockerfile::suggest;
use crate::image::{Descriptor, Digest, Platform};
use crate::operations::{Error, Kind};

use super::platforms::is_for;

/// An entry of an index, by its digest or by its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The manifest with this digest.
    Digest(Digest),
    /// The images for exactly this platform.
    Platform(Platform),
}

/// Where annotations of an index go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotePlace {
    /// To the index itself.
    Index,
    /// To the descriptors in it: those selected, or those of all images.
    Entries(Option<Selector>),
}

/// An annotation to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub place: NotePlace,
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// An annotation to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Where.
    pub place: NotePlace,
    /// Its name.
    pub key: String,
}

impl Selector {
    /// Returns whether `entry` is meant.
    pub(super) fn selects(&self, entry: &Descriptor) -> bool {
        match self {
            Self::Digest(digest) => entry.digest == *digest,
            Self::Platform(platform) => is_for(entry, platform),
        }
    }

    /// Says that there is no such entry, and which there are.
    pub(super) fn unknown(&self, entries: &[Descriptor], name: &str) -> Error {
        let (message, listed): (String, Vec<String>) = match self {
            Self::Digest(digest) => (
                format!("the index `{name}` has no manifest {digest}"),
                entries.iter().map(|entry| entry.digest.to_string()).collect(),
            ),
            Self::Platform(platform) => {
                let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
                let known = platforms.filter(|platform| platform.os != "unknown");
                let message = format!("the index `{name}` has no image for {platform}");
                (message, known.map(ToString::to_string).collect())
            }
        };
        Error::new(Kind::NotFound, message).hint(format!("it has {}", listed.join(", ")))
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |error: crate::image::Error| {
            Error::new(Kind::Settings, "neither a digest nor a platform").because(error)
        };
        if text.contains(':') {
            return text.parse().map(Self::Digest).map_err(invalid);
        }
        text.parse().map(Self::Platform).map_err(invalid)
    }
}

/// Reads `[PLACE:]KEY=VALUE`, where `PLACE` is `index` (the default), `manifest-descriptor` or
/// `manifest-descriptor[PLATFORM|DIGEST]`, and several of these with commas between.
///
/// # Errors
///
/// What is wrong with it, as a wrong setting.
pub fn notes(texts: &[String]) -> Result<Vec<Note>, Error> {
    let mut notes = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let (places, rest) = places_and_rest(text)?;
        let Some((key, value)) = rest.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(invalid(text, "expected key=value"));
        };
        for place in places {
            notes.push(Note { place, key: key.to_owned(), value: value.to_owned() });
        }
    }
    Ok(notes)
}

impl Removal {
    /// Reads `[PLACE:]KEY`, as [`notes`] reads places.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a wrong setting.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, Error> {
        let mut removals = Vec::new();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let (places, key) = places_and_rest(text)?;
            if key.is_empty() {
                return Err(invalid(text, "it has no key"));
            }
            removals.extend(places.into_iter().map(|place| Self { place, key: key.to_owned() }));
        }
        Ok(removals)
    }
}

fn invalid(text: &str, reason: &str) -> Error {
    Error::new(Kind::Settings, format!("invalid annotation `{text}`: {reason}"))
        .hint("write `KEY=VALUE` or `manifest-descriptor[PLATFORM]:KEY=VALUE`")
}

/// Splits the places off; a digest in brackets has a colon of its own.
fn places_and_rest(text: &str) -> Result<(Vec<NotePlace>, &str), Error> {
    let end_of_key = text.find('=').unwrap_or(text.len());
    let mut is_inside = false;
    let colon = text[..end_of_key].find(|c: char| {
        is_inside = (is_inside || c == '[') && c != ']';
        c == ':' && !is_inside
    });
    let Some(colon) = colon else { return Ok((vec![NotePlace::Index], text)) };
    let places = text[..colon].split(',').map(|place| place_of(place, text));
    Ok((places.collect::<Result<_, _>>()?, &text[colon + 1..]))
}

fn place_of(place: &str, text: &str) -> Result<NotePlace, Error> {
    let (name, selector) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
        Some((name, selector)) => {
            let selector = selector.parse::<Selector>();
            let about = |error: Error| error.about(format!("invalid annotation `{text}`"));
            (name, Some(selector.map_err(about)?))
        }
        None => (place, None),
    };
    match (name, selector) {
        ("index", None) => Ok(NotePlace::Index),
        ("manifest-descriptor", selector) => Ok(NotePlace::Entries(selector)),
        ("manifest", _) => {
            let error = invalid(text, "that changes the images, not the index");
            Err(error.hint("use `rpub mutate --annotation` for the manifests of images"))
        }
        (other, _) => {
            let error = invalid(text, &format!("unknown place `{other}`"));
            Err(match suggest(other, ["index", "manifest-descriptor"]) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_index_or_some_of_its_entries() {
        let digest = Digest::of(b"x");
        let texts = [
            "a=1:2".to_owned(),
            "index,manifest-descriptor:b=2".to_owned(),
            format!("manifest-descriptor[{digest}]:c=3"),
            "manifest-descriptor[linux/arm64]:d=4=5".to_owned(),
        ];
        let read = notes(&texts).expect("valid");
        let places: Vec<_> = read.iter().map(|note| (note.key.as_str(), &note.place)).collect();
        let arm = Selector::Platform("linux/arm64".parse().expect("valid"));
        assert_eq!(
            places,
            [
                ("a", &NotePlace::Index),
                ("b", &NotePlace::Index),
                ("b", &NotePlace::Entries(None)),
                ("c", &NotePlace::Entries(Some(Selector::Digest(digest)))),
                ("d", &NotePlace::Entries(Some(arm))),
            ]
        );
        assert_eq!((read[0].value.as_str(), read[4].value.as_str()), ("1:2", "4=5"));
        let removals = Removal::parse_all(&["org.x.y".to_owned()]).expect("valid");
        assert_eq!(removals, [Removal { place: NotePlace::Index, key: "org.x.y".into() }]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("novalue", "expected key=value"),
            ("=v", "expected key=value"),
            ("manifest:a=b", "that changes the images"),
            ("indexes:a=b", "unknown place `indexes`"),
            ("manifest-descriptor[a/b/c/d]:a=b", "invalid annotation"),
            ("index[linux]:a=b", "unknown place"),
        ] {
            let error = notes(&[text.to_owned()]).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
        }
    }
}
