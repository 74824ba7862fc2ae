//! Where a repository is really to be found, and how the hosts there are reached.
//!
//! Three kinds of files say it: `registries.conf` of the containers tools, `hosts.toml` of
//! containerd, and the certificates in `certs.d`. All are read once, by [`Hosts::load`]; what
//! follows is pure. What is wrong with one registry's files is only an error when that registry is
//! asked, so an [`Endpoint`] may say why it cannot be.
//!
//! Order: the mirrors of the `registries.conf` entry with the longest prefix; then, of the registry
//! where the repository is (its `location`), the hosts of its `hosts.toml`; then its server.

mod certificates;
mod containerd;
mod containers;
mod error;
mod reach;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;

pub use certificates::{IdentityFiles, TlsFiles};
pub use containers::PullTarget;
pub use error::HostsError;
pub use reach::{Headers, Reach, Resolve, TransportRule};

pub(super) use reach::{DOCKER_HUB_HOST, authority};

use crate::image::{RegistryName, Repository};
use certificates::Certificates;
use containerd::{Namespace, Upstream};
use containers::{PlaceAccess, Registries};
use reach::Base;

/// The directory of `hosts.toml` that counts for registries without one of their own.
const DEFAULT_NAMESPACE: &str = "_default";

/// What the user says about registries, and where files about them are.
#[derive(Debug, Clone, Default)]
pub struct HostSettings {
    /// The `registries.conf` files, each over the ones before.
    pub registries: Vec<PathBuf>,
    /// Directories with a `HOST/hosts.toml`, the most important first.
    pub namespaces: Vec<PathBuf>,
    /// Directories with certificates in `HOST/`, the most important first.
    pub certificates: Vec<PathBuf>,
    /// The directory with certificates for every registry.
    pub certificate_directory: Option<PathBuf>,
    /// Registries that may use TLS with any certificate, or else plain HTTP.
    pub insecure: Vec<RegistryName>,
    /// Registries that speak plain HTTP.
    pub plain_http: Vec<RegistryName>,
    /// Registries whose certificates are not verified.
    pub unverified: Vec<RegistryName>,
    /// Headers for every registry, but not for mirrors.
    pub headers: Headers,
    /// Addresses instead of those of the system's resolver.
    pub resolve: Vec<Resolve>,
}

/// The registries that settings say something about.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    registries: Registries,
    /// By the name of the registry, or [`DEFAULT_NAMESPACE`].
    namespaces: BTreeMap<String, Result<Namespace, HostsError>>,
    certificates: Certificates,
    settings: HostSettings,
    /// What every request carries.
    for_all: Headers,
}

/// One place to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The repository there, under the name that it has there.
    pub repository: Repository,
    /// How the host is reached, or why it must not be.
    pub reach: Result<Reach, HostsError>,
    /// What the place is to the repository.
    pub role: Role,
    /// The file that names the place; none when the reference itself does.
    pub source: Option<PathBuf>,
}

/// What a place is to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where it is.
    Origin,
    /// A mirror, which need not have it.
    Mirror,
}

/// What a host of a `hosts.toml` must be capable of.
#[derive(Clone, Copy)]
enum Capability {
    Pull,
    Resolve,
    Push,
}

impl Capability {
    fn is_in(self, upstream: &Upstream) -> bool {
        match self {
            Self::Pull => upstream.capabilities.pull,
            Self::Resolve => upstream.capabilities.resolve,
            Self::Push => upstream.capabilities.push,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
        }
    }
}

impl Hosts {
    /// Reads the files that `settings` name. Blocks.
    ///
    /// # Errors
    ///
    /// When a `registries.conf` cannot be read or makes no sense.
    pub fn load(settings: HostSettings) -> Result<Self, HostsError> {
        let mut registries = Registries::default();
        for path in &settings.registries {
            let text = fs_err::read_to_string(path).map_err(|error| HostsError::Unreadable {
                path: path.clone(),
                reason: error.kind().to_string(),
            })?;
            registries.merge(Registries::parse(path, &text)?);
        }
        let certificates =
            Certificates::load(&settings.certificates, settings.certificate_directory.as_deref());
        let namespaces = load_namespaces(&settings.namespaces);
        let for_all = Headers::default();
        Ok(Self { registries, namespaces, certificates, settings, for_all })
    }

    /// Parses the text of a `registries.conf`. Keys that rpub does not know are passed over.
    ///
    /// # Errors
    ///
    /// When it is not TOML of that form, or names an impossible registry.
    pub fn parse(text: &str) -> Result<Self, HostsError> {
        let registries = Registries::parse("registries.conf".as_ref(), text)?;
        Ok(Self { registries, ..Self::default() })
    }

    /// Allows unverified TLS and plain HTTP for `registry`.
    #[cfg(test)]
    pub(super) fn allow_insecure(&mut self, registry: RegistryName) {
        self.settings.insecure.push(registry);
    }

