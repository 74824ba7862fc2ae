//! `append`, `flatten` and `rebase`.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use super::editing::Editing;
use crate::context::{CraftedLayer, Unpacked, push_crafted, verify_image};

/// Makes a tar of files; a content of `None` is a directory.
fn tar(members: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        let kind =
            if content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
        header.set_entry_type(kind);
        header.set_mode(if content.is_some() { 0o640 } else { 0o750 });
        header.set_mtime(1000);
        header.set_size(content.unwrap_or_default().len() as u64);
        tar.append_data(&mut header, path, content.unwrap_or_default().as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut out).unwrap();
    out
}

/// Returns the files of one layer: path, mode and content.
fn members(it: &Editing, repository: &str, layer: &Value) -> BTreeMap<String, (u32, String)> {
    let blob = it.registry.blob(repository, layer["digest"].as_str().unwrap());
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(blob.as_slice()));
    let mut members = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        members.insert(path, (entry.header().mode().unwrap(), content));
    }
    members
}

#[test]
fn layers_of_files_and_of_standard_input_are_appended() {
    let Some(it) = Editing::new() else { return };
    let base = it.image("team/base:1", ["x", "y"], "linux/amd64,linux/arm64");
    let plain = tar(&[("new", None), ("new/one", Some("1"))]);
    let packed = gzip(&tar(&[("new/two", Some("2"))]));
    it.context.write("plain.tar", &plain);
    it.context.write("packed.tar.gz", &packed);
    let target = it.reference("team/app:1");
    let append = ["append", "-b", &base, "-t", &target, "-f", "plain.tar", "-f", "packed.tar.gz"];
    let output = it
        .context
        .rpub(append)
        .args(["-f", "-", "--set-base-image-annotations", "--time", "0"])
        .input(tar(&[("new/.wh.one", Some(""))]))
        .success();
    let (digest, index) = it.manifest("team/app", "1");
    assert_eq!(output.line(), format!("{target}@{digest}"));
    let (_, base_index) = it.manifest("team/base", "1");
    for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let image = it.of_index("team/app", "1", architecture);
        let old = &base_index["manifests"][at]["digest"];
        assert_eq!(
            image["annotations"],
            json!({
                "org.opencontainers.image.base.name": base,
                "org.opencontainers.image.base.digest": old,
            })
        );
        assert_eq!(image["layers"].as_array().unwrap().len(), 5);
        let files = members(&it, "team/app", &image["layers"][2]);
        assert_eq!(files["new/one"], (0o640, "1".to_owned()));
        // A layer that is compressed already goes as it is.
        let layer = image["layers"][3]["digest"].as_str().unwrap();
        assert_eq!(it.registry.blob("team/app", layer), packed);
        let config = it.config("team/app", &image);
        let history = config["history"].as_array().unwrap();
        let made = &history[history.len() - 3];
        assert_eq!(
            *made,
            json!({"created": "1970-01-01T00:00:00Z",
            "created_by": "rpub append plain.tar"})
        );
        assert_eq!(config["config"]["Cmd"], json!(["/a"]));
    }
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    verify_image(&it.registry, "team/app", image);
    it.skopeo_reads("team/app:1");

    // The same again is the same.
    let again = it.context.rpub(append).args(["-f", "-", "--set-base-image-annotations"]);
    let again = again.args(["--time", "0"]).input(tar(&[("new/.wh.one", Some(""))])).success();
    assert!(again.line().ends_with(&digest), "{again}");
}

#[test]
fn an_image_begins_with_nothing() {
    let Some(it) = Editing::new() else { return };
    it.context.write("plain.tar", tar(&[("one", Some("1"))]));
    let target = it.reference("team/app:1");
    let append = ["append", "-t", &target, "-p", "linux/arm64", "plain.tar", "--format", "json"];
    let report = it.run(&append).json();
    let config = verify_image(&it.registry, "team/app", "1");
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("arm64")));
    assert_eq!((&report["previous"], &report["sent"]), (&Value::Null, &json!(2)));
    if let Some(image) = Unpacked::new(&it.context, &it.registry, "team/app:1") {
        assert_eq!(fs_err::read_to_string(image.path("one")).unwrap(), "1");
    }
}

#[test]
fn what_is_no_layer_is_not_appended() {
    let Some(it) = Editing::new() else { return };
    let base = it.image("team/base:1", ["x", "y"], "linux/amd64");
    let whole = gzip(&tar(&[("one", Some("1"))]));
    it.context.write("junk", "this is no tar, however one reads it".repeat(30));
    it.context.write("cut.tar.gz", &whole[..whole.len() - 10]);
    it.context.write("empty", "");
    let target = it.reference("team/app:1");
    for (file, text) in [
        ("junk", "it is no layer"),
        ("cut.tar.gz", "it is no layer"),
        ("empty", "it is no layer"),
        ("missing", "cannot be opened"),
    ] {
        it.refused(&["append", "-b", &base, "-t", &target, "-f", file], 1, text);
    }
    it.refused(&["append", "-b", &base, "-t", &target], 2, "no layer to append");
    it.refused(&["append", "-b", &base, "-f", "junk"], 2, "has no name");
    assert_eq!(it.registry.tags("team/app"), Vec::<String>::new());
}

