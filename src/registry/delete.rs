//! Deleting tags, manifests and blobs (OCI distribution-spec, "Content Management").

use http::{HeaderMap, Method, StatusCode};

use super::session::{Request, Session};
use super::{Client, Kind, Quirks, Result, Support, lists, manifests, referrers};
use crate::image::{Digest, Reference, Repository, Tag};

/// How a registry answered the wish to delete a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// The tag is gone.
    Done,
    /// The registry does not delete tags as such.
    Unsupported,
}

impl Client {
    /// Deletes a tag and leaves the manifest.
    ///
    /// # Errors
    ///
    /// Whatever the registry says but that it does not know how.
    pub async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Untagged> {
        let session = self.upstream(repository);
        if Quirks::of_host(&session.host.name).delete_by_tag == Support::No {
            return Ok(Untagged::Unsupported);
        }
        match delete(&session, &format!("manifests/{tag}")).await {
            Ok(()) => Ok(Untagged::Done),
            Err(error) if error.status().is_some_and(lists::is_unknown) => {
                tracing::debug!(%error, "the registry does not delete tags");
                Ok(Untagged::Unsupported)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes a manifest with all its tags, and takes it off the list of its subject's referrers
    /// where the registry does not keep that list itself.
    ///
    /// # Errors
    ///
    /// Of kind `NotFound` when there is no such manifest; else whatever the registry says.
    pub async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let session = self.upstream(repository);
        let reference = Reference::by_digest(repository.clone(), digest.clone());
        let subject = match manifests::get(&session, &reference).await {
            Ok(manifest) => manifest.subject().map(|subject| subject.digest.clone()),
            Err(error) if error.kind() == Kind::Protocol => {
                // What rpub does not read can be deleted all the same.
                tracing::debug!(%error, "a manifest that is deleted unread");
                None
            }
            Err(error) => return Err(error),
        };
        delete(&session, &format!("manifests/{digest}")).await?;
        match subject {
            Some(subject) => referrers::forget(&session, &subject, digest).await,
            None => Ok(()),
        }
    }

    /// Deletes a blob.
    ///
    /// # Errors
    ///
    /// Of kind `NotFound` when there is no such blob; else whatever the registry says.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        delete(&self.upstream(repository), &format!("blobs/{digest}")).await
    }
}

/// Sends `DELETE`. One that seemed to fail may have been done, so that a later 404 is no failure.
pub(super) async fn delete(session: &Session, path: &str) -> Result<()> {
    let mut budget = session.budget();
    let mut is_repeated = false;
    loop {
        let url = session.url(path).await?;
        let mut request = Request::new(Method::DELETE, url, vec![session.scope("delete,pull")]);
        request.headers = HeaderMap::new();
        let error = match session.send(&request).await {
            Ok(answer) if answer.status().is_success() && answer.is_page() => {
                return Err(answer.protocol("a page for people is no word of a registry"));
            }
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) if is_repeated && answer.status() == StatusCode::NOT_FOUND => return Ok(()),
            Ok(answer) => answer.into_error().await,
            Err(error) => error,
        };
        session.wait(&request, error, &mut budget).await?;
        is_repeated = true;
    }
}