    /// Adds a header that every request carries, to mirrors too. No secret.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.for_all.insert(name, value)
    }

    /// Returns the credential helpers that `registries.conf` names, in their order.
    #[must_use]
    pub fn credential_helpers(&self) -> &[String] {
        self.registries.credential_helpers()
    }

    /// Returns where to pull from: the mirrors in their order, then the registry itself. There is
    /// at least one.
    #[must_use]
    pub fn for_pull<'a>(&self, wanted: impl Into<PullTarget<'a>>) -> Vec<Endpoint> {
        let wanted = wanted.into();
        let needed = if wanted.is_by_tag() { Capability::Resolve } else { Capability::Pull };
        let Some(found) = self.registries.find(&wanted) else {
            return self.places(wanted.repository(), None, &PlaceAccess::default(), needed);
        };
        let entry = found.entry;
        if entry.is_blocked {
            return vec![blocked(entry, wanted.repository())];
        }
        let mirrors = found.mirrors(&wanted);
        let mut endpoints: Vec<Endpoint> = mirrors
            .map(|(mirror, repository)| Endpoint {
                reach: self.reach(&repository.registry, &mirror.access),
                repository,
                role: Role::Mirror,
                source: Some(entry.path.clone()),
            })
            .collect();
        let moved = found.moved_by_location();
        let source = moved.is_some().then(|| entry.path.clone());
        let repository = moved.unwrap_or_else(|| wanted.repository().clone());
        endpoints.extend(self.places(&repository, source, &entry.access, needed));
        endpoints
    }

    /// Returns where to ask what mirrors do not know: tags, referrers.
    #[must_use]
    pub fn for_reading(&self, repository: &Repository) -> Endpoint {
        let mut endpoints = self.for_pull(PullTarget::Content(repository));
        endpoints.pop().unwrap_or_else(|| self.for_push(repository))
    }

    /// Returns where to push to: never a mirror, nor the `location` of a `registries.conf`, which
    /// is for pulls only (containers-registries.conf(5), "Remapping and mirroring registries").
    #[must_use]
    pub fn for_push(&self, repository: &Repository) -> Endpoint {
        let found = self.registries.find(&PullTarget::Content(repository));
        let access = match &found {
            Some(found) if found.entry.is_blocked => return blocked(found.entry, repository),
            Some(found) if found.entry.location.is_none() => found.entry.access.clone(),
            _ => PlaceAccess::default(),
        };
        let mut places = self.places(repository, None, &access, Capability::Push);
        places.swap_remove(0)
    }

    /// Returns the hosts that stand in for the registry of `repository`, and the registry, as far
    /// as they have the capability. There is at least one.
    fn places(
        &self,
        repository: &Repository,
        source: Option<PathBuf>,
        access: &PlaceAccess,
        needed: Capability,
    ) -> Vec<Endpoint> {
        let refused = |error: HostsError| {
            let (repository, role) = (repository.clone(), Role::Origin);
            vec![Endpoint { repository, reach: Err(error), role, source: source.clone() }]
        };
        let names = [repository.registry.as_str(), DEFAULT_NAMESPACE];
        let namespace = match names.iter().find_map(|name| self.namespaces.get(*name)) {
            Some(Ok(namespace)) => namespace,
            Some(Err(error)) => return refused(error.clone()),
            None => {
                let reach = self.reach(&repository.registry, access).map(|reach| self.own(reach));
                let (repository, role) = (repository.clone(), Role::Origin);
                return vec![Endpoint { repository, reach, role, source }];
            }
        };
        let hosts = namespace.hosts.iter().map(|host| (host, Role::Mirror));
        let all = hosts.chain([(&namespace.server, Role::Origin)]);
        let mut endpoints: Vec<Endpoint> = all
            .filter(|(host, _)| needed.is_in(host))
            .map(|(host, role)| self.stand_in(host, repository, access, role, &namespace.path))
            .collect();
        if endpoints.is_empty() {
            let path = namespace.path.clone();
            return refused(HostsError::Incapable { path, capability: needed.name() });
        }
        // The last one has nobody behind it.
        if let Some(last) = endpoints.last_mut() {
            last.role = Role::Origin;
        }
        endpoints
    }

    fn stand_in(
        &self,
        host: &Upstream,
        repository: &Repository,
        access: &PlaceAccess,
        role: Role,
        path: &Path,
    ) -> Endpoint {
        let origin = &repository.registry;
        let name = host.url.as_ref().map_or(Ok(origin.clone()), name_in);
        let (name, is_own) = match name {
            Ok(name) if reach::is_same(&name, origin) => (origin.clone(), true),
            Ok(name) => (name, false),
            Err(error) => {
                let reason = error.to_string();
                let error = HostsError::Invalid { path: path.to_owned(), line: None, reason };
                let (repository, reach) = (repository.clone(), Err(error));
                return Endpoint { repository, reach, role, source: Some(path.to_owned()) };
            }
        };
        let access = if is_own { access.clone() } else { PlaceAccess::default() };
        let reach = self.reach(&name, &access).map(|reach| {
            let mut reach = if is_own { self.own(reach) } else { reach };
            reach.namespace = (!is_own).then(|| origin.clone());
            reach.follow(host, &name);
            reach
        });
        let repository = Repository { registry: name, name: repository.name.clone() };
        Endpoint { repository, reach, role, source: Some(path.to_owned()) }
    }

    /// Returns how the registry of that name is reached, by all but a `hosts.toml`.
    fn reach(&self, name: &RegistryName, access: &PlaceAccess) -> Result<Reach, HostsError> {
        let tls = self.certificates.of(name.as_str())?;
        let has = |list: &[RegistryName]| list.contains(name);
        let transport = if has(&self.settings.plain_http) {
            TransportRule::Plain
        } else if access.is_insecure || has(&self.settings.insecure) {
            TransportRule::Insecure
        } else if has(&self.settings.unverified) {
            TransportRule::Unverified
        } else if name.is_loopback() && !self.certificates.has_own(name.as_str()) {
            TransportRule::Local
        } else {
            TransportRule::Verified
        };
        Ok(Reach {
            transport,
            tls,
            headers: self.for_all.clone(),
            connect_timeout: None,
            proxy: access.proxy.clone(),
            namespace: None,
            base: None,
        })
    }

    /// Adds what is for registries, but not for those that stand in for one.
    fn own(&self, mut reach: Reach) -> Reach {
        reach.headers.extend(&self.settings.headers);
        reach
    }

    /// Returns the addresses to use for the host of `url` instead of those of the resolver.
    pub(super) fn resolved(&self, url: &Url) -> Option<&[SocketAddr]> {
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let is_it = |resolve: &&Resolve| resolve.host == host && resolve.port == port;
        let found = self.settings.resolve.iter().find(is_it)?;
        Some(&found.addresses)
    }

    /// Returns the certificates for whatever host `url` names, as for a registry there.
    pub(super) fn certificates_at(&self, url: &Url) -> Result<TlsFiles, HostsError> {
        match name_in(url) {
            Ok(name) => self.certificates.of(name.as_str()),
            Err(_) => Ok(TlsFiles::default()),
        }
    }
}

