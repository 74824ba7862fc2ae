//! Rules, and what they choose.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::image::{
    Digest, Platform, Reference, RegistryName, Repository, RepositoryName, Tag, by_version,
};

use super::pattern::{self, Pattern};
use super::range::VersionRange;
use super::template::Template;

/// What a mirror file says.
#[derive(Debug, Clone)]
pub struct MirrorFile {
    /// The rules in their order, each with the defaults worked in.
    pub rules: Vec<Rule>,
}

/// What is copied, and where to.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it is called in reports.
    pub name: String,
    /// The bytes of the file where it is.
    pub span: Range<usize>,
    /// What is copied.
    pub source: RuleSource,
    /// Where to.
    pub destinations: Vec<Template>,
    /// Which tags of a repository.
    pub tags: TagChoice,
    /// How each image is copied.
    pub treatment: Treatment,
    /// Tags that never change.
    pub immutable: Vec<Pattern>,
    /// Whether tags of the destination that are not copied are to be removed.
    pub removes_extra: bool,
}

/// How an image is copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Treatment {
    /// The platforms that are wanted of an index; all of them when there is none.
    pub platforms: Vec<Platform>,
    /// Whether what refers to it comes along.
    pub referrers: bool,
    /// Whether the tags made of its digest come along.
    pub digest_tags: bool,
}

/// What a rule copies.
#[derive(Debug, Clone)]
pub enum RuleSource {
    /// One image, by tag or digest.
    Image(Reference),
    /// Tags of a repository.
    Repository(Repository),
    /// Tags of repositories of a registry.
    Registry {
        /// The registry.
        registry: RegistryName,
        /// Patterns, all of which a repository must match with one of theirs.
        wanted: Vec<Vec<Pattern>>,
        /// Patterns that it must not match.
        unwanted: Vec<Pattern>,
    },
}

impl RuleSource {
    /// Returns the names of a registry's list that are meant. What is no name is passed over.
    #[must_use]
    pub fn repositories(&self, listed: &[String]) -> Vec<Repository> {
        let Self::Registry { registry, wanted, unwanted } = self else { return Vec::new() };
        let mut names: Vec<RepositoryName> = listed
            .iter()
            .filter(|name| wanted.iter().all(|patterns| pattern::any(patterns, name)))
            .filter(|name| !pattern::any(unwanted, name))
            .filter_map(|name| name.parse().ok())
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| Repository { registry: registry.clone(), name }).collect()
    }
}

/// Which tags of a repository are meant.
#[derive(Debug, Clone, Default)]
pub struct TagChoice {
    /// Tags that are named whole, in their order.
    pub names: Vec<Tag>,
    /// Manifests that are named by digest.
    pub digests: Vec<Digest>,
    /// Patterns, one of which another tag must match; all tags when there is nothing else either.
    pub patterns: Vec<Pattern>,
    /// Patterns that it must not match.
    pub exclude: Vec<Pattern>,
    /// The range in which it must be.
    pub semver: Option<VersionRange>,
    /// How many of the highest versions are wanted.
    pub latest: Option<NonZeroUsize>,
}

impl TagChoice {
    /// Returns whether the repository's tags must be listed to know.
    #[must_use]
    pub fn needs_list(&self) -> bool {
        let names_some = !self.names.is_empty() || !self.digests.is_empty();
        let filters = !self.patterns.is_empty() || self.semver.is_some() || self.latest.is_some();
        filters || !names_some
    }

    /// Returns the references of a repository that are meant, those named whole first, then by
    /// version, so that images which share layers follow each other. What is no tag is passed over,
    /// and so are the tags made of digests, which go with their image.
    #[must_use]
    pub fn select(&self, repository: &Repository, listed: &[String]) -> Vec<Reference> {
        let mut tags = self.names.clone();
        if self.needs_list() {
            let mut others: Vec<&String> = listed.iter().filter(|tag| self.wants(tag)).collect();
            others.sort_by(|a, b| by_version(a, b));
            others.dedup();
            if let Some(count) = self.latest {
                others.retain(|tag| crate::image::Version::parse(tag).is_some());
                others.drain(..others.len().saturating_sub(count.get()));
            }
            tags.extend(others.into_iter().filter_map(|tag| tag.parse().ok()));
        }
        let tags = tags.into_iter().map(|tag| Reference::tagged(repository.clone(), tag));
        let digests = self.digests.iter().cloned();
        let digests = digests.map(|digest| Reference::by_digest(repository.clone(), digest));
        tags.chain(digests).collect()
    }

    fn wants(&self, tag: &str) -> bool {
        let is_named = self.names.iter().any(|name| name.as_str() == tag);
        !is_named
            && Digest::of_tag(tag).is_none()
            && (self.patterns.is_empty() || pattern::any(&self.patterns, tag))
            && !pattern::any(&self.exclude, tag)
            && self.semver.as_ref().is_none_or(|range| range.matches(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(choice: &TagChoice) -> String {
        let mut listed: Vec<String> = "latest 1.0 1.1 1.2 1.10 1.2-alpine 2.0-rc.1 v2.0 edge .bad"
            .split(' ')
            .map(str::to_owned)
            .collect();
        listed.push(format!("sha256-{}.sig", "a".repeat(64)));
        let repository = "r.example/a".parse::<Reference>().expect("valid").repository;
        let chosen = choice.select(&repository, &listed);
        let tags = chosen.iter().map(|it| it.to_string().replace("r.example/a:", ""));
        tags.collect::<Vec<_>>().join(" ")
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
    }

    #[test]
    fn tags_are_chosen() {
        let all = TagChoice::default();
        assert_eq!(chosen(&all), "edge latest 1.0 1.1 1.2-alpine 1.2 1.10 2.0-rc.1 v2.0");
        let named = TagChoice { names: vec!["gone".parse().expect("a tag")], ..all.clone() };
        assert!(!named.needs_list() && all.needs_list());
        assert_eq!(chosen(&named), "gone");
        let globs = TagChoice { patterns: patterns(&["1.*"]), ..named.clone() };
        assert_eq!(chosen(&globs), "gone 1.0 1.1 1.2-alpine 1.2 1.10");
        let exclude = patterns(&["*-*"]);
        let fewer = TagChoice { exclude, latest: NonZeroUsize::new(2), ..globs };
        assert_eq!(chosen(&fewer), "gone 1.2 1.10");
        let semver = Some(VersionRange::parse(">=1.1").expect("a range"));
        assert_eq!(chosen(&TagChoice { semver, ..named }), "gone 1.1 1.2 1.10 v2.0");
        assert_eq!(chosen(&TagChoice { latest: NonZeroUsize::new(1), ..all }), "v2.0");
    }

    #[test]
    fn repositories_are_chosen() {
        let source = RuleSource::Registry {
            registry: "r.example".parse().expect("a registry"),
            wanted: vec![patterns(&["team/**"]), patterns(&["team/a*", "team/b/c"])],
            unwanted: patterns(&["**/cache"]),
        };
        let listed = ["team/a", "team/ab", "team/b/c", "team/d", "x", "team/aB", "team/a/cache"];
        let found = source.repositories(&listed.map(ToOwned::to_owned));
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["team/a", "team/ab", "team/b/c"]);
    }
}
