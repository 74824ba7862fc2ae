//! Who brings which blob to which registry: of all images of a run, the first that needs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::image::{Descriptor, Digest};

use super::hold::{Hold, Site};

/// How far the image is that brings a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The blob is on its way.
    Moving,
    /// The blob is in the repository.
    Arrived,
    /// A manifest in the repository holds it: registries mount it from there for sure.
    Committed,
    /// The image failed before.
    Failed,
}

/// The claims of all images of a run.
///
/// An image claims, in one step for all of its destinations, what nobody has claimed. So an image
/// only ever waits for ones that claimed before it, and no two wait for each other.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<(Site, Digest), Claim>>);

/// A blob that somebody brings.
#[derive(Debug, Clone)]
struct Claim {
    image: u64,
    hold: Hold,
    stage: watch::Receiver<Stage>,
}

/// What an image has to do about a blob at one destination.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Bring it.
    Lead(Arc<watch::Sender<Stage>>),
    /// Wait for who brings it.
    Follow(Following),
}

/// Somebody else's claim.
#[derive(Debug, Clone)]
pub(super) struct Following {
    /// Where the blob will be.
    pub(super) hold: Hold,
    /// Whether it is another destination of the same image that brings it.
    pub(super) is_same_image: bool,
    stage: watch::Receiver<Stage>,
}

impl Following {
    /// Waits until the claim is at `stage`; `false` when that will never be.
    pub(super) async fn reaches(&self, stage: Stage) -> bool {
        let mut now = self.stage.clone();
        let reached = now.wait_for(|now| *now >= stage).await;
        reached.is_ok_and(|now| *now != Stage::Failed)
    }
}

/// What one image has to do at one destination. Claims that are dropped before they are committed
/// count as failed.
#[derive(Debug, Default)]
pub(super) struct Share(HashMap<Digest, Role>);

impl Share {
    pub(super) fn role(&self, blob: &Digest) -> Option<&Role> {
        self.0.get(blob)
    }

    /// Says that nothing more is brought.
    pub(super) fn fail(&self) {
        for role in self.0.values() {
            if let Role::Lead(stage) = role {
                stage.send_if_modified(|now| {
                    let is_open = *now == Stage::Moving;
                    if is_open {
                        *now = Stage::Failed;
                    }
                    is_open
                });
            }
        }
    }

    /// Says that the image is there, whole.
    pub(super) fn commit(&self) {
        for role in self.0.values() {
            if let Role::Lead(stage) = role {
                stage.send_replace(Stage::Committed);
            }
        }
    }
}

impl Claims {
    /// Claims `blobs` at all of `holds` for the image `image`, a number of its own.
    pub(super) fn claim(&self, image: u64, holds: &[Hold], blobs: &[Descriptor]) -> Vec<Share> {
        let mut claims = self.lock();
        let shares = holds.iter().map(|hold| {
            let roles = blobs.iter().map(|blob| {
                let role = role(&mut claims, image, hold, &blob.digest);
                (blob.digest.clone(), role)
            });
            Share(roles.collect())
        });
        shares.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Site, Digest), Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn role(
    claims: &mut HashMap<(Site, Digest), Claim>,
    image: u64,
    hold: &Hold,
    blob: &Digest,
) -> Role {
    let key = (hold.site(), blob.clone());
    // Whoever failed has dropped the sender before the end.
    let is_live = |claim: &&Claim| match *claim.stage.borrow() {
        Stage::Committed => true,
        Stage::Failed => false,
        Stage::Moving | Stage::Arrived => claim.stage.has_changed().is_ok(),
    };
    if let Some(claim) = claims.get(&key).filter(is_live) {
        let Claim { image: leader, hold, stage } = claim.clone();
        return Role::Follow(Following { hold, is_same_image: leader == image, stage });
    }
    let (sender, stage) = watch::channel(Stage::Moving);
    claims.insert(key, Claim { image, hold: hold.clone(), stage });
    Role::Lead(Arc::new(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Descriptor {
        Descriptor::of("x", text.as_bytes())
    }

    fn hold(text: &str) -> Hold {
        Hold::Repository(text.parse::<crate::image::Reference>().expect("valid").repository)
    }

    #[tokio::test]
    async fn the_first_leads_and_others_follow_until_it_fails() {
        let claims = Claims::default();
        let blobs = [blob("a"), blob("b")];
        let first = claims.claim(1, &[hold("r.example/a")], &blobs[..1]);
        let second = claims.claim(2, &[hold("r.example/b"), Hold::Store], &blobs);
        let [near, far] = &second[..] else { panic!("one share a destination") };
        assert!(matches!(first[0].role(&blobs[0].digest), Some(Role::Lead(_))));
        assert!(matches!(near.role(&blobs[1].digest), Some(Role::Lead(_))));
        assert!(matches!(far.role(&blobs[0].digest), Some(Role::Lead(_))));
        let Some(Role::Follow(following)) = near.role(&blobs[0].digest) else {
            panic!("the blob is claimed")
        };
        assert_eq!(following.hold, hold("r.example/a"));
        first[0].fail();
        assert!(!following.reaches(Stage::Arrived).await);
        let third = claims.claim(3, &[hold("r.example/c")], &blobs[..1]);
        assert!(matches!(third[0].role(&blobs[0].digest), Some(Role::Lead(_))));
    }

    #[tokio::test]
    async fn what_is_committed_stays_claimed() {
        let claims = Claims::default();
        let first = claims.claim(1, &[hold("r.example/a")], &[blob("a")]);
        first[0].commit();
        drop(first);
        let second = claims.claim(2, &[hold("r.example/b")], &[blob("a")]);
        let Some(Role::Follow(following)) = second[0].role(&blob("a").digest) else {
            panic!("the blob is claimed")
        };
        assert!(following.reaches(Stage::Committed).await);
    }

    #[test]
    fn another_registry_is_another_claim() {
        let claims = Claims::default();
        let places = ["r.example/a", "s.example/a", "r.example/b"].map(hold);
        let shares = claims.claim(1, &places, &[blob("a")]);
        let is_lead = |share: &Share| matches!(share.role(&blob("a").digest), Some(Role::Lead(_)));
        assert_eq!(shares.iter().map(is_lead).collect::<Vec<_>>(), [true, true, false]);
    }
}
