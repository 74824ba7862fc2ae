//! Doing the jobs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};

use crate::image::{Descriptor, Digest, Reference, RegistryName, Repository};
use crate::mirror::{Job, Shard, Treatment};
use crate::operations::copy::{Arrival, Carry, CopyOptions, CopyTarget, Delivered, copy_image};
use crate::operations::place::ImageSource;
use crate::operations::publish::Traffic;
use crate::operations::{Carrier, Error, Kind, Session};
use crate::registry::RateLimit;

use super::input::MirrorInput;
use super::removal::ExtraTags;
use super::state::State;
use super::survey::survey;

/// How many images are looked after at once; what moves at once is bounded by the client.
const IMAGES: usize = 16;

/// What became of one image at one destination.
#[derive(Debug)]
pub struct MirrorItem {
    /// The rule that wants it; none for a tag that no rule wants.
    pub rule: Option<String>,
    /// Where it is from.
    pub source: Option<Reference>,
    /// Where it is to be; none when that could not be found out.
    pub destination: Option<Reference>,
    /// What is there now.
    pub digest: Option<Digest>,
    /// What was done.
    pub outcome: MirrorOutcome,
    /// Why it failed, or was left.
    pub error: Option<Error>,
}

/// What was done for one image at one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// It was copied.
    Copied,
    /// It was there.
    Unchanged,
    /// It was there the last time and never changes: nobody was asked.
    Immutable,
    /// The tag was removed.
    Removed,
    /// It failed.
    Failed,
    /// It was left for the next time, because of a quota.
    Left,
}

impl MirrorOutcome {
    /// Returns the outcome in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Unchanged => "unchanged",
            Self::Immutable => "immutable",
            Self::Removed => "removed",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// A registry's quota that ended a run.
#[derive(Debug)]
pub struct Quota {
    /// The registry.
    pub registry: RegistryName,
    /// What it said.
    pub error: Error,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct MirrorReport {
    /// What became of each image at each destination.
    pub items: Vec<MirrorItem>,
    /// What moved.
    pub traffic: Traffic,
    /// The quotas that were met.
    pub quotas: Vec<Quota>,
}

impl MirrorReport {
    /// Returns how many items have an outcome.
    #[must_use]
    pub fn count(&self, outcome: MirrorOutcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }
}

/// Whether images that never change, and what belongs to those that have not changed, are looked at
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recheck {
    /// They are not.
    #[default]
    No,
    /// They are.
    Yes,
}

/// Brings about what a mirror file says, or the part of it that is a shard's.
///
/// # Errors
///
/// When the file is wrong. What goes wrong with single images is in the report.
pub async fn mirror(
    session: &Session,
    input: &MirrorInput,
    shard: Option<Shard>,
    extra: ExtraTags,
    recheck: Recheck,
) -> Result<MirrorReport, Error> {
    let carrier = Carrier::new(session);
    let survey = survey(session, &carrier, input, shard).await?;
    let state = State::load(session, &survey.jobs).await?;
    let run = Run { session, carrier, state, recheck, stopped: Mutex::default() };
    let mut report = MirrorReport::default();
    for (rule, error) in survey.failures {
        report.items.push(unlisted(&survey.file.rules[rule].name, error));
    }
    let doing = survey.jobs.iter().map(async |job| {
        let rule = &survey.file.rules[job.rule];
        let task = Task { job, rule: &rule.name, treatment: &rule.treatment };
        Box::pin(run.job(task)).await
    });
    let mut doing = std::pin::pin!(stream::iter(doing).buffer_unordered(IMAGES));
    while let Some((items, traffic)) = doing.next().await {
        report.items.extend(items);
        report.traffic = report.traffic.and(traffic);
    }
    report.items.extend(survey.cleaned.apply(session, &run.state, extra).await);
    report.items.sort_by(|a, b| a.destination.cmp(&b.destination));
    let stopped = std::mem::take(&mut *run.stopped.lock().unwrap_or_else(PoisonError::into_inner));
    report.quotas =
        stopped.into_iter().map(|(registry, error)| Quota { registry, error }).collect();
    Ok(report)
}

/// Returns the item of a rule whose images could not be listed; the error names what.
fn unlisted(rule: &str, error: Error) -> MirrorItem {
    MirrorItem {
        rule: Some(rule.to_owned()),
        source: None,
        destination: None,
        digest: None,
        outcome: MirrorOutcome::Failed,
        error: Some(error),
    }
}

/// What the jobs of one run share.
struct Run<'a> {
    session: &'a Session,
    carrier: Carrier,
    state: State,
    recheck: Recheck,
    /// Registries whose quota is used up.
    stopped: Mutex<BTreeMap<RegistryName, Error>>,
}

/// One job, and what its rule says.
struct Task<'a> {
    job: &'a Job,
    rule: &'a str,
    treatment: &'a Treatment,
}

