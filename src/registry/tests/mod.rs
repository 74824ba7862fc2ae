//! The client against scripted servers: `fixtures/registry/*.toml`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::*;
use crate::blob::{BytesSource, Mismatch, Source};
use crate::credentials::{Anonymous, Credential, Fixed, Lookup, Secret};
use crate::event::{Event, Sink, TransferId, TransferOutcome};
use crate::image::{Descriptor, Digest, Manifest, Reference, Repository, media_type};

mod growing;
mod pushes;
mod ranges;
mod reading;
#[path = "../../../tests/it/context/script.rs"]
#[expect(clippy::format_push_string, reason = "a test helper; two short headers")]
mod script;
mod tls;
mod waits;

mod auth;
mod hosts;
mod manifests;
mod objects;
mod uploads;

use script::Script;

const CONTENT: &[u8] = b"hello, world!";

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn retries(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Retrying { .. })).count()
    }

    fn outcomes(&self) -> Vec<TransferOutcome> {
        let outcome = |event| match event {
            Event::TransferFinished { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.events().into_iter().filter_map(outcome).collect()
    }
}

fn manifest() -> Manifest {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{}","size":2}},"layers":[]}}"#,
        Digest::of(b"{}")
    );
    Manifest::parse(text.into_bytes(), None).unwrap()
}

fn play(name: &str, more: &[(&str, &str)]) -> Script {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry").join(name);
    let text = fs_err::read_to_string(path).unwrap();
    let (digest, size) = (Digest::of(CONTENT).to_string(), CONTENT.len().to_string());
    let (manifest, content) = (manifest(), String::from_utf8_lossy(CONTENT));
    let manifest_text = String::from_utf8_lossy(&manifest.bytes);
    let manifest_digest = manifest.digest.to_string();
    let mut variables = vec![
        ("digest", digest.as_str()),
        ("size", &size),
        ("content", &content),
        ("rest", &content[5..]),
        ("manifest", &manifest_text),
        ("manifest_digest", &manifest_digest),
    ];
    variables.splice(0..0, more.iter().copied());
    Script::start(&text, &variables)
}

struct World {
    script: Script,
    client: Client,
    events: Arc<Recorder>,
}

impl World {
    fn new(name: &str) -> Self {
        Self::with(play(name, &[]), |_| {})
    }

    fn with(script: Script, change: impl FnOnce(&mut ClientOptions)) -> Self {
        let events = Arc::new(Recorder::default());
        let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&events);
        let mut options = ClientOptions::new(Arc::new(Anonymous), sink);
        options.retry.first_delay = Duration::from_millis(2);
        change(&mut options);
        Self { script, client: Client::new(options), events }
    }

    fn with_login(name: &str, credential: Credential, more: &[(&str, &str)]) -> Self {
        let script = play(name, more);
        let registry = script.address().parse().unwrap();
        let lookup: Arc<dyn Lookup> = Arc::new(Fixed { registry, credential });
        Self::with(script, |options| options.credentials = lookup)
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.script.address()).parse().unwrap()
    }

    fn repository(&self, name: &str) -> Repository {
        self.reference(name).repository
    }

    async fn fetch(&self, name: &str) -> Result<Vec<u8>> {
        let descriptor = Descriptor::of("x", CONTENT);
        let repository = self.repository(name);
        let mut stream =
            self.client.fetch_blob(&repository, &descriptor, TransferId::next()).await?;
        let mut content = Vec::new();
        while let Some(chunk) = stream.next().await? {
            content.extend_from_slice(&chunk);
        }
        assert_eq!(stream.next().await.unwrap(), None);
        Ok(content)
    }

    async fn push(&self, name: &str, mount_from: &[&str]) -> Result<Pushed> {
        let mount_from: Vec<_> = mount_from.iter().map(|name| name.parse().unwrap()).collect();
        let source: Arc<dyn Source> = Arc::new(BytesSource(Bytes::from_static(CONTENT)));
        let descriptor = Descriptor::of("x", CONTENT);
        let (repository, transfer) = (self.repository(name), TransferId::next());
        self.client.push_blob(&repository, &descriptor, source, &mount_from, transfer).await
    }

    fn requests(&self, method: &str) -> Vec<script::Seen> {
        self.script.seen().into_iter().filter(|seen| seen.method == method).collect()
    }
}

