//! `referrers`: what refers to a manifest.

use crate::image::{Descriptor, Digest, Platform, Reference};
use crate::operations::{Error, Session};
use crate::registry::Referrers;

use super::head_manifest;

/// Returns the digest of what `name` stands for, and what refers to it.
///
/// A digest is taken at its word: what does not exist (any more) may have referrers.
///
/// # Errors
///
/// Those of [`head_manifest`]; else whatever the registry says.
pub async fn list_referrers(
    session: &Session,
    name: &Reference,
    platform: Option<&Platform>,
    artifact_type: Option<&str>,
) -> Result<(Digest, Referrers), Error> {
    let digest = match (&name.digest, platform) {
        (Some(digest), None) => digest.clone(),
        _ => head_manifest(session, name, platform).await?.digest,
    };
    let referrers = session.client.referrers(&name.repository, &digest, artifact_type).await;
    let what = || format!("failed to list what refers to `{}`", name.familiar());
    let mut referrers = referrers.map_err(|error| Error::from(error).about(what()))?;
    let by_type = |a: &Descriptor, b: &Descriptor| {
        (&a.artifact_type, &a.digest).cmp(&(&b.artifact_type, &b.digest))
    };
    referrers.manifests.sort_by(by_type);
    Ok((digest, referrers))
}
