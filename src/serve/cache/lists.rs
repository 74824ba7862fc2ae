//! Lists through the cache: asked of upstream each time, and kept nowhere.

use std::time::Instant;

use crate::image::{Descriptor, Digest, Repository};
use crate::serve::reply::{Code, Failure};

use super::{Answer, Cache, Fallback, Stale, UpstreamError, Why, failure};

impl Cache {
    /// Returns the tags after `last`, so many at most.
    pub(in crate::serve) async fn tags(
        &self,
        repository: &Repository,
        last: Option<&str>,
        limit: usize,
        fallback: Fallback,
    ) -> Result<Answer<Vec<String>>, Failure> {
        let last = last.filter(|last| !last.is_empty()).map(str::to_owned);
        let question = self.upstream.tags(repository.clone(), last, limit);
        let asked = self.ask(&repository.registry, fallback, Instant::now(), question).await;
        answer(repository, fallback, asked)
    }

    /// Returns what refers to a manifest. What the store knows of that is better than nothing.
    pub(in crate::serve) async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Answer<Vec<Descriptor>>, Failure> {
        let question = self.upstream.referrers(repository.clone(), subject);
        let asked = self.ask(&repository.registry, Fallback::There, Instant::now(), question).await;
        answer(repository, Fallback::There, asked)
    }
}

fn answer<T>(
    repository: &Repository,
    fallback: Fallback,
    asked: Result<T, UpstreamError>,
) -> Result<Answer<T>, Failure> {
    let registry = &repository.registry;
    match asked {
        Ok(found) => Ok(Answer::Fresh(found)),
        Err(error) if error.why != Why::Missing && fallback == Fallback::There => {
            Ok(Answer::Stale(Stale { registry: registry.clone() }))
        }
        Err(error) => Err(failure(registry, Code::NameUnknown, &error)),
    }
}
