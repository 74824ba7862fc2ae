//! Tags, manifests, blobs and repositories, against the distribution registry and ours.

use serde_json::{Value, json};

use crate::context::{
    Auth, Manners, PASSWORD, Proxy, Registry, Role, Serve, TestContext, USERNAME, digest_of,
};

/// What the tests are done against. The distribution registry has no referrers API and deletes no
/// tags; ours has both.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) is_ours: bool,
    registry: Option<Registry>,
    _serve: Option<Serve>,
}

impl Place {
    pub(super) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name)
    }
}

/// A context of an unprivileged user, and both registries.
pub(super) fn places() -> Option<(TestContext, Vec<Place>)> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let mut places = Vec::new();
    let serve = Serve::start(&context, "served");
    let (name, is_ours) = (serve.name(), true);
    places.push(Place { name, is_ours, registry: None, _serve: Some(serve) });
    if let Some(registry) = Registry::plain(&context) {
        let name = registry.name();
        places.push(Place { name, is_ours: false, registry: Some(registry), _serve: None });
    }
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    Some((context, places))
}

/// Builds and pushes an image under these tags; returns its digest.
pub(super) fn push(
    context: &TestContext,
    place: &Place,
    repository: &str,
    tags: &[&str],
) -> String {
    let mut command = context.rpub(["build-push", "-q"]);
    for tag in tags {
        command = command.args(["-t", &place.reference(&format!("{repository}:{tag}"))]);
    }
    let output = command.arg("app").success();
    output.line().lines().next().unwrap().split_once('@').unwrap().1.to_owned()
}

pub(super) fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn tags_are_listed_filtered_and_sorted() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let tags = ["1.10.0", "1.2.0", "1.10.0-rc.1", "latest", "v2"];
        push(&context, place, "team/app", &tags);
        let repository = place.reference("team/app");
        let list = |args: &[&str]| context.rpub(["tag", "ls", &repository]).args(args).success();
        let output = list(&[]);
        let mut all = lines(&output.stdout);
        all.sort_unstable();
        assert_eq!(all, ["1.10.0", "1.10.0-rc.1", "1.2.0", "latest", "v2"]);
        let output = list(&["--sort", "semver", "--exclude", "latest"]);
        assert_eq!(lines(&output.stdout), ["1.2.0", "1.10.0-rc.1", "1.10.0", "v2"]);
        let output = list(&["--sort", "name", "--include", r"1\..*", "--limit", "2"]);
        assert_eq!(lines(&output.stdout), ["1.10.0", "1.10.0-rc.1"]);
        let output = list(&["--include", "v2", "--format", "json"]);
        let row = output.json();
        assert_eq!((&row["tag"], &row["repository"]), (&json!("v2"), &json!(repository)));
        let output = list(&["--include", "v2", "--format", "{{.name}}"]);
        assert_eq!(output.line(), format!("{repository}:v2"));

        let output = context.rpub(["tag", "ls", &place.reference("no/such")]).code(3);
        output.expect_error("failed to list the tags");
        context.rpub(["tag", "ls", &format!("{repository}:v2")]).code(2);
        context.rpub(["tag", "ls", &repository, "--include", "("]).code(2);

        let output = context.rpub(["repo", "ls", &place.name]).success();
        assert_eq!(lines(&output.stdout), ["team/app"]);
        let output = context.rpub(["repo", "ls", &place.name, "--exclude", "team/.*"]).success();
        assert_eq!(output.stdout, "");
        let output = context.rpub(["repo", "ls", &place.name, "--format", "json"]).success();
        assert_eq!(output.json()["name"], repository);
    }
}

#[test]
fn a_tag_goes_and_the_image_stays() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let digest = push(&context, place, "app", &["1", "2", "3"]);
        let removed = [place.reference("app:1"), place.reference("app:3")];
        let output = context.rpub(["tag", "rm"]).args(&removed).success();
        let expected = removed.map(|name| format!("Untagged: {name}"));
        assert_eq!(lines(&output.stdout), expected);
        let output = context.rpub(["tag", "ls", &place.reference("app")]).success();
        assert_eq!(lines(&output.stdout), ["2"]);
        let output = context.rpub(["digest", &place.reference("app:2")]).success();
        assert_eq!(output.line(), digest);
        context.rpub(["tag", "rm", &place.reference("app:1")]).code(3);
        let both = [place.reference("app:1"), place.reference("app:2")];
        let output = context.rpub(["tag", "rm"]).args(&both).code(6);
        output.expect_output(&format!("Untagged: {}", both[1]));
        context.rpub(["tag", "rm", &place.reference("app")]).code(2);
        let digest = push(&context, place, "app", &["4"]);
        let json = ["--format", "json"];
        let output = context.rpub(["tag", "rm", &place.reference("app:4")]).args(json).success();
        assert_eq!(output.json()["deleted"], if place.is_ours { "tag" } else { "stand-in" });
        let pinned = format!("{}@{digest}", place.reference("app"));
        push(&context, place, "app", &["4"]);
        let output = context.rpub(["manifest", "rm", &pinned]).args(json).success();
        assert_eq!(output.json()["reference"], pinned);
    }
    // Docker's command of the same name.
    let name = places[0].reference("app:2");
    push(&context, &places[0], "app", &["2"]);
    context.rpub(["pull", "-q", &name]).success();
    context.rpub(["tag", &name, "other:1"]).success();
    context.rpub(["inspect", "other:1"]).success();
}

