//! `index create|add|rm|annotate|inspect`.

use serde_json::{Value, json};

use super::editing::Editing;
use crate::context::Registry;

const BOTH: &str = "linux/amd64,linux/arm64";

fn platforms(index: &Value) -> Vec<&str> {
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect()
}

#[test]
fn an_index_is_made_of_images_of_other_repositories_and_registries() {
    let Some(it) = Editing::new() else { return };
    let Some(other) = Registry::plain(&it.context) else { return };
    let arm = it.image("one/arm:1", ["x", "y"], "linux/arm64");
    let amd = it.image("two/amd:1", ["x", "z"], "linux/amd64");
    let (here, there) = (it.reference("all/app:1"), other.reference("all/app:1"));
    let output = it.run(&["index", "create", "-t", &here, "-t", &there, &arm, &amd]);
    let (digest, index) = it.manifest("all/app", "1");
    assert_eq!(platforms(&index), ["arm64", "amd64"]);
    assert_eq!(
        output.stdout.lines().collect::<Vec<_>>(),
        [format!("{here}@{digest}"), format!("{there}@{digest}")]
    );
    // Within the registry everything was mounted, and the other one has all of it.
    let uploads = it.registry.requests();
    let put_blob = |line: &&String| line.starts_with("PUT ") && line.contains("/all/app/blobs/");
    assert_eq!(uploads.iter().find(put_blob), None);
    it.skopeo_reads("all/app:1");
    let entry = index["manifests"][0]["digest"].as_str().unwrap();
    let (_, manifest) = other.manifest("all/app", entry).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        other.blob("all/app", layer["digest"].as_str().unwrap());
    }
    assert_eq!(other.manifest("all/app", "1").unwrap().0, digest);
}

#[test]
fn one_index_alone_is_copied_byte_for_byte() {
    let Some(it) = Editing::new() else { return };
    let source = it.image("team/app:1", ["x", "y"], BOTH);
    let target = it.reference("copy/app:1");
    it.run(&["index", "create", "-t", &target, &source]);
    assert_eq!(it.manifest("copy/app", "1"), it.manifest("team/app", "1"));
    // Of one image, only with this word.
    let (_, index) = it.manifest("team/app", "1");
    let digest = index["manifests"][1]["digest"].as_str().unwrap();
    let image = it.reference(&format!("team/app@{digest}"));
    it.run(&["index", "create", "-t", &target, "--prefer-index=false", &image]);
    assert_eq!(it.manifest("copy/app", "1").0, digest);
    it.run(&["index", "create", "-t", &target, &image]);
    assert_eq!(platforms(&it.manifest("copy/app", "1").1), ["arm64"]);
}

#[test]
fn parts_are_chosen_by_platform_file_and_descriptor() {
    let Some(it) = Editing::new() else { return };
    let source = it.image("team/app:1", ["x", "y"], BOTH);
    let target = it.reference("team/app:2");
    it.run(&["index", "create", "-t", &target, "-p", "linux/arm64", &source]);
    assert_eq!(platforms(&it.manifest("team/app", "2").1), ["arm64"]);

    let (_, index) = it.manifest("team/app", "1");
    let mut descriptor = index["manifests"][0].clone();
    descriptor["annotations"] = json!({"from": "file"});
    it.context.write("descriptor", descriptor.to_string());
    let metadata = it.context.path("metadata").display().to_string();
    let create = ["index", "create", "--append", "-t", &target, "-f", "descriptor"];
    let output = it.run(&[&create[..], &["--metadata-file", &metadata, "-a", "k=v"]].concat());
    let (digest, index) = it.manifest("team/app", "2");
    assert_eq!(platforms(&index), ["arm64", "amd64"]);
    assert_eq!(index["manifests"][1], descriptor);
    assert_eq!(index["annotations"], json!({"k": "v"}));
    output.expect_output(&digest);
    let metadata: Value = serde_json::from_slice(&fs_err::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.descriptor"]["digest"], *digest);
    assert_eq!(metadata["image.name"], *target);
}

#[test]
fn a_dry_run_shows_the_index_and_pushes_nothing() {
    let Some(it) = Editing::new() else { return };
    let source = it.image("team/app:1", ["x", "y"], BOTH);
    let seen = it.registry.requests().len();
    let output = it.run(&["index", "create", "--dry-run", "-a", "a=b", &source]);
    assert_eq!(output.json()["annotations"], json!({"a": "b"}));
    assert_eq!(it.writes(seen), Vec::<String>::new());
}

#[test]
fn images_are_added_replaced_and_taken_out() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    let (before, _) = it.manifest("team/app", "1");
    let newer = it.image("other/app:1", ["new", "y"], "linux/arm64");
    let further = it.image("other/app:2", ["new", "y"], "linux/s390x");

    let output = it.run(&["index", "add", &index, &newer, &further]);
    output.expect_error("left out the image for linux/arm64");
    let (_, document) = it.manifest("team/app", "1");
    assert_eq!(platforms(&document), ["amd64", "arm64", "s390x"]);
    let (newer, _) = it.manifest("other/app", "1");
    assert_eq!(document["manifests"][1]["digest"], *newer);
    it.skopeo_reads("team/app:1");

    let output = it.run(&["index", "rm", &index, "linux/s390x", &newer, "--format", "json"]);
    let report = output.json();
    let (after, document) = it.manifest("team/app", "1");
    assert_eq!(platforms(&document), ["amd64"]);
    assert_eq!((&report["digest"], &report["changed"]), (&json!(after), &json!(true)));
    assert_eq!(report["dropped"].as_array().unwrap().len(), 2);
    assert_ne!(before, after);
    // What is gone from the index is still there by its digest.
    assert!(it.registry.manifest("team/app", &newer).is_some());
}

