//! `rpub lock`, and builds that take what they start from by digest.

use std::path::PathBuf;

use crate::context::{
    Output, Page, Registry, Repository, Role, TestCommand, TestContext, WebServer, files_of,
    git_daemon, has_tools,
};

/// A user's world and a registry with bases.
pub(crate) struct Place {
    pub(crate) registry: Registry,
    pub(crate) context: TestContext,
}

impl Place {
    pub(crate) fn new() -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        let registry = Registry::plain(&context)?;
        Some(Self { registry, context })
    }

    pub(crate) fn name(&self, name: &str) -> String {
        self.registry.reference(name)
    }

    /// Pushes an image of a file `content`, and of more instructions; returns its digest.
    pub(crate) fn base(&self, name: &str, content: &str, more: &str) -> String {
        self.context.write("base/content", content);
        let text = format!("FROM scratch\nCOPY content /content\n{more}");
        self.context.write("base/Dockerfile", text);
        self.push(name, &[])
    }

    pub(crate) fn push(&self, name: &str, args: &[&str]) -> String {
        let command = self.context.rpub(["build-push", "-q", "-t", &self.name(name)]);
        let pushed = command.args(args).args(["--store", "other", "base"]).success();
        pushed.line().rsplit_once('@').unwrap().1.to_owned()
    }

    pub(crate) fn dockerfile(&self, text: &str) {
        self.context.write("app/Dockerfile", text.replace("REGISTRY", &self.registry.name()));
    }

    pub(crate) fn lock(&self, args: &[&str]) -> TestCommand {
        self.context.rpub(["lock", "app"]).args(args)
    }

    pub(crate) fn build(&self, args: &[&str]) -> TestCommand {
        self.context.rpub(["build", "-q", "app"]).args(args)
    }

    pub(crate) fn content(&self, built: &Output) -> String {
        files_of(&self.context.store(), built.line())["content"].content.clone()
    }

    fn lock_path(&self) -> PathBuf {
        self.context.path("app/rpub.lock")
    }

    pub(crate) fn lock_text(&self) -> String {
        fs_err::read_to_string(self.lock_path()).unwrap()
    }

    /// Returns the requests for manifests since there were `before` requests.
    fn manifests_since(&self, before: usize) -> Vec<String> {
        let requests = self.registry.requests();
        let new = requests[before..].iter();
        new.filter(|line| line.contains("/manifests/")).cloned().collect()
    }
}

#[test]
fn a_lock_keeps_what_a_tag_meant() {
    let Some(place) = Place::new() else { return };
    let one = place.base("base:1", "one", "");
    place.dockerfile("FROM REGISTRY/base:1\n");
    let locked = place.lock(&[]).success();
    let name = place.name("base:1");
    locked.expect_output("added");
    locked.expect_output("`app/rpub.lock` is written: 1 entry");
    let text = place.lock_text();
    let source = place.name("base");
    let entry = format!(
        "[[image]]\nname = \"{name}\"\nsource = \"{source}\"\ndigest = \"{one}\"\n\n\
         [image.platforms]\n\"linux/amd64\" = \"{one}\"\n"
    );
    assert!(text.ends_with(&entry), "{text}");
    assert!(text.contains("\nversion = 1\nplatforms = [\"linux/amd64\"]\n"), "{text}");

    let two = place.base("base:1", "two", "");
    let before = place.registry.requests().len();
    let built = place.build(&["--locked"]).success();
    assert_eq!(place.content(&built), "one");
    let asked = place.manifests_since(before);
    assert!(asked.iter().all(|line| line.contains("/manifests/sha256:")), "{asked:?}");
    place.lock(&["--check"]).success().expect_output("`app/rpub.lock` is up to date: 1 entry");
    place.lock(&[]).success().expect_output("is up to date");

    // That the tag has moved is only drift for who asks for it.
    let drift = place.lock(&["--update", "--check"]).code(1);
    drift.expect_output("updated");
    assert_eq!(place.lock_text(), text, "a check writes nothing");
    let updated = place.lock(&["--update", &name, "--format=json"]).success().json();
    let change = serde_json::json!({
        "Change": "updated", "Name": name, "Platform": null, "Old": one, "New": two,
    });
    assert_eq!(updated["Changes"], serde_json::json!([change]));
    assert_eq!(place.content(&place.build(&["--pull"]).success()), "two");
    place.lock(&["--update", "nope:1"]).code(2).expect_error("nothing is called `nope:1`");
}

