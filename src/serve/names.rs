//! From a repository of a request to repositories of the content.

use crate::image::{DEFAULT_REGISTRY, RegistryName, Repository, RepositoryName};
use crate::store::ImageEntry;

use super::handler::Head;
use super::reply::{Code, Failure};
use super::state::State;

/// The other names of docker's registry, by which mirrors are asked too.
const DOCKER_HOSTS: [&str; 3] = [DEFAULT_REGISTRY, "index.docker.io", "registry-1.docker.io"];

/// The repositories that a request's repository may mean, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidates(pub(super) Vec<Repository>);

impl Candidates {
    pub(super) fn of(state: &State, head: &Head, name: &RepositoryName) -> Result<Self, Failure> {
        let namespace = head.query("ns").map(registry).transpose()?;
        Ok(Self::find(&state.registries, namespace.as_ref(), name))
    }

    /// Returns what `name` may mean: with a namespace what has that name there; else what has it in
    /// the first of `registries`, or in the registry that its first part names, or in the others.
    fn find(
        registries: &[RegistryName],
        namespace: Option<&RegistryName>,
        name: &RepositoryName,
    ) -> Self {
        if let Some(namespace) = namespace {
            return Self(vec![repository(namespace, name)]);
        }
        let mut found: Vec<Repository> =
            registries.iter().map(|registry| repository(registry, name)).collect();
        found.splice(found.len().min(1)..found.len().min(1), whole(name));
        Self(found)
    }

    /// Returns whether the entry belongs here. Dangling images belong everywhere: a manifest whose
    /// tag moved on can still be had by digest.
    pub(super) fn holds(&self, entry: &ImageEntry) -> bool {
        entry.name.as_ref().is_none_or(|name| self.0.contains(&name.repository))
    }
}

/// Reads the registry of `?ns=`.
pub(super) fn registry(host: &str) -> Result<RegistryName, Failure> {
    let registry = host.parse().map_err(|error| Failure::because(Code::NameInvalid, &error))?;
    Ok(canonical(registry))
}

/// Returns the name under which images of a registry are known.
pub(super) fn canonical(registry: RegistryName) -> RegistryName {
    let is_hub = DOCKER_HOSTS.contains(&registry.as_str());
    if is_hub { DEFAULT_REGISTRY.parse().expect("a valid name") } else { registry }
}

/// Returns the shortest name by which a repository is found without `?ns=`; `None` for one of a
/// registry whose name cannot be part of a path, as with a port.
pub(super) fn shortest(
    registries: &[RegistryName],
    repository: &Repository,
    exists: impl Fn(&Repository) -> bool,
) -> Option<RepositoryName> {
    let found = Candidates::find(registries, None, &repository.name);
    if found.0.iter().find(|candidate| exists(candidate)) == Some(repository) {
        return Some(repository.name.clone());
    }
    format!("{}/{}", repository.registry, repository.name).parse().ok()
}

/// Reads `docker.io/library/app`, as opposed to `library/app`.
fn whole(name: &RepositoryName) -> Option<Repository> {
    let (first, rest) = name.as_str().split_once('/')?;
    // As docker tells a registry from the beginning of a name.
    let is_registry = first.contains('.') || first == "localhost";
    let rest = is_registry.then(|| rest.parse().ok())??;
    Some(repository(&registry(first).ok()?, &rest))
}

fn repository(registry: &RegistryName, name: &RepositoryName) -> Repository {
    let is_official = registry.as_str() == DEFAULT_REGISTRY && !name.as_str().contains('/');
    let official = is_official.then(|| format!("library/{name}").parse().ok()).flatten();
    Repository { registry: registry.clone(), name: official.unwrap_or_else(|| name.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_the_first_registry_then_what_they_say() {
        let registries = ["localhost", "docker.io"].map(|name| name.parse().unwrap());
        let find = |namespace: Option<&str>, name: &str| {
            let namespace = namespace.map(|host| registry(host).unwrap());
            let found = Candidates::find(&registries, namespace.as_ref(), &name.parse().unwrap());
            found.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let own = |name: &str, others: &[&str]| {
            let own = format!("localhost/{name}");
            std::iter::once(own).chain(others.iter().map(|text| (*text).to_owned())).collect()
        };
        let cases: [(Option<&str>, &str, Vec<String>); 7] = [
            (None, "app", own("app", &["docker.io/library/app"])),
            (None, "team/app", own("team/app", &["docker.io/team/app"])),
            (
                None,
                "ghcr.io/team/app",
                own("ghcr.io/team/app", &["ghcr.io/team/app", "docker.io/ghcr.io/team/app"]),
            ),
            (
                None,
                "docker.io/app",
                own("docker.io/app", &["docker.io/library/app", "docker.io/docker.io/app"]),
            ),
            (Some("index.docker.io"), "app", vec!["docker.io/library/app".to_owned()]),
            (Some("h:5000"), "app", vec!["h:5000/app".to_owned()]),
            (Some("notdocker.io"), "app", vec!["notdocker.io/app".to_owned()]),
        ];
        for (namespace, name, expected) in cases {
            assert_eq!(find(namespace, name), expected, "{namespace:?} {name}");
        }
    }

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let registries = ["docker.io", "ghcr.io"].map(|name| name.parse().unwrap());
        let kept = ["docker.io/team/a", "ghcr.io/team/a", "ghcr.io/b", "h:5000/c", "q.io/d"];
        let kept = kept.map(|text| {
            let (registry, name) = text.split_once('/').unwrap();
            Repository { registry: registry.parse().unwrap(), name: name.parse().unwrap() }
        });
        let short = kept.each_ref().map(|one| {
            let found = shortest(&registries, one, |other| kept.contains(other));
            found.map(|name| name.to_string())
        });
        let expected = [Some("team/a"), Some("ghcr.io/team/a"), Some("b"), None, Some("q.io/d")];
        assert_eq!(short.each_ref().map(Option::as_deref), expected);
    }
}