/// Wire row U17: what is pushed is what was given, byte by byte, and only when all that it names is
/// there.
#[test]
fn manifests_are_moved_byte_by_byte() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let digest = push(&context, place, "app", &["1"]);
        let by_tag = place.reference("app:1");
        let output = context.rpub(["manifest", "get", &by_tag]).success();
        assert_eq!(digest_of(output.stdout.as_bytes()), digest);
        // Spaces, order and unknown keys stay.
        let mut manifest = output.stdout.replacen('{', "{\n  \"unknown\": [1,  2],", 1);
        manifest.push('\n');
        let path = context.write("manifest.json", &manifest);
        let path = path.to_str().unwrap();
        let put = ["manifest", "put", &place.reference("app:new"), path, "-t", "a", "-t", "b"];
        let output = context.rpub(put).success();
        let pinned = format!("{}@{}", place.reference("app"), digest_of(manifest.as_bytes()));
        assert_eq!(output.line(), pinned);
        for tag in ["new", "a", "b"] {
            let name = place.reference(&format!("app:{tag}"));
            let output = context.rpub(["manifest", "get", &name]).success();
            assert_eq!(output.stdout, manifest);
        }
        let output = context.rpub(["manifest", "head", &pinned, "--format", "json"]).success();
        let head = output.json();
        assert_eq!(head["size"], manifest.len());
        assert_eq!(head["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let format = ["--format", "{{.content.unknown}}"];
        let output = context.rpub(["manifest", "get", &pinned]).args(format).success();
        assert_eq!(output.line(), "[1 2]");

        // Another repository lacks the config.
        let config: Value = serde_json::from_str(&manifest).unwrap();
        let config = config["config"]["digest"].as_str().unwrap().to_owned();
        let put = context.rpub(["manifest", "put", &place.reference("other:1"), path]);
        if place.is_ours {
            // All repositories of ours have all blobs.
            put.success();
        } else {
            let output = put.code(3);
            output.expect_error(&format!("needs blob {config}"));
        }
        let output = context.rpub(["manifest", "put", &by_tag]).input("no json").code(1);
        output.expect_error("the manifest cannot be pushed");
        let wrong = format!("{}@{digest}", place.reference("app"));
        context.rpub(["manifest", "put", &wrong, path]).code(7);
    }
}

#[test]
fn manifests_are_removed_by_digest() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let digest = push(&context, place, "app", &["1", "2"]);
        let by_tag = place.reference("app:1");
        let output = context.rpub(["manifest", "rm", &by_tag]).code(2);
        output.expect_error("--force-tag-dereference");
        let pinned = format!("{}@{digest}", place.reference("app"));
        let output = context.rpub(["manifest", "rm", &pinned]).success();
        assert_eq!(output.line(), format!("Deleted: {pinned}"));
        context.rpub(["digest", &by_tag]).code(3);
        context.rpub(["manifest", "rm", &pinned]).code(3);
        push(&context, place, "app", &["1"]);
        context.rpub(["manifest", "rm", "--force-tag-dereference", &by_tag]).success();
        context.rpub(["manifest", "get", &by_tag]).code(3);
    }
}

