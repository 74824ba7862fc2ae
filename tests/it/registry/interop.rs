//! Both ways between rpub and other clients, at every kind of registry.

use std::path::PathBuf;
use std::time::Duration;

use oci_client::client::{
    Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol, Config, ImageLayer,
};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;

use crate::context::{
    Auth, Manners, PASSWORD, Proxy, Registry, Serve, TestCommand, TestContext, USERNAME, bases,
    digest_of, has_tools, noise, verify_store,
};

/// More than the proxy lets through in one body.
const DATA_BYTES: usize = 1_500_000;
const MOST_IN_A_BODY: u64 = 1 << 20;
/// What the images of other clients are read as: nothing of the layers' content is random.
const BASE: &str = "library/busybox:latest";

/// Where images are pushed to.
struct Place {
    kind: &'static str,
    /// Host and port.
    name: String,
    has_login: bool,
    authority: Option<PathBuf>,
    _keeps: Box<dyn std::any::Any>,
}

impl Place {
    fn registry(context: &TestContext, kind: &'static str, auth: Auth) -> Option<Self> {
        let registry = Registry::with_auth(context, auth)?;
        let authority = registry.has_tls().then(|| registry.authority().to_owned());
        let (name, has_login) = (registry.name(), auth != Auth::None);
        Some(Self { kind, name, has_login, authority, _keeps: Box::new(registry) })
    }

    fn all(context: &TestContext, manners: Manners) -> Option<Vec<Self>> {
        let plain = |kind, name, keeps| Self {
            kind,
            name,
            has_login: false,
            authority: None,
            _keeps: keeps,
        };
        let serve = Serve::start(context, "served");
        let behind = Registry::plain(context)?;
        let proxy = Proxy::start(&behind.name(), manners);
        let proxied = proxy.reference("").trim_end_matches('/').to_owned();
        Some(vec![
            Self::registry(context, "none", Auth::None)?,
            Self::registry(context, "htpasswd", Auth::Htpasswd)?,
            Self::registry(context, "token", Auth::Token)?,
            plain("serve", serve.name(), Box::new(serve)),
            plain("proxy", proxied, Box::new((behind, proxy))),
        ])
    }

    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name)
    }

    /// Returns the program, logged in, with the place's authority trusted.
    fn rpub(&self, context: &TestContext, args: &[&str]) -> TestCommand {
        let command = context.rpub(args);
        match &self.authority {
            Some(authority) => command.env("RPUB_CA_FILE", authority),
            None => command,
        }
    }

    fn login(&self, context: &TestContext) {
        if self.has_login {
            let args = ["login", "-u", USERNAME, "--password-stdin", &self.name];
            let _checked = self.rpub(context, &args).input(PASSWORD).success();
        }
    }

    /// Returns a directory that holds the authority as the containers tools want it.
    fn certificates(&self, context: &TestContext) -> Option<PathBuf> {
        let authority = self.authority.as_deref()?;
        let directory = context.directory(format!("certificates-{}", self.kind));
        fs_err::copy(authority, directory.join("ca.crt")).unwrap();
        Some(directory)
    }

    /// Returns skopeo's flags for the `src` or `dest` side.
    fn skopeo(&self, context: &TestContext, side: &str) -> Vec<String> {
        let mut flags = match self.certificates(context) {
            Some(directory) => vec![format!("--{side}-cert-dir={}", directory.display())],
            None => vec![format!("--{side}-tls-verify=false")],
        };
        if self.has_login {
            flags.push(format!("--{side}-creds={USERNAME}:{PASSWORD}"));
        }
        flags
    }

    /// Returns podman's flags.
    fn podman(&self, context: &TestContext) -> Vec<String> {
        let mut flags = match self.certificates(context) {
            Some(directory) => vec![format!("--cert-dir={}", directory.display())],
            None => vec!["--tls-verify=false".to_owned()],
        };
        if self.has_login {
            flags.push(format!("--creds={USERNAME}:{PASSWORD}"));
        }
        flags
    }

    /// Returns the independent client and what it logs in with.
    fn oci_client(&self) -> (Client, RegistryAuth) {
        // The process may have one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = self.authority.as_deref().map(|path| Certificate {
            encoding: CertificateEncoding::Pem,
            data: fs_err::read(path).unwrap(),
        });
        let is_plain = certificate.is_none();
        let client = Client::new(ClientConfig {
            protocol: if is_plain { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: certificate.into_iter().collect(),
            ..ClientConfig::default()
        });
        let login = RegistryAuth::Basic(USERNAME.to_owned(), PASSWORD.to_owned());
        (client, if self.has_login { login } else { RegistryAuth::Anonymous })
    }
}

