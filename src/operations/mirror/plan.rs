//! `mirror plan`: what a run would do and cost, before anything moves.
//!
//! Both sides are asked by `HEAD`. What is to be copied is then read, manifests only, so that its
//! bytes can be counted; not where that counts against a quota, unless the user says so: there the
//! manifests are kept in the store, and the run does not ask for them again.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use crate::image::{Descriptor, Digest, Reference, RegistryName, Repository, media_type};
use crate::mirror::{Job, Shard, Treatment};
use crate::operations::copy::{Weight, weigh};
use crate::operations::{Carrier, Error, Kind, Session};
use crate::registry::RateLimit;

use super::input::MirrorInput;
use super::run::{Recheck, look, options};
use super::state::State;
use super::survey::survey;

/// How many images are looked at once.
const IMAGES: usize = 16;
/// How many blobs are asked for at once.
const BLOBS: usize = 16;
/// About how many bytes an entry of an index has.
const ENTRY_BYTES: u64 = 450;

/// Whether manifests are read that count against a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// They are not: what they would say is estimated.
    #[default]
    Free,
    /// They are, and kept for the run.
    All,
}

/// One image that would be copied to one destination.
#[derive(Debug)]
pub struct MirrorStep {
    /// The rule that wants it.
    pub rule: String,
    /// Where it is from.
    pub source: Reference,
    /// Where it is to be.
    pub destination: Reference,
    /// What the destination stands for now.
    pub previous: Option<Digest>,
    /// What the source is.
    pub manifest: Descriptor,
    /// The bytes of its blobs, there or not; unknown where that would have cost a quota.
    pub bytes: Option<u64>,
}

/// What a run would cost of a registry's quota.
#[derive(Debug)]
pub struct QuotaCost {
    /// The registry.
    pub registry: RegistryName,
    /// How many pulls.
    pub pulls: u64,
    /// Whether that is only an estimate.
    pub is_estimate: bool,
    /// What the registry has said of what is left.
    pub left: Option<RateLimit>,
}

/// What a run would do.
#[derive(Debug, Default)]
pub struct MirrorPlan {
    /// What would be copied.
    pub steps: Vec<MirrorStep>,
    /// How many destinations are as they should be.
    pub unchanged: usize,
    /// How many of never-changing images nobody has to be asked about.
    pub immutable: usize,
    /// Tags that would be removed.
    pub removals: Vec<Reference>,
    /// What could not be found out.
    pub failures: Vec<Error>,
    /// How many blobs would move, each once to each registry.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For how many images the bytes are not known.
    pub unknown: usize,
    /// About how many requests there would be.
    pub requests: u64,
    /// What it would cost of quotas.
    pub quotas: Vec<QuotaCost>,
}

/// Finds out what a run would do.
///
/// # Errors
///
/// When the file is wrong. What cannot be found out about single images is in the plan.
pub async fn plan_mirror(
    session: &Session,
    input: &MirrorInput,
    shard: Option<Shard>,
    reading: Reading,
) -> Result<MirrorPlan, Error> {
    let carrier = Carrier::new(session);
    let survey = survey(session, &carrier, input, shard).await?;
    let state = State::load(session, &survey.jobs).await?;
    let planner = Planner { session, state, reading };
    let failures = survey.failures.into_iter().map(|(_, error)| error).collect();
    let mut plan = MirrorPlan { failures, ..MirrorPlan::default() };
    let looking = survey.jobs.iter().map(async |job| {
        let rule = &survey.file.rules[job.rule];
        (rule, job, Box::pin(planner.look(job, &rule.treatment)).await)
    });
    let mut looking = std::pin::pin!(stream::iter(looking).buffered(IMAGES));
    let mut wanted: BTreeMap<(RegistryName, Digest), (Repository, u64)> = BTreeMap::new();
    while let Some((rule, job, looked)) = looking.next().await {
        match looked {
            Ok(looked) => planner.add(&mut plan, &mut wanted, &rule.name, job, looked),
            Err(error) => {
                let what = format!("failed to look at `{}`", job.source.familiar());
                plan.failures.push(error.about(what));
            }
        }
    }
    planner.count_missing(&mut plan, wanted).await;
    let (removals, failed) = survey.cleaned.find(session).await;
    plan.requests += removals.len() as u64;
    plan.removals = removals;
    plan.failures.extend(failed.into_iter().filter_map(|item| item.error));
    Ok(plan)
}

/// What was found out about one job.
struct Looked {
    source: Option<Descriptor>,
    /// The destinations that lack it, with what they stand for.
    missing: Vec<(Reference, Option<Digest>)>,
    unchanged: usize,
    immutable: usize,
    weight: Option<Weight>,
    pulls: u64,
}

struct Planner<'a> {
    session: &'a Session,
    state: State,
    reading: Reading,
}

