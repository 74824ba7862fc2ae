//! Forms read and written, cut, altered and killed.

mod altered;
mod docker;
mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::image::{Descriptor, Digest, ImageManifest, Index, Manifest, Reference, media_type};

use super::{Archive, ArchiveWriter, Error, Form, Name, Stored};

/// An image with everything that it needs.
#[derive(Debug, Clone)]
struct Sample {
    top: Descriptor,
    blobs: Vec<(Descriptor, Vec<u8>)>,
}

impl Sample {
    /// One image with a layer of its own and one that all of them have.
    fn image(seed: &str) -> Self {
        let layers = [seed.as_bytes().repeat(300), b"shared layer".repeat(100)];
        let config = config_of(&layers);
        let described: Vec<Descriptor> =
            layers.iter().map(|bytes| Descriptor::of(media_type::OCI_LAYER_TAR, bytes)).collect();
        let manifest = Manifest::from_image(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: described.clone(),
            subject: None,
            annotations: BTreeMap::new(),
        });
        let mut blobs: Vec<_> = described.into_iter().zip(layers).collect();
        blobs.push((Descriptor::of(media_type::OCI_CONFIG, &config), config));
        blobs.push((manifest.descriptor(), manifest.bytes.clone()));
        Self { top: manifest.descriptor(), blobs }
    }

    /// An index over images.
    fn index(seeds: &[&str]) -> Self {
        let images: Vec<Self> = seeds.iter().map(|seed| Self::image(seed)).collect();
        let manifest = Manifest::from_index(Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: images.iter().map(|image| image.top.clone()).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        });
        let mut blobs: Vec<_> = images.into_iter().flat_map(|image| image.blobs).collect();
        blobs.push((manifest.descriptor(), manifest.bytes.clone()));
        Self { top: manifest.descriptor(), blobs }
    }

    fn named(&self, name: &str) -> Stored {
        Stored::named(self.top.clone(), name.parse().expect("a name"))
    }

    /// Writes what is not there. Returns how many blobs that were.
    fn write(&self, writer: &ArchiveWriter) -> usize {
        let mut count = 0;
        for (descriptor, bytes) in &self.blobs {
            if descriptor.is_manifest() {
                writer.put(descriptor, bytes).expect("put");
            } else if !writer.has(descriptor) {
                let mut blob = writer.blob(descriptor).expect("a blob");
                blob.write_all(bytes).expect("written");
                blob.commit().expect("committed");
                count += 1;
            }
        }
        count
    }

    /// Checks that everything of it is in `archive`.
    fn expect_in(&self, archive: &Archive) {
        for (descriptor, bytes) in &self.blobs {
            assert_eq!(archive.size_of(&descriptor.digest), Some(descriptor.size));
            assert_eq!(archive.read(&descriptor.digest, 1 << 20).expect("read"), *bytes);
            let source = archive.source(descriptor).expect("a source");
            let mut rest = Vec::new();
            source.open(5).expect("open").read_to_end(&mut rest).expect("read");
            assert_eq!(rest, bytes[5..]);
        }
    }
}

fn config_of(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|bytes| Digest::of(bytes)).collect();
    let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    let config = serde_json::json!({ "os": "linux", "architecture": "amd64", "rootfs": rootfs });
    serde_json::to_vec(&config).expect("JSON")
}

fn create(path: &Path, form: Form, images: &[(&Sample, &str)]) {
    let writer = match form {
        Form::Layout => ArchiveWriter::directory(path, form),
        Form::Oci | Form::Docker | Form::Bundle => ArchiveWriter::create(path, form, 0),
    };
    add(&writer.expect("a writer"), images);
}

fn add(writer: &ArchiveWriter, images: &[(&Sample, &str)]) {
    let stored: Vec<Stored> = images.iter().map(|(sample, name)| sample.named(name)).collect();
    for (sample, _) in images {
        sample.write(writer);
    }
    writer.finish(&stored).expect("finished");
}