fn user() -> Credential {
    Credential::Basic { username: "u".to_owned(), password: Secret::new("p".to_owned()) }
}

/// The whole text of an error, as a user would see it.
fn text_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn one_token_is_fetched_for_many_requests() {
    let world = World::new("token_flight.toml");
    let reference = world.reference("a/b:1");
    let all = join_all((0..8).map(|_| world.client.manifest(&reference))).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().digest == manifest().digest));
    let log = world.script.log();
    assert_eq!(log.iter().filter(|line| *line == "GET /token").count(), 1, "{log:?}");
    assert_eq!(log.len(), 9);
}

/// Wire row P6: a redirect to another origin is followed without the credentials.
#[tokio::test]
async fn a_redirect_to_another_origin_carries_no_credentials() {
    let store = play("store.toml", &[]);
    let other = format!("http://{}", store.address());
    let world = World::with_login("redirect.toml", user(), &[("other", &other)]);
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert_eq!(store.unmatched(), [] as [&str; 0]);
    assert_eq!(store.seen().len(), 1);
}

#[tokio::test]
async fn errors_show_neither_secrets_nor_queries() {
    // Nothing listens where the redirect leads.
    let other = "http://127.0.0.1:1";
    let world = World::with_login("redirect.toml", user(), &[("other", other)]);
    let text = text_of(&world.fetch("a/b").await.unwrap_err());
    assert!(text.starts_with("GET http://127.0.0.1:1/store/1: no complete answer"), "{text}");
    for secret in ["secret", "signature", "dTpw"] {
        assert!(!text.contains(secret), "{text}");
        let events = format!("{:?}", world.events.events());
        assert!(!events.contains(secret), "{events}");
    }
}

#[tokio::test]
async fn a_cut_blob_is_resumed() {
    let world = World::new("cut.toml");
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert_eq!(world.events.outcomes(), [TransferOutcome::Moved]);
    assert_eq!(world.script.seen().len(), 2);
    assert_eq!(world.events.retries(), 1);
}

#[tokio::test]
async fn a_cut_blob_is_skipped_to_where_the_registry_knows_no_ranges() {
    let world = World::new("cut_without_range.toml");
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert_eq!(world.script.seen().len(), 2);
}

#[tokio::test]
async fn wrong_blobs_are_refused() {
    let world = World::new("wrong_blob.toml");
    let error = world.fetch("a/b").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    assert!(matches!(error, Error::Mismatch { source: Mismatch::Digest { .. }, .. }), "{error}");
    let error = world.fetch("a/long").await.unwrap_err();
    let is_size = matches!(error, Error::Mismatch { source: Mismatch::Size { .. }, .. });
    assert!(is_size, "{error}");
    assert_eq!(world.script.seen().len(), 2, "what is wrong is not asked for again");
    let error = world.fetch("a/cut").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network, "{error}");
    assert_eq!(world.script.seen().len(), 2 + 5);
    assert_eq!(world.events.outcomes(), [const { TransferOutcome::Failed }; 3]);
}

