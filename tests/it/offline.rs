//! `rpub fetch` and `--offline`: what is here counts, and nobody is asked.

use crate::context::{
    Cut, Manners, Page, Proxy, Repository, Side, WebServer, files_of, git_daemon, has_tools,
};
use crate::lock::Place;

impl Place {
    /// Runs a command, and checks that the registry was asked nothing meanwhile.
    fn unasked<T>(&self, run: impl FnOnce() -> T) -> T {
        let before = self.registry.requests();
        let result = run();
        assert_eq!(self.registry.requests(), before);
        result
    }
}

#[test]
fn what_was_fetched_is_built_without_a_network() {
    let Some(place) = Place::new() else { return };
    place.base("tools:1", "tools", "");
    let one = place.base("base:1", "one", "");
    place.dockerfile("FROM REGISTRY/base:1\nCOPY --from=REGISTRY/tools:1 /content /tools\n");
    place.lock(&[]).success();
    let fetched = place.context.rpub(["fetch", "-f", "app/Dockerfile", "--locked"]).success();
    fetched.expect_output(&format!("{}@{one} linux/amd64", place.name("base:1")));
    fetched.expect_error("fetched: 2 layers fetched, 0 already there");
    place.base("base:1", "two", "");
    let built = place.unasked(|| place.build(&["--offline", "--locked"]).success());
    assert_eq!(place.content(&built), "one");
    assert!(!built.stderr.contains("as of"), "a digest has no age\n{built}");
    let again = place.context.rpub(["fetch", "-f", "app/Dockerfile"]).success();
    again.expect_error("fetched: 0 layers fetched, 2 already there");

    // Nothing takes away what was fetched, not even that its tag means something else now.
    let name = place.name("base:1");
    place.context.rpub(["fetch", &name, "--format=json"]).success();
    for args in [["prune", "--force"], ["prune", "--force"]] {
        place.context.rpub(args).arg("--all").success();
        let built = place.unasked(|| place.build(&["--offline", "--locked"]).success());
        assert_eq!(place.content(&built), "one");
        place.context.rpub(["pull", "-q", &name]).success();
    }
}

#[test]
fn a_tag_is_what_it_was_when_it_was_last_seen() {
    let Some(place) = Place::new() else { return };
    place.base("base:1", "one", "");
    place.dockerfile("FROM REGISTRY/base:1\n");
    let name = place.name("base:1");
    let missing = place.unasked(|| place.build(&["--offline"]).code(3));
    missing.expect_error(&format!("the image `{name}` for linux/amd64 is not here"));
    missing.expect_error("where there is a network, run `rpub fetch -f app/Dockerfile`");
    // Seen by a build, which fetches no layer that it does not need.
    place.build(&["--target=0"]).success();
    place.base("base:1", "two", "");
    let built =
        place.unasked(|| place.context.rpub(["build", "app"]).env("RPUB_OFFLINE", "1").success());
    built.expect_error(&format!("offline: `{name}` as of "));
    let rawjson = place.context.rpub(["build", "app", "--offline", "--progress=rawjson"]).success();
    let events = rawjson.events();
    let seen = events.iter().find(|event| event["event"] == "last_seen").unwrap();
    assert_eq!(seen["name"], name);
    place.context.rpub(["fetch", &name]).success();
    let built = place.unasked(|| place.build(&["--offline"]).success());
    assert_eq!(place.content(&built), "two");
    let images = place.context.rpub(["images"]).success();
    assert!(images.stdout.contains(&place.name("base")), "{images}");
}

#[test]
fn all_that_is_missing_is_said_at_once() {
    let Some(place) = Place::new() else { return };
    if !has_tools(&["git"]) {
        return;
    }
    let repository = Repository::new(&place.context, "lib");
    repository.write("f", "first").commit("one");
    let daemon = git_daemon(place.context.path("git"));
    let web = WebServer::start();
    let url = web.put("/data", Page { body: "data".into(), ..Page::default() });
    for name in ["a:1", "b:1", "c:1"] {
        place.base(name, name, "");
    }
    place.dockerfile(&format!(
        "FROM REGISTRY/c:1 AS c\nFROM REGISTRY/a:1\nCOPY --from=REGISTRY/b:1 /content /b\n\
         COPY --from=c /content /c\nADD {url} git://{daemon}/lib.git#main /\n"
    ));
    place.lock(&["--store=elsewhere"]).success();
    let missing = place.unasked(|| place.build(&["--offline", "--platform=linux/amd64"]).code(3));
    for text in [
        "rpub is offline, and 5 things are not here:".to_owned(),
        format!("\n  the image `{}` for linux/amd64\n", place.name("a:1")),
        format!("\n  the image `{}` for linux/amd64\n", place.name("b:1")),
        format!("\n  what `{url}` gives\n"),
        format!("\n  the files of `git://{daemon}/lib.git#main`\n"),
        "run `rpub fetch -f app/Dockerfile --platform linux/amd64`".to_owned(),
        "`rpub bundle load`".to_owned(),
    ] {
        missing.expect_error(&text);
    }
    web.asked();
    place.context.rpub(["fetch", &place.name("a:1"), &place.name("b:1")]).success();
    // Its manifest is here now, its layer is not.
    place.lock(&["--check"]).success();
    let missing = place.build(&["--offline"]).code(3);
    missing.expect_error(&format!("1 of 1 layers of `{}@sha256:", place.name("c:1")));
    assert!(web.asked().is_empty());
    place.context.rpub(["fetch", "-f", "app/Dockerfile"]).success();
    let built = place.unasked(|| place.build(&["--offline"]).success());
    let files = files_of(&place.context.store(), built.line());
    assert_eq!(files["data"].content, "data");
    assert_eq!(files["f"].content, "first");
    // An archive needs the layers of its base as well.
    place.build(&["--offline", "-o", "type=oci,dest=image.tar"]).success();
}