fn skopeo_copy(context: &TestContext, flags: &[String], from: &str, to: &str) {
    let copy = context.tool("skopeo").args(["--insecure-policy", "copy", "--quiet"]);
    let _checked = copy.args(flags).args([from, to]).success();
}

fn podman(context: &TestContext, args: &[&str]) -> TestCommand {
    let path = |name: &str| context.path(name).display().to_string();
    let store = ["--root", &path("podman"), "--runroot", &path("podman-run")];
    let apart = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"];
    context.tool("podman").args(store).args(apart).args(args)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn what_rpub_pushes_others_read() {
    if !has_tools(&["docker-registry", "htpasswd", "skopeo", "umoci", "podman"]) {
        return;
    }
    let context = TestContext::new();
    let manners = Manners { max_body: Some(MOST_IN_A_BODY), latency: MS_10, ..Manners::default() };
    let Some(places) = Place::all(&context, manners) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\nCOPY Dockerfile /dir/\n");
    context.write("app/data", noise(DATA_BYTES));
    for place in places {
        place.login(&context);
        let name = place.reference("team/app:1");
        let push = place.rpub(&context, &["build-push", "--quiet", "-t", &name, "app"]).success();
        let digest = push.line().rsplit('@').next().unwrap().to_owned();
        read_by_skopeo_and_umoci(&context, &place, &name);
        read_by_oci_client(&place, &name, &digest);
        read_by_podman(&context, &place, &name, &digest);
    }
}

const MS_10: Duration = Duration::from_millis(10);

fn read_by_skopeo_and_umoci(context: &TestContext, place: &Place, name: &str) {
    let layout = context.path(format!("layout-{}", place.kind));
    let target = format!("{}:image", layout.display());
    let flags = place.skopeo(context, "src");
    skopeo_copy(context, &flags, &format!("docker://{name}"), &format!("oci:{target}"));
    let bundle = context.path(format!("bundle-{}", place.kind));
    let is_root = rustix::process::getuid().is_root();
    let unpack = context.tool("umoci").arg("unpack").args((!is_root).then_some("--rootless"));
    let _checked = unpack.args(["--image", &target]).arg(&bundle).success();
    let read = |path: &str| fs_err::read(bundle.join("rootfs").join(path)).unwrap();
    assert_eq!(read("data"), noise(DATA_BYTES), "{}", place.kind);
    assert_eq!(read("dir/Dockerfile"), fs_err::read(context.path("app/Dockerfile")).unwrap());
}

fn read_by_oci_client(place: &Place, name: &str, digest: &str) {
    let (client, auth) = place.oci_client();
    let reference = name.parse().unwrap();
    block_on(async {
        let (manifest, found) = client.pull_image_manifest(&reference, &auth).await.unwrap();
        assert_eq!(found, digest, "{}", place.kind);
        for layer in &manifest.layers {
            let layer: OciDescriptor = layer.clone();
            let mut content = Vec::new();
            client.pull_blob(&reference, &layer, &mut content).await.unwrap();
            assert_eq!(digest_of(&content), layer.digest, "{}", place.kind);
        }
    });
}

fn read_by_podman(context: &TestContext, place: &Place, name: &str, digest: &str) {
    let pull = podman(context, &["pull", "--quiet"]).args(place.podman(context));
    let _checked = pull.arg(name).success();
    let inspected = podman(context, &["image", "inspect", name]).success().json();
    assert_eq!(inspected[0]["Digest"], digest, "{}", place.kind);
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_others_push_rpub_reads() {
    if !has_tools(&["docker-registry", "htpasswd", "skopeo", "podman"]) {
        return;
    }
    let context = TestContext::new();
    let Some(bases) = bases() else { return };
    let hub = bases.serve(&context);
    let manners = Manners { latency: MS_10, ..Manners::default() };
    let Some(places) = Place::all(&context, manners) else { return };
    context.write("file", "some text\n");
    for place in places {
        place.login(&context);
        pushed_by_skopeo(&context, &place, &hub.reference(BASE));
        pushed_by_podman(&context, &place);
        pushed_by_oci_client(&place);
        for name in ["docker:1", "oci:1", "zstd:1", "podman:1", "client:1"] {
            let repository = format!("others/{name}");
            read_by_rpub(&context, &place, &repository);
        }
    }
}

fn pushed_by_skopeo(context: &TestContext, place: &Place, from: &str) {
    let from = format!("docker://{from}");
    let formats: [(&str, &[&str]); 3] = [
        ("docker", &["--format=v2s2"]),
        ("oci", &["--format=oci"]),
        ("zstd", &["--format=oci", "--dest-compress-format=zstd"]),
    ];
    for (name, format) in formats {
        let mut flags = place.skopeo(context, "dest");
        flags.push("--src-tls-verify=false".to_owned());
        flags.extend(format.iter().map(|flag| (*flag).to_owned()));
        let to = format!("docker://{}", place.reference(&format!("others/{name}:1")));
        skopeo_copy(context, &flags, &from, &to);
    }
}

fn pushed_by_podman(context: &TestContext, place: &Place) {
    let (from, to) = (place.reference("others/docker:1"), place.reference("others/podman:1"));
    let pull = podman(context, &["pull", "--quiet"]).args(place.podman(context));
    let _checked = pull.arg(&from).success();
    let push = podman(context, &["push", "--quiet", "--format=oci"]).args(place.podman(context));
    let _checked = push.args([&from, &to]).success();
}

fn pushed_by_oci_client(place: &Place) {
    let (client, auth) = place.oci_client();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "made", &b"made\n"[..]).unwrap();
    let layer = tar.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/made"] },
        "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer)] },
    });
    let layers = [ImageLayer::oci_v1(layer, None)];
    let config = Config::oci_v1(config.to_string().into_bytes(), None);
    let reference = place.reference("others/client:1").parse().unwrap();
    let pushed = block_on(client.push(&reference, &layers, config, &auth, None));
    pushed.unwrap_or_else(|error| panic!("{}: {error}", place.kind));
}