impl Reach {
    /// Takes over what a `hosts.toml` says of the host `name`.
    fn follow(&mut self, host: &Upstream, name: &RegistryName) {
        if let Some(url) = &host.url {
            self.transport = match (url.scheme(), self.transport) {
                ("http", _) => TransportRule::Plain,
                (_, TransportRule::Insecure | TransportRule::Unverified) => {
                    TransportRule::Unverified
                }
                _ => TransportRule::Verified,
            };
        }
        if host.is_unverified && self.transport != TransportRule::Plain {
            self.transport = TransportRule::Unverified;
        }
        let from_elsewhere = std::mem::replace(&mut self.tls, host.tls.clone());
        self.tls.add(&from_elsewhere);
        self.headers.extend(&host.headers);
        self.connect_timeout = host.connect_timeout.or(self.connect_timeout);
        self.proxy = host.proxy.clone().or(self.proxy.take());
        let root = host.root();
        if root != "/v2/" {
            self.base = Some(Base { authority: authority(name).to_owned(), root });
        }
    }
}

/// Returns host and port of a URL as the name of a registry.
fn name_in(url: &Url) -> Result<RegistryName, crate::image::Error> {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}").parse(),
        None => host.parse(),
    }
}

fn blocked(entry: &containers::Entry, repository: &Repository) -> Endpoint {
    let error = HostsError::Blocked {
        repository: repository.familiar(),
        prefix: entry.prefix.clone(),
        path: entry.path.clone(),
        line: entry.line,
    };
    let (repository, source) = (repository.clone(), Some(entry.path.clone()));
    Endpoint { repository, reach: Err(error), role: Role::Origin, source }
}

/// Reads the `hosts.toml` files; of two for one registry the first counts. Directories that are
/// not there, or not for this user, say nothing.
fn load_namespaces(directories: &[PathBuf]) -> BTreeMap<String, Result<Namespace, HostsError>> {
    let mut namespaces = BTreeMap::new();
    for directory in directories {
        for (directory_name, path) in certificates::subdirectories(directory) {
            let path = path.join("hosts.toml");
            let text = match fs_err::read_to_string(&path) {
                Ok(text) => Ok(text),
                Err(error) if is_absent(error.kind()) => continue,
                Err(error) => {
                    let reason = error.kind().to_string();
                    Err(HostsError::Unreadable { path: path.clone(), reason })
                }
            };
            // `host_5000_` is `host:5000` for file systems that have no colons.
            let with_port = directory_name
                .strip_suffix('_')
                .and_then(|rest| rest.rsplit_once('_'))
                .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
                .map(|(host, port)| format!("{host}:{port}"));
            let name = with_port.unwrap_or(directory_name);
            let parse = |text: String| containerd::parse(&path, &text);
            namespaces.entry(name).or_insert_with(|| text.and_then(parse));
        }
    }
    namespaces
}

/// Returns whether a file is not there for this user.
fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests;