#[test]
fn several_platforms_are_fetched_and_kept_together() {
    let Some(place) = Place::new() else { return };
    place.context.write("base/content", "content");
    place.context.write(
        "base/Dockerfile",
        "FROM scratch\nCOPY content /content\nARG TARGETARCH\nLABEL a=$TARGETARCH\n",
    );
    place.push("multi:1", &["--platform=linux/amd64,linux/arm64"]);
    place.dockerfile("FROM REGISTRY/multi:1\nCOPY Dockerfile /\n");
    let both = "--platform=linux/arm64,linux/amd64";
    let fetched = place.context.rpub(["fetch", "-f", "app/Dockerfile", both]).success();
    assert_eq!(fetched.stdout.lines().count(), 2, "{fetched}");
    let name = place.name("multi:1");
    place.context.rpub(["pull", &name]).success();
    place.context.rpub(["prune", "--all", "--force"]).success();
    place.unasked(|| place.build(&["--offline", both]).success());
    let missing = place.build(&["--offline", "--platform=linux/s390x"]).code(3);
    missing.expect_error(&format!("the image `{name}` for linux/s390x is not here"));
}

#[test]
fn what_needs_a_network_is_refused() {
    let Some(place) = Place::new() else { return };
    let name = place.name("base:1");
    place.base("base:1", "one", "");
    place.dockerfile("FROM REGISTRY/base:1\n");
    let registry = &place.registry.name();
    let cache = format!("--cache-to=type=registry,ref={name}");
    for args in [["--pull", "--offline"], ["--push", "--offline"], [&cache, "--offline"]] {
        let refused = place.build(&args).args(["-t", &name]).code(2);
        refused.expect_error("and `--offline` contradict each other");
    }
    for command in [
        vec!["pull", &name],
        vec!["push", &name],
        vec!["digest", &name],
        vec!["repo", "ls", registry],
        vec!["ping", &name],
    ] {
        if command[0] == "push" {
            place.context.rpub(["pull", &name]).success();
        }
        let before = place.registry.requests();
        let refused = place.context.rpub(&command).arg("--offline").code(2);
        refused.expect_error("because rpub is offline");
        refused.expect_error("hint: run it without `--offline`, and without RPUB_OFFLINE");
        assert_eq!(place.registry.requests(), before);
    }
    // `0` means what it says.
    place.context.rpub(["digest", &name]).env("RPUB_OFFLINE", "0").success();
    let add = "FROM scratch\nADD http://127.0.0.1:9/x /\n";
    place.context.write("app/Dockerfile", add);
    place
        .build(&["--offline"])
        .code(3)
        .expect_error("what `http://127.0.0.1:9/x` gives is not here");
}

#[test]
fn a_fetch_that_breaks_off_goes_on() {
    let Some(place) = Place::new() else { return };
    // Does not compress.
    let mut state = 1_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let noise: Vec<u8> = std::iter::repeat_with(next).take(3_000_000).collect();
    place.context.write("base/noise", &noise);
    place.context.write("base/Dockerfile", "FROM scratch\nCOPY noise /noise\n");
    place.push("big:1", &[]);
    let proxy = Proxy::start(&place.registry.name(), Manners::default());
    let cut = Cut {
        method: "GET",
        path: "/blobs/".into(),
        side: Side::Registry,
        after: 1_000_000,
        times: 1,
    };
    proxy.behave(Manners { cuts: vec![cut], ..Manners::default() });
    let name = proxy.reference("big:1");
    place.context.rpub(["fetch", "--retry-times=0", &name]).code(1);
    proxy.behave(Manners::default());
    proxy.settle();
    proxy.forget();
    place.context.rpub(["fetch", &name]).success();
    let blobs = proxy.passed().into_iter().filter(|one| one.target.contains("/blobs/"));
    let received: u64 = blobs.map(|one| one.received).sum();
    assert!(received < 2_500_000, "{received} bytes came again");
}
