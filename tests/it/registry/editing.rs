//! A registry with small images for the tests that edit them.

use serde_json::Value;

use crate::context::{Checked, Registry, TestContext, has_tools};

/// A context and a registry. What is built needs no user namespaces: nothing is run.
pub(super) struct Editing {
    pub(super) registry: Registry,
    /// The registry keeps its files in it, so it goes last.
    pub(super) context: TestContext,
}

impl Editing {
    /// Makes one; `None` where the machine cannot, after saying so.
    pub(super) fn new() -> Option<Self> {
        let context = TestContext::new();
        let registry = Registry::plain(&context)?;
        Some(Self { registry, context })
    }

    /// Builds and pushes an image of two layers, the files `a` and `b` with these contents, for
    /// these platforms.
    pub(super) fn image(&self, name: &str, [a, b]: [&str; 2], platforms: &str) -> String {
        let text = "FROM scratch\nCOPY a /a\nCOPY b /dir/b\nENV A=1 B=2\nCMD [\"/a\"]\n";
        for (file, content) in [("Dockerfile", text), ("a", a), ("b", b)] {
            self.context.write(format!("app/{file}"), content);
        }
        let reference = self.reference(name);
        let build = ["build-push", "-q", "-t", &reference, "--platform", platforms, "app"];
        self.context.rpub(build).success();
        reference
    }

    pub(super) fn reference(&self, name: &str) -> String {
        self.registry.reference(name)
    }

    /// Runs the program and expects it to succeed.
    pub(super) fn run(&self, args: &[&str]) -> Checked {
        self.context.rpub(args).success()
    }

    /// Runs the program and expects this exit code and text.
    pub(super) fn refused(&self, args: &[&str], code: i32, text: &str) -> Checked {
        let output = self.context.rpub(args).code(code);
        output.expect_error(text);
        output
    }

    /// Returns the digest and the document that `repository:tag` stands for.
    pub(super) fn manifest(&self, repository: &str, tag: &str) -> (String, Value) {
        let found = self.registry.manifest(repository, tag);
        found.unwrap_or_else(|| panic!("no {repository}:{tag}"))
    }

    /// Returns the image manifest of an index for an architecture.
    pub(super) fn of_index(&self, repository: &str, tag: &str, architecture: &str) -> Value {
        let (_, index) = self.manifest(repository, tag);
        let entries = index["manifests"].as_array().unwrap();
        let entry = entries.iter().find(|it| it["platform"]["architecture"] == architecture);
        self.manifest(repository, entry.unwrap()["digest"].as_str().unwrap()).1
    }

    /// Returns the config of an image manifest.
    pub(super) fn config(&self, repository: &str, manifest: &Value) -> Value {
        let digest = manifest["config"]["digest"].as_str().unwrap();
        serde_json::from_slice(&self.registry.blob(repository, digest)).unwrap()
    }

    /// Lets `skopeo` copy an image, or all of an index, out of the registry: every digest and size
    /// is looked at by somebody else.
    pub(super) fn skopeo_reads(&self, name: &str) {
        if !has_tools(&["skopeo"]) {
            return;
        }
        let target = format!("dir:{}", self.context.path("copied").display());
        let source = format!("docker://{}", self.reference(name));
        let copy = ["--insecure-policy", "copy", "--all", "--src-tls-verify=false"];
        self.context.tool("skopeo").args(copy).args([source, target]).success();
    }

    /// Returns the requests since the first `seen` that put something into the registry.
    pub(super) fn writes(&self, seen: usize) -> Vec<String> {
        let requests = self.registry.requests().into_iter().skip(seen);
        requests.filter(|line| !line.starts_with("GET ") && !line.starts_with("HEAD ")).collect()
    }
}
