//! The base images of the tutorials, made once and kept on disk.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::guard::{has_tools, shared_cache};
use super::registry::{Registry, RegistryOptions};
use super::{TestContext, fixtures};

/// The programs that `fixtures/bases/make` starts.
const TOOLS: [&str; 6] = ["mmdebstrap", "umoci", "skopeo", "docker-registry", "busybox", "curl"];

/// Where the root file systems and the registry's storage are.
#[derive(Debug, Clone)]
pub(crate) struct Bases {
    directory: PathBuf,
}

/// Makes the base images, or finds them; `None` where the machine cannot, after saying so.
pub(crate) fn bases() -> Option<Bases> {
    static MADE: OnceLock<Bases> = OnceLock::new();
    if !has_tools(&TOOLS) {
        return None;
    }
    Some(MADE.get_or_init(make).clone())
}

fn make() -> Bases {
    let output = Command::new("sh")
        .arg(fixtures().join("bases/make"))
        .arg(shared_cache())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "`fixtures/bases/make` failed: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    Bases { directory: text.trim_end().into() }
}

impl Bases {
    /// Starts a registry that holds them under the names of Docker Hub and takes nothing.
    pub(crate) fn serve(&self, context: &TestContext) -> Registry {
        let storage = self.directory.join("registry");
        Registry::start(
            context,
            &RegistryOptions { read_only: Some(storage), ..Default::default() },
        )
    }

    /// Returns the root file system of `python`, `debian` or `busybox`.
    pub(crate) fn tar(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.tar"))
    }
}
