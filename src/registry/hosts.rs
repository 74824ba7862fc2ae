//! Where a repository is really to be found: `registries.conf`.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Error, Result};
use crate::image::{self, RegistryName, Repository};

/// The registries that settings say something about (containers-registries.conf(5), version 2).
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    entries: Vec<Entry>,
    insecure: BTreeSet<RegistryName>,
}

/// One place to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The repository there, under the name that it has there.
    pub repository: Repository,
    /// Whether unverified TLS and plain HTTP are allowed.
    pub insecure: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    prefix: String,
    place: Place,
    mirrors: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    location: String,
    insecure: bool,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
struct RawMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

impl Hosts {
    /// Parses the text of a `registries.conf`. Keys that rpub does not know are passed over.
    ///
    /// # Errors
    ///
    /// When it is not TOML of that form, or names an impossible registry.
    pub fn parse(text: &str) -> Result<Self> {
        let raw: RawFile = toml::from_str(text).map_err(Error::HostsSyntax)?;
        let mut entries = Vec::new();
        for entry in raw.registry {
            let location = entry.location.or_else(|| entry.prefix.clone()).unwrap_or_default();
            let prefix = entry.prefix.unwrap_or_else(|| location.clone());
            let place = Place::new(location, entry.insecure)?;
            let mirrors = entry.mirror.into_iter().map(|m| Place::new(m.location, m.insecure));
            entries.push(Entry { prefix, place, mirrors: mirrors.collect::<Result<_>>()? });
        }
        // The longest prefix wins.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
        Ok(Self { entries, insecure: BTreeSet::new() })
    }

    /// Allows unverified TLS and plain HTTP for `registry`.
    pub fn allow_insecure(&mut self, registry: RegistryName) {
        self.insecure.insert(registry);
    }

    /// Returns where to pull from: the mirrors in their order, then the registry itself.
    #[must_use]
    pub fn for_pull(&self, repository: &Repository) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        if let Some((entry, rest)) = self.find(repository) {
            let places = entry.mirrors.iter();
            endpoints.extend(places.filter_map(|place| self.endpoint(place, &rest)));
        }
        endpoints.push(self.for_push(repository));
        endpoints
    }

    /// Returns where to push to: never a mirror.
    #[must_use]
    pub fn for_push(&self, repository: &Repository) -> Endpoint {
        let found =
            self.find(repository).and_then(|(entry, rest)| self.endpoint(&entry.place, &rest));
        found.unwrap_or_else(|| Endpoint {
            insecure: self.insecure.contains(&repository.registry),
            repository: repository.clone(),
        })
    }

    /// Returns the entry for `repository` and what follows its prefix.
    fn find(&self, repository: &Repository) -> Option<(&Entry, String)> {
        let full = repository.to_string();
        self.entries.iter().find_map(|entry| match_prefix(&entry.prefix, &full).map(|r| (entry, r)))
    }

    fn endpoint(&self, place: &Place, rest: &str) -> Option<Endpoint> {
        let full = format!("{}{rest}", place.location);
        let (registry, name) = full.split_once('/')?;
        let registry: RegistryName = registry.parse().ok()?;
        let insecure = place.insecure || self.insecure.contains(&registry);
        let name = name.parse().ok()?;
        Some(Endpoint { repository: Repository { registry, name }, insecure })
    }
}

impl Place {
    fn new(location: String, insecure: bool) -> Result<Self> {
        // `*.example.com` as a prefix without a location keeps the host it matched.
        if location.starts_with("*.") {
            return Ok(Self { location: String::new(), insecure });
        }
        let host = location.split('/').next().unwrap_or_default();
        let parsed: Result<RegistryName, image::Error> = host.parse();
        match parsed {
            Ok(_) => Ok(Self { location: location.trim_end_matches('/').to_owned(), insecure }),
            Err(source) => Err(Error::HostsLocation { location, source }),
        }
    }
}

/// Returns what follows `prefix` in `full`, cut at a component's end. `*.example.com` matches
/// any subdomain, and then what follows includes the host.
fn match_prefix(prefix: &str, full: &str) -> Option<String> {
    if let Some(domain) = prefix.strip_prefix("*") {
        let (host, _) = full.split_once('/')?;
        return host.ends_with(domain).then(|| full.to_owned());
    }
    let rest = full.strip_prefix(prefix.trim_end_matches('/'))?;
    rest.starts_with('/').then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Reference;

    fn repository(text: &str) -> Repository {
        text.parse::<Reference>().unwrap().repository
    }

    fn pulls(hosts: &Hosts, text: &str) -> Vec<(String, bool)> {
        let endpoints = hosts.for_pull(&repository(text)).into_iter();
        endpoints.map(|e| (e.repository.to_string(), e.insecure)).collect()
    }

    const TEXT: &str = r#"
        unqualified-search-registries = ["docker.io"]
        short-name-mode = "permissive"
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "localhost:5000"
        [[registry.mirror]]
        location = "mirror.example/hub"
        insecure = true
        pull-from-mirror = "all"
        [[registry]]
        location = "old.example"
        insecure = true
        [[registry]]
        prefix = "old.example/moved"
        location = "new.example/here"
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
    "#;

    #[test]
    fn mirrors_come_first_then_the_registry() {
        let hosts = Hosts::parse(TEXT).unwrap();
        let expected = [
            ("localhost:5000/library/alpine".to_owned(), false),
            ("mirror.example/hub/library/alpine".to_owned(), true),
            ("docker.io/library/alpine".to_owned(), false),
        ];
        assert_eq!(pulls(&hosts, "alpine"), expected);
        assert_eq!(hosts.for_push(&repository("alpine")).repository, repository("alpine"));
    }

    #[test]
    fn the_longest_prefix_decides_and_components_stay_whole() {
        let mut hosts = Hosts::parse(TEXT).unwrap();
        assert_eq!(pulls(&hosts, "old.example/x"), [("old.example/x".to_owned(), true)]);
        let moved = [("new.example/here/x".to_owned(), false)];
        assert_eq!(pulls(&hosts, "old.example/moved/x"), moved);
        assert!(pulls(&hosts, "old.example/movedx/y")[0].1);
        assert_eq!(pulls(&hosts, "a.corp.example/x"), [("a.corp.example/x".to_owned(), true)]);
        assert_eq!(pulls(&hosts, "free.example/x"), [("free.example/x".to_owned(), false)]);
        hosts.allow_insecure("free.example".parse().unwrap());
        assert_eq!(pulls(&hosts, "free.example/x"), [("free.example/x".to_owned(), true)]);
    }

    #[test]
    fn refuses_what_is_not_a_registry() {
        assert!(matches!(Hosts::parse("[[registry]"), Err(Error::HostsSyntax(_))));
        let url = "[[registry]]\nlocation = \"https://r.example\"";
        assert!(matches!(Hosts::parse(url), Err(Error::HostsLocation { .. })));
    }
}
