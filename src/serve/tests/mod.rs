//! Behaviour of the registry over real connections, spoken to by hand.

mod manifests;
mod uploads;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::event::{Event, Sink};
use crate::image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference, media_type};
use crate::store::Store;

use super::{ServeOptions, Served, serve};

#[derive(Default)]
struct Record(Mutex<Vec<Event>>);

impl Sink for Record {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(super) struct Server {
    address: SocketAddr,
    store: Store,
    events: Arc<Record>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(store: &Store, read_only: bool) -> Self {
        let served = if read_only {
            Served::ReadOnly(Arc::new(store.clone()))
        } else {
            Served::Store(store.clone())
        };
        Self::serve(store, served)
    }

    pub(super) fn serve(store: &Store, served: Served) -> Self {
        let events = Arc::new(Record::default());
        let registries = ["localhost", "docker.io"].map(|name| name.parse().unwrap()).to_vec();
        let options = ServeOptions { served, registries, tls: None, events: events.clone() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let stopped = async { drop(stopped.await) };
                serve(listener, options, || (), stopped).await.unwrap();
            });
        });
        Self { address, store: store.clone(), events, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.0.lock().unwrap().clone()
    }

    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Pushes a blob in one request.
    fn push_blob(&self, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of("application/octet-stream", bytes);
        let path = format!("/v2/any/blobs/uploads/?digest={}", descriptor.digest);
        assert_eq!(self.send("POST", &path, &[], bytes).status, 201);
        descriptor
    }

    fn push_manifest(&self, path: &str, manifest: &Value) -> (Descriptor, Answer) {
        let media_type = manifest["mediaType"].as_str().unwrap();
        let bytes = manifest.to_string().into_bytes();
        let answer = self.send("PUT", path, &[("content-type", media_type)], &bytes);
        (Descriptor::of(media_type, &bytes), answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(super) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["errors"][0]["code"].as_str()), (status, Some(code)));
    }
}

fn server() -> (TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, Server::start(&store, false))
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Value {
    let config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..config.clone() };
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": layers,
    })
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn speaks_version_two() {
    let (_directory, server) = server();
    let answer = server.get("/v2/");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    server.get("/v1/").assert_error(404, "UNKNOWN");
    server.send("POST", "/v2/", &[], b"").assert_error(405, "UNSUPPORTED");
    server.get("/v2/UP/tags/list").assert_error(400, "NAME_INVALID");
}

#[test]
fn blobs_come_out_whole_and_in_part() {
    let (_directory, server) = server();
    let bytes: Vec<u8> = (0..700_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let blob = server.push_blob(&bytes);
    let path = format!("/v2/team/app/blobs/{}", blob.digest);
    let whole = server.get(&path);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("content-length"), "700000");
    assert_eq!(whole.header("docker-content-digest"), blob.digest.to_string());
    let head = server.send("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), "700000");
    let part = server.send("GET", &path, &[("range", "bytes=699990-")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[699_990..]));
    assert_eq!(part.header("content-range"), "bytes 699990-699999/700000");
    let beyond = server.send("GET", &path, &[("range", "bytes=700000-")], b"");
    beyond.assert_error(416, "RANGE_INVALID");
    assert_eq!(beyond.header("content-range"), "bytes */700000");
    server.get(&format!("/v2/a/blobs/{}", Digest::of(b"-"))).assert_error(404, "BLOB_UNKNOWN");
    server.send("DELETE", &path, &[], b"").assert_error(405, "UNSUPPORTED");
}

#[test]
fn tags_and_repositories_come_in_pages() {
    let (_directory, server) = server();
    let manifest = image(&server.push_blob(b"{}"), &[]);
    for path in ["a/manifests/1", "a/manifests/3", "a/manifests/2", "team/b/manifests/1"] {
        server.push_manifest(&format!("/v2/{path}"), &manifest);
    }
    let all = server.get("/v2/a/tags/list");
    assert_eq!(all.json(), json!({"name": "a", "tags": ["1", "2", "3"]}));
    assert_eq!(all.header("link"), "");
    let first = server.get("/v2/a/tags/list?n=2");
    assert_eq!(first.json()["tags"], json!(["1", "2"]));
    assert_eq!(first.header("link"), "</v2/a/tags/list?n=2&last=2>; rel=\"next\"");
    assert_eq!(server.get("/v2/a/tags/list?n=2&last=2").json()["tags"], json!(["3"]));
    assert_eq!(server.get("/v2/a/tags/list?n=0").json()["tags"], json!([]));
    server.get("/v2/a/tags/list?n=x").assert_error(400, "PAGINATION_NUMBER_INVALID");
    let catalog = server.get("/v2/_catalog?n=1");
    assert_eq!(catalog.json(), json!({"repositories": ["a"]}));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=1&last=a>; rel=\"next\"");
    assert_eq!(server.get("/v2/_catalog").json(), json!({"repositories": ["a", "team/b"]}));
}