#[test]
fn all_that_names_an_image_is_locked() {
    let Some(place) = Place::new() else { return };
    place.base("tools:1", "tools", "");
    place.base("last:1", "last", "");
    let last = place.name("last:1");
    place.base("chain:1", "chain", &format!("ONBUILD COPY --from={last} /content /last\n"));
    let chain = place.name("chain:1");
    place.base("start:1", "start", &format!("ONBUILD COPY --from={chain} /content /chain\n"));
    place.base("other:2", "other", "");
    place.base("named:1", "named", "");
    place.base("arm:1", "arm", "");
    place.dockerfile(
        "ARG TAG=1\nFROM REGISTRY/start:${TAG} AS start\nCOPY --from=REGISTRY/tools:1 /content /t\n\
         FROM stand-in AS unused\n\
         FROM REGISTRY/other:2 AS other\n\
         FROM start\nRUN --mount=type=bind,from=REGISTRY/arm:1,target=/m true\n",
    );
    let named = format!("--build-context=stand-in=docker-image://{}", place.name("named:1"));
    place.lock(&[&named]).success().expect_output(": 6 entries");
    let text = place.lock_text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
    let expected = ["arm:1", "chain:1", "named:1", "other:2", "start:1", "tools:1"];
    assert_eq!(names, expected.map(|name| format!("\"{}\"", place.name(name))));
    let triggered = text.split("[[image]]").find(|entry| entry.contains("/chain:1")).unwrap();
    assert!(triggered.contains("onbuild = true"), "{text}");
    // What one target needs is another matter, and nothing is unused for that.
    let other = place.build(&[&named, "--target=other", "--locked"]).success();
    assert!(!other.stderr.contains("nothing uses"), "{other}");
    // Another value of the argument means another base.
    let other = place.build(&[&named, "--locked", "--build-arg=TAG=2", "--target=start"]).code(1);
    other.expect_error(&format!("`app/rpub.lock` does not name `{}`", place.name("start:2")));
    other.expect_error("2 | FROM");
}

#[test]
fn drift_is_told_or_refused() {
    let Some(place) = Place::new() else { return };
    for name in ["a:1", "b:1"] {
        place.base(name, name, "");
    }
    place.dockerfile("FROM REGISTRY/a:1\n");
    let none = place.build(&["--locked"]).code(2);
    none.expect_error("there is no `app/rpub.lock`, which `--locked` asks for");
    place.lock(&[]).success();
    let (a, b) = (place.name("a:1"), place.name("b:1"));
    place.dockerfile("FROM REGISTRY/a:1\nCOPY --from=REGISTRY/b:1 /content /b\n");
    place.build(&["--locked"]).code(1).expect_error(&format!("does not name `{b}`"));
    let built = place.build(&[]).success();
    built.expect_error(&format!("warning: `app/rpub.lock` does not name `{b}`"));
    place.lock(&["--check"]).code(1).expect_output("added");
    place.dockerfile("FROM REGISTRY/b:1\n");
    let built = place.build(&[]).success();
    built.expect_error(&format!("`app/rpub.lock` names `{a}`, which nothing uses"));
    let locked = place.lock(&[]).success();
    locked.expect_output("removed");
    place.build(&["--locked"]).success();
    // Another file counts when it is named.
    place.build(&["--locked", "--lock-file=none.lock"]).code(2);
    place.lock(&["--lock-file=other.lock"]).success();
    place.build(&["--locked", "--lock-file=other.lock"]).success();
}

#[test]
fn platforms_are_locked_together_and_kept() {
    let Some(place) = Place::new() else { return };
    place.context.write("base/Dockerfile", "FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\n");
    place.push("multi:1", &["--platform=linux/amd64,linux/arm64,linux/s390x"]);
    place.dockerfile("FROM --platform=linux/s390x REGISTRY/multi:1 AS s\nFROM REGISTRY/multi:1\n");
    place.lock(&["--platform=linux/arm64,linux/amd64"]).success();
    let text = place.lock_text();
    assert!(text.contains("platforms = [\"linux/amd64\", \"linux/arm64\"]"), "{text}");
    let platforms = text.lines().filter(|line| line.starts_with("\"linux/")).count();
    assert_eq!(platforms, 3, "{text}");
    // Those of the file count from then on.
    place.lock(&["--update"]).success().expect_output("is up to date");
    let fewer = place.lock(&["--platform=linux/amd64"]).success();
    fewer.expect_output("removed");
    fewer.expect_output(&format!("{} (linux/arm64)", place.name("multi:1")));
    // The index says what it has for others.
    place.build(&["--locked", "--platform=linux/arm64"]).success();
}