/// Pulls, inspects, and builds on what others have pushed.
fn read_by_rpub(context: &TestContext, place: &Place, repository: &str) {
    let name = place.reference(repository);
    let plain = repository.replace(['/', ':'], "-");
    let store = context.path(format!("store-{}-{plain}", place.kind));
    let run = |args: &[&str]| place.rpub(context, args).env("RPUB_STORE", &store).success();
    let pulled = run(&["pull", &name]);
    let inspected = run(&["inspect", &name]).json();
    let inspected = inspected.get(0).unwrap_or(&inspected).clone();
    assert_eq!(inspected["Os"], "linux", "{}", place.kind);
    assert!(verify_store(&store).contains(&name), "{}", place.kind);
    let built = place.reference(&format!("{}-built:1", repository.replace(':', "-")));
    let dockerfile = format!("FROM {name}\nCOPY file /file\n");
    context.write(format!("{plain}.Dockerfile"), dockerfile);
    let file = format!("{plain}.Dockerfile");
    context.write(format!("context-{plain}/file"), "some text\n");
    let directory = format!("context-{plain}");
    let pushed = run(&["build-push", "--quiet", "-f", &file, "-t", &built, &directory]);
    assert!(pushed.line().contains("sha256:"), "{pulled}");
    let (client, auth) = place.oci_client();
    let reference = built.parse().unwrap();
    let (manifest, _) = block_on(client.pull_image_manifest(&reference, &auth)).unwrap();
    let layers = manifest.layers.len();
    let before = inspected["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
    assert_eq!(layers, before + 1, "{}: {name}", place.kind);
}