fn names(archive: &Archive) -> Vec<String> {
    archive
        .images()
        .iter()
        .map(|it| it.name.as_ref().map_or_else(String::new, Name::to_string))
        .collect()
}

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path()).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn every_form_gives_back_what_was_written() {
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    for form in [Form::Layout, Form::Oci, Form::Docker, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        create(&path, form, &[(&a, "example.com/team/a:1"), (&b, "other.example/b:2")]);
        let archive = Archive::open(&path).expect("open");
        assert_eq!(archive.form(), form);
        assert_eq!(names(&archive), ["example.com/team/a:1", "other.example/b:2"], "{form:?}");
        a.expect_in(&archive);
        b.expect_in(&archive);
        assert_eq!(place.files(), ["it"], "{form:?}");
        for wanted in ["2", "other.example/b:2", &b.top.digest.to_string()] {
            assert_eq!(archive.find(Some(wanted)).expect("found").descriptor, b.top);
        }
        let none = Archive::find(&archive, Some("3")).expect_err("no such tag");
        assert!(matches!(none, Error::NoImage { ref has, .. } if has.len() == 2), "{none}");
        assert!(matches!(archive.find(None), Err(Error::Several { count: 2, .. })));
        let missing = archive.read(&Digest::of(b"x"), 10);
        assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    }
}

#[test]
fn every_form_takes_more_images() {
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    for form in [Form::Layout, Form::Oci, Form::Docker, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        create(&path, form, &[(&a, "example.com/a:1"), (&a, "example.com/a:2")]);
        for _ in 0..2 {
            let writer = ArchiveWriter::append(&path).expect("append");
            assert!(a.write(&writer) == 0, "what is there is not written again");
            b.write(&writer);
            let nameless = Stored::nameless(b.top.clone());
            writer.finish(&[b.named("example.com/a:2"), nameless]).expect("finished");
        }
        let archive = Archive::open(&path).expect("open");
        assert_eq!(names(&archive), ["example.com/a:1", "example.com/a:2"], "{form:?}");
        assert_eq!(archive.find(Some("2")).expect("found").descriptor, b.top, "{form:?}");
        a.expect_in(&archive);
        b.expect_in(&archive);
        assert!(!archive.is_interrupted());
    }
}

#[test]
fn other_tools_read_what_was_added() {
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    for form in [Form::Oci, Form::Docker, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        create(&path, form, &[(&a, "example.com/a:1")]);
        add(&ArchiveWriter::append(&path).expect("append"), &[(&b, "example.com/b:2")]);
        let file = fs::File::open(&path).expect("a file");
        let unpacked = place.path("unpacked");
        tar::Archive::new(file).unpack(&unpacked).expect("a tar");
        let layout = Archive::open(&unpacked).expect("a layout");
        assert_eq!(names(&layout), ["example.com/a:1", "example.com/b:2"], "{form:?}");
        a.expect_in(&layout);
        b.expect_in(&layout);
    }
}

#[test]
fn an_addition_that_was_not_finished_changes_nothing_and_is_gone_on_with() {
    let (a, b, c) = (Sample::image("a"), Sample::image("b"), Sample::image("c"));
    for form in [Form::Oci, Form::Docker, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        create(&path, form, &[(&a, "example.com/a:1")]);
        let writer = ArchiveWriter::append(&path).expect("append");
        assert!(matches!(ArchiveWriter::append(&path), Err(Error::Busy(_))));
        b.write(&writer);
        let (large, bytes) = (&c.blobs[0].0, &c.blobs[0].1);
        let mut half = writer.blob(large).expect("a blob");
        half.write_all(&bytes[..bytes.len() / 2]).expect("written");
        // As if the process were killed.
        std::mem::forget(half);
        drop(writer);
        let archive = Archive::open(&path).expect("open");
        assert_eq!(names(&archive), ["example.com/a:1"], "{form:?}");
        assert_eq!(archive.is_interrupted(), form == Form::Bundle);
        a.expect_in(&archive);

        // The forgotten blob holds the lock.
        let copy = place.path("copy");
        fs::copy(&path, &copy).expect("copied");
        let writer = ArchiveWriter::append(&copy).expect("append");
        assert_eq!(b.write(&writer), 0, "{form:?}: it goes on with what is there");
        assert_eq!(c.write(&writer), 2);
        writer.finish(&[b.named("example.com/b:1"), c.named("example.com/c:1")]).expect("finished");
        let archive = Archive::open(&copy).expect("open");
        assert_eq!(names(&archive).len(), 3);
        assert!(!archive.is_interrupted());
        for sample in [&a, &b, &c] {
            sample.expect_in(&archive);
        }
    }
}

