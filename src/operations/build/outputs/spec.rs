//! What `-o` says: buildx's grammar, read into types.

use std::path::PathBuf;
use std::str::FromStr;

use crate::build::{Annotations, Compressed, MediaTypes};
use crate::image::Reference;
use crate::layer::{Compression, Leftover};
use crate::operations::{Error, Kind};

use super::attributes::Attributes;
use super::csv;

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is made.
    pub kind: OutputKind,
    /// The image's names, where the output gives its own.
    pub names: Vec<Reference>,
    /// How the image is written.
    pub image: ImageOptions,
}

/// What an output makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// The files, in a directory.
    Local {
        /// The directory.
        directory: PathBuf,
        /// Whether each platform gets a directory of its own.
        split: Split,
        /// What happens to other files in there.
        leftover: Leftover,
    },
    /// The files, as a tar.
    Tar {
        /// Where it goes.
        to: Destination,
        /// Whether each platform gets a directory of its own.
        split: Split,
    },
    /// An image, as an OCI layout in a tar.
    Archive {
        /// Where it goes.
        to: Destination,
        /// Who shall be able to load it.
        dialect: Dialect,
    },
    /// An image, as an OCI layout in a directory.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// Who shall be able to load it.
        dialect: Dialect,
    },
    /// An image in the store, in a registry, or both.
    Image(ImageOutput),
}

/// Where the bytes of an output go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a file.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// Whether each platform's files get a directory of their own, such as `linux_amd64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// If there are several platforms.
    #[default]
    IfSeveral,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Who shall be able to load an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// What reads OCI layouts.
    Oci,
    /// `docker load` as well.
    Docker,
}

/// What becomes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageOutput {
    /// Where it is published.
    pub publish: Publish,
    /// What is kept of it.
    pub keep: Keep,
}

/// Where an image is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Publish {
    /// Nowhere.
    #[default]
    No,
    /// Under its names.
    ByName,
    /// Under its digest only.
    ByDigest,
}

/// Which names an image gets in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Its names.
    #[default]
    Named,
    /// Its names, and those with its digest.
    NamedAndCanonical,
    /// None.
    No,
}

/// How an image is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageOptions {
    /// How layers are compressed.
    pub compression: Compression,
    /// Which layers are.
    pub compressed: Compressed,
    /// Whose media types are used.
    pub media_types: MediaTypes,
    /// Whether times in new layers follow `SOURCE_DATE_EPOCH`.
    pub timestamps: Timestamps,
    /// Notes on the image.
    pub annotations: Annotations,
}

/// Whether times in new layers follow `SOURCE_DATE_EPOCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// They stay.
    #[default]
    Keep,
    /// Later ones become that time.
    Rewrite,
}

impl Output {
    /// Returns the output of a build that is asked for none: the image, in the store.
    #[must_use]
    pub fn store() -> Self {
        Self::new(OutputKind::Image(ImageOutput::default()))
    }

    /// Returns an output with nothing chosen but its kind.
    #[must_use]
    pub fn new(kind: OutputKind) -> Self {
        Self { kind, names: Vec::new(), image: ImageOptions::default() }
    }

    /// Returns whether it writes to standard output.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        matches!(
            self.kind,
            OutputKind::Tar { to: Destination::Stdout, .. }
                | OutputKind::Archive { to: Destination::Stdout, .. }
        )
    }

    /// Returns whether it publishes an image.
    #[must_use]
    pub fn publishes(&self) -> bool {
        matches!(&self.kind, OutputKind::Image(image) if image.publish != Publish::No)
    }

    /// Returns whether it makes an image, rather than files.
    #[must_use]
    pub fn is_image(&self) -> bool {
        !matches!(self.kind, OutputKind::Local { .. } | OutputKind::Tar { .. })
    }
}

/// The types, for suggestions.
const TYPES: [&str; 6] = ["local", "tar", "oci", "docker", "image", "registry"];

impl FromStr for Output {
    type Err = Error;

    /// Reads `type=...,key=value,...` as CSV, a bare directory, or `-` (buildx,
    /// `util/buildflags/export.go`).
    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|error| error.about(format!("invalid output `{text}`")))
    }
}

fn read(text: &str) -> Result<Output, Error> {
    let fields = csv::fields(text).map_err(|reason| Error::new(Kind::Settings, reason))?;
    if let [only] = fields.as_slice()
        && only == text
        && !text.starts_with("type=")
    {
        let split = Split::default();
        let kind = match text {
            "-" => OutputKind::Tar { to: Destination::Stdout, split },
            "" => return Err(Error::new(Kind::Settings, "type is required for output")),
            path => {
                let (directory, leftover) = (PathBuf::from(path), Leftover::Keep);
                OutputKind::Local { directory, split, leftover }
            }
        };
        return Ok(Output::new(kind));
    }
    let mut attributes = Attributes::default();
    for field in &fields {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Error::new(Kind::Settings, format!("invalid value {field}")));
        };
        attributes.set(key.trim().to_lowercase(), value.to_owned());
    }
    let Some(name) = attributes.take("type") else {
        return Err(Error::new(Kind::Settings, "type is required for output")
            .hint(format!("the types are {}", TYPES.join(", "))));
    };
    let output = typed(&name, &mut attributes)?;
    attributes.refuse_others(&name)?;
    Ok(output)
}