#[test]
fn annotations_are_set_and_removed_where_one_says() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    let (before, document) = it.manifest("team/app", "1");
    let amd = document["manifests"][0]["digest"].as_str().unwrap();
    let by_digest = format!("manifest-descriptor[{amd}]:one=1");
    let annotate = ["index", "annotate", &index, "a=b", "manifest-descriptor[linux/arm64]:c=d"];
    it.run(&[&annotate[..], &["-a", &by_digest]].concat());
    let (_, changed) = it.manifest("team/app", "1");
    assert_eq!(changed["annotations"], json!({"a": "b"}));
    assert_eq!(changed["manifests"][0]["annotations"], json!({"one": "1"}));
    assert_eq!(changed["manifests"][1]["annotations"], json!({"c": "d"}));
    assert_eq!(changed["manifests"][0]["digest"], *amd);

    let undo = ["--unset-annotation", "a", "--unset-annotation", "manifest-descriptor:one"];
    let undo = [&["index", "annotate", &index][..], &undo[..]].concat();
    it.run(&[&undo[..], &["--unset-annotation", "manifest-descriptor[linux/arm64]:c"]].concat());
    assert_eq!(it.manifest("team/app", "1"), (before.clone(), document));

    // An edit that changes nothing sends nothing.
    let seen = it.registry.requests().len();
    let output = it.run(&undo);
    output.expect_error("nothing changed");
    output.expect_output(&before);
    assert_eq!(it.writes(seen), Vec::<String>::new());
}

#[test]
fn an_index_is_shown_as_text_json_and_bytes() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    it.run(&["index", "annotate", &index, "key=value"]);
    let (digest, document) = it.manifest("team/app", "1");
    let text = it.run(&["index", "inspect", &index]);
    for line in [
        format!("Name:         {index}"),
        "MediaType:    application/vnd.oci.image.index.v1+json".to_owned(),
        format!("Digest:       {digest}"),
        "  key: value".to_owned(),
        "  Platform:   linux/arm64".to_owned(),
    ] {
        text.expect_output(&line);
    }
    let raw = it.run(&["index", "inspect", "--raw", &index]);
    assert_eq!(crate::context::digest_of(raw.stdout.as_bytes()), digest);
    let json = it.run(&["index", "inspect", "--format", "json", &index]).json();
    assert_eq!((&json["Manifest"], &json["Digest"]), (&document, &json!(digest)));
    let configs = it.run(&["index", "inspect", "--format", "{{json .Image}}", &index]).json();
    assert_eq!(configs["linux/arm64"]["architecture"], "arm64");
    it.refused(&["index", "inspect", &it.reference("team/app:none")], 3, "404");
}

#[test]
fn what_cannot_be_is_refused_and_nothing_moves() {
    let Some(it) = Editing::new() else { return };
    let index = it.image("team/app:1", ["x", "y"], BOTH);
    let image = it.image("team/one:1", ["x", "y"], "linux/amd64");
    let seen = it.registry.requests().len();
    let output =
        it.refused(&["index", "rm", &index, "linux/riscv64"], 3, "no image for linux/riscv64");
    output.expect_error("it has linux/amd64, linux/arm64");
    it.refused(&["index", "rm", &index, "linux/amd64", "linux/arm64"], 1, "nothing would be left");
    it.refused(&["index", "rm", &image, "linux/amd64"], 1, "is one image, not an index");
    it.refused(&["index", "annotate", &image, "a=b"], 1, "is one image, not an index");
    it.refused(&["index", "annotate", &index, "manifest:a=b"], 2, "changes the images");
    it.refused(&["index", "annotate", &index], 2, "no annotation");
    it.refused(&["index", "create", &image], 2, "has no name");
    it.refused(&["index", "create", "-t", &index], 2, "an index of nothing");
    let missing = it.reference("team/missing:1");
    it.refused(&["index", "create", "-t", &index, &image, &missing], 3, "team/missing:1");
    let create = ["index", "create", "-t", &index, "-p", "linux/s390x", &image];
    it.refused(&create, 3, "was not asked for");
    it.refused(&["index", "add", &missing, &image], 3, "team/missing:1");
    assert_eq!(it.writes(seen), Vec::<String>::new());
}
