//! The values of `--cache-from` and `--cache-to`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::image::{Reference, Repository};
use crate::operations::{Error, Kind};

/// Where results of earlier builds are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// The entries in a repository, and what the image of that name carries.
    Registry(Reference),
    /// Only what an image carries.
    Inline(Reference),
    /// A directory.
    Local(PathBuf),
}

/// Where results are kept for later builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTo {
    /// Entries in a repository.
    Registry {
        /// Which.
        repository: Repository,
        /// Whose results.
        mode: CacheMode,
        /// Whether a failure is only a warning.
        ignore_error: bool,
    },
    /// The image itself.
    Inline,
    /// A directory.
    Local {
        /// Which.
        directory: PathBuf,
        /// Whose results.
        mode: CacheMode,
        /// Whether a failure is only a warning.
        ignore_error: bool,
    },
}

/// Whose results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Those of the steps whose layers are in the image.
    #[default]
    Min,
    /// Those of all steps.
    Max,
}

/// Attributes that choose forms which rpub's entries do not have: the layers are kept as they are in
/// the image.
const WITHOUT_EFFECT: [&str; 6] = [
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "image-manifest",
    "registry.insecure",
];

struct Attributes {
    flag: &'static str,
    kind: String,
    pairs: Vec<(String, String)>,
}

impl Attributes {
    fn parse(flag: &'static str, text: &str) -> Result<Self, Error> {
        let mut kind = "registry".to_owned();
        let mut pairs = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("type", value)) => value.clone_into(&mut kind),
                Some((name, value)) => pairs.push((name.to_ascii_lowercase(), value.to_owned())),
                // docker's short form: a reference alone.
                None if !text.contains('=') => pairs.push(("ref".to_owned(), part.to_owned())),
                None => {
                    let message = format!("invalid `{flag} {text}`: `{part}` has no value");
                    return Err(Error::new(Kind::Settings, message)
                        .hint(format!("write `{flag} type=registry,ref=registry/repository`")));
                }
            }
        }
        Ok(Self { flag, kind, pairs })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(other, _)| other == name)?;
        Some(self.pairs.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<String, Error> {
        self.take(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            let message = format!("`{} type={}` needs `{name}=...`", self.flag, self.kind);
            Error::new(Kind::Settings, message)
        })
    }

    fn reference(&mut self) -> Result<Reference, Error> {
        let text = self.need("ref")?;
        text.parse().map_err(|error: crate::image::Error| {
            Error::new(Kind::Settings, format!("invalid `ref` of `{}`", self.flag)).because(error)
        })
    }

    fn mode(&mut self) -> Result<CacheMode, Error> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(CacheMode::Min),
            Some("max") => Ok(CacheMode::Max),
            Some(other) => {
                let message = format!("invalid `mode={other}` of `{}`", self.flag);
                Err(Error::new(Kind::Settings, message).hint("use `min` or `max`"))
            }
        }
    }

    fn switch(&mut self, name: &str) -> Result<bool, Error> {
        match self.take(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => {
                let message = format!("invalid `{name}={other}` of `{}`", self.flag);
                Err(Error::new(Kind::Settings, message).hint("use `true` or `false`"))
            }
        }
    }

    fn unknown_type<T>(&self) -> Result<T, Error> {
        let message = format!("`{} type={}` is not supported", self.flag, self.kind);
        Err(Error::new(Kind::Settings, message)
            .hint("use `type=registry,ref=...`, `type=local,...` or `type=inline`"))
    }

    /// Refuses what nobody has taken.
    fn end(mut self) -> Result<(), Error> {
        self.pairs.retain(|(name, _)| !WITHOUT_EFFECT.contains(&name.as_str()));
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => {
                let message =
                    format!("`{} type={}` has no attribute `{name}`", self.flag, self.kind);
                Err(Error::new(Kind::Settings, message))
            }
        }
    }
}

impl FromStr for CacheFrom {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut attributes = Attributes::parse("--cache-from", text)?;
        let from = match attributes.kind.as_str() {
            "registry" => Self::Registry(attributes.reference()?),
            "inline" => Self::Inline(attributes.reference()?),
            "local" => {
                // Entries are found by their keys, whatever tag they were written with.
                attributes.take("tag");
                attributes.take("digest");
                Self::Local(attributes.need("src")?.into())
            }
            _ => return attributes.unknown_type(),
        };
        attributes.end()?;
        Ok(from)
    }
}

impl FromStr for CacheTo {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut attributes = Attributes::parse("--cache-to", text)?;
        let to = match attributes.kind.as_str() {
            "registry" => Self::Registry {
                repository: attributes.reference()?.repository,
                mode: attributes.mode()?,
                ignore_error: attributes.switch("ignore-error")?,
            },
            "inline" => {
                attributes.mode()?;
                Self::Inline
            }
            "local" => {
                attributes.take("tag");
                Self::Local {
                    directory: attributes.need("dest")?.into(),
                    mode: attributes.mode()?,
                    ignore_error: attributes.switch("ignore-error")?,
                }
            }
            _ => return attributes.unknown_type(),
        };
        attributes.end()?;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_forms_are_understood() {
        let reference: Reference = "r.example/app/cache".parse().unwrap();
        for text in ["r.example/app/cache", "type=registry,ref=r.example/app/cache"] {
            assert_eq!(text.parse::<CacheFrom>().unwrap(), CacheFrom::Registry(reference.clone()));
        }
        let to =
            "type=registry,ref=r.example/app/cache,mode=max,compression=zstd,ignore-error=true";
        let expected = CacheTo::Registry {
            repository: reference.repository,
            mode: CacheMode::Max,
            ignore_error: true,
        };
        assert_eq!(to.parse::<CacheTo>().unwrap(), expected);
        assert_eq!("type=inline".parse::<CacheTo>().unwrap(), CacheTo::Inline);
        let local = "type=local,src=cache".parse::<CacheFrom>().unwrap();
        assert_eq!(local, CacheFrom::Local("cache".into()));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (text, part) in [
            ("type=gha", "`--cache-to type=gha` is not supported"),
            ("type=s3,bucket=b", "`--cache-to type=s3` is not supported"),
            ("type=registry", "needs `ref=...`"),
            ("type=local,mode=max", "needs `dest=...`"),
            ("type=local,dest=d,mode=all", "invalid `mode=all`"),
            ("type=local,dest=d,colour=red", "has no attribute `colour`"),
            ("type=registry,ref=UPPER CASE", "invalid `ref`"),
            ("type=local,dest", "`dest` has no value"),
        ] {
            let error = text.parse::<CacheTo>().unwrap_err();
            assert_eq!(error.kind, Kind::Settings);
            assert!(error.message.contains(part), "{text}: {}", error.message);
        }
    }
}
