//! Archives as `docker save` has written them.

use std::io::Write as _;

use serde_json::json;

use super::*;

/// Writes a tar with these files; a target makes a symbolic link.
fn tar_of(path: &Path, members: &[(&str, Member<'_>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).expect("a file"));
    for (name, member) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match member {
            Member::File(bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, *bytes).expect("written");
            }
            Member::Symbolic(target) | Member::Hard(target) => {
                let is_hard = matches!(member, Member::Hard(_));
                let kind = if is_hard { tar::EntryType::Link } else { tar::EntryType::Symlink };
                header.set_entry_type(kind);
                header.set_size(0);
                builder.append_link(&mut header, name, target).expect("written");
            }
        }
    }
    builder.finish().expect("finished");
}

enum Member<'a> {
    File(&'a [u8]),
    Symbolic(&'a str),
    Hard(&'a str),
}

fn read_layers(archive: &Archive) -> Vec<Vec<u8>> {
    let image = archive.find(None).expect("one image");
    let manifest = archive.manifest(&image.descriptor.digest, None).expect("a manifest");
    let layers = &manifest.as_image().expect("an image").layers;
    layers.iter().map(|layer| archive.read(&layer.digest, 1 << 20).expect("read")).collect()
}

#[test]
fn old_archives_have_links_several_names_and_none() {
    let place = Place::new();
    let path = place.path("old.tar");
    let layers = [b"layer one".to_vec(), b"layer two".to_vec(), b"layer one".to_vec()];
    let config = config_of(&layers);
    let manifest = json!([
        { "Config": "c.json", "RepoTags": ["alpine:3", "example.com/a:1"],
          "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"] },
        { "Config": "d.json", "RepoTags": null, "Layers": ["4/layer.tar"] },
    ]);
    let other = config_of(&layers[1..2]);
    tar_of(
        &path,
        &[
            ("c.json", Member::File(&config)),
            ("d.json", Member::File(&other)),
            ("1/layer.tar", Member::File(&layers[0])),
            ("2/layer.tar", Member::File(&layers[1])),
            ("3/layer.tar", Member::Symbolic("../1/layer.tar")),
            ("4/layer.tar", Member::Hard("2/layer.tar")),
            ("manifest.json", Member::File(&serde_json::to_vec(&manifest).expect("JSON"))),
        ],
    );
    let archive = Archive::open(&path).expect("open");
    assert_eq!(archive.form(), Form::Docker);
    assert_eq!(names(&archive), ["alpine:3", "example.com/a:1", ""]);
    let image = archive.find(Some("alpine:3")).expect("found");
    let manifest = archive.manifest(&image.descriptor.digest, None).expect("a manifest");
    let image = manifest.as_image().expect("an image");
    assert_eq!(archive.read(&image.config.digest, 1 << 20).expect("read"), config);
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(layer.media_type, media_type::OCI_LAYER_TAR);
        assert_eq!(archive.read(&layer.digest, 1 << 20).expect("read"), *bytes);
    }
}

#[test]
fn compressed_layers_and_archives_are_read() {
    let place = Place::new();
    let plain = b"a layer's tar".repeat(50);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).expect("written");
    let layer = encoder.finish().expect("compressed");
    let config = config_of(&[plain]);
    for name in [format!("{}.tar.gz", Digest::of(&layer).hex()), "layer.tar".to_owned()] {
        let manifest = json!([{ "Config": "c", "RepoTags": ["a:1"], "Layers": [&name] }]);
        let manifest = serde_json::to_vec(&manifest).expect("JSON");
        let path = place.path("it.tar");
        tar_of(
            &path,
            &[
                (&name, Member::File(&layer)),
                ("c", Member::File(&config)),
                ("manifest.json", Member::File(&manifest)),
            ],
        );
        assert_eq!(read_layers(&Archive::open(&path).expect("open")), [layer.as_slice()]);
        let packed = place.path("it.tar.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&fs::read(&path).expect("read")).expect("written");
        fs::write(&packed, encoder.finish().expect("compressed")).expect("written");
        assert_eq!(read_layers(&Archive::open(&packed).expect("open")), [layer.as_slice()]);
        let refused = ArchiveWriter::append(&packed).err().expect("it is compressed");
        assert!(refused.to_string().contains("unpack it first"), "{refused}");
        let zst = zstd::encode_all(&fs::read(&path).expect("read")[..], 1).expect("compressed");
        let piped = Archive::from_reader(&zst[..], Path::new("standard input")).expect("open");
        assert_eq!(read_layers(&piped), [layer.as_slice()]);
    }
}

#[test]
fn a_layer_that_is_not_its_diff_id_is_noticed() {
    let place = Place::new();
    let path = place.path("it.tar");
    let config = config_of(&[b"the right one".to_vec()]);
    let manifest = |layers: &[&str]| {
        let value = json!([{ "Config": "c", "RepoTags": ["a:1"], "Layers": layers }]);
        serde_json::to_vec(&value).expect("JSON")
    };
    let write = |layers: &[&str]| {
        tar_of(
            &path,
            &[
                ("l", Member::File(b"the wrong one")),
                ("out", Member::Symbolic("../../../etc/passwd")),
                ("round", Member::Symbolic("round")),
                ("c", Member::File(&config)),
                ("manifest.json", Member::File(&manifest(layers))),
            ],
        );
        Archive::open(&path)
    };
    let archive = write(&["l"]).expect("open");
    let image = archive.find(None).expect("one image");
    let manifest = archive.manifest(&image.descriptor.digest, None).expect("a manifest");
    let layer = &manifest.as_image().expect("an image").layers[0];
    assert!(matches!(archive.read(&layer.digest, 100), Err(Error::Mismatch(_))));
    for bad in [&["l", "l"][..], &[], &["missing"], &["out"], &["round"]] {
        assert!(write(bad).is_err(), "{bad:?}");
    }
}
