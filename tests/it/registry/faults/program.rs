//! The faults of bad networks and bad days, met by the program itself.

use tokio::runtime::Runtime;

use super::fault::Fault;
use super::kind::Kind;
use super::origin::{SECRET_WORD, basic};
use super::wire::{At, Reply, Travel};
use super::world::{World, blob};
use crate::context::{Role, TestContext, verify_store};

/// More than the program needs for an image of some kilobytes, and less than what has no end.
const MOST_MEMORY: u64 = 160 << 20;
const NAME: &str = "new/app:1";

/// What goes wrong, and how the program then ends.
struct Case {
    kind: Kind,
    fault: Fault,
    code: i32,
    /// What it says.
    says: &'static str,
}

fn case(kind: Kind, fault: Fault, code: i32, says: &'static str) -> Case {
    Case { kind, fault, code, says }
}

fn page() -> Fault {
    let page = "<!DOCTYPE html><title>Sign in</title>";
    Fault::instead("HTML with 200", move |_, _| {
        Reply::new(200).header("content-type", "text/html").body(page)
    })
}

fn for_hours() -> Fault {
    Fault::instead("429 for hours", |_, _| {
        Reply::error(429, "TOOMANYREQUESTS").header("retry-after", "7200")
    })
}

/// A registry with something wrong, and a machine with a login for it.
struct Scene {
    world: World,
    context: TestContext,
}

impl Scene {
    fn new(runtime: &Runtime, case: &Case) -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        let _guard = runtime.enter();
        let world = World::new(case.kind, &case.fault);
        let auth = basic();
        let auth = auth.trim_start_matches("Basic ");
        let login = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, world.server.name());
        context.write("home/docker/config.json", login);
        context.write("app/Dockerfile", "FROM scratch\nCOPY data /\n");
        context.write("app/data", blob());
        Some(Self { world, context })
    }

    fn name(&self) -> String {
        format!("{}/{NAME}", self.world.server.name())
    }

    /// Runs the program, with little patience, and checks how it ends.
    fn run(&self, case: &Case, words: &[&str]) {
        let patience = ["--retry-delay=1ms", "--idle-timeout=1s"];
        let mut running = self.context.rpub(words).args(patience).spawn();
        let peak = running.peak_memory();
        let output = running.finish();
        output.expect_code(case.code);
        output.expect_error(case.says);
        assert!(peak < MOST_MEMORY, "{peak} bytes of memory\n{output}");
        assert!(!format!("{output}").contains(SECRET_WORD), "{output}");
        assert!(self.world.played() > 0, "{}: nothing went wrong\n{output}", case.fault.name);
    }

    /// Returns the id of what a name stands for in the store, which is found sound.
    fn id(&self, name: &str) -> String {
        self.context.rpub(["prune", "-f"]).success();
        let output = self.context.rpub(["inspect", "--format={{.Id}}", name]).success();
        assert!(verify_store(&self.context.store()).contains(&name.to_owned()));
        output.line().to_owned()
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// A name stands for what it stood for until the whole of the new image is there.
#[test]
fn a_pull_over_a_bad_network_is_whole_or_nothing() {
    let cut = |kind| Fault::travels("cut", Travel::Cut(kind));
    let wrong = Fault::changes("a byte changed", |mut reply| {
        let at = reply.body.len() / 2;
        reply.body[at] ^= 1;
        reply
    });
    let endless = || Fault::travels("endless", Travel::EndlessBody);
    let cases = [
        case(Kind::BlobGet, cut(At::HalfTheBody), 0, ""),
        case(Kind::BlobGet, cut(At::Nothing), 1, "no complete answer"),
        case(Kind::BlobGet, Fault::says("503", 503).twice(), 0, ""),
        case(Kind::BlobGet, Fault::says("503", 503), 1, "503 Service Unavailable"),
        case(Kind::BlobGet, Fault::travels("silence", Travel::Stall(At::Head)), 1, "1s"),
        case(Kind::BlobGet, wrong, 7, "digest"),
        case(Kind::BlobGet, page(), 7, "cannot be trusted"),
        case(Kind::BlobGet, endless(), 7, "cannot be trusted"),
        case(Kind::ManifestByTag, page(), 1, "unusable manifest"),
        case(Kind::ManifestByTag, endless(), 1, "larger than"),
        case(Kind::ManifestByTag, for_hours(), 5, "it lifts"),
        case(Kind::ManifestHead, for_hours(), 5, "it lifts"),
        case(Kind::TokenGet, page(), 1, "token"),
    ];
    let runtime = runtime();
    for case in cases {
        let Some(scene) = Scene::new(&runtime, &case) else { return };
        scene.world.fail(false);
        let name = scene.name();
        let build = |store: &str| {
            let command = scene.context.rpub(["build-push", "-t", &name, "app"]);
            command.env("RPUB_STORE", scene.context.path(store)).success();
        };
        build("store");
        let old = scene.id(&name);
        scene.context.write("app/data", blob().repeat(2));
        build("other");
        scene.world.fail(true);
        scene.run(&case, &["pull", &name]);
        assert_eq!(scene.id(&name) != old, case.code == 0, "{}", case.fault.name);
    }
}

/// A push whose answers are lost has come through; one that failed has given no tag.
#[test]
fn a_push_over_a_bad_network_gives_its_tag_last() {
    let lost = || Fault::travels("answers lost", Travel::Cut(At::Nothing));
    let denied = |name| Fault::changes(name, |reply| Reply { status: 502, ..reply });
    let cases = [
        case(Kind::ManifestPut, lost(), 0, ""),
        case(Kind::ManifestPut, denied("502 though it is done"), 0, ""),
        case(Kind::UploadPut, lost().once(), 0, ""),
        case(Kind::UploadPut, denied("502 though it is done"), 0, ""),
        case(Kind::UploadPost, Fault::says("503", 503).twice(), 0, ""),
        case(Kind::UploadPost, Fault::says("503", 503), 1, "503 Service Unavailable"),
        case(Kind::UploadPost, for_hours(), 5, "it lifts"),
        case(Kind::ManifestPut, for_hours(), 5, "it lifts"),
        case(Kind::ManifestPut, page(), 1, "but does not have it"),
        case(Kind::ManifestPut, Fault::says("403", 403), 4, "403 Forbidden"),
    ];
    let runtime = runtime();
    for case in cases {
        let Some(scene) = Scene::new(&runtime, &case) else { return };
        let name = scene.name();
        scene.run(&case, &["build-push", "-t", &name, "app"]);
        let (repository, tag) = NAME.split_once(':').unwrap();
        let key = (repository.to_owned(), tag.to_owned());
        let has_tag = scene.world.content.lock().unwrap().manifests.contains_key(&key);
        assert_eq!(has_tag, case.code == 0, "{}", case.fault.name);
        scene.context.rpub(["images"]).success();
        verify_store(&scene.context.store());
    }
}
