//! A context with everything that a tutorial's reader has: base images under the names of Docker
//! Hub, and a registry to push to.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Bases, Registry, Role, TestCommand, TestContext, bases};

/// A context, the base images and an empty registry.
pub(crate) struct World {
    /// Takes what is pushed.
    pub(crate) registry: Registry,
    /// Holds the base images, and takes nothing.
    pub(crate) hub: Registry,
    /// The root file systems of the base images.
    pub(crate) bases: Bases,
    /// The user's world. The registries keep their files in it, so it goes last.
    pub(crate) context: TestContext,
}

impl World {
    /// Makes a world for a kind of user; `None` where the machine cannot, after saying so.
    pub(crate) fn new(role: Role) -> Option<Self> {
        let context = TestContext::for_role(role)?;
        let bases = bases()?;
        let registry = Registry::plain(&context)?;
        let hub = bases.serve(&context);
        context.mirror_docker_io(&hub);
        Some(Self { registry, hub, bases, context })
    }

    /// Returns `rpub build-push` of a directory under a name in the registry.
    pub(crate) fn build_push(&self, name: &str, directory: &Path) -> TestCommand {
        let reference = self.registry.reference(name);
        self.context.rpub(["build-push", "-t", &reference]).arg(directory)
    }

    /// Makes a build context of one Dockerfile.
    pub(crate) fn dockerfile(&self, directory: &str, text: &str) -> std::path::PathBuf {
        self.context.write(format!("{directory}/Dockerfile"), text);
        self.context.path(directory)
    }

    /// Returns the digests of the blobs that a repository of the registry holds.
    pub(crate) fn blobs_of(&self, repository: &str) -> BTreeSet<String> {
        let path = format!("docker/registry/v2/repositories/{repository}/_layers/sha256");
        let Ok(entries) = fs_err::read_dir(self.registry.storage().join(path)) else {
            return BTreeSet::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| format!("sha256:{name}")).collect()
    }
}