#[test]
fn a_bundle_that_was_not_finished_is_gone_on_with() {
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    let place = Place::new();
    let path = place.path("it");
    let writer = ArchiveWriter::create(&path, Form::Bundle, 0).expect("a writer");
    a.write(&writer);
    b.write(&writer);
    assert!(matches!(ArchiveWriter::create(&path, Form::Bundle, 0), Err(Error::Busy(_))));
    drop(writer);
    assert_eq!(place.files(), ["it.partial"]);
    // A power cut may leave other bytes than were written.
    let mut bytes = fs::read(place.path("it.partial")).expect("a file");
    let lost = &a.blobs[0].1;
    let at = bytes.windows(lost.len()).position(|window| window == lost).expect("the layer");
    bytes[at..at + 100].fill(0);
    fs::write(place.path("it.partial"), &bytes).expect("written");
    let writer = ArchiveWriter::create(&path, Form::Bundle, 0).expect("a writer");
    assert_eq!(a.write(&writer), 1, "only what is damaged is written again");
    writer.finish(&[a.named("example.com/a:1")]).expect("finished");
    let archive = Archive::open(&path).expect("open");
    a.expect_in(&archive);
    assert_eq!(place.files(), ["it"]);
    assert_eq!(archive.size_of(&b.top.digest), None, "what nobody asked for is not in it");
    let held = fs::read(&path).expect("a file");
    let unwanted = &b.blobs[0].1;
    assert!(!held.windows(unwanted.len()).any(|window| window == unwanted), "nor its bytes");
}

#[test]
fn blobs_are_written_side_by_side() {
    for form in [Form::Layout, Form::Oci, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        let samples: Vec<Sample> =
            (0..8).map(|number| Sample::image(&format!("image {number}"))).collect();
        let writer = match form {
            Form::Layout => ArchiveWriter::directory(&path, form),
            _ => ArchiveWriter::create(&path, form, 0),
        };
        let writer = writer.expect("a writer");
        std::thread::scope(|scope| {
            for sample in &samples {
                scope.spawn(|| {
                    for (descriptor, bytes) in &sample.blobs {
                        let mut blob = writer.blob(descriptor).expect("a blob");
                        for piece in bytes.chunks(100) {
                            blob.write_all(piece).expect("written");
                        }
                        blob.commit().expect("committed");
                    }
                });
            }
        });
        let name = |number: usize| format!("example.com/app:{number}");
        let images: Vec<Stored> =
            samples.iter().enumerate().map(|(number, it)| it.named(&name(number))).collect();
        writer.finish(&images).expect("finished");
        let archive = Archive::open(&path).expect("open");
        for sample in &samples {
            sample.expect_in(&archive);
        }
    }
}

#[test]
fn wrong_bytes_never_become_a_blob() {
    for form in [Form::Layout, Form::Oci, Form::Bundle] {
        let place = Place::new();
        let path = place.path("it");
        let writer = match form {
            Form::Layout => ArchiveWriter::directory(&path, form),
            _ => ArchiveWriter::create(&path, form, 0),
        };
        let writer = writer.expect("a writer");
        let (wanted, after) = (Descriptor::of("x", b"hello"), Descriptor::of("x", b"after"));
        for wrong in [&b"jello"[..], b"hell", b""] {
            let mut blob = writer.blob(&wanted).expect("a blob");
            blob.write_all(wrong).expect("written");
            assert!(matches!(blob.commit(), Err(Error::Mismatch(_))));
            assert!(!writer.has(&wanted));
        }
        let mut blob = writer.blob(&wanted).expect("a blob");
        writer.put(&after, b"after").expect("put");
        assert!(blob.write_all(b"hello!").is_err());
        drop(blob);
        writer.finish(&[]).expect("finished");
        let archive = Archive::open(&path).expect("open");
        assert_eq!(archive.size_of(&wanted.digest), None, "{form:?}");
        assert_eq!(archive.read(&after.digest, 100).expect("read"), b"after");
    }
}

