//! Tags, manifests, blobs, referrers and artifacts, against the distribution registry and ours.

use serde_json::{Value, json};

use crate::context::{Auth, Registry, Role, Serve, TestContext, digest_of, has_tools};

/// What the tests are done against. The distribution registry has no referrers API and deletes no
/// tags; ours has both.
struct Place {
    name: String,
    is_ours: bool,
    registry: Option<Registry>,
    _serve: Option<Serve>,
}

impl Place {
    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name)
    }
}

/// A context of an unprivileged user, and both registries.
fn places() -> Option<(TestContext, Vec<Place>)> {
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
fn push(context: &TestContext, place: &Place, repository: &str, tags: &[&str]) -> String {
    let mut command = context.rpub(["build-push", "-q"]);
    for tag in tags {
        command = command.args(["-t", &place.reference(&format!("{repository}:{tag}"))]);
    }
    let output = command.arg("app").success();
    output.line().lines().next().unwrap().split_once('@').unwrap().1.to_owned()
}

fn lines(text: &str) -> Vec<&str> {
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

/// Wire row U19: in a registry without the API the index under the fallback tag is kept on push and
/// on deletion. Wire row U20: it is listed the same way.
#[test]
fn what_is_attached_is_listed_until_it_is_removed() {
    let Some((context, places)) = places() else { return };
    context.write("sbom.json", "{}");
    for place in &places {
        let subject = push(&context, place, "app", &["1"]);
        let image = place.reference("app:1");
        let attach = |name: &str, kind: &str, more: &[&str]| {
            let command = context.rpub(["artifact", "attach", "-q", name, "--artifact-type", kind]);
            command.args(more).success().line().to_owned()
        };
        let file = "sbom.json:application/spdx+json";
        let sbom = attach(&image, "application/spdx+json", &[file, "-a", "who=me"]);
        let signature = attach(&image, "application/vnd.sig", &[]);
        let deep = attach(&sbom, "application/vnd.sig", &[]);
        // The same once more is the same.
        assert_eq!(attach(&image, "application/vnd.sig", &[]), signature);

        let output = context.rpub(["referrers", &image, "--format", "json"]).success();
        let listed = output.json();
        assert_eq!(listed["source"], if place.is_ours { "api" } else { "tag" });
        assert_eq!(listed["subject"], format!("{}@{subject}", place.reference("app")));
        let all = listed["referrers"].as_array().unwrap();
        assert_eq!(all.len(), 2, "{listed}");
        assert_eq!(all[0]["reference"], sbom);
        assert_eq!(all[0]["artifactType"], "application/spdx+json");
        assert_eq!(all[0]["annotations"]["who"], "me");
        let wanted = ["--artifact-type", "application/vnd.sig", "--format", "{{.reference}}"];
        let output = context.rpub(["referrers", &image]).args(wanted).success();
        assert_eq!(output.line(), signature);

        let digest = |name: &str| name.split_once('@').unwrap().1.to_owned();
        let output = context.rpub(["artifact", "tree", &image]).success();
        let expected = format!(
            "{}@{subject}\n├── {} application/spdx+json\n│   └── {} application/vnd.sig\n\
             └── {} application/vnd.sig\n",
            place.reference("app"),
            digest(&sbom),
            digest(&deep),
            digest(&signature)
        );
        assert_eq!(output.stdout, expected);
        let output = context.rpub(["artifact", "tree", &image, "--format", "json"]).success();
        assert_eq!(output.json()["referrers"][0]["referrers"][0]["reference"], deep);

        context.rpub(["manifest", "rm", &signature]).success();
        let output = context.rpub(["referrers", &image, "--format", "{{.reference}}"]).success();
        assert_eq!(output.line(), sbom);
        context.rpub(["manifest", "rm", &sbom]).success();
        let output = context.rpub(["referrers", &image, "--format", "{{.reference}}"]).success();
        assert_eq!(output.line(), "");
        context.rpub(["referrers", &place.reference("app:no")]).code(3);
    }
}

#[test]
fn files_go_and_come_back() {
    let Some((context, places)) = places() else { return };
    context.write("in/docs/a", "a");
    context.write("in/docs/sub/b", "b");
    context.write("in/data.json", r#"{"x": 1}"#);
    std::os::unix::fs::symlink("../a", context.path("in/docs/sub/link")).unwrap();
    let notes = json!({"$manifest": {"one": "1"}, "data.json": {"two": "2"}});
    context.write("in/notes.json", notes.to_string());
    for place in &places {
        let name = place.reference("files:1,2");
        let push = ["artifact", "push", "-q", &name, "docs", "data.json:application/json"];
        let more = ["--artifact-type", "application/x-test", "-a", "k=v"];
        let push = context.rpub(push).args(more).args(["--annotation-file", "notes.json"]);
        let output = push.current_dir(context.path("in")).success();
        let pinned = output.line().to_owned();
        for tag in ["1", "2"] {
            let tagged = place.reference(&format!("files:{tag}"));
            let output = context.rpub(["digest", "--full-ref", &tagged]).success();
            assert_eq!(output.line(), pinned);
        }
        let manifest = context.rpub(["manifest", "get", &pinned]).success().json();
        assert_eq!(manifest["artifactType"], "application/x-test");
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
        assert_eq!(manifest["annotations"], json!({"k": "v", "one": "1"}));
        let layers = &manifest["layers"];
        assert_eq!(layers[0]["annotations"]["org.opencontainers.image.title"], "docs");
        assert_eq!(layers[0]["annotations"]["io.deis.oras.content.unpack"], "true");
        assert_eq!(layers[1]["mediaType"], "application/json");
        assert_eq!(layers[1]["annotations"]["two"], "2");

        let out = if place.is_ours { "ours" } else { "theirs" };
        let pull = ["artifact", "pull", "-q", &pinned, "-o", out];
        let output = context.rpub(pull).success();
        assert_eq!(lines(&output.stdout), [format!("{out}/docs"), format!("{out}/data.json")]);
        let read = |path: &str| fs_err::read_to_string(context.path(out).join(path)).unwrap();
        assert_eq!((read("docs/a"), read("docs/sub/b")), ("a".to_owned(), "b".to_owned()));
        assert_eq!(read("docs/sub/link"), "a");
        assert_eq!(read("data.json"), r#"{"x": 1}"#);
        let names = fs_err::read_dir(context.path(out)).unwrap().count();
        assert_eq!(names, 2, "nothing else is left there");

        let output = context.rpub(pull).code(1);
        output.expect_error("is there already");
        context.write(format!("{out}/data.json"), "changed");
        let output = context.rpub(pull).args(["--overwrite", "--format", "json"]).success();
        assert_eq!(output.json()["files"][1]["path"], format!("{out}/data.json"));
        assert_eq!(read("data.json"), r#"{"x": 1}"#);

        context.rpub(["artifact", "push", &place.reference("files:1"), "no-such"]).code(1);
        context.rpub(["artifact", "push", &place.reference("files:1"), "in/data.json:x"]).code(2);
        context.rpub(["artifact", "pull", &place.reference("files:no")]).code(3);
    }
}

/// A tool that is not ours reads what we push, and we what it copies.
#[test]
fn artifacts_are_read_by_others() {
    let Some((context, places)) = places() else { return };
    if !has_tools(&["skopeo"]) {
        return;
    }
    context.write("data.txt", "data");
    for place in &places {
        let name = place.reference("files:1");
        context.rpub(["artifact", "push", "-q", &name, "data.txt:text/plain"]).success();
        let layout = context.path(if place.is_ours { "ours" } else { "theirs" });
        let copied = context
            .tool("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
            .arg(format!("docker://{name}"))
            .arg(format!("dir:{}", layout.display()))
            .run();
        copied.expect_code(0);
        let blob = digest_of(b"data");
        assert_eq!(fs_err::read(layout.join(&blob[7..])).unwrap(), b"data");
        let back = place.reference("back:1");
        let copied = context
            .tool("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .arg(format!("dir:{}", layout.display()))
            .arg(format!("docker://{back}"))
            .run();
        copied.expect_code(0);
        let output = context.rpub(["artifact", "pull", "-q", &back, "-o", "out", "--overwrite"]);
        output.success();
        assert_eq!(fs_err::read_to_string(context.path("out/data.txt")).unwrap(), "data");
    }
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