impl Planner<'_> {
    async fn look(&self, job: &Job, treatment: &Treatment) -> Result<Looked, Error> {
        let is_known = |to: &&Reference| {
            job.is_immutable && self.state.held(to, &job.source, treatment).is_some()
        };
        let (known, open): (Vec<&Reference>, Vec<&Reference>) =
            job.destinations.iter().partition(is_known);
        let mut looked = Looked {
            source: None,
            missing: Vec::new(),
            unchanged: 0,
            immutable: known.len(),
            weight: None,
            pulls: 0,
        };
        if open.is_empty() {
            return Ok(looked);
        }
        let seen = look(self.session, &self.state, treatment, &job.source, &open).await?;
        for ((to, there), now) in open.iter().zip(&seen.there).zip(seen.now) {
            match there {
                Some(_) => looked.unchanged += 1,
                None => looked.missing.push(((*to).clone(), now)),
            }
        }
        if !looked.missing.is_empty() {
            looked.weight = self.weigh(&job.source, &seen.source, treatment).await?;
            if looked.weight.is_none() {
                looked.pulls = pulls(&seen.source, treatment);
            }
        }
        looked.source = Some(seen.source);
        Ok(looked)
    }

    /// Reads the manifests of an image, unless that costs what it is not to cost, or there is nothing
    /// left to pay it with.
    async fn weigh(
        &self,
        source: &Reference,
        seen: &Descriptor,
        treatment: &Treatment,
    ) -> Result<Option<Weight>, Error> {
        if self.reading == Reading::Free && self.session.counts_pulls(&source.repository) {
            return Ok(None);
        }
        match weigh(self.session, source, seen, &options(treatment, Recheck::No)).await {
            Err(error) if error.kind == Kind::RateLimited => Ok(None),
            weighed => weighed.map(Some),
        }
    }

    fn add(
        &self,
        plan: &mut MirrorPlan,
        wanted: &mut BTreeMap<(RegistryName, Digest), (Repository, u64)>,
        rule: &str,
        job: &Job,
        looked: Looked,
    ) {
        plan.unchanged += looked.unchanged;
        plan.immutable += looked.immutable;
        let Some(manifest) = looked.source else { return };
        let looks = 1 + looked.missing.len() + looked.unchanged;
        plan.requests += looks as u64;
        if looked.missing.is_empty() {
            return;
        }
        let manifests = looked.weight.as_ref().map_or(looked.pulls, |it| it.manifests as u64);
        // Each manifest is read once, and put and read back at each destination.
        plan.requests += manifests * (1 + 2 * looked.missing.len() as u64);
        if self.session.counts_pulls(&job.source.repository) {
            let cost = self.cost(plan, &job.source.repository);
            cost.pulls += looked.pulls;
            cost.is_estimate |= looked.weight.is_none();
        }
        if looked.weight.is_none() {
            plan.unknown += 1;
        }
        for (destination, previous) in looked.missing {
            for blob in looked.weight.iter().flat_map(|weight| &weight.blobs) {
                let key = (destination.registry().clone(), blob.digest.clone());
                wanted.entry(key).or_insert_with(|| (destination.repository.clone(), blob.size));
            }
            plan.steps.push(MirrorStep {
                rule: rule.to_owned(),
                source: job.source.clone(),
                destination,
                previous,
                manifest: manifest.clone(),
                bytes: looked.weight.as_ref().map(|it| it.blobs.iter().map(|b| b.size).sum()),
            });
        }
    }

    /// Returns the cost of a registry's quota so far.
    fn cost<'b>(&self, plan: &'b mut MirrorPlan, repository: &Repository) -> &'b mut QuotaCost {
        let registry = &repository.registry;
        let at = plan.quotas.iter().position(|cost| cost.registry == *registry);
        let at = at.unwrap_or_else(|| {
            let left = self.session.client.rate_limit(repository);
            let registry = registry.clone();
            plan.quotas.push(QuotaCost { registry, pulls: 0, is_estimate: false, left });
            plan.quotas.len() - 1
        });
        &mut plan.quotas[at]
    }

    /// Counts the blobs that are not at their destination.
    async fn count_missing(
        &self,
        plan: &mut MirrorPlan,
        wanted: BTreeMap<(RegistryName, Digest), (Repository, u64)>,
    ) {
        let client = &self.session.client;
        let asked = wanted.into_iter().map(async |((_, digest), (repository, size))| {
            let found = client.blob_exists_at_destination(&repository, &digest).await;
            // Why there is no answer shows when the blob goes there.
            (matches!(found, Ok(Some(_))), size)
        });
        let mut asked = std::pin::pin!(stream::iter(asked).buffer_unordered(BLOBS));
        while let Some((is_there, size)) = asked.next().await {
            plan.requests += 1;
            if !is_there {
                plan.blobs += 1;
                plan.bytes += size;
                // It is read, an upload is begun, and it is sent.
                plan.requests += 3;
            }
        }
    }
}

/// Returns about how many manifests a copy of an image reads: one, and of an index one for each
/// platform.
fn pulls(source: &Descriptor, treatment: &Treatment) -> u64 {
    if !media_type::is_index(&source.media_type) {
        return 1;
    }
    match treatment.platforms.len() as u64 {
        0 => 1 + (source.size / ENTRY_BYTES).max(1),
        chosen => 1 + chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_estimated_by_what_a_head_tells() {
        let image = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b""), 900);
        let index = Descriptor::new(media_type::OCI_INDEX, Digest::of(b""), 4 * ENTRY_BYTES + 100);
        let all = Treatment { platforms: Vec::new(), referrers: true, digest_tags: true };
        let two = ["amd64", "arm64"].map(|it| it.parse().expect("a platform"));
        let two = Treatment { platforms: two.to_vec(), ..all.clone() };
        assert_eq!([pulls(&image, &all), pulls(&index, &all), pulls(&index, &two)], [1, 5, 3]);
    }
}