#[test]
fn referrers_are_found_and_filtered() {
    let (_directory, server) = server();
    let empty = server.push_blob(b"{}");
    let (subject, _) = server.push_manifest("/v2/a/manifests/1", &image(&empty, &[]));
    let referrer = |kind: &str| {
        json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
            "config": Descriptor { media_type: "application/vnd.oci.empty.v1+json".to_owned(), ..empty.clone() },
            "layers": [], "subject": subject, "annotations": {"kind": kind},
        })
    };
    for kind in ["application/sbom", "application/signature"] {
        let manifest = referrer(kind);
        let digest = Digest::of(manifest.to_string().as_bytes());
        let path = format!("/v2/a/manifests/{digest}");
        let answer = server.push_manifest(&path, &manifest).1;
        assert_eq!(answer.header("oci-subject"), subject.digest.to_string());
    }
    let path = format!("/v2/a/referrers/{}", subject.digest);
    let all = server.get(&path);
    assert_eq!(all.header("content-type"), media_type::OCI_INDEX);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let some = server.get(&format!("{path}?artifactType=application%2Fsbom"));
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let found = &some.json()["manifests"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["artifactType"], "application/sbom");
    assert_eq!(found[0]["annotations"], json!({"kind": "application/sbom"}));
    let none = server.get(&format!("/v2/a/referrers/{}", Digest::of(b"-")));
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
    assert_eq!(server.get(&path.replace("/a/", "/b/")).json()["manifests"], json!([]));
}

#[test]
fn images_of_the_store_can_be_pulled_by_their_docker_name() {
    let (_directory, server) = server();
    let manifest = image(&server.push_blob(b"{}"), &[]);
    let (pushed, _) = server.push_manifest("/v2/tmp/manifests/1", &manifest);
    for text in ["alpine:3", "team/app:1", "ghcr.io/team/app:2"] {
        server.store.tag(&name(text), &pushed).unwrap();
    }
    for (path, status) in [
        ("alpine/manifests/3", 200),
        ("library/alpine/manifests/3", 200),
        ("library/alpine/manifests/3?ns=docker.io", 200),
        ("team/app/manifests/1", 200),
        ("team/app/manifests/2", 404),
        ("team/app/manifests/2?ns=ghcr.io", 200),
        ("ghcr.io/team/app/manifests/2", 200),
        ("docker.io/library/alpine/manifests/3", 200),
        ("docker.io/alpine/manifests/3", 200),
        ("tmp/manifests/1?ns=docker.io", 404),
    ] {
        assert_eq!(server.get(&format!("/v2/{path}")).status, status, "{path}");
    }
    let catalog = server.get("/v2/_catalog").json();
    let all = json!(["ghcr.io/team/app", "library/alpine", "team/app", "tmp"]);
    assert_eq!(catalog["repositories"], all);
    let one = server.get("/v2/_catalog?ns=ghcr.io").json();
    assert_eq!(one["repositories"], json!(["team/app"]));
}

#[test]
fn a_read_only_registry_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let server = Server::start(&store, true);
    assert_eq!(server.get("/v2/").status, 200);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        server.send(method, "/v2/a/manifests/1", &[], b"{}").assert_error(405, "UNSUPPORTED");
    }
}

