//! What registries have of what the rules are about, and the jobs that this makes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::image::{RegistryName, Repository};
use crate::mirror::{Job, MirrorFile, RuleSource, Shard};
use crate::operations::{Carrier, Error, ListRequest, Session, list_repositories, list_tags};

use super::input::MirrorInput;
use super::removal::Cleaned;
use super::run::again;

/// How many lists are asked for at once.
const LISTS: usize = 8;

/// What is to be done.
pub(super) struct Survey {
    pub(super) file: MirrorFile,
    /// The jobs of this process.
    pub(super) jobs: Vec<Job>,
    /// What could not be listed: the rule's number, and why.
    pub(super) failures: Vec<(usize, Error)>,
    /// Where tags are to be removed, and which of them stay.
    pub(super) cleaned: Cleaned,
}

/// Lists what is needed, and makes the jobs of a shard.
///
/// # Errors
///
/// When the file is wrong, or two images are to have the same tag. What cannot be listed is among
/// the result: the other rules are not harmed.
pub(super) async fn survey(
    session: &Session,
    carrier: &Carrier,
    input: &MirrorInput,
    shard: Option<Shard>,
) -> Result<Survey, Error> {
    let file = input.rules(session)?;
    let mut failures = Vec::new();
    let catalogs = catalogs(session, &file).await;
    let mut wanted: Vec<(usize, Repository)> = Vec::new();
    for (number, rule) in file.rules.iter().enumerate() {
        match &rule.source {
            RuleSource::Image(image) => wanted.push((number, image.repository.clone())),
            RuleSource::Repository(repository) => wanted.push((number, repository.clone())),
            RuleSource::Registry { registry, .. } => match &catalogs[registry] {
                Ok(listed) => {
                    let found = rule.source.repositories(listed);
                    if found.is_empty() {
                        session
                            .warn(format!("`{}` means no repository of `{registry}`", rule.name));
                    }
                    wanted.extend(found.into_iter().map(|repository| (number, repository)));
                }
                Err(error) => failures.push((number, again(error))),
            },
        }
    }
    let tags = tags(session, &file, &wanted).await;
    let mut jobs = Vec::new();
    for (number, repository) in &wanted {
        let rule = &file.rules[*number];
        let listed = match tags.get(repository).filter(|_| needs_list(&file, *number)) {
            None => &[][..],
            Some(Ok(listed)) => listed,
            Some(Err(error)) => {
                failures.push((*number, again(error)));
                continue;
            }
        };
        let mine = rule.jobs(*number, repository, listed).map_err(|error| input.wrong(error))?;
        if mine.is_empty() {
            session.warn(format!("`{}` means no tag of `{}`", rule.name, repository.familiar()));
        }
        jobs.extend(mine);
    }
    for (repository, listed) in tags {
        carrier.know_tags(&repository, listed.unwrap_or_default());
    }
    let jobs = file.without_conflicts(jobs, &input.text).map_err(|error| input.wrong(error))?;
    // What is not listed for want of an answer must not be removed.
    let stay = if failures.is_empty() { file.cleaned(&jobs) } else { BTreeMap::new() };
    let cleaned = Cleaned { stay, shard };
    let jobs = match shard {
        Some(shard) => jobs.into_iter().filter(|job| shard.has(&job.source)).collect(),
        None => jobs,
    };
    Ok(Survey { file, jobs, failures, cleaned })
}

fn needs_list(file: &MirrorFile, number: usize) -> bool {
    let rule = &file.rules[number];
    !matches!(rule.source, RuleSource::Image(_)) && rule.tags.needs_list()
}

/// Lists the repositories of each registry that a rule is about.
async fn catalogs(
    session: &Session,
    file: &MirrorFile,
) -> BTreeMap<RegistryName, Result<Vec<String>, Error>> {
    let registries = file.rules.iter().filter_map(|rule| match &rule.source {
        RuleSource::Registry { registry, .. } => Some(registry.clone()),
        RuleSource::Image(_) | RuleSource::Repository(_) => None,
    });
    let registries: BTreeSet<RegistryName> = registries.collect();
    let lists = registries.into_iter().map(async |registry| {
        let mut names = Vec::new();
        let each = |name: &str| {
            names.push(name.to_owned());
            Ok(())
        };
        let all = ListRequest::default();
        let listed = list_repositories(session, &registry, &all, each).await;
        (registry, listed.map(|()| names))
    });
    stream::iter(lists).buffer_unordered(LISTS).collect().await
}

/// Lists the tags of each repository that a rule chooses from.
async fn tags(
    session: &Session,
    file: &MirrorFile,
    wanted: &[(usize, Repository)],
) -> BTreeMap<Repository, Result<Vec<String>, Error>> {
    let listed = wanted.iter().filter(|(number, _)| needs_list(file, *number));
    let repositories: BTreeSet<&Repository> = listed.map(|(_, repository)| repository).collect();
    let lists = repositories
        .into_iter()
        .map(async |repository| (repository.clone(), all_tags(session, repository).await));
    stream::iter(lists).buffer_unordered(LISTS).collect().await
}

/// Returns all tags of a repository.
pub(super) async fn all_tags(
    session: &Session,
    repository: &Repository,
) -> Result<Vec<String>, Error> {
    let mut tags = Vec::new();
    let each = |tag: &str| {
        tags.push(tag.to_owned());
        Ok(())
    };
    list_tags(session, repository, &ListRequest::default(), each).await?;
    Ok(tags)
}
