//! What refers to an image and does not follow it.

use futures_util::stream::{self, StreamExt as _};

use crate::image::{Digest, Repository};
use crate::operations::Session;

use super::target::LeftBehind;

/// How many questions are under way at once.
const QUESTIONS: usize = 8;

/// Returns which of `digests`, whose place something else has taken, something refers to. Signatures
/// and the like state the digest of what they are about, so they stay with it.
///
/// A registry that does not say is passed over: the edit itself is done.
pub(super) async fn left_behind(
    session: &Session,
    repository: &Repository,
    digests: Vec<Digest>,
) -> Vec<LeftBehind> {
    let questions = digests.into_iter().map(async |digest| {
        match session.client.referrers(repository, &digest, None).await {
            Ok(found) => LeftBehind { digest, referrers: found.manifests.len() },
            Err(error) => {
                tracing::debug!(%error, "referrers of an edited image");
                LeftBehind { digest, referrers: 0 }
            }
        }
    });
    let answers = stream::iter(questions).buffered(QUESTIONS);
    answers.filter(|left| std::future::ready(left.referrers > 0)).collect().await
}
