//! `validate`.

use serde_json::{Value, json};

use super::editing::Editing;
use crate::context::{CraftedLayer, digest_of, push_crafted};

const BOTH: &str = "linux/amd64,linux/arm64";

#[test]
fn a_sound_image_is_sound_wherever_it_is() {
    let Some(it) = Editing::new() else { return };
    let name = it.image("team/app:1", ["x", "y"], BOTH);
    let (digest, index) = it.manifest("team/app", "1");
    let output = it.run(&["validate", &name]);
    output.expect_output(&format!("{name}: sound: 3 manifests, 4 blobs"));
    let json = it.run(&["validate", "--fast", "--format", "json", &name]).json();
    assert_eq!((&json["sound"], &json["digest"]), (&json!(true), &json!(digest)));
    assert_eq!((&json["faults"], &json["manifests"]), (&json!([]), &json!(3)));
    it.run(&["validate", "--local"]).expect_output("sound");
    it.run(&["validate", "--local", &name]).expect_output("sound");

    it.context.rpub(["build", "-q", "-o", "type=oci,tar=false,dest=layout", "app"]).success();
    it.run(&["validate", "oci:layout"]).expect_output("oci:layout: sound: 1 manifests, 3 blobs");
    let amd = index["manifests"][0]["digest"].as_str().unwrap();
    it.run(&["validate", &it.reference(&format!("team/app@{amd}"))]).expect_output("1 manifests");
}

/// Returns the faults as `digest: message`.
fn faults(report: &Value) -> Vec<String> {
    let faults = report["faults"].as_array().unwrap().iter();
    let text = |fault: &Value| {
        format!("{}: {}", fault["digest"].as_str().unwrap(), fault["message"].as_str().unwrap())
    };
    faults.map(text).collect()
}

#[test]
fn every_fault_of_a_registry_is_found() {
    let Some(it) = Editing::new() else { return };
    let name = it.image("team/app:1", ["x", "y"], BOTH);
    let (_, index) = it.manifest("team/app", "1");
    let amd = it.of_index("team/app", "1", "amd64");
    let arm = it.of_index("team/app", "1", "arm64");
    let digest = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    let (cut, gone) = (digest(&amd["layers"][0]), digest(&amd["layers"][1]));
    let wrong = digest(&arm["config"]);
    let spoil = |digest: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = it.registry.blob_path(digest);
        let mut bytes = fs_err::read(&path).unwrap();
        change(&mut bytes);
        fs_err::write(&path, bytes).unwrap();
    };
    spoil(&cut, &|bytes| bytes[20] ^= 1);
    spoil(&wrong, &|bytes| bytes[10] ^= 1);
    let delete = |what: &str| {
        let url = format!("http://{}/v2/team/app/{what}", it.registry.name());
        it.context.tool("curl").args(["-sf", "-X", "DELETE", &url]).success();
    };
    delete(&format!("blobs/{gone}"));

    let output = it.context.rpub(["validate", &name, "--format", "json"]).code(7);
    let found = faults(&output.json());
    let has = |digest: &str, text: &str| {
        found.iter().any(|line| line.starts_with(digest) && line.contains(text))
    };
    assert!(has(&cut, "does not match its digest"), "{found:#?}");
    assert!(has(&gone, "it is not there"), "{found:#?}");
    assert!(has(&wrong, "does not match its digest"), "{found:#?}");
    output.expect_error("found 3 faults");
    // Without reading them, only what is missing is found, and the config, which is read.
    let fast = it.context.rpub(["validate", "--fast", &name]).code(7);
    assert!(fast.stdout.contains(&gone) && !fast.stdout.contains(&cut), "{fast}");

    // A manifest that an index names and that is gone.
    let arm_manifest = digest(&index["manifests"][1]);
    delete(&format!("manifests/{arm_manifest}"));
    let output = it.context.rpub(["validate", &name, "--format", "json"]).code(7);
    let found = faults(&output.json()).join("\n");
    assert!(found.contains(&format!("{arm_manifest}: the index names it, but")), "{found}");
}

#[test]
fn layers_must_be_what_the_config_says() {
    let Some(it) = Editing::new() else { return };
    let tar = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        tar.append_data(&mut header, name, &b"x"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let right = CraftedLayer::gzip(&tar("a"));
    let lying = CraftedLayer { diff_id: digest_of(b"x"), ..CraftedLayer::gzip(&tar("b")) };
    let no_tar = CraftedLayer::gzip(&[b'x'; 3000]);
    let cut = CraftedLayer::gzip(&tar("d"));
    let cut = CraftedLayer { blob: cut.blob[..cut.blob.len() - 9].to_vec(), ..cut };
    let layers = [right, lying, no_tar, cut];
    let Some(digests) = push_crafted(&it.context, &it.registry, "team/app:1", &layers) else {
        return;
    };
    let name = it.reference("team/app:1");
    let output = it.context.rpub(["validate", &name, "--format", "json"]).code(7);
    let found = faults(&output.json());
    assert_eq!(found.len(), 3, "{found:#?}");
    for (digest, text) in digests[1..].iter().zip([
        "but its diffID is",
        "invalid tar header",
        "it cannot be decompressed",
    ]) {
        let line = found.iter().find(|line| line.starts_with(digest)).unwrap();
        assert!(line.contains(text), "{line}");
    }
    it.run(&["validate", "--fast", &name]);
    it.refused(&["validate", &it.reference("team/none:1")], 3, "team/none:1");
    it.refused(&["validate"], 2, "no image to look at");
    it.refused(&["validate", "oci:nowhere"], 3, "No such file");
}

#[test]
fn faults_of_a_layout_and_of_the_store_are_found() {
    let Some(it) = Editing::new() else { return };
    it.image("team/app:1", ["x", "y"], "linux/amd64");
    it.context.rpub(["build", "-q", "-o", "type=oci,tar=false,dest=layout", "app"]).success();
    let (_, manifest) = it.manifest("team/app", "1");
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let hex = layer.strip_prefix("sha256:").unwrap();
    for (root, args) in [("layout", ["validate", "oci:layout"]), ("store", ["validate", "--local"])]
    {
        let path = it.context.path(format!("{root}/blobs/sha256/{hex}"));
        fs_err::remove_file(&path).unwrap();
        let output = it.context.rpub(args).code(7);
        output.expect_output(&format!("{layer}: it is not there"));
        fs_err::write(&path, "something else").unwrap();
        it.context.rpub(args).code(7).expect_output(&format!("{layer}: content of"));
    }
}
