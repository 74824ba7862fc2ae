//! Artifacts: files that go and come back, what is attached to images, and what no honest tool would
//! push.

use serde_json::{Value, json};

use crate::context::{TestContext, digest_of, has_tools};

use super::objects::{Place, lines, places, push};

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

/// Pushes an artifact with one layer of these bytes and annotations, as no honest tool would.
fn push_crafted(context: &TestContext, place: &Place, bytes: &[u8], annotations: &Value) {
    let repository = place.reference("crafted");
    context.rpub(["blob", "put", "-q", &repository]).input("{}").success();
    let layer = context.rpub(["blob", "put", "-q", &repository]).input(bytes).success();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x-evil",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(b"{}"), "size": 2,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer.line(), "size": bytes.len(), "annotations": annotations,
        }],
    });
    let put = context.rpub(["manifest", "put", &format!("{repository}:1")]);
    put.input(manifest.to_string()).success();
}

const TITLE: &str = "org.opencontainers.image.title";

const UNPACK: &str = "io.deis.oras.content.unpack";

/// A name, and a file's content or a link's target.
type Member<'a> = (&'a str, Result<&'a str, &'a str>);

/// Returns the compressed tar of these members.
fn archive(entries: &[Member]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(encoder);
    for (name, what) in entries {
        let mut header = tar::Header::new_ustar();
        let content = match what {
            Ok(content) => content.as_bytes(),
            Err(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
                b""
            }
        };
        header.set_size(content.len() as u64);
        header.set_mode(0o6755);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn no_artifact_leaves_its_directory() {
    let Some((context, places)) = places() else { return };
    let place = &places[0];
    let name = place.reference("crafted:1");
    let pull = ["artifact", "pull", "-q", &name, "-o", "out"];
    for title in ["../evil", "/tmp/rpub-evil", "a/../../evil", ".", "a\nb"] {
        push_crafted(&context, place, b"evil", &json!({ TITLE: title }));
        let output = context.rpub(pull).code(1);
        output.expect_error("refused the file name");
    }
    let unpacked: &[(&str, &[Member])] = &[
        ("a name that climbs", &[("d/../../evil", Ok("x"))]),
        ("a name beside", &[("d/a", Ok("x")), ("evil", Ok("x"))]),
        ("a link out", &[("d/link", Err("../../evil"))]),
        ("an absolute link", &[("d/link", Err("/etc/passwd"))]),
        ("a link by a link", &[("d/a", Err(".")), ("d/link", Err("a/a/../../../evil"))]),
        ("a file through a link", &[("d/link", Err("/tmp")), ("d/link/rpub-evil", Ok("x"))]),
        ("a link instead of the directory", &[("d", Err("/tmp"))]),
    ];
    for (what, entries) in unpacked {
        let annotations = json!({ TITLE: "d", UNPACK: "true" });
        push_crafted(&context, place, &archive(entries), &annotations);
        let output = context.rpub(pull).run();
        assert!(!output.status.success(), "{what}\n{output}");
    }
    // Another content than the annotation says.
    let digest = "io.deis.oras.content.digest";
    let annotations = json!({ TITLE: "d", UNPACK: "true", digest: digest_of(b"other") });
    push_crafted(&context, place, &archive(&[("d/a", Ok("x"))]), &annotations);
    context.rpub(pull).code(7);
    assert!(!context.path("evil").exists());
    assert!(!std::path::Path::new("/tmp/rpub-evil").exists());
    assert_eq!(fs_err::read_dir(context.path("out")).unwrap().count(), 0, "nothing is left");

    // Set-id bits go, and links of the user's are not followed.
    context.directory("out/real");
    std::os::unix::fs::symlink("real", context.path("out/d")).unwrap();
    let annotations = json!({ TITLE: "d", UNPACK: "true" });
    push_crafted(&context, place, &archive(&[("d/a", Ok("x"))]), &annotations);
    context.rpub(pull).code(1).expect_error("is there already");
    context.rpub(pull).arg("--overwrite").success();
    assert!(!context.path("out/real/a").exists());
    let metadata = fs_err::symlink_metadata(context.path("out/d/a")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o7777, 0o755);
}

/// Another client reads what we push: the `oci-client` crate.
#[test]
fn another_client_reads_an_artifact() {
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    use oci_client::secrets::RegistryAuth;

    let Some((context, places)) = places() else { return };
    context.write("data.txt", "data");
    // The process may have one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for place in &places {
        let name = place.reference("files:1");
        let push = ["artifact", "push", "-q", &name, "data.txt:text/plain"];
        context.rpub(push).args(["--artifact-type", "application/x-test"]).success();
        let protocol = ClientProtocol::Http;
        let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
        let reference = name.parse().unwrap();
        let content = runtime.block_on(async {
            let auth = RegistryAuth::Anonymous;
            let (manifest, _) = client.pull_image_manifest(&reference, &auth).await.unwrap();
            assert_eq!(manifest.artifact_type.as_deref(), Some("application/x-test"));
            let layer = &manifest.layers[0];
            assert_eq!(layer.media_type, "text/plain");
            let mut content = Vec::new();
            client.pull_blob(&reference, layer, &mut content).await.unwrap();
            content
        });
        assert_eq!(content, b"data");
    }
}
