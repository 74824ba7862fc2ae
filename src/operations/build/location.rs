//! Where build contexts are, as the command line writes it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::dockerfile::GitReference;
use crate::image::{Digest, Reference};
use crate::operations::{Error, Kind};

/// Where a build context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextLocation {
    /// A directory.
    Directory(PathBuf),
    /// What comes through standard input: a Dockerfile alone, or a tar. Only the main context.
    Stdin,
    /// What a URL of http(s) gives: a tar, or a file.
    Http(String),
    /// The files of a commit.
    Git(Box<GitReference>),
    /// The files of an image. Only a named context.
    Image(Reference),
    /// Nothing: `docker-image://scratch`. Only a named context.
    Scratch,
    /// The files of an image in an OCI image layout. Only a named context.
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// Which image of it.
        image: LayoutImage,
    },
}

/// Which image of an OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutImage {
    /// That of this tag.
    Tag(String),
    /// That of this digest.
    Digest(Digest),
}

impl ContextLocation {
    /// Returns what to call it in messages, without credentials; `None` for a directory.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Stdin => Some("standard input".to_owned()),
            Self::Http(url) => Some(address(url)),
            Self::Git(git) => {
                let mut shown = address(&git.remote);
                if git.reference.is_some() || git.directory.is_some() {
                    shown.extend(["#", git.reference.as_deref().unwrap_or_default()]);
                }
                if let Some(directory) = &git.directory {
                    shown.extend([":", directory]);
                }
                Some(shown)
            }
            Self::Directory(_) | Self::Image(_) | Self::Scratch | Self::Layout { .. } => None,
        }
    }

    /// Reads the argument of `build`: `-`, a directory, a git repository, a URL. What is a directory
    /// here is one, whatever else its name looks like (docker/buildx, `build/opt.go`).
    ///
    /// # Errors
    ///
    /// When it is the address of a repository and cannot be used.
    pub fn main(text: &OsStr) -> Result<Self, Error> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        Ok(Self::remote(text, "build context")?.unwrap_or_else(|| Self::Directory(text.into())))
    }

    /// Reads the value of a `--build-context`.
    ///
    /// # Errors
    ///
    /// When it is the address of a repository or an image and cannot be used.
    pub fn named(text: &OsStr) -> Result<Self, Error> {
        let Some(written) = text.to_str() else { return Ok(Self::Directory(text.into())) };
        if let Some(name) = written.strip_prefix("docker-image://") {
            if name == "scratch" {
                return Ok(Self::Scratch);
            }
            let reference: Reference = name.parse().map_err(|error| invalid(written, error))?;
            return Ok(Self::Image(reference.or_latest()));
        }
        if let Some(rest) = written.strip_prefix("oci-layout://") {
            return layout(rest).map_err(|error| invalid(written, error));
        }
        if written.starts_with("target:") {
            let message = format!("invalid `--build-context {written}`: there are no bake targets");
            return Err(Error::new(Kind::Settings, message)
                .hint("copy from a stage of the same Dockerfile instead"));
        }
        let remote = Self::remote(text, "`--build-context`")?;
        Ok(remote.unwrap_or_else(|| Self::Directory(text.into())))
    }

    /// Returns whether an argument of `-f` is a URL.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        lower.starts_with("https://") || lower.starts_with("http://")
    }

    fn remote(text: &OsStr, what: &str) -> Result<Option<Self>, Error> {
        let Some(written) = text.to_str() else { return Ok(None) };
        if Path::new(text).is_dir() {
            return Ok(None);
        }
        match GitReference::parse(written) {
            Ok(Some(git)) => Ok(Some(Self::Git(Box::new(git)))),
            Ok(None) if Self::is_url(written) => Ok(Some(Self::Http(written.to_owned()))),
            Ok(None) => Ok(None),
            Err(error) => {
                let message = format!("invalid {what}: {error}");
                Err(Error::new(Kind::Settings, message))
            }
        }
    }
}

fn invalid(written: &str, error: crate::image::Error) -> Error {
    Error::new(Kind::Settings, format!("invalid `--build-context {written}`")).because(error)
}

/// Reads `directory[:tag][@digest]`; the digest decides, and `latest` is the tag without one.
fn layout(text: &str) -> Result<ContextLocation, crate::image::Error> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse()?)),
        None => (text, None),
    };
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
        _ => (rest, None),
    };
    let image = match digest {
        Some(digest) => LayoutImage::Digest(digest),
        None => LayoutImage::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(ContextLocation::Layout { directory: directory.into(), image })
}

/// Returns an address without query, fragment, and what stands before its host.
fn address(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main(text: &str) -> ContextLocation {
        ContextLocation::main(OsStr::new(text)).unwrap()
    }

    fn named(text: &str) -> ContextLocation {
        ContextLocation::named(OsStr::new(text)).unwrap()
    }

    #[test]
    fn each_form_of_the_main_context_is_known() {
        assert_eq!(main("-"), ContextLocation::Stdin);
        assert_eq!(main("."), ContextLocation::Directory(".".into()));
        assert_eq!(main("absent.git"), ContextLocation::Directory("absent.git".into()));
        assert!(matches!(main("https://h/a.git#b:c"), ContextLocation::Git(_)));
        assert!(matches!(main("git@h:a"), ContextLocation::Git(_)));
        assert!(matches!(main("github.com/a/b"), ContextLocation::Git(_)));
        assert_eq!(main("HTTPS://h/a.tar"), ContextLocation::Http("HTTPS://h/a.tar".into()));
        assert!(ContextLocation::main(OsStr::new("https://h/a.git?nope=1")).is_err());
    }

    #[test]
    fn each_form_of_a_named_context_is_known() {
        let image: Reference = "alpine:3".parse().unwrap();
        assert_eq!(named("docker-image://alpine:3"), ContextLocation::Image(image));
        assert_eq!(named("docker-image://scratch"), ContextLocation::Scratch);
        let layout =
            |directory: &str, image| ContextLocation::Layout { directory: directory.into(), image };
        let tag = |tag: &str| LayoutImage::Tag(tag.to_owned());
        assert_eq!(named("oci-layout://a/b"), layout("a/b", tag("latest")));
        assert_eq!(named("oci-layout:///a/b:1.2"), layout("/a/b", tag("1.2")));
        let digest = Digest::of(b"x");
        let by_digest = LayoutImage::Digest(digest.clone());
        assert_eq!(named(&format!("oci-layout://a:1@{digest}")), layout("a", by_digest));
        assert!(ContextLocation::named(OsStr::new("oci-layout://a@sha256:x")).is_err());
        assert!(ContextLocation::named(OsStr::new("docker-image://A B")).is_err());
        assert!(ContextLocation::named(OsStr::new("target:x")).is_err());
        assert_eq!(named("dir"), ContextLocation::Directory("dir".into()));
    }
}