impl Task<'_> {
    fn item(&self, to: &Reference, outcome: MirrorOutcome, digest: Option<Digest>) -> MirrorItem {
        MirrorItem {
            rule: Some(self.rule.to_owned()),
            source: Some(self.job.source.clone()),
            destination: Some(to.clone()),
            digest,
            outcome,
            error: None,
        }
    }

    fn failed(&self, to: &Reference, error: Error) -> MirrorItem {
        let is_left = error.kind == Kind::RateLimited;
        let outcome = if is_left { MirrorOutcome::Left } else { MirrorOutcome::Failed };
        MirrorItem { error: Some(error), ..self.item(to, outcome, None) }
    }
}

impl Run<'_> {
    async fn job(&self, task: Task<'_>) -> (Vec<MirrorItem>, Traffic) {
        let (mut items, mut open) = (Vec::new(), Vec::new());
        for to in &task.job.destinations {
            match self.known(&task, to) {
                Some(held) => items.push(task.item(to, MirrorOutcome::Immutable, Some(held))),
                None if self.is_stopped(to.registry()) => {
                    items.push(task.item(to, MirrorOutcome::Left, None));
                }
                None => open.push(to),
            }
        }
        if self.is_stopped(task.job.source.registry()) {
            items.extend(open.iter().map(|to| task.item(to, MirrorOutcome::Left, None)));
            return (items, Traffic::default());
        }
        let mut traffic = Traffic::default();
        if !open.is_empty() {
            let (more, moved) = self.open_job(&task, &open).await;
            items.extend(more);
            traffic = moved;
        }
        (items, traffic)
    }

    /// Returns what a destination is known to hold for ever.
    fn known(&self, task: &Task<'_>, to: &Reference) -> Option<Digest> {
        let is_asked = self.recheck == Recheck::Yes || !task.job.is_immutable;
        if is_asked { None } else { self.state.held(to, &task.job.source, task.treatment) }
    }

    /// Looks first where a copy would begin with a request that counts; else copies, which looks too.
    async fn open_job(&self, task: &Task<'_>, open: &[&Reference]) -> (Vec<MirrorItem>, Traffic) {
        let source = &task.job.source;
        let spent = self.spent(&source.repository);
        if spent.is_none() && task.treatment.platforms.is_empty() || self.recheck == Recheck::Yes {
            return self.copy(task, None, open).await;
        }
        let seen = match look(self.session, &self.state, task.treatment, source, open).await {
            Ok(seen) => seen,
            Err(error) => {
                let error = error.about(format!("failed to copy `{}`", source.familiar()));
                self.heed(source.registry(), &error);
                return (every(task, open, error), Traffic::default());
            }
        };
        let (there, missing): (Vec<_>, Vec<_>) =
            open.iter().zip(&seen.there).partition(|(_, there)| there.is_some());
        let there = there
            .into_iter()
            .map(|(to, digest)| task.item(to, MirrorOutcome::Unchanged, digest.clone()));
        let mut items: Vec<MirrorItem> = there.collect();
        let missing: Vec<&Reference> = missing.into_iter().map(|(to, _)| *to).collect();
        if missing.is_empty() {
            return (items, Traffic::default());
        }
        if let Some(limit) = spent {
            self.heed(source.registry(), &used_up(source.registry(), &limit));
            items.extend(missing.iter().map(|to| task.item(to, MirrorOutcome::Left, None)));
            return (items, Traffic::default());
        }
        let (more, traffic) = self.copy(task, Some(&seen.source.digest), &missing).await;
        items.extend(more);
        (items, traffic)
    }

    /// Copies what the source is, which was `seen` or is found out.
    async fn copy(
        &self,
        task: &Task<'_>,
        seen: Option<&Digest>,
        open: &[&Reference],
    ) -> (Vec<MirrorItem>, Traffic) {
        let mut source = task.job.source.clone();
        source.digest = source.digest.or_else(|| seen.cloned());
        let source = ImageSource::Registry(source);
        let targets: Vec<CopyTarget> =
            open.iter().map(|to| CopyTarget::Registry((*to).clone())).collect();
        let options = options(task.treatment, self.recheck);
        let copied = match copy_image(&self.carrier, &source, &targets, &options).await {
            Ok(copied) => copied,
            Err(error) => {
                self.heed(task.job.source.registry(), &error);
                return (every(task, open, error), Traffic::default());
            }
        };
        let traffic = copied.traffic();
        let read = copied.trimmed.map_or(copied.manifest.digest, |trimmed| trimmed.previous);
        let mut items = Vec::new();
        for (to, delivered) in open.iter().zip(copied.deliveries) {
            items.push(self.delivered(task, to, &read, delivered).await);
        }
        (items, traffic)
    }

    async fn delivered(
        &self,
        task: &Task<'_>,
        to: &Reference,
        read: &Digest,
        delivered: Delivered,
    ) -> MirrorItem {
        let outcome = match delivered.outcome {
            Ok(Arrival::Copied) => MirrorOutcome::Copied,
            Ok(Arrival::AlreadyThere) => MirrorOutcome::Unchanged,
            Err(error) => {
                self.heed(to.registry(), &error);
                return task.failed(to, error);
            }
        };
        let held = delivered.digest;
        // Registries tell all else themselves.
        if task.job.is_immutable || !task.treatment.platforms.is_empty() {
            let (source, digests) = (&task.job.source, [read, &held]);
            let noted = self.state.note(to, source, task.treatment, digests).await;
            if let Err(error) = noted {
                self.session.warn(format!("what was copied is not remembered: {error}"));
            }
        }
        task.item(to, outcome, Some(held))
    }

    fn is_stopped(&self, registry: &RegistryName) -> bool {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).contains_key(registry)
    }

    /// Takes note of a quota: nothing more is asked of that registry.
    fn heed(&self, registry: &RegistryName, error: &Error) {
        if error.kind == Kind::RateLimited {
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            stopped.entry(registry.clone()).or_insert_with(|| again(error));
        }
    }

    /// Returns the quota of a repository's registry when nothing is left of it.
    fn spent(&self, repository: &Repository) -> Option<RateLimit> {
        self.session.client.rate_limit(repository).filter(|limit| limit.remaining == 0)
    }
}