#[test]
fn a_damaged_manifest_is_an_error_that_the_user_is_told_of() {
    let (_directory, server) = server();
    let manifest = image(&server.push_blob(b"{}"), &[]);
    let (pushed, _) = server.push_manifest("/v2/a/manifests/1", &manifest);
    fs_err::write(server.store.blob_path(&pushed.digest), b"{}").unwrap();
    server.get("/v2/a/manifests/1").assert_error(500, "UNKNOWN");
    let events = server.events.0.lock().unwrap();
    assert!(matches!(events.last(), Some(Event::Warning { text }) if text.contains("digest")));
}

/// Pushes, copies and pulls a real image with skopeo, and reads the store as a layout.
#[test]
fn skopeo_pushes_pulls_and_reads_the_layout() {
    let skopeo = |args: &[&str]| {
        let output = std::process::Command::new("skopeo").args(args).output();
        let output = output.expect("skopeo runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "skopeo {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    if std::process::Command::new("skopeo").arg("--version").output().is_err() {
        println!("SKIPPED: skopeo is not installed");
        return;
    }
    let (directory, server) = server();
    let layout = directory.path().join("layout");
    make_layout(&layout);
    let source = format!("oci:{}:docker.io/library/app:latest", layout.display());
    let remote = format!("docker://{}/team/app:1", server.address);
    skopeo(&["copy", "--insecure-policy", "--dest-tls-verify=false", &source, &remote]);
    let inspected = skopeo(&["inspect", "--tls-verify=false", "--raw", &remote]);
    let pushed = server.store.resolve(&name("localhost/team/app:1")).unwrap().unwrap();
    assert_eq!(Digest::of(inspected.as_bytes()), pushed.digest);
    // A second repository: everything is there already or mounted.
    let second = format!("docker://{}/team/other:1", server.address);
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&["copy", "--insecure-policy", insecure[0], insecure[1], &remote, &second]);
    // As docker's schema 2, and back out.
    let docker = format!("docker://{}/team/docker:1", server.address);
    let to_docker = ["copy", "--insecure-policy", "--format=v2s2", insecure[1]];
    skopeo(&[&to_docker[..], &[&source, &docker]].concat());
    let back = format!("oci:{}:app", directory.path().join("back").display());
    skopeo(&["copy", "--insecure-policy", insecure[0], &docker, &back]);
    let tags = skopeo(&["list-tags", "--tls-verify=false", &remote[..remote.len() - 2]]);
    assert_eq!(serde_json::from_str::<Value>(&tags).unwrap()["Tags"], json!(["1"]));
    let kept = format!("oci:{}:localhost/team/app:1", server.store.root().display());
    let shown: Value = serde_json::from_str(&skopeo(&["inspect", &kept])).unwrap();
    assert_eq!(shown["Layers"].as_array().unwrap().len(), 2);
    skopeo(&["delete", "--tls-verify=false", &second]);
    server.get("/v2/team/other/manifests/1").assert_error(404, "MANIFEST_UNKNOWN");
}

/// Makes an image layout of two gzipped layers, one of several megabytes.
fn make_layout(root: &std::path::Path) {
    let store = Store::open(root).unwrap();
    let mut diff_ids = Vec::new();
    let mut layers = Vec::new();
    for (file, size) in [("etc/motd", 12), ("usr/lib/large", 5 << 20)] {
        let mut content = vec![0u8; size];
        rustix::rand::getrandom(&mut content, rustix::rand::GetRandomFlags::empty()).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, file, content.as_slice()).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let gzip = gzip.finish().unwrap();
        store.put_blob(&gzip).unwrap();
        diff_ids.push(Digest::of(&tar));
        layers.push(Descriptor::of(media_type::OCI_LAYER_GZIP, &gzip));
    }
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string();
    store.put_blob(config.as_bytes()).unwrap();
    let manifest = image(&Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()), &layers);
    let manifest = manifest.to_string();
    store.put_blob(manifest.as_bytes()).unwrap();
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
    store.tag(&name("app"), &descriptor).unwrap();
}
