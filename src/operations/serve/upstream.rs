//! The registries that a pull-through cache asks.

use crate::image::{Descriptor, Digest, Manifest, Reference, Repository};
use crate::operations::fetch::fetch_growing;
use crate::operations::{Error, Kind, Session};
use crate::registry;
use crate::serve::{Asked, Growth, Upstream, UpstreamError, Why};

/// Registries, asked with the session's credentials, mirrors and retries.
pub(super) struct Registries(pub(super) Session);

impl Upstream for Registries {
    fn resolve(&self, reference: Reference) -> Asked<Option<Descriptor>> {
        let client = self.0.client.clone();
        Box::pin(async move { client.peek(&reference).await.map_err(|error| of_registry(&error)) })
    }

    fn manifest(&self, reference: Reference) -> Asked<Manifest> {
        let client = self.0.client.clone();
        Box::pin(
            async move { client.manifest(&reference).await.map_err(|error| of_registry(&error)) },
        )
    }

    fn blob_size(&self, repository: Repository, digest: Digest) -> Asked<u64> {
        let client = self.0.client.clone();
        Box::pin(async move {
            let size = client
                .blob_exists(&repository, &digest)
                .await
                .map_err(|error| of_registry(&error))?;
            let missing = || UpstreamError {
                why: Why::Missing,
                message: format!("`{repository}` has no blob {digest}"),
            };
            size.ok_or_else(missing)
        })
    }

    fn fetch(&self, repository: Repository, descriptor: Descriptor, growth: Growth) -> Asked<()> {
        let session = self.0.clone();
        Box::pin(async move {
            let fetched = fetch_growing(&session, &repository, &descriptor, growth).await;
            fetched.map_err(|error| of_operation(&error))
        })
    }

    fn tags(
        &self,
        repository: Repository,
        last: Option<String>,
        limit: usize,
    ) -> Asked<Vec<String>> {
        let client = self.0.client.clone();
        Box::pin(async move {
            let mut pages = client.tags(&repository, last);
            let mut tags = Vec::new();
            while tags.len() < limit
                && let Some(page) = pages.next().await.map_err(|error| of_registry(&error))?
            {
                tags.extend(page);
            }
            tags.truncate(limit);
            Ok(tags)
        })
    }

    fn referrers(&self, repository: Repository, subject: Digest) -> Asked<Vec<Descriptor>> {
        let client = self.0.client.clone();
        Box::pin(async move {
            let found = client.referrers(&repository, &subject, None).await;
            Ok(found.map_err(|error| of_registry(&error))?.manifests)
        })
    }
}

fn of_registry(error: &registry::Error) -> UpstreamError {
    let limited = error.limited().map(|answer| answer.retry_after);
    let why = match error.kind() {
        registry::Kind::NotFound => Why::Missing,
        registry::Kind::Denied => Why::Denied,
        registry::Kind::RateLimited => Why::Limited(limited.flatten()),
        registry::Kind::Network => Why::Away,
        registry::Kind::Integrity | registry::Kind::Protocol => Why::Wrong,
        registry::Kind::Settings | registry::Kind::Local => Why::Local,
    };
    UpstreamError { why, message: chain(error) }
}

fn of_operation(error: &Error) -> UpstreamError {
    let why = match error.kind {
        Kind::NotFound => Why::Missing,
        Kind::Denied => Why::Denied,
        Kind::RateLimited => Why::Limited(None),
        Kind::Network => Why::Away,
        Kind::Integrity => Why::Wrong,
        Kind::User
        | Kind::Settings
        | Kind::Build
        | Kind::Partial
        | Kind::Interrupted
        | Kind::Reported
        | Kind::Internal => Why::Local,
    };
    UpstreamError { why, message: chain(error) }
}

/// Returns an error's text with those of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
