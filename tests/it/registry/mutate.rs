//! `mutate`.

use serde_json::json;

use super::editing::Editing;
use crate::context::{Registry, digest_of, verify_image};

const BOTH: &str = "linux/amd64,linux/arm64";

#[test]
fn a_config_changes_and_the_layers_stay() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let (before, manifest) = it.manifest("team/app", "1");
    let target = it.reference("other/app:2");
    let seen = it.registry.requests().len();
    let output = it.run(&[
        "mutate",
        &image,
        "-t",
        &target,
        "-l",
        "who=me",
        "-e",
        "A=3",
        "--unset-env",
        "B",
        "--entrypoint",
        "/bin/sh,-c",
        "--user",
        "7:8",
        "--workdir",
        "/work",
        "--exposed-ports",
        "80,53/udp",
        "--volume",
        "/data",
        "-a",
        "note=x",
        "--time",
        "2020-01-02T03:04:05Z",
    ]);
    let config = verify_image(&it.registry, "other/app", "2");
    let expected = json!({
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=3"],
        "ArgsEscaped": true, "WorkingDir": "/work", "Labels": {"who": "me"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
        "Entrypoint": ["/bin/sh", "-c"], "User": "7:8",
    });
    assert_eq!(config["config"], expected);
    assert_eq!(config["created"], "2020-01-02T03:04:05Z");
    let (digest, changed) = it.manifest("other/app", "2");
    assert_eq!(output.line(), format!("{target}@{digest}"));
    assert_eq!(changed["layers"], manifest["layers"]);
    assert_eq!(changed["annotations"], json!({"note": "x"}));
    // The one new blob is the config; the original is as it was.
    let puts = it.writes(seen);
    assert_eq!(puts.iter().filter(|line| line.starts_with("PUT ")).count(), 2, "{puts:#?}");
    assert_eq!(it.manifest("team/app", "1").0, before);
    it.skopeo_reads("other/app:2");

    // And back again: the bytes are the same, but for the order of what was set anew.
    let unset = ["--unset-label", "who", "--unset-annotation", "note", "--unset-volume", "/data"];
    it.run(&[&["mutate", &target][..], &unset[..]].concat());
    let (_, back) = it.manifest("other/app", "2");
    assert_eq!(back.get("annotations"), None);
    let config = it.config("other/app", &back);
    assert_eq!((config["config"].get("Labels"), config["config"].get("Volumes")), (None, None));
}

#[test]
fn every_image_of_an_index_changes_or_those_chosen() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    let (before, document) = it.manifest("team/app", "1");
    let mutate = ["mutate", &index, "-l", "a=b", "--format", "json"];
    let report = it.run(&[&mutate[..], &["-p", "linux/arm64"]].concat()).json();
    let (digest, changed) = it.manifest("team/app", "1");
    assert_eq!(changed["manifests"][0], document["manifests"][0]);
    assert_ne!(changed["manifests"][1], document["manifests"][1]);
    assert_eq!(report["previous"], *before);
    assert_eq!(report["digest"], *digest);
    assert_eq!(report["images"][0]["platform"], "linux/arm64");
    assert_eq!(report["images"][0]["digest"], changed["manifests"][1]["digest"]);

    it.run(&["mutate", &index, "-l", "a=b", "-a", "index:i=1", "-a", "manifest-descriptor:d=1"]);
    let (_, all) = it.manifest("team/app", "1");
    assert_eq!(all["annotations"], json!({"i": "1"}));
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        assert_eq!(all["manifests"][at]["annotations"], json!({"d": "1"}));
        let image = it.of_index("team/app", "1", architecture);
        assert_eq!(it.config("team/app", &image)["config"]["Labels"], json!({"a": "b"}));
    }
    it.skopeo_reads("team/app:1");
}

#[test]
fn formats_are_converted_and_never_mixed() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    let original = it.manifest("team/app", "1");
    let docker = it.reference("team/app:docker");
    it.run(&["mutate", &index, "--to-docker", "-t", &docker]);
    let (_, list) = it.manifest("team/app", "docker");
    let image = it.of_index("team/app", "docker", "amd64");
    let text = format!("{list}{image}");
    assert!(text.contains("vnd.docker.") && !text.contains("vnd.oci."), "{text}");
    it.skopeo_reads("team/app:docker");
    it.refused(&["mutate", &docker, "-a", "a=b"], 1, "Docker's format");
    it.refused(&["mutate", &index, "--to-docker", "-p", "linux/amd64"], 2, "one index cannot");
    it.run(&["mutate", &docker, "--to-oci"]);
    assert_eq!(it.manifest("team/app", "docker"), original);

    it.run(&["mutate", &index, "-a", "a=b"]);
    it.refused(&["mutate", &index, "--to-docker"], 1, "no place");
}

#[test]
fn times_reach_into_layers() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let dated = it.reference("team/app:dated");
    it.run(&["mutate", &image, "--time", "86400", "--rewrite-timestamp", "-t", &dated]);
    let config = verify_image(&it.registry, "team/app", "dated");
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
    let (digest, manifest) = it.manifest("team/app", "dated");
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = it.registry.blob("team/app", layer["digest"].as_str().unwrap());
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(blob.as_slice()));
        for entry in tar.entries().unwrap() {
            assert!(entry.unwrap().header().mtime().unwrap() <= 86400);
        }
    }
    // Once more changes nothing, and later dates leave the layers alone.
    let again = it.run(&["mutate", &dated, "--time", "86400", "--rewrite-timestamp"]);
    again.expect_error("nothing changed");
    assert_eq!(it.manifest("team/app", "dated").0, digest);
}

