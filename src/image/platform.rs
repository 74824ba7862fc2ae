//! Platforms: `os/architecture[/variant]`, and which of several suits a wanted one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;

/// What an image runs on (OCI image-spec, image-index.md, `platform`).
///
/// Parsing normalises as containerd does: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8`
/// loses its variant and `arm` gains `v7`.
///
/// ```
/// use rpub::image::Platform;
/// let platform: Platform = "linux/x86_64".parse().unwrap();
/// assert_eq!(platform.to_string(), "linux/amd64");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, in Go's words.
    pub architecture: String,
    /// Operating system, in Go's words.
    pub os: String,
    /// Version of the operating system; Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system; Windows only.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the CPU, as in `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform made of the given words, normalised.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant);
        let os = os.to_ascii_lowercase();
        Self { architecture, os, os_version: None, os_features: Vec::new(), variant }
    }

    /// Returns the platform of the machine that runs rpub, with Linux as its system.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Returns how well an image for `self` serves someone who wants `wanted`: `None` when it does
    /// not run there, else a rank, 0 being exact (containerd `platforms.Only`: an arm CPU also runs
    /// what is made for earlier variants, and amd64/v3 also v2 and v1).
    #[must_use]
    pub fn rank_for(&self, wanted: &Self) -> Option<u32> {
        let this = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        if this.os != wanted.os || this.architecture != wanted.architecture {
            return None;
        }
        if let (Some(a), Some(b)) = (&self.os_version, &wanted.os_version)
            && a != b
        {
            return None;
        }
        if this.variant == wanted.variant {
            return Some(0);
        }
        let default = if this.architecture == "arm64" { 8 } else { 1 };
        let level = |variant: &Option<String>| match variant {
            None => Some(default),
            Some(text) => text.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok()),
        };
        let (have, want) = (level(&this.variant)?, level(&wanted.variant)?);
        want.checked_sub(have)
    }
}

fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
    let (name, variant) = match (architecture.as_str(), variant.as_deref()) {
        ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", Some("7" | "v7") | None) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("i386" | "i486" | "i686" | "x86", _) => ("386", None),
        ("powerpc64le", other) => ("ppc64le", other),
        (other, variant) => (other, variant),
    };
    (name.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Platform(text.to_owned());
        let word_is_well = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let words: Vec<&str> = text.split('/').collect();
        if !words.iter().all(|word| word_is_well(word)) {
            return Err(invalid());
        }
        match words[..] {
            ["local" | "linux"] => Ok(Self::host()),
            [architecture] if architecture != "windows" && architecture != "darwin" => {
                Ok(Self::new("linux", architecture, None))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("linux/i386", "linux/386"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(expected.to_owned()));
        }
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "windows"] {
            assert!(text.parse::<Platform>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn ranks_variants_as_containerd_does() {
        for (have, want, expected) in [
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v6", "linux/arm/v7", Some(1)),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/amd64", "linux/amd64/v3", Some(2)),
            ("linux/amd64/v3", "linux/amd64", None),
            ("linux/arm64", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
        ] {
            let [have, want] = [have, want].map(|text| text.parse::<Platform>().expect("valid"));
            assert_eq!(have.rank_for(&want), expected, "{have} for {want}");
        }
    }
}
