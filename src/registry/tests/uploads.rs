//! Uploads: the ladder from a mount to parts, sessions that get lost, limits that are learnt.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::*;
use crate::image::RegistryName;

/// More than a part, so that it is worth going on with after a kill: a part of zeros and `CONTENT`.
static LARGE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut bytes = vec![0; 64 << 20];
    bytes.extend_from_slice(CONTENT);
    bytes.into()
});

/// Remembers in memory what a store would.
#[derive(Default, Clone)]
struct Remembering(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    learnt: BTreeMap<String, Learnt>,
    locations: BTreeMap<String, String>,
}

impl Memory for Remembering {
    fn note(&self, repository: &Repository, digest: &Digest) -> Option<Arc<dyn UploadNote>> {
        let key = format!("{repository}@{digest}");
        Some(Arc::new(Entry { all: Arc::clone(&self.0), key }))
    }

    fn learnt(&self, registry: &RegistryName) -> Learnt {
        self.0.lock().unwrap().learnt.get(registry.as_str()).copied().unwrap_or_default()
    }

    fn learn(&self, registry: &RegistryName, learnt: Learnt) {
        self.0.lock().unwrap().learnt.insert(registry.as_str().to_owned(), learnt);
    }
}

impl Remembering {
    fn learnt_all(&self) -> Vec<Learnt> {
        self.0.lock().unwrap().learnt.values().copied().collect()
    }

    fn locations(&self) -> Vec<String> {
        self.0.lock().unwrap().locations.values().cloned().collect()
    }
}

struct Entry {
    all: Arc<Mutex<Remembered>>,
    key: String,
}

impl UploadNote for Entry {
    fn location(&self) -> Option<String> {
        self.all.lock().unwrap().locations.get(&self.key).cloned()
    }

    fn keep(&self, location: &str) {
        self.all.lock().unwrap().locations.insert(self.key.clone(), location.to_owned());
    }

    fn forget(&self) {
        self.all.lock().unwrap().locations.remove(&self.key);
    }
}

impl World {
    fn uploads() -> Self {
        let sha512 = "sha512:".to_owned() + &"0".repeat(128);
        let sha512 = sha512.parse::<Digest>().unwrap().of_same_algorithm(CONTENT).to_string();
        Self::with(play("uploads.toml", &[("sha512", &sha512)]), |_| {})
    }

    /// Lets the registry be of another kind.
    fn pretend(&self, name: &str, change: impl FnOnce(&mut Quirks)) {
        let mut quirks = *Quirks::of_host(&"unknown.example".parse().unwrap());
        change(&mut quirks);
        let session = self.client.upstream(&self.repository(name));
        session.host.manner.pretend(Box::leak(Box::new(quirks)));
    }

    fn pretend_host(&self, name: &str, host: &str) {
        self.pretend(name, |quirks| *quirks = *Quirks::of_host(&host.parse().unwrap()));
    }

    async fn push_bytes(&self, name: &str, bytes: &Bytes) -> Result<Pushed> {
        let source: Arc<dyn Source> = Arc::new(BytesSource(bytes.clone()));
        let descriptor = Descriptor::of("x", bytes);
        let (repository, transfer) = (self.repository(name), TransferId::next());
        self.client.push_blob(&repository, &descriptor, source, &[], transfer).await
    }

    async fn expect_upload(&self, name: &str) {
        let pushed = self.push(name, &[]).await.unwrap_or_else(|error| {
            panic!("{name}: {}: {:#?}", text_of(&error), self.script.log())
        });
        assert_eq!(pushed, Pushed::Uploaded { bytes: 13 }, "{name}");
        assert_eq!(self.script.unmatched(), [] as [&str; 0], "{name}");
    }

    /// The bodies that went to paths with this beginning.
    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let seen = self.script.seen().into_iter();
        seen.filter(|seen| seen.path.starts_with(path) && !seen.body.is_empty())
            .map(|seen| seen.body)
            .collect()
    }
}