#[test]
fn a_digest_is_printed_without_a_pull() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let name = place.reference("multi:1");
        let platforms = ["--platform", "linux/amd64,linux/arm64"];
        let build = context.rpub(["build-push", "-q", "-t", &name]).args(platforms);
        let output = build.arg("app").success();
        let (_, index) = output.line().split_once('@').unwrap();
        let output = context.rpub(["digest", &name, "--full-ref"]).success();
        assert_eq!(output.line(), format!("{}@{index}", place.reference("multi")));
        let output = context.rpub(["manifest", "get", &name]).success();
        let manifests = output.json()["manifests"].as_array().unwrap().clone();
        for entry in &manifests {
            let platform = &entry["platform"];
            let platform = format!("{}/{}", platform["os"].as_str().unwrap(), {
                platform["architecture"].as_str().unwrap()
            });
            let output = context.rpub(["digest", &name, "--platform", &platform]).success();
            assert_eq!(output.line(), entry["digest"].as_str().unwrap());
            let get = context.rpub(["manifest", "get", &name, "--platform", &platform]).success();
            assert_eq!(digest_of(get.stdout.as_bytes()), entry["digest"].as_str().unwrap());
        }
        let output = context.rpub(["digest", &name, "--platform", "linux/s390x"]).code(3);
        output.expect_error("it has linux/amd64, linux/arm64");
        let output = context.rpub(["digest", &name, "--format", "json"]).success();
        assert_eq!(output.json()["digest"], index);
    }
    // Only questions, and an index only where its platforms are asked for.
    let Some(registry) = &places.last().unwrap().registry else { return };
    let before = registry.requests().len();
    context.rpub(["digest", &registry.reference("multi:1")]).success();
    let requests = registry.requests();
    assert!(
        requests[before..].iter().all(|line| !line.starts_with("GET /v2/multi")),
        "{requests:?}"
    );
}

/// Wire row U17: the manifests of an index are there by digest before the index is, by tag.
#[test]
fn children_are_pushed_before_their_index() {
    let Some((context, places)) = places() else { return };
    let Some(registry) = places.iter().find_map(|place| place.registry.as_ref()) else { return };
    let name = registry.reference("multi:1");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    context.rpub(["build", "-q", "-t", &name]).args(platforms).arg("app").success();
    context.rpub(["push", "-q", &name]).success();
    let requests = registry.requests();
    let puts: Vec<&str> = requests
        .iter()
        .filter(|line| line.starts_with("PUT /v2/multi/manifests/"))
        .map(String::as_str)
        .collect();
    assert_eq!(puts.len(), 3, "{requests:?}");
    assert!(puts[..2].iter().all(|put| put.starts_with("PUT /v2/multi/manifests/sha256:")));
    assert!(puts[2].starts_with("PUT /v2/multi/manifests/1 "), "{puts:?}");
}

#[test]
fn blobs_are_moved_and_verified() {
    let Some((context, places)) = places() else { return };
    let content = "some bytes\n".repeat(1000);
    let digest = digest_of(content.as_bytes());
    let path = context.write("blob", &content);
    for place in &places {
        let repository = place.reference("blobs");
        let name = format!("{repository}@{digest}");
        context.rpub(["blob", "head", &name]).code(3);
        let put = context.rpub(["blob", "put", &repository, path.to_str().unwrap()]).success();
        assert_eq!(put.line(), digest);
        // From standard input, with the digest that it must have.
        let again = context.rpub(["blob", "put", &name, "--format", "json"]);
        let again = again.args(["--media-type", "text/plain"]).input(content.as_bytes()).success();
        assert_eq!(again.json()["mediaType"], "text/plain");
        assert_eq!(again.json()["size"], content.len());
        context.rpub(["blob", "put", &name]).input("other").code(7);
        let output = context.rpub(["blob", "get", &name]).success();
        assert_eq!(output.stdout, content);
        context.rpub(["blob", "get", "-o", "copy", &name]).success();
        assert_eq!(fs_err::read_to_string(context.path("copy")).unwrap(), content);
        let output = context.rpub(["blob", "head", &name]).success();
        assert_eq!(output.line(), format!("{digest} {}", content.len()));
        context.rpub(["blob", "get", &repository]).code(2);
        context.rpub(["blob", "put", &repository, "no-such-file"]).code(1);
        if place.is_ours {
            let output = context.rpub(["blob", "rm", &name]).code(1);
            output.expect_error("blobs are removed by garbage collection");
        } else {
            context.rpub(["blob", "rm", &name]).success();
            context.rpub(["blob", "get", &name]).code(3);
        }
    }
}

