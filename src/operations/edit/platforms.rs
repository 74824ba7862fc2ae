//! Which entries of an index are meant.

use crate::image::{Descriptor, Digest, Index, Platform};
use crate::operations::{Error, Kind};

/// The annotation by which BuildKit ties an attestation to the image that it is about.
pub(super) const ATTESTED: &str = "vnd.docker.reference.digest";

/// Returns the entry that suits `wanted` best.
pub(in crate::operations) fn choose<'a>(
    index: &'a Index,
    wanted: &Platform,
    name: &str,
) -> Result<&'a Descriptor, Error> {
    index.choose(wanted).ok_or_else(|| unknown(index, wanted, name))
}

/// Returns the entries that are exactly for one of `wanted`; for all platforms when there is none.
pub(in crate::operations) fn chosen<'a>(
    index: &'a Index,
    wanted: &[Platform],
    name: &str,
) -> Result<Vec<&'a Descriptor>, Error> {
    if wanted.is_empty() {
        return Ok(index.manifests.iter().filter(|entry| !is_attestation(entry)).collect());
    }
    let mut entries: Vec<&Descriptor> = Vec::new();
    for platform in wanted {
        let before = entries.len();
        for entry in index.manifests.iter().filter(|entry| is_for(entry, platform)) {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        let is_repeated = || entries[..before].iter().any(|entry| is_for(entry, platform));
        if entries.len() == before && !is_repeated() {
            return Err(unknown(index, platform, name));
        }
    }
    Ok(entries)
}

/// Returns whether an entry is exactly for `platform`.
pub(super) fn is_for(entry: &Descriptor, platform: &Platform) -> bool {
    entry.platform.as_ref().is_some_and(|have| have.rank_for(platform) == Some(0))
}

/// Returns whether an entry is an attestation, which runs nowhere.
pub(super) fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(ATTESTED)
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// Returns whether an entry is an attestation about `image`.
pub(in crate::operations) fn attests(entry: &Descriptor, image: &Digest) -> bool {
    entry.annotations.get(ATTESTED).is_some_and(|digest| *digest == image.to_string())
}

fn unknown(index: &Index, wanted: &Platform, name: &str) -> Error {
    let message = format!("`{name}` has no image for {wanted}");
    Error::new(Kind::NotFound, message).hint(what_there_is(index))
}

/// Says for which platforms an index has images.
pub(super) fn what_there_is(index: &Index) -> String {
    let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
    if platforms.is_empty() {
        "none of its entries says for which platform it is".to_owned()
    } else {
        format!("it has {}", platforms.join(", "))
    }
}