#[tokio::test]
async fn a_401_is_answered_once() {
    let world = World::new("refuses_everything.toml");
    let error = world.client.manifest(&world.reference("a/b:1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let expected = format!(
        "GET http://{}/v2/a/b/manifests/1: 401 Unauthorized (UNAUTHORIZED: no) [request r-7]",
        world.script.address()
    );
    assert_eq!(error.to_string(), expected);
    let expected = ["GET /v2/a/b/manifests/1", "GET /token", "GET /v2/a/b/manifests/1"];
    assert_eq!(world.script.log(), expected);
}

#[tokio::test]
async fn short_waits_are_waited_and_long_ones_reported() {
    let world = World::new("limits.toml");
    let begun = Instant::now();
    world.client.manifest(&world.reference("a/busy:1")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let error = world.client.manifest(&world.reference("a/quota:1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RateLimited);
    assert!(
        error.to_string().contains("(You have reached your pull rate limit.); it lifts"),
        "{error}"
    );
    assert_eq!(world.events.retries(), 1);
    world.client.manifest(&world.reference("a/failing:1")).await.unwrap();
    assert_eq!(world.events.retries(), 3);
}

#[tokio::test]
async fn the_first_requests_see_one_challenge() {
    let world = World::new("first_challenge.toml");
    let reference = world.reference("a/b:1");
    let all = join_all((0..8).map(|_| world.client.manifest(&reference))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let refused = world.script.seen().into_iter().filter(|seen| {
        seen.path.contains("manifests") && !seen.headers.contains_key("authorization")
    });
    assert_eq!(refused.count(), 1, "{:?}", world.script.log());
}

#[tokio::test]
async fn manifests_are_resolved_verified_and_read_back() {
    let world = World::new("manifests.toml");
    let full = world.client.resolve(&world.reference("a/full:1")).await.unwrap();
    assert_eq!((full.digest, full.size), (manifest().digest, 77));
    let bare = world.client.resolve(&world.reference("a/bare:1")).await.unwrap();
    assert_eq!(bare, manifest().descriptor());
    assert_eq!(bare.media_type, media_type::OCI_MANIFEST);
    let by_digest = format!("a/bare@{}", Digest::of(CONTENT));
    let error = world.client.manifest(&world.reference(&by_digest)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity, "{error}");
    world.client.push_manifest(&world.reference("a/good:1"), &manifest()).await.unwrap();
    let sent = world.script.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert_eq!(sent.body, manifest().bytes);
    let changed = world.reference("a/changed:1");
    let error = world.client.push_manifest(&changed, &manifest()).await.unwrap_err();
    assert!(matches!(error, Error::ManifestDigest { .. }), "{error}");
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let credential = Credential::IdentityToken(Secret::new("refresh".to_owned()));
    let world = World::with_login("identity_token.toml", credential, &[]);
    world.client.manifest(&world.reference("a/b:1")).await.unwrap();
    let seen = world.script.seen();
    let form = String::from_utf8_lossy(&seen[0].body).into_owned();
    for part in ["grant_type=refresh_token", "refresh_token=refresh", "service=s", "scope=rep"] {
        assert!(form.contains(part), "{form}");
    }
}

#[tokio::test]
async fn mirrors_come_first_and_get_no_credentials_of_the_registry() {
    let mirror = play("mirror.toml", &[]);
    let world = World::with_login("upstream.toml", user(), &[]);
    let (upstream, copy) = (world.script.address(), mirror.address());
    let conf = format!(
        "[[registry]]\nlocation = '{upstream}'\n[[registry.mirror]]\nlocation = '{copy}/copy'\n"
    );
    let registry = upstream.parse().unwrap();
    let hosts = Hosts::parse(&conf).unwrap();
    let world = World::with(world.script, |options| {
        options.hosts = hosts;
        options.credentials = Arc::new(Fixed { registry, credential: user() });
    });
    world.client.manifest(&world.reference("a/b:1")).await.unwrap();
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert_eq!(mirror.unmatched(), [] as [&str; 0]);
    assert_eq!(mirror.seen().len(), 3);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

#[tokio::test]
async fn logins_are_checked() {
    let world = World::new("upstream.toml");
    let registry = world.script.address().parse().unwrap();
    let check = async |password: &str| {
        let secret = Secret::new(password.to_owned());
        world.client.check_login(&registry, "u", &secret).await
    };
    check("p").await.unwrap();
    assert_eq!(check("wrong").await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn an_unreachable_registry_is_a_network_error() {
    let world = World::new("upstream.toml");
    let reference: Reference = "127.0.0.1:1/x:1".parse().unwrap();
    let error = world.client.manifest(&reference).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(text_of(&error).contains("refused"), "{}", text_of(&error));
    assert_eq!(world.events.retries(), 4);
}
