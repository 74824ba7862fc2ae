//! Digests of bytes, and the two digests that name layers by their content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use super::Error;

/// A digest algorithm registered by OCI image-spec, descriptor.md, "Registered algorithms".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: what everything is addressed by in practice.
    Sha256,
    /// SHA-512: allowed by the specification, rare.
    Sha512,
}

impl Algorithm {
    /// Returns the name used in front of the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of exact bytes, as `algorithm:hex` (OCI image-spec, descriptor.md, "Digests").
///
/// ```
/// use rpub::image::Digest;
/// let digest = Digest::of(b"{}");
/// assert_eq!(digest.to_string().len(), 71);
/// assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
/// assert!("sha256:ABC".parse::<Digest>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_raw(Algorithm::Sha256, &Sha256::digest(bytes))
    }

    /// Returns the digest of `bytes` by the algorithm that `self` uses, to compare the two.
    #[must_use]
    pub fn of_same_algorithm(&self, bytes: &[u8]) -> Self {
        match self.algorithm {
            Algorithm::Sha256 => Self::of(bytes),
            Algorithm::Sha512 => Self::from_raw(Algorithm::Sha512, &Sha512::digest(bytes)),
        }
    }

    /// Returns the digest whose raw output is `raw`.
    #[must_use]
    pub fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        let mut hex = String::with_capacity(raw.len() * 2);
        for byte in raw {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Self { algorithm, hex }
    }

    /// Reads the digest that a tag is made of, as cosign's and those of lists of referrers are, and
    /// what stands behind it: `sha256-<hex>`, `sha256-<hex>.sig` (OCI distribution-spec, "Referrers
    /// Tag Schema").
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<(Self, &str)> {
        let (digest, ending) = tag.split_once('.').unwrap_or((tag, ""));
        let digest = digest.replacen('-', ":", 1).parse().ok()?;
        Some((digest, ending))
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the lower-case hexadecimal part, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve hexadecimal digits: the short id that docker shows.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Digest(text.chars().take(200).collect());
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(invalid()),
        };
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_length() || !is_hex {
            return Err(invalid());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The digest of a layer's *uncompressed* tar (OCI image-spec, config.md, "Layer DiffID").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The digest that names a whole stack of layers (OCI image-spec, config.md, "Layer ChainID").
///
/// ```
/// use rpub::image::{ChainId, DiffId, Digest};
/// let bottom = DiffId(Digest::of(b"bottom"));
/// assert_eq!(ChainId::of(&[bottom.clone()]).unwrap().0, bottom.0);
/// assert!(ChainId::of(&[]).is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// Returns the chainID of `layers`, bottom first, or `None` when there are none.
    #[must_use]
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        layers.iter().fold(None, |below, layer| Some(Self::on(below.as_ref(), layer)))
    }

    /// Returns the chainID of the stack `below`, `None` when it is empty, with `layer` on top.
    #[must_use]
    pub fn on(below: Option<&Self>, layer: &DiffId) -> Self {
        Self(match below {
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
            None => layer.0.clone(),
        })
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_may_be_made_of_digests() {
        let digest = Digest::of(b"");
        let tag = digest.to_string().replace(':', "-");
        assert_eq!(Digest::of_tag(&tag), Some((digest.clone(), "")));
        assert_eq!(Digest::of_tag(&format!("{tag}.att")), Some((digest, "att")));
        for text in ["latest", "sha256-0", "1.0.sig", &tag.to_uppercase()] {
            assert_eq!(Digest::of_tag(text), None, "{text}");
        }
    }

    #[test]
    fn known_digest_of_nothing() {
        let expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), expected);
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let upper = format!("sha256:{}", "A".repeat(64));
        let short = format!("sha256:{}", "a".repeat(63));
        for text in ["", "sha256", "sha256:", "md5:abcd", &upper, &short] {
            assert!(text.parse::<Digest>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn chain_id_folds_from_the_bottom() {
        let [a, b] = [b"a", b"b"].map(|bytes| DiffId(Digest::of(bytes)));
        let expected = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]).map(|chain| chain.0), Some(expected));
    }
}