/// Wire row U11: parts in order, `Content-Range` without a unit, every form of `Range`, the newest
/// location, the smallest part.
#[tokio::test]
async fn a_blob_goes_out_in_parts() {
    let world = World::uploads();
    world.pretend("a/parts", |quirks| quirks.max_body = Some(5));
    world.expect_upload("a/parts").await;
    assert_eq!(world.bodies("/parts").concat(), CONTENT);
    assert_eq!(world.bodies("/parts").len(), 3);
    world.expect_upload("a/minimum").await;
    assert_eq!(world.bodies("/minimum").concat(), CONTENT);
    assert_eq!(world.bodies("/minimum").len(), 2);
}

/// Wire row U11: 416 carries the valid range.
#[tokio::test]
async fn a_registry_says_where_to_go_on() {
    let world = World::uploads();
    world.pretend("a/corrected", |quirks| quirks.max_body = Some(5));
    world.expect_upload("a/corrected").await;
    let bodies = world.bodies("/corrected");
    assert_eq!(bodies, [&CONTENT[0..5], &CONTENT[5..10], &CONTENT[3..8], &CONTENT[8..13]]);
    assert_eq!(world.events.retries(), 0);
}

/// Wire row U11: a registry that goes back and forth for ever gets one body.
#[tokio::test]
async fn a_registry_that_never_has_enough_is_given_up() {
    let world = World::uploads();
    world.pretend("a/endless", |quirks| quirks.max_body = Some(5));
    world.expect_upload("a/endless").await;
    assert!(world.bodies("/endless").len() < 20, "{:?}", world.script.log());
    assert_eq!(world.bodies("/whole"), [CONTENT]);
}

/// Wire row U11: after a cut the session is asked where it stands.
#[tokio::test]
async fn a_cut_upload_goes_on_where_the_session_stands() {
    let world = World::uploads();
    world.expect_upload("a/cut").await;
    assert_eq!(world.bodies("/cut/2"), [&CONTENT[3..]]);
    assert_eq!(world.events.retries(), 1);
}

/// Wire row U10: Amazon's registry says 201 to a part, and its `Range` stands still.
#[tokio::test]
async fn parts_that_get_lost_are_given_up_for_one_body() {
    let memory = Remembering::default();
    let sent = memory.clone();
    let script = play("uploads.toml", &[]);
    let world = World::with(script, move |options| options.memory = Arc::new(sent));
    world.pretend("a/still", |quirks| quirks.max_body = Some(5));
    world.expect_upload("a/still").await;
    assert_eq!(world.requests("DELETE").len(), 1, "the session that lost a part is cancelled");
    assert_eq!(memory.learnt_all(), [Learnt { max_body: None, refuses_ranges: true }]);
}