#[test]
fn bad_input_leaves_the_lock_alone() {
    let Some(place) = Place::new() else { return };
    place.base("a:1", "a", "");
    place.dockerfile("FROM REGISTRY/a:1\n");
    place.lock(&[]).success();
    let text = place.lock_text();
    place.dockerfile("FROM REGISTRY/a:1\nFROM REGISTRY/absent:1\n");
    let absent = place.lock(&[]).code(3);
    absent.expect_error("failed to resolve the base image");
    absent.expect_error("2 | FROM");
    place.dockerfile("FROM REGISTRY/a:1\nCOPPY a b\n");
    let typo = place.lock(&[]).code(1);
    let build = place.build(&[]).code(1);
    assert_eq!(typo.stderr, build.stderr, "it is shown as build shows it");
    assert_eq!(place.lock_text(), text);
    place.dockerfile("FROM REGISTRY/a:1\n");
    place.context.write("app/rpub.lock", text.replace("version = 1", "version = 9"));
    for refused in [place.lock(&["--check"]).code(2), place.build(&[]).code(2)] {
        refused.expect_error("the lock file `app/rpub.lock` cannot be used");
        refused.expect_error("it is of version 9, and this rpub knows version 1");
    }
    place.context.write("app/rpub.lock", text.replace("sha256:", "sha256:x"));
    let damaged = place.build(&[]).code(2);
    damaged.expect_error("caused by: line 9: ");
    damaged.expect_error("remove it and run `rpub lock`");
    place.context.rpub(["lock", "-"]).input("FROM scratch\n").code(2).expect_error("--lock-file");
}

#[test]
fn a_digest_that_is_gone_is_named() {
    let Some(place) = Place::new() else { return };
    let digest = place.base("a:1", "one", "");
    place.dockerfile("FROM REGISTRY/a:1\n");
    place.lock(&["--store=elsewhere"]).success();
    let name = place.name("a:1");
    place.context.rpub(["manifest", "rm", &format!("{}@{digest}", place.name("a"))]).success();
    let gone = place.build(&[]).code(3);
    gone.expect_error(&format!("the base image `{name}` is {digest} by `app/rpub.lock`"));
    gone.expect_error(&format!("hint: run `rpub lock --update {name}`"));
    place.base("a:1", "two", "");
    place.lock(&["--update"]).success();
    assert_eq!(place.content(&place.build(&["--locked"]).success()), "two");
}

#[test]
fn what_add_gets_from_elsewhere_is_locked() {
    let Some(place) = Place::new() else { return };
    if !has_tools(&["git"]) {
        return;
    }
    let repository = Repository::new(&place.context, "lib");
    let first = repository.write("f", "first").commit("one");
    let daemon = git_daemon(place.context.path("git"));
    let web = WebServer::start();
    let page = |body: &str| Page { body: body.into(), ..Page::default() };
    let url = web.put("/data", page("one"));
    let git = format!("git://{daemon}/lib.git#main");
    place.dockerfile(&format!("FROM scratch\nADD {url}?token=secret /data\nADD {git} /lib\n"));
    place.lock(&[]).success().expect_output("is written: 2 entries");
    let text = place.lock_text();
    assert!(text.contains(&format!("commit = \"{first}\"")), "{text}");
    assert!(text.contains(&format!("url = \"{url}\"\nkey = \"sha256:")), "{text}");
    assert!(!text.contains("secret"), "{text}");

    repository.write("f", "second").commit("two");
    web.put("/data", page("two"));
    let built = place.build(&["--locked"]).success();
    let files = files_of(&place.context.store(), built.line());
    assert_eq!(files["data"].content, "one");
    assert_eq!(files["lib/f"].content, "first");
    // Where the store lacks it, the commit is still to be had, and what the URL gave is not.
    let other = place.build(&["--locked", "--store=empty"]).code(7);
    other
        .expect_error(&format!("it is what `app/rpub.lock` names; run `rpub lock --update {url}`"));
    place.lock(&["--update", &url]).success();
    let built = place.build(&["--locked", "--store=empty"]).success();
    let files = files_of(&place.context.path("empty"), built.line());
    assert_eq!(files["data"].content, "two");
    assert_eq!(files["lib/f"].content, "first");
}