#[test]
fn a_flat_image_has_the_same_files_in_one_layer() {
    let Some(it) = Editing::new() else { return };
    let layers = [
        tar(&[
            ("d", None),
            ("d/gone", Some("x")),
            ("d/kept", Some("k")),
            ("opaque", None),
            ("opaque/old", Some("o")),
        ]),
        tar(&[
            ("d/.wh.gone", Some("")),
            ("opaque", None),
            ("opaque/.wh..wh..opq", Some("")),
            ("opaque/new", Some("n")),
        ]),
        tar(&[("d/kept", Some("changed"))]),
    ];
    let layers: Vec<_> = layers.iter().map(|tar| CraftedLayer::gzip(tar)).collect();
    if push_crafted(&it.context, &it.registry, "team/app:1", &layers).is_none() {
        return;
    }
    let (before, _) = it.manifest("team/app", "1");
    let (image, target) = (it.reference("team/app:1"), it.reference("team/flat:1"));
    it.run(&["flatten", &image, "-t", &target]);
    let config = verify_image(&it.registry, "team/flat", "1");
    let (digest, manifest) = it.manifest("team/flat", "1");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let files = members(&it, "team/flat", &manifest["layers"][0]);
    let file = |content: &str| (0o640, content.to_owned());
    let directory = || (0o750, String::new());
    let expected = [
        ("d/", directory()),
        ("d/kept", file("changed")),
        ("opaque/", directory()),
        ("opaque/new", file("n")),
    ];
    assert_eq!(files, expected.map(|(path, what)| (path.to_owned(), what)).into());
    assert_eq!(config["config"], json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}));
    assert_eq!(config["history"][0]["created_by"], "rpub flatten");
    assert_eq!(config["history"][0]["comment"], format!("3 layers of {before}"));
    if let Some(image) = Unpacked::new(&it.context, &it.registry, "team/flat:1") {
        assert_eq!(fs_err::read_to_string(image.path("d/kept")).unwrap(), "changed");
        assert!(!image.path("d/gone").exists() && !image.path("opaque/old").exists());
    }
    // One layer is flat.
    let again = it.run(&["flatten", &target, "--format", "{{.changed}} {{.digest}}"]);
    assert_eq!(again.line(), format!("false {digest}"));
    it.refused(&["flatten", &it.reference("team/none:1")], 3, "team/none:1");
}

#[test]
fn a_flat_image_is_not_made_of_a_lying_layer() {
    let Some(it) = Editing::new() else { return };
    let mut layer = CraftedLayer::gzip(&tar(&[("a", Some("a"))]));
    layer.diff_id = crate::context::digest_of(b"something else");
    let other = CraftedLayer::gzip(&tar(&[("b", Some("b"))]));
    if push_crafted(&it.context, &it.registry, "team/app:1", &[layer, other]).is_none() {
        return;
    }
    it.refused(&["flatten", &it.reference("team/app:1")], 7, "failed to read layer");
}

#[test]
fn an_image_moves_to_a_newer_base() {
    let Some(it) = Editing::new() else { return };
    let base = it.image("team/base:1", ["old", "y"], "linux/amd64,linux/arm64");
    let (old_base, _) = it.manifest("team/base", "1");
    it.context.write("app.tar", tar(&[("app", Some("app"))]));
    let app = it.reference("team/app:1");
    let append = ["append", "-b", &base, "-t", &app, "-f", "app.tar"];
    it.run(&[&append[..], &["--set-base-image-annotations"]].concat());
    it.run(&["mutate", &app, "-e", "APP=1"]);
    it.run(&["rebase", "--check", &app]).expect_output("is up to date");

    it.image("team/base:1", ["new", "y"], "linux/amd64,linux/arm64");
    let check = it.context.rpub(["rebase", "--check", &app, "--format", "json"]).code(1);
    let first: Value = serde_json::from_str(check.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["outdated"], &first["base"]), (&json!(true), &json!(base)));

    let rebased = it.reference("team/app:2");
    it.run(&["rebase", &app, "-t", &rebased]);
    it.run(&["rebase", "--check", &rebased]);
    it.skopeo_reads("team/app:2");
    for architecture in ["amd64", "arm64"] {
        let new_base = it.of_index("team/base", "1", architecture);
        let image = it.of_index("team/app", "2", architecture);
        let layers = image["layers"].as_array().unwrap();
        assert_eq!(layers[..2], new_base["layers"].as_array().unwrap()[..]);
        let before = it.of_index("team/app", "1", architecture);
        assert_eq!(layers[2..], before["layers"].as_array().unwrap()[2..]);
        let (config, was) = (it.config("team/app", &image), it.config("team/app", &before));
        assert_eq!(config["config"], was["config"]);
        assert_eq!(
            config["history"].as_array().unwrap().len(),
            was["history"].as_array().unwrap().len()
        );
    }
    // Named bases win over annotations; a wrong one is refused.
    let old = it.reference(&format!("team/base@{old_base}"));
    it.run(&["rebase", &app, "--old_base", &old, "--new_base", &base]);
    assert_eq!(it.manifest("team/app", "1"), it.manifest("team/app", "2"));
    let rebase = ["rebase", &rebased, "--old_base", &old, "--new_base", &base];
    it.refused(&rebase, 1, "does not begin with the layers");
    let other = it.image("team/other:1", ["x", "y"], "linux/s390x");
    let rebase = ["rebase", &rebased, "--new_base", &other];
    it.refused(&rebase, 1, "is for linux/s390x, not linux/amd64");
}