#[test]
fn a_stream_takes_one_blob_after_another() {
    let place = Place::new();
    let a = Sample::image("a");
    for form in [Form::Oci, Form::Docker, Form::Bundle] {
        let path = place.path("out");
        let out = fs::File::create(&path).expect("a file");
        let writer = ArchiveWriter::stream(Box::new(out), form, 0).expect("a writer");
        assert!(writer.is_sequential());
        add(&writer, &[(&a, "example.com/a:1")]);
        drop(writer);
        let archive = Archive::open(&path).expect("open");
        assert_eq!(archive.form(), form);
        a.expect_in(&archive);
    }
    let writer = ArchiveWriter::stream(Box::new(Vec::new()), Form::Oci, 0).expect("a writer");
    drop(writer.blob(&a.blobs[0].0).expect("a blob"));
    assert!(matches!(writer.blob(&a.blobs[1].0), Err(Error::Broken)));
    assert!(matches!(writer.finish(&[]), Err(Error::Broken)));
}

#[test]
fn a_layout_loses_no_image_of_writers_at_once() {
    let place = Place::new();
    let path = place.path("layout");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let path = &path;
            scope.spawn(move || {
                let sample = Sample::image(&number.to_string());
                create(path, Form::Layout, &[(&sample, &format!("example.com/app:{number}"))]);
            });
        }
    });
    let archive = Archive::open(&path).expect("open");
    assert_eq!(names(&archive).into_iter().collect::<BTreeSet<_>>().len(), 12);
}

#[test]
fn an_index_goes_everywhere_but_into_docker_archives() {
    let index = Sample::index(&["a", "b"]);
    let place = Place::new();
    for (name, form) in [("oci", Form::Oci), ("bundle", Form::Bundle), ("layout", Form::Layout)] {
        create(&place.path(name), form, &[(&index, "example.com/app:1")]);
        index.expect_in(&Archive::open(&place.path(name)).expect("open"));
    }
    let writer = ArchiveWriter::create(&place.path("docker"), Form::Docker, 0).expect("a writer");
    index.write(&writer);
    let refused = writer.finish(&[index.named("example.com/app:1")]);
    assert!(matches!(refused, Err(Error::NotOneImage(_))), "{refused:?}");
    drop(writer);
    assert!(!place.path("docker").exists());
}

#[test]
fn a_delta_names_what_it_leaves_out() {
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    let place = Place::new();
    let path = place.path("delta");
    let theirs: BTreeSet<Digest> = a.blobs.iter().map(|(it, _)| it.digest.clone()).collect();
    let writer = ArchiveWriter::create(&path, Form::Bundle, 0).expect("a writer");
    let writer = writer.leave_out("the other side of Monday".to_owned(), theirs);
    a.write(&writer);
    b.write(&writer);
    writer.finish(&[a.named("example.com/a:1"), b.named("example.com/b:1")]).expect("finished");
    let archive = Archive::open(&path).expect("open");
    let delta = archive.delta().expect("a delta");
    assert_eq!(delta.left_out.len(), 3, "two layers and a config, no manifest: {delta:?}");
    let (own, shared) = (&a.blobs[0].0, &a.blobs[1].0);
    let refused = archive.source(shared).expect("a source").open(0).err().expect("it is left out");
    assert!(refused.to_string().contains("the other side of Monday"), "{refused}");
    assert!(archive.read(&a.top.digest, 1 << 20).is_ok());
    // What comes later is left out no more.
    drop(writer);
    let writer = ArchiveWriter::append(&path).expect("append");
    assert!(!writer.has(own));
    a.write(&writer);
    writer.finish(&[]).expect("finished");
    let archive = Archive::open(&path).expect("open");
    assert_eq!(archive.delta().map(|delta| delta.left_out.len()), Some(0));
    a.expect_in(&archive);
    b.expect_in(&archive);
}

#[test]
fn names_of_other_tools_are_understood() {
    let entry = |annotations: &[(&str, &str)]| {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, b"{}");
        entry.annotations =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Stored::of_entry(&entry).name
    };
    let short = "org.opencontainers.image.ref.name";
    let whole = "io.containerd.image.name";
    let reference = |text: &str| text.parse::<Reference>().ok().map(Name::Whole);
    assert_eq!(entry(&[(short, "1"), (whole, "docker.io/library/a:1")]), reference("a:1"));
    assert_eq!(entry(&[(short, "example.com/a:1")]), reference("example.com/a:1"));
    assert_eq!(entry(&[(short, "a:1")]), reference("a:1"));
    assert_eq!(entry(&[(short, "latest")]), Some(Name::Tag("latest".to_owned())));
    assert_eq!(entry(&[(short, "Ä ö")]), Some(Name::Tag("Ä ö".to_owned())));
    assert_eq!(entry(&[]), None);
}
