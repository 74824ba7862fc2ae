//! The attributes of an output: buildx's words, read into types.

use std::path::PathBuf;

use indexmap::IndexMap;

use crate::build::{Annotations, Compressed, MediaTypes};
use crate::dockerfile::suggest;
use crate::image::Reference;
use crate::layer::{Compression, Leftover};
use crate::operations::{Error, Kind};

use super::spec::{Destination, ImageOptions, ImageOutput, Keep, Publish, Split, Timestamps};
use super::{annotation, compression};

/// What outputs of files take.
const OF_FILES: [&str; 4] = ["type", "dest", "platform-split", "mode"];

/// What images take, beside annotations.
const OF_IMAGES: [&str; 16] = [
    "type",
    "dest",
    "tar",
    "name",
    "push",
    "push-by-digest",
    "name-canonical",
    "store",
    "unpack",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
    "registry.insecure",
    "dangling-name-prefix",
];

/// What other builders know and what changes nothing here.
const IGNORED: [&str; 5] =
    ["buildinfo", "buildinfo-attrs", "prefer-nondist-layers", "oci-artifact", "attestation-prefix"];

/// The attributes of one output that nobody has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Attributes(IndexMap<String, String>);

impl Attributes {
    pub(super) fn set(&mut self, key: String, value: String) {
        self.0.insert(key, value);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_empty())
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.0.shift_remove(key).filter(|value| !value.is_empty())
    }

    /// Takes a truth value, in the forms that Go accepts; nothing after the `=` means yes.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.0.shift_remove(key) else { return Ok(None) };
        match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            other => {
                let message = format!("non-bool value specified for {key}: `{other}`");
                Err(Error::new(Kind::Settings, message).hint("write true or false"))
            }
        }
    }

    /// Takes the directory that an output of type `name` needs.
    pub(super) fn directory(&mut self, name: &str) -> Result<PathBuf, Error> {
        let dest = self.take("dest").filter(|dest| dest != "-");
        dest.map(PathBuf::from).ok_or_else(|| {
            Error::new(Kind::Settings, format!("dest is required for {name} exporter"))
                .hint(format!("write `-o type={name},dest=DIRECTORY`"))
        })
    }

    /// Takes the file; standard output when none is named.
    pub(super) fn destination(&mut self) -> Destination {
        match self.take("dest") {
            Some(dest) if dest != "-" => Destination::File(dest.into()),
            _ => Destination::Stdout,
        }
    }

    pub(super) fn split(&mut self) -> Result<Split, Error> {
        Ok(match self.flag("platform-split")? {
            None => Split::IfSeveral,
            Some(true) => Split::Always,
            Some(false) => Split::Never,
        })
    }

    pub(super) fn leftover(&mut self) -> Result<Leftover, Error> {
        match self.take("mode").as_deref() {
            None | Some("copy") => Ok(Leftover::Keep),
            Some("delete") => Ok(Leftover::Remove),
            Some(other) => Err(Error::new(Kind::Settings, format!("invalid mode `{other}`"))
                .hint("use copy or delete")),
        }
    }

    /// Takes what becomes of an image; `registry` stands for `push=true`.
    pub(super) fn image_output(&mut self, is_registry: bool) -> Result<ImageOutput, Error> {
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        let push = self.flag("push")?.unwrap_or(false) || is_registry;
        let canonical = self.flag("name-canonical")?.unwrap_or(false);
        let is_kept = self.flag("store")?.unwrap_or(true);
        if self.flag("registry.insecure")?.unwrap_or(false) {
            let message = "an output cannot make its registry insecure";
            return Err(Error::new(Kind::Settings, message)
                .hint("name the registry with `--insecure-registry HOST`"));
        }
        if self.take("dangling-name-prefix").is_some() {
            let message = "`dangling-name-prefix` is not supported";
            return Err(Error::new(Kind::Settings, message)
                .hint("images without a name are found by their digest"));
        }
        Ok(ImageOutput {
            publish: match (push, by_digest) {
                (false, _) => Publish::No,
                (true, false) => Publish::ByName,
                (true, true) => Publish::ByDigest,
            },
            keep: match (is_kept, canonical) {
                (false, _) => Keep::No,
                (true, false) => Keep::Named,
                (true, true) => Keep::NamedAndCanonical,
            },
        })
    }

    /// Takes the names, separated by commas. A name without a tag stays so.
    pub(super) fn names(&mut self) -> Result<Vec<Reference>, Error> {
        let text = self.take("name").unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                let parsed: Result<Reference, _> = name.parse();
                parsed.map_err(|error| {
                    Error::new(Kind::Settings, format!("invalid name `{name}`")).because(error)
                })
            })
            .collect()
    }

    pub(super) fn image_options(&mut self) -> Result<ImageOptions, Error> {
        let (name, level) = (self.take("compression"), self.take("compression-level"));
        let compression = compression::read(name.as_deref(), level.as_deref())?;
        let is_forced = self.flag("force-compression")?.unwrap_or(false);
        let is_oci = self.flag("oci-mediatypes")?.unwrap_or(true);
        let is_rewritten = self.flag("rewrite-timestamp")?.unwrap_or(false);
        if self.flag("unpack")?.unwrap_or(false) && is_rewritten {
            let message = "`rewrite-timestamp` conflicts with `unpack`: what would be unpacked has \
                           the times as they were";
            return Err(Error::new(Kind::Settings, message).hint("leave one of the two out"));
        }
        // Docker has no name for a zstd layer; BuildKit then turns to OCI's as well.
        let has_docker_name = !matches!(compression, Compression::Zstd(_));
        Ok(ImageOptions {
            compression,
            compressed: if is_forced { Compressed::All } else { Compressed::New },
            media_types: if is_oci || !has_docker_name {
                MediaTypes::Oci
            } else {
                MediaTypes::Docker
            },
            timestamps: if is_rewritten { Timestamps::Rewrite } else { Timestamps::Keep },
            annotations: self.annotations()?,
        })
    }

    fn annotations(&mut self) -> Result<Annotations, Error> {
        let mut annotations = Annotations::default();
        let keys: Vec<String> =
            self.0.keys().filter(|key| key.starts_with("annotation")).cloned().collect();
        for key in keys {
            let value = self.0.shift_remove(&key).unwrap_or_default();
            annotations.push(annotation::from_attribute(&key, value)?);
        }
        Ok(annotations)
    }

    /// Refuses what is left: nothing of an output's type `name` asked for it.
    pub(super) fn refuse_others(&self, name: &str) -> Result<(), Error> {
        let Some(key) = self.0.keys().find(|key| !IGNORED.contains(&key.as_str())) else {
            return Ok(());
        };
        let known: &[&str] = match name {
            "local" | "tar" => &OF_FILES,
            _ => &OF_IMAGES,
        };
        let message = format!("unknown attribute `{key}` of the output type `{name}`");
        let error = Error::new(Kind::Settings, message);
        Err(match suggest(key, known.iter().copied()).filter(|near| near != key) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        })
    }
}