fn typed(name: &str, attributes: &mut Attributes) -> Result<Output, Error> {
    match name {
        "local" => {
            let directory = attributes.directory(name)?;
            let leftover = attributes.leftover()?;
            let split = attributes.split()?;
            Ok(Output::new(OutputKind::Local { directory, split, leftover }))
        }
        "tar" => {
            let (to, split) = (attributes.destination(), attributes.split()?);
            Ok(Output::new(OutputKind::Tar { to, split }))
        }
        "oci" => archive(name, Dialect::Oci, attributes),
        // Without a destination this is `--load`: the image goes where images are.
        "docker" if !attributes.has("dest") => {
            attributes.take("tar");
            with_options(OutputKind::Image(ImageOutput::default()), attributes)
        }
        "docker" => archive(name, Dialect::Docker, attributes),
        "image" | "registry" => {
            let image = attributes.image_output(name == "registry")?;
            with_options(OutputKind::Image(image), attributes)
        }
        other => {
            let error = Error::new(Kind::Settings, format!("unknown output type `{other}`"));
            Err(match crate::dockerfile::suggest(other, TYPES) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the types are {}", TYPES.join(", "))),
            })
        }
    }
}

fn archive(name: &str, dialect: Dialect, attributes: &mut Attributes) -> Result<Output, Error> {
    let kind = if attributes.flag("tar")?.unwrap_or(true) {
        OutputKind::Archive { to: attributes.destination(), dialect }
    } else {
        OutputKind::Layout { directory: attributes.directory(name)?, dialect }
    };
    with_options(kind, attributes)
}

fn with_options(kind: OutputKind, attributes: &mut Attributes) -> Result<Output, Error> {
    Ok(Output { kind, names: attributes.names()?, image: attributes.image_options()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::AnnotationPlace;

    fn output(text: &str) -> Output {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    fn refusal(text: &str) -> String {
        let error = text.parse::<Output>().expect_err(text);
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        format!("{}; {}", reason.unwrap_or_default(), error.hints.join("; "))
    }

    #[test]
    fn short_forms_mean_a_directory_and_a_tar_to_stdout() {
        let split = Split::IfSeveral;
        let (directory, leftover) = ("out".into(), Leftover::Keep);
        assert_eq!(output("out").kind, OutputKind::Local { directory, split, leftover });
        assert_eq!(output("-").kind, OutputKind::Tar { to: Destination::Stdout, split });
        assert_eq!(output("type=tar"), output("-"));
        assert!(output("type=oci").is_stdout());
    }

    #[test]
    fn attributes_are_read() {
        let text = r#"type=image,"name=a.example/x:1,b.example/y",push=true,compression=zstd,compression-level=5,force-compression=true,oci-mediatypes=false,rewrite-timestamp=true,annotation.k=v,annotation-manifest[linux/arm64].p=q"#;
        let image = output(text);
        assert_eq!(image.names.len(), 2);
        assert!(image.publishes());
        assert_eq!(image.image.compression, Compression::Zstd(5));
        assert_eq!(image.image.compressed, Compressed::All);
        // zstd has no name of Docker's.
        assert_eq!(image.image.media_types, MediaTypes::Oci);
        assert_eq!(image.image.timestamps, Timestamps::Rewrite);
        let platform = "linux/arm64".parse().expect("valid");
        let notes = image.image.annotations.of(AnnotationPlace::Manifest, Some(&platform));
        assert_eq!((notes["k"].as_str(), notes["p"].as_str()), ("v", "q"));
    }

    #[test]
    fn registry_and_docker_are_images() {
        assert!(output("type=registry,name=a.example/x").publishes());
        assert_eq!(output("type=docker"), Output::store());
        let archive = output("type=docker,dest=x.tar").kind;
        let to = Destination::File("x.tar".into());
        assert_eq!(archive, OutputKind::Archive { to, dialect: Dialect::Docker });
        let layout = output("type=oci,tar=false,dest=x").kind;
        let directory = "x".into();
        assert_eq!(layout, OutputKind::Layout { directory, dialect: Dialect::Oci });
    }

    #[test]
    fn refusals_say_what_and_what_instead() {
        for (text, expected) in [
            ("type=locl,dest=x", "unknown output type `locl`; did you mean `local`?"),
            ("dest=x,tar=true", "type is required for output; the types are local"),
            ("", "type is required for output"),
            ("type=local,x", "invalid value x"),
            ("type=local", "dest is required for local exporter"),
            ("type=oci,tar=false", "dest is required for oci exporter"),
            (
                "type=tar,dst=x",
                "unknown attribute `dst` of the output type `tar`; did you mean `dest`?",
            ),
            ("type=image,push=yes", "non-bool value specified for push: `yes`"),
            ("type=image,compression=lz4", "unsupported layer compression type `lz4`"),
            ("type=image,compression=estargz", "estargz"),
            ("type=image,compression-level=10", "compression-level"),
            ("type=image,compression=zstd,compression-level=x", "compression-level"),
            ("type=local,dest=x,mode=wipe", "invalid mode `wipe`"),
            ("type=image,rewrite-timestamp=true,unpack=true", "conflicts with"),
            ("type=image,name=UPPER", "invalid name"),
            ("type=image,annotation-foo.k=v", "unknown annotation type"),
            (r#"type=image,"name=x"#, "quote"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