/// A blob whose bytes were changed in the registry's storage gives no file, and exit code 7.
#[test]
fn a_spoilt_blob_is_not_written() {
    let Some((context, places)) = places() else { return };
    let Some(registry) = places.iter().find_map(|place| place.registry.as_ref()) else { return };
    let repository = registry.reference("blobs");
    let output = context.rpub(["blob", "put", &repository]).input("content").success();
    let digest = output.line().to_owned();
    fs_err::write(registry.blob_path(&digest), "CONTENT").unwrap();
    let name = format!("{repository}@{digest}");
    context.rpub(["blob", "get", "-o", "out", &name]).code(7);
    assert!(!context.path("out").exists());
    let left = fs_err::read_dir(context.path("")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp")).count();
    assert_eq!(left, 0);
}

#[test]
fn a_registry_says_what_it_is() {
    let Some((context, places)) = places() else { return };
    for place in &places {
        let output = context.rpub(["ping", &place.name]).success();
        output.expect_output("is a registry");
        let found = context.rpub(["ping", &place.name, "--format", "json"]).success().json();
        assert_eq!((&found["tls"], &found["authentication"]), (&json!("none"), &json!("none")));
        assert_eq!(found["http"], "HTTP/1.1");
        assert!(found["latencyMs"].as_f64().unwrap() > 0.0);
    }
    let page = crate::context::WebServer::start().url("/");
    let address = page.trim_start_matches("http://").trim_end_matches('/');
    let output = context.rpub(["ping", address]).code(1);
    output.expect_error("is no registry");
}

/// With TLS and passwords, and with a token server.
#[test]
fn a_registry_says_what_it_wants_to_see() {
    let Some(mut context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::with_auth(&context, Auth::Htpasswd) else { return };
    context.rpub(["ping", &registry.name()]).code(1);
    context.set("RPUB_CA_FILE", registry.authority());
    let found = context.rpub(["ping", &registry.name(), "--format", "json"]).success().json();
    assert_eq!((&found["tls"], &found["authentication"]), (&json!("verified"), &json!("basic")));
    let Some(registry) = Registry::with_auth(&context, Auth::Token) else { return };
    let found = context.rpub(["ping", &registry.name(), "--format", "json"]).success().json();
    assert_eq!(found["authentication"], "bearer");
    assert!(found["realm"].as_str().unwrap().starts_with("http"), "{found}");
}

/// Where neither tag nor its move is allowed, the image goes, but not for other tags too.
#[test]
fn an_image_with_other_tags_stays() {
    let Some((context, places)) = places() else { return };
    let Some(registry) = places.iter().find_map(|place| place.registry.as_ref()) else { return };
    let refused = vec![("PUT", "/manifests/1".to_owned())];
    let proxy = Proxy::start(&registry.name(), Manners { refused, ..Manners::default() });
    let push = |tags: &[&str]| {
        let mut command = context.rpub(["build-push", "-q"]);
        for tag in tags {
            command = command.args(["-t", &registry.reference(&format!("app:{tag}"))]);
        }
        command.arg("app").success();
    };
    push(&["1", "2"]);
    let name = proxy.reference("app:1");
    let output = context.rpub(["tag", "rm", &name]).code(1);
    output.expect_error("for which other tags stand too: 2");
    assert_eq!(registry.tags("app"), ["1", "2"]);
    let output = context.rpub(["tag", "rm", "--force", &name]).success();
    output.expect_error("deletes only whole images");
    assert_eq!(registry.tags("app"), [""; 0]);
    push(&["1"]);
    context.rpub(["tag", "rm", &name]).success();
    assert_eq!(registry.tags("app"), [""; 0]);
    // A registry that deletes nothing: the tag stays what it is.
    push(&["1", "2"]);
    let refused = vec![("DELETE", "/manifests/".to_owned())];
    proxy.behave(Manners { refused, ..Manners::default() });
    let before = registry.manifest("app", "1").unwrap().0;
    let output = context.rpub(["tag", "rm", &name]).code(1);
    output.expect_error("deletes neither tags nor manifests");
    assert_eq!(registry.manifest("app", "1").unwrap().0, before);
}

/// Lists, deletions and attachments ask for the rights that they need.
#[test]
fn objects_are_worked_with_by_token() {
    let Some((context, _)) = places() else { return };
    let Some(registry) = Registry::with_auth(&context, Auth::Token) else { return };
    let name = registry.reference("team/app:1");
    context.rpub(["tag", "ls", &registry.reference("team/app")]).code(4);
    let login = ["login", "-u", USERNAME, "--password-stdin", &registry.name()];
    context.rpub(login).input(PASSWORD).success();
    context.rpub(["build-push", "-q", "-t", &name, "app"]).success();
    let output = context.rpub(["tag", "ls", &registry.reference("team/app")]).success();
    assert_eq!(output.line(), "1");
    let output = context.rpub(["repo", "ls", &registry.name()]).success();
    assert_eq!(output.line(), "team/app");
    let attach = ["artifact", "attach", "-q", &name, "--artifact-type", "application/vnd.sig"];
    let signature = context.rpub(attach).success();
    let output = context.rpub(["referrers", &name, "--format", "{{.reference}}"]).success();
    assert_eq!(output.line(), signature.line());
    context.rpub(["manifest", "rm", signature.line()]).success();
    context.rpub(["tag", "rm", &name]).success();
    context.rpub(["digest", &name]).code(3);
}
