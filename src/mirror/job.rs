//! From rules and lists of tags to what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::image::{Digest, Reference, Repository, Tag};

use super::error::{Error, line_of};
use super::pattern;
use super::rule::{MirrorFile, Rule, RuleSource};

/// One image that is to be in some places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The number of its rule in the file, from 0.
    pub rule: usize,
    /// The image.
    pub source: Reference,
    /// Where it is to be.
    pub destinations: Vec<Reference>,
    /// Whether it never changes.
    pub is_immutable: bool,
}

impl Rule {
    /// Returns what is to be done for one repository with these tags; for a rule that names one
    /// image, for that image.
    ///
    /// # Errors
    ///
    /// When a destination's template makes no reference of an image.
    pub fn jobs(
        &self,
        number: usize,
        repository: &Repository,
        listed: &[String],
    ) -> Result<Vec<Job>, Error> {
        let sources = match &self.source {
            RuleSource::Image(reference) => vec![reference.clone()],
            _ => self.tags.select(repository, listed),
        };
        let job = |source: Reference| {
            let destinations = self.destinations.iter().map(|template| template.expand(&source));
            let destinations: Result<BTreeSet<_>, _> = destinations.collect();
            let destinations = destinations.map_err(|message| Error::new(message, &self.span))?;
            let is_immutable = match &source.tag {
                Some(tag) => pattern::any(&self.immutable, tag.as_str()),
                None => source.digest.is_some(),
            };
            let destinations = destinations.into_iter().filter(|to| *to != source).collect();
            Ok(Job { rule: number, source, destinations, is_immutable })
        };
        sources.into_iter().map(job).collect()
    }
}

impl MirrorFile {
    /// Returns the jobs without those that are there twice.
    ///
    /// # Errors
    ///
    /// When two images, or one in two ways, are to have the same tag. `text` is the file's.
    pub fn without_conflicts(&self, jobs: Vec<Job>, text: &str) -> Result<Vec<Job>, Error> {
        let mut owners: IndexMap<Reference, (usize, Reference)> = IndexMap::new();
        let mut kept = Vec::new();
        for mut job in jobs {
            let mut fresh = Vec::new();
            for destination in std::mem::take(&mut job.destinations) {
                let Some((rule, source)) = owners.get(&destination) else {
                    owners.insert(destination.clone(), (job.rule, job.source.clone()));
                    fresh.push(destination);
                    continue;
                };
                let is_same = *source == job.source
                    && self.rules[*rule].treatment == self.rules[job.rule].treatment;
                if !is_same {
                    return Err(self.conflict(&destination, (*rule, source), &job, text));
                }
            }
            job.destinations = fresh;
            if !job.destinations.is_empty() {
                kept.push(job);
            }
        }
        Ok(kept)
    }

    fn conflict(
        &self,
        destination: &Reference,
        first: (usize, &Reference),
        second: &Job,
        text: &str,
    ) -> Error {
        let said = |rule: usize, source: &Reference| {
            let rule = &self.rules[rule];
            let line = line_of(text, rule.span.start);
            format!("`{}` (line {line}, of `{}`)", rule.name, source.familiar())
        };
        let (one, other) = (said(first.0, first.1), said(second.rule, &second.source));
        let message = format!(
            "two images would have the tag `{}`: {one} and {other}",
            destination.familiar()
        );
        let error = Error::new(message, &self.rules[second.rule].span);
        if first.0 == second.rule {
            error.hint("put `{tag}` into `to`, or choose fewer tags")
        } else {
            error.hint("give one of the rules another `to`, or exclude the tag from it")
        }
    }

    /// Returns the repositories from which the rules want tags removed, each with the tags that stay.
    /// They can only be trusted when all tags of all rules could be listed.
    #[must_use]
    pub fn cleaned(&self, jobs: &[Job]) -> BTreeMap<Repository, BTreeSet<Tag>> {
        let places = |job: &'_ Job| job.destinations.clone();
        let removing = jobs.iter().filter(|job| self.rules[job.rule].removes_extra);
        let mut cleaned: BTreeMap<Repository, BTreeSet<Tag>> =
            removing.flat_map(places).map(|to| (to.repository, BTreeSet::new())).collect();
        for destination in jobs.iter().flat_map(places) {
            if let Some(stay) = cleaned.get_mut(&destination.repository) {
                stay.extend(destination.tag);
            }
        }
        cleaned
    }
}

/// Returns the tags of a list that are not among those that stay. Tags made of digests stay: they
/// belong to images.
#[must_use]
pub fn extra(listed: &[String], stay: &BTreeSet<Tag>) -> Vec<Tag> {
    let extra = listed
        .iter()
        .filter(|tag| Digest::of_tag(tag).is_none())
        .filter_map(|tag| tag.parse().ok());
    extra.filter(|tag| !stay.contains(tag)).collect()
}
