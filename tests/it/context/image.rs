//! Reading and running images with tools that are not ours.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::process::Process;
use super::registry::{Registry, digest_of};
use super::{TestContext, has_tools, user};

/// Fetches every part of an image from a registry and recomputes digests, diffIDs and sizes;
/// returns the config.
pub(crate) fn verify_image(registry: &Registry, repository: &str, tag: &str) -> Value {
    let manifest = registry.manifest(repository, tag);
    let (_, manifest) = manifest.unwrap_or_else(|| panic!("no {repository}:{tag}"));
    let fetch = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = registry.blob(repository, digest);
        assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64), "size of {digest}");
        bytes
    };
    let config: Value = serde_json::from_slice(&fetch(&manifest["config"])).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), diff_ids.len(), "one diffID a layer");
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let mut tar = Vec::new();
        let blob = fetch(layer);
        std::io::copy(&mut MultiGzDecoder::new(blob.as_slice()), &mut tar).unwrap();
        assert_eq!(Some(digest_of(&tar).as_str()), diff_id.as_str(), "diffID of {layer}");
    }
    let history = config["history"].as_array().map_or(&[][..], Vec::as_slice);
    let filled = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(filled, layers.len(), "one filled history entry a layer: {history:?}");
    config
}

/// An image that `skopeo` copied out of a registry and `umoci` unpacked.
pub(crate) struct Unpacked<'a> {
    context: &'a TestContext,
    bundle: PathBuf,
}

impl<'a> Unpacked<'a> {
    /// Copies and unpacks; `None` where the tools are missing, after saying so.
    pub(crate) fn new(context: &'a TestContext, registry: &Registry, name: &str) -> Option<Self> {
        if !has_tools(&["skopeo", "umoci", "runc", "nsenter"]) {
            return None;
        }
        let plain = name.replace(['/', ':'], "-");
        let layout = context.path(format!("{plain}.layout"));
        let bundle = context.path(format!("{plain}.bundle"));
        let source = format!("docker://{}", registry.reference(name));
        let target = format!("{}:image", layout.display());
        let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", &source];
        let copied = context.tool("skopeo").args(copy).arg(format!("oci:{target}")).run();
        copied.expect_code(0);
        let rootless = (!user::is_root()).then_some("--rootless");
        let unpack = context.tool("umoci").arg("unpack").args(rootless);
        unpack.args(["--image", &target]).arg(&bundle).run().expect_code(0);
        let unpacked = Self { context, bundle };
        // umoci asks for a terminal; tests have none.
        unpacked.edit_runtime(|settings| settings["process"]["terminal"] = Value::Bool(false));
        Some(unpacked)
    }

    /// Replaces the image's command.
    pub(crate) fn with_command(self, args: &[&str]) -> Self {
        self.edit_runtime(|settings| settings["process"]["args"] = args.into());
        self
    }

    fn edit_runtime(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.bundle.join("config.json");
        let mut settings: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        edit(&mut settings);
        fs_err::write(&path, settings.to_string()).unwrap();
    }

    /// Returns a path in the image's root file system.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.bundle.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Runs the image's command in its own network namespace and returns what it answers to
    /// `GET /` on `port`.
    pub(crate) fn answer(&self, port: u16) -> String {
        let name = format!("rpub-test-{}-{port}", std::process::id());
        let root = self.context.path("runc");
        let log = self.context.path("container.log");
        let output = fs_err::File::create(&log).unwrap().into_parts().0;
        let mut container = Container {
            name: name.clone(),
            root: root.clone(),
            process: Process::new(
                Command::new("runc")
                    .arg("--root")
                    .arg(&root)
                    .args(["run", "--bundle"])
                    .arg(&self.bundle)
                    .arg(&name)
                    .stdin(Stdio::null())
                    .stdout(output.try_clone().unwrap())
                    .stderr(output)
                    .spawn()
                    .unwrap(),
            ),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(text) = container.fetch(port) {
                return text;
            }
            let ended = container.process.child().try_wait().unwrap();
            let log = || fs_err::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the container ended: {ended:?}\n{}", log());
            assert!(Instant::now() < deadline, "no answer on port {port}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A running container, killed when it is dropped.
struct Container {
    name: String,
    root: PathBuf,
    process: Process,
}

impl Container {
    fn runc(&self, args: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new("runc").arg("--root").arg(&self.root).args(args).output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    /// Asks from within the container's network; its port is nobody else's.
    fn fetch(&self, port: u16) -> Option<String> {
        let state: Value = serde_json::from_slice(&self.runc(&["state", &self.name])?).ok()?;
        let network = format!("--net=/proc/{}/ns/net", state["pid"].as_u64()?);
        let mut command = Command::new("nsenter");
        if !user::is_root() {
            command.arg(format!("--user=/proc/{}/ns/user", state["pid"]));
            command.arg("--preserve-credentials");
        }
        let url = format!("http://127.0.0.1:{port}/");
        let args = ["curl", "--silent", "--fail", "--max-time", "5", &url];
        let output = command.arg(network).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.runc(&["delete", "--force", &self.name]);
    }
}
