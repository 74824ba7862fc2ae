//! Tags that are at a destination and should not be.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{Reference, Repository, Tag};
use crate::mirror::{self, Shard};
use crate::operations::{Error, Kind, Session, remove_tag};

use super::run::{MirrorItem, MirrorOutcome};
use super::state::State;
use super::survey::all_tags;

/// What happens to tags that a rule wants removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExtraTags {
    /// They stay, and are counted.
    #[default]
    Keep,
    /// They are removed.
    Remove,
}

/// Where tags are to be removed.
pub(super) struct Cleaned {
    /// The repositories, each with the tags that stay.
    pub(super) stay: BTreeMap<Repository, BTreeSet<Tag>>,
    pub(super) shard: Option<Shard>,
}

impl Cleaned {
    /// Returns the tags that are to go, and what could not be listed.
    pub(super) async fn find(&self, session: &Session) -> (Vec<Reference>, Vec<MirrorItem>) {
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (repository, stay) in &self.stay {
            match all_tags(session, repository).await {
                Ok(listed) => {
                    let tags = mirror::extra(&listed, stay).into_iter();
                    let is_mine =
                        |tag: &Tag| self.shard.is_none_or(|it| it.has_tag(repository, tag));
                    let names = tags.filter(is_mine);
                    found.extend(names.map(|tag| Reference::tagged(repository.clone(), tag)));
                }
                // Nothing was copied there yet, as before the first run.
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => {
                    let name =
                        Reference { repository: repository.clone(), tag: None, digest: None };
                    failed.push(MirrorItem::removal(name, Err(error)));
                }
            }
        }
        (found, failed)
    }

    /// Removes the tags that are to go, or only names them.
    pub(super) async fn apply(
        &self,
        session: &Session,
        state: &State,
        extra: ExtraTags,
    ) -> Vec<MirrorItem> {
        let (found, mut items) = self.find(session).await;
        if extra == ExtraTags::Keep && !found.is_empty() {
            let count = found.len();
            session.warn(format!("{count} tags are extra and stay: they go with `--delete`"));
            return items;
        }
        for name in found {
            let removed = remove(session, state, &name).await;
            items.push(MirrorItem::removal(name, removed));
        }
        items
    }
}

async fn remove(session: &Session, state: &State, name: &Reference) -> Result<(), Error> {
    match remove_tag(session, name, false).await {
        Ok(_) => {}
        Err(error) if error.kind == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    state.forget(name).await
}

impl MirrorItem {
    fn removal(destination: Reference, removed: Result<(), Error>) -> Self {
        let outcome = if removed.is_ok() { MirrorOutcome::Removed } else { MirrorOutcome::Failed };
        let error = removed.err();
        let destination = Some(destination);
        Self { rule: None, source: None, destination, digest: None, outcome, error }
    }
}