/// Wire row U10: what is known of Amazon's registry keeps rpub from sending parts at all, and its
/// parts have five mebibytes at least.
#[tokio::test]
async fn amazons_registry_gets_one_body() {
    let world = World::uploads();
    world.pretend_host("a/whole", "1.dkr.ecr.eu-west-1.amazonaws.com");
    world.expect_upload("a/whole").await;
    let quirks = Quirks::of_host(&"1.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap());
    assert_eq!(quirks.min_chunk, 5 << 20);
}

/// Wire rows U8 and U9: Google's registry knows no parts, GitHub's spoils them.
#[tokio::test]
async fn registries_without_parts_get_one_body_however_large() {
    for host in ["europe-docker.pkg.dev", "ghcr.io"] {
        let digest = Digest::of(&LARGE).to_string();
        let size = LARGE.len().to_string();
        let script = play("uploads.toml", &[("digest", &digest), ("size", &size)]);
        let world = World::with(script, |_| {});
        world.pretend_host("a/whole", host);
        world.push_bytes("a/whole", &LARGE).await.unwrap();
        assert_eq!(world.script.unmatched(), [] as [&str; 0], "{host}");
        assert_eq!(world.bodies("/whole").len(), 1, "{host}");
    }
}

/// Wire row U24: GitLab and Azure lose sessions; a new one is opened.
#[tokio::test]
async fn a_lost_session_is_begun_anew() {
    let world = World::uploads();
    world.pretend("a/lost", |quirks| quirks.max_body = Some(5));
    world.expect_upload("a/lost").await;
    assert_eq!(world.bodies("/lost/3").concat(), CONTENT);
    assert_eq!(world.events.retries(), 2);
}

/// Wire row U1: a session that nobody goes on with is cancelled.
#[tokio::test]
async fn a_refused_upload_is_cancelled() {
    let world = World::uploads();
    let error = world.push("a/denied", &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(world.requests("DELETE").len(), 1, "{:?}", world.script.log());
}

/// Wire row U2: nothing is mounted without a source, and a mount that fails costs no wait.
#[tokio::test]
async fn a_failing_mount_becomes_an_upload_at_once() {
    let world = World::uploads();
    let pushed = world.push("a/failing-mount", &["c/d"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.events.retries(), 0);
    world.expect_upload("a/whole").await;
    let posts = world.requests("POST");
    let mounts = posts.iter().filter(|seen| seen.query.contains("mount="));
    assert!(mounts.clone().all(|seen| seen.query.contains("from=")));
    assert_eq!(mounts.count(), 1);
}

/// Wire row U4: Amazon's registry opens a session instead of mounting until a manifest refers to
/// the blob; that session is used.
#[tokio::test]
async fn a_mount_that_amazons_registry_does_not_make_is_an_upload() {
    let world = World::new("mount_accepted.toml");
    world.pretend_host("a/b", "1.dkr.ecr.eu-west-1.amazonaws.com");
    let pushed = world.push("a/b", &["c/d"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.requests("POST").len(), 1);
}

/// Wire rows U5 and U15: Artifactory is not asked to mount, and gets the blob by one `POST`; what
/// it opens all the same is used.
#[tokio::test]
async fn artifactory_gets_a_blob_without_a_session() {
    let world = World::uploads();
    let pushed = world.push("a/single", &["c/d", "a/single"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.requests("HEAD").len(), 1, "by whose answer it is known");
    assert_eq!(world.requests("POST").len(), 1);
    assert_eq!(world.requests("PUT").len(), 0);
    assert_eq!(world.requests("POST")[0].body, CONTENT);
    world.expect_upload("a/double").await;
    assert_eq!(world.requests("PUT")[0].body, CONTENT);
}

/// Wire row U12: the registry is told the algorithm of another digest than SHA-256.
#[tokio::test]
async fn another_digest_is_announced() {
    let world = World::uploads();
    let digest = "sha512:".to_owned() + &"0".repeat(128);
    let digest = digest.parse::<Digest>().unwrap().of_same_algorithm(CONTENT);
    let descriptor = Descriptor::new("x", digest, 13);
    let source: Arc<dyn Source> = Arc::new(BytesSource(Bytes::from_static(CONTENT)));
    let (repository, transfer) = (world.repository("a/sha512"), TransferId::next());
    let pushed = world.client.push_blob(&repository, &descriptor, source, &[], transfer);
    assert_eq!(pushed.await.unwrap(), Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row U13: 201, 202 and 204 all say that the blob is there.
#[tokio::test]
async fn every_status_of_success_ends_an_upload() {
    let world = World::uploads();
    world.pretend("a/parts", |quirks| quirks.max_body = Some(5));
    for name in ["a/parts", "a/minimum", "a/corrected"] {
        world.expect_upload(name).await;
    }
    let mut ends: Vec<_> = world.requests("PUT").into_iter().map(|seen| seen.path).collect();
    ends.sort();
    assert_eq!(ends, ["/corrected", "/minimum", "/parts/3"], "answered 202, 204 and 201");
}

/// Wire row U14: every try has the whole body, also one that is redirected.
#[tokio::test]
async fn a_body_is_opened_again_for_each_try() {
    let world = World::uploads();
    world.expect_upload("a/moved").await;
    assert_eq!(world.bodies("/moved"), [CONTENT; 3]);
}

/// Wire row U16: a limit of a proxy is met, obeyed and remembered.
#[tokio::test]
async fn a_limit_is_learnt() {
    let memory = Remembering::default();
    let body = Bytes::from(vec![7; 3 << 20]);
    let (digest, size) = (Digest::of(&body).to_string(), body.len().to_string());
    let script = play("upload_limit.toml", &[("digest", &digest), ("size", &size)]);
    let address = script.address().to_owned();
    let learning = memory.clone();
    let world = World::with(script, move |options| options.memory = Arc::new(learning));
    world.push_bytes("a/b", &body).await.unwrap();
    assert_eq!(world.events.retries(), 0);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    let learnt = Learnt { max_body: Some(256 << 10), refuses_ranges: false };
    assert_eq!(memory.learnt_all(), [learnt]);

    // The next run begins with what this one has learnt.
    let events: Arc<dyn Sink> = Arc::new(Recorder::default());
    let mut options = ClientOptions::new(Arc::new(Anonymous), events);
    options.memory = Arc::new(memory);
    let next = World { client: Client::new(options), ..world };
    let before = next.script.log().len();
    next.push_bytes("a/b", &body).await.unwrap();
    assert!(next.script.address() == address);
    let log = next.script.log().split_off(before);
    let count = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("PATCH"), count("PUT"), count("GET")), (12, 1, 0), "{log:?}");
}

/// Wire row U22: a manifest that an old Quay does not take is reported, not sent again.
#[tokio::test]
async fn a_refused_manifest_is_reported() {
    let world = World::uploads();
    let reference = world.reference("a/artifact:1");
    let error = world.client.push_manifest(&reference, &manifest()).await.unwrap_err();
    assert!(error.to_string().contains("manifest schema version not supported"), "{error}");
    assert_eq!(world.events.retries(), 0);
    assert_eq!(world.requests("PUT").len(), 1);
}

/// Wire row U25: after a failed commit the registry is asked before anything is sent again.
#[tokio::test]
async fn a_commit_that_seemed_to_fail_is_not_repeated() {
    let world = World::uploads();
    assert_eq!(world.push("a/stored", &[]).await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(world.requests("PUT").len(), 1);
    assert_eq!(world.requests("HEAD").len(), 2);
}

#[tokio::test]
async fn the_next_run_goes_on_with_a_large_upload() {
    let memory = Remembering::default();
    let (digest, size) = (Digest::of(&LARGE).to_string(), LARGE.len().to_string());
    let script = play("upload_resume.toml", &[("digest", &digest), ("size", &size)]);
    let client = |memory: &Remembering| {
        let mut options = ClientOptions::new(Arc::new(Anonymous), Arc::new(Recorder::default()));
        options.memory = Arc::new(memory.clone());
        Client::new(options)
    };
    let world = World { script, client: client(&memory), events: Arc::default() };
    // What a kill leaves: the note after the first part.
    let name = format!("{}@{digest}", world.repository("a/b"));
    let location = format!("http://{}/up/2", world.script.address());
    memory.0.lock().unwrap().locations.insert(name, location);
    world.push_bytes("a/b", &LARGE).await.unwrap();
    assert_eq!(world.requests("POST").len(), 0, "{:?}", world.script.log());
    assert_eq!(world.bodies("/up/3"), [&CONTENT[3..]]);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    assert_eq!(memory.locations(), [] as [&str; 0], "what is done is forgotten");

    // A session that is gone by then is begun anew; one that is refused leaves no note.
    let name = format!("{}@{digest}", world.repository("a/b"));
    let location = format!("http://{}/up/1", world.script.address());
    memory.0.lock().unwrap().locations.insert(name, location);
    let world = World { client: client(&memory), ..world };
    let error = world.push_bytes("a/b", &LARGE).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert_eq!(world.requests("POST").len(), 1);
    assert_eq!(memory.locations(), [] as [&str; 0]);
}