#[test]
fn results_go_by_digest_where_no_name_is_given() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let (digest, _) = it.manifest("team/app", "1");
    let repository = it.reference("elsewhere/app");
    let output = it.run(&["mutate", &image, "-l", "a=b", "--repo", &repository]);
    let (name, new) = output.line().split_once('@').unwrap();
    assert_eq!((name, it.registry.tags("elsewhere/app")), (repository.as_str(), Vec::new()));
    assert_eq!(it.manifest("elsewhere/app", new).0, new);
    let by_digest = it.reference(&format!("team/app@{digest}"));
    let output = it.run(&["mutate", &by_digest, "-l", "a=b"]);
    assert!(output.line().ends_with(new), "{output}");
    assert_eq!(it.manifest("team/app", "1").0, digest, "no tag was asked for");
}

#[test]
fn images_of_the_store_are_changed_there() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let seen = it.registry.requests().len();
    let target = it.reference("team/app:2");
    let output = it.run(&["mutate", "--local", &image, "-l", "a=b", "-t", &target]);
    assert_eq!(it.registry.requests().len(), seen);
    let digest = output.line().split_once('@').unwrap().1.to_owned();
    let inspect = it.run(&["inspect", "--format", "{{.Config.Labels}}", &target]);
    assert_eq!(inspect.line(), "map[a:b]");
    it.run(&["push", &target]);
    assert_eq!(it.manifest("team/app", "2").0, digest);
    verify_image(&it.registry, "team/app", "2");
    crate::context::verify_store(&it.context.store());
}

#[test]
fn an_artifact_can_be_annotated_and_is_no_image() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    // The layer of an image as an artifact.
    let (_, mut manifest) = it.manifest("team/app", "1");
    let layer = manifest["layers"][0].clone();
    manifest["artifactType"] = json!("application/x.test");
    manifest["config"] = json!({"mediaType": "application/x.test", "digest": layer["digest"],
        "size": layer["size"]});
    let bytes = manifest.to_string();
    it.context.write("manifest.json", &bytes);
    it.run(&["manifest", "put", &it.reference("team/app:artifact"), "manifest.json"]);
    assert_eq!(it.manifest("team/app", "artifact").0, digest_of(bytes.as_bytes()));
    let artifact = it.reference("team/app:artifact");
    it.refused(&["mutate", &artifact, "-l", "a=b"], 1, "is an artifact (`application/x.test`)");
    it.run(&["mutate", &artifact, "-a", "a=b"]);
    manifest["annotations"] = json!({"a": "b"});
    assert_eq!(it.manifest("team/app", "artifact").1, manifest);
    it.refused(&["rebase", "--check", &image], 2, "does not say which base");
}

#[test]
fn a_mirror_that_is_behind_does_not_undo_what_the_registry_has() {
    let Some(it) = Editing::new() else { return };
    let Some(mirror) = Registry::plain(&it.context) else { return };
    let image = it.image("team/app:1", ["old", "y"], "linux/amd64");
    it.run(&[
        "index",
        "create",
        "--prefer-index=false",
        "-t",
        &mirror.reference("team/app:1"),
        &image,
    ]);
    it.image("team/app:1", ["new", "y"], "linux/amd64");
    let (newest, _) = it.manifest("team/app", "1");
    let (here, there) = (it.registry.name(), mirror.name());
    let text = format!(
        "[[registry]]\nlocation = \"{here}\"\ninsecure = true\n[[registry.mirror]]\n\
         location = \"{there}\"\ninsecure = true\n"
    );
    it.context.write("home/settings/containers/registries.conf", text);
    it.refused(&["mutate", &image, "-l", "a=b"], 1, "is not what was edited any more");
    assert_eq!(it.manifest("team/app", "1").0, newest);
}

#[test]
fn referrers_stay_behind_and_that_is_said() {
    let Some(it) = Editing::new() else { return };
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let (digest, mut manifest) = it.manifest("team/app", "1");
    let size = it.registry.get("/v2/team/app/manifests/1").body.len();
    let kind = manifest["mediaType"].clone();
    manifest["subject"] = json!({"mediaType": kind, "digest": digest, "size": size});
    manifest["artifactType"] = json!("application/x.test");
    it.context.write("signature.json", manifest.to_string());
    let repository = it.reference("team/app");
    it.run(&["manifest", "put", "--by-digest", &repository, "signature.json"]);
    let output = it.run(&["mutate", &image, "-l", "a=b", "--format", "json"]);
    output.expect_error(&format!("1 referrers (signatures and the like) stay with {digest}"));
    assert_eq!(output.json()["leftBehind"], json!([{"digest": digest, "referrers": 1}]));
}

#[test]
fn wrong_words_are_refused_before_anything_is_asked() {
    let Some(it) = Editing::new() else { return };
    let name = it.reference("team/none:1");
    for (args, text) in [
        (["-l", "novalue"], "invalid `--label novalue`"),
        (["-e", "=x"], "invalid `--env =x`"),
        (["--workdir", "relative"], "it is not absolute"),
        (["--exposed-ports", "http"], "invalid `--exposed-ports http`"),
        (["--cmd", "[1]"], "no JSON list"),
        (["--time", "soon"], "invalid time `soon`"),
        (["--set-platform", "a/b/c/d"], "invalid `--set-platform"),
        (["-a", "what:a=b"], "unknown annotation type"),
        (["-t", "name@sha256:0"], "invalid"),
    ] {
        it.refused(&[&["mutate", &name][..], &args[..]].concat(), 2, text);
    }
    assert_eq!(it.registry.requests(), Vec::<String>::new());
    it.refused(&["mutate", &name, "-l", "a=b"], 3, "failed to read");
    let image = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let output =
        it.refused(&["mutate", &image, "-p", "linux/s390x", "-l", "a=b"], 3, "no image for");
    output.expect_error("it is one image for linux/amd64");
}