/// Returns the items of a job that failed at its source.
fn every(task: &Task<'_>, open: &[&Reference], error: Error) -> Vec<MirrorItem> {
    let more = open.iter().skip(1).map(|to| task.failed(to, again(&error)));
    let more: Vec<MirrorItem> = more.collect();
    open.first().map(|to| task.failed(to, error)).into_iter().chain(more).collect()
}

fn used_up(registry: &RegistryName, limit: &RateLimit) -> Error {
    let amount = limit.limit.map_or_else(String::new, |amount| format!(" of {amount} pulls"));
    let message = format!("the quota{amount} of `{registry}` is used up");
    let error = Error::new(Kind::RateLimited, message);
    match limit.window_seconds.map(|seconds| seconds.div_ceil(3600)) {
        Some(hours) => error.hint(format!("it is whole again in {hours} hours at the latest")),
        None => error,
    }
}

/// Returns what is copied of an image.
pub(super) fn options(treatment: &Treatment, recheck: Recheck) -> CopyOptions {
    let carry = |wanted: bool| if wanted { Carry::Yes } else { Carry::No };
    CopyOptions {
        platforms: treatment.platforms.clone(),
        referrers: carry(treatment.referrers),
        digest_tags: carry(treatment.digest_tags),
        companions_of_present: carry(recheck == Recheck::Yes),
        ..CopyOptions::default()
    }
}

/// What `HEAD` requests have told about an image and its destinations.
pub(super) struct Seen {
    /// What the source is.
    pub(super) source: Descriptor,
    /// What each destination stands for that is as it should be.
    pub(super) there: Vec<Option<Digest>>,
    /// What each destination stands for.
    pub(super) now: Vec<Option<Digest>>,
}

/// Asks source and destinations, side by side.
pub(super) async fn look(
    session: &Session,
    state: &State,
    treatment: &Treatment,
    source: &Reference,
    destinations: &[&Reference],
) -> Result<Seen, Error> {
    let asked = destinations.iter().map(|to| session.client.resolve_at_destination(to));
    let (found, now) = join(session.client.resolve(source), join_all(asked)).await;
    let found = found?;
    // Why there is no answer shows when the copy goes there.
    let now: Vec<Option<Digest>> =
        now.into_iter().map(|found| found.ok().map(|found| found.digest)).collect();
    let there = destinations.iter().zip(&now).map(|(to, now)| {
        let wanted = if treatment.platforms.is_empty() {
            Some(found.digest.clone())
        } else {
            state.became(to, source, treatment, &found.digest)
        };
        wanted.filter(|wanted| now.as_ref() == Some(wanted))
    });
    Ok(Seen { there: there.collect(), source: found, now })
}

/// Returns an error once more, for another image that it keeps from its place.
pub(super) fn again(error: &Error) -> Error {
    let mut again = Error::new(error.kind, error.message.clone());
    if let Some(cause) = std::error::Error::source(error) {
        again = again.because(cause.to_string());
    }
    again.hints.clone_from(&error.hints);
    again
}
