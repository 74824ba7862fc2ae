//! Behaviour of the store.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use tempfile::TempDir;

use crate::image::{
    Algorithm, Descriptor, DiffId, Digest, ImageManifest, Index, Manifest, Reference, media_type,
};

use super::{Error, Store};

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Puts an image of one layer, whose bytes are `seed`, and returns its manifest.
fn image(store: &Store, seed: &str) -> Manifest {
    let layer = seed.as_bytes();
    store.put_blob(layer).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        diff_id(seed)
    );
    store.put_blob(config.as_bytes()).unwrap();
    let manifest = Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
        layers: vec![Descriptor::of(media_type::OCI_LAYER_TAR, layer)],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    });
    store.put_manifest(&manifest).unwrap();
    manifest
}

fn diff_id(seed: &str) -> DiffId {
    DiffId(Digest::of(format!("diff of {seed}").as_bytes()))
}

fn names(store: &Store) -> Vec<String> {
    let show = |name: Option<Reference>| name.map_or("<none>".to_owned(), |name| name.familiar());
    let mut names: Vec<_> = store.images().unwrap().into_iter().map(|i| show(i.name)).collect();
    names.sort();
    names
}

fn make_old(path: &Path, age: Duration) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.file().set_modified(SystemTime::now() - age).unwrap();
}

fn files(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn a_new_store_is_private_and_an_image_layout() {
    let (_directory, store) = store();
    let mode = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let layout = fs::read_to_string(store.root().join("oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let again = Store::open(store.root()).unwrap();
    assert_eq!(again.images().unwrap(), []);
}

#[test]
fn an_interrupted_making_is_completed() {
    let (_directory, store) = store();
    fs::remove_file(store.root().join("rpub.json")).unwrap();
    let manifest = image(&store, "a");
    store.tag(&name("a"), &manifest.descriptor()).unwrap();
    let again = Store::open(store.root()).unwrap();
    assert_eq!(names(&again), ["a:latest"]);
    assert!(store.root().join("rpub.json").exists());
}

#[test]
fn refuses_newer_versions_and_foreign_directories() {
    let (directory, store) = store();
    fs::write(store.root().join("rpub.json"), br#"{"version":2,"x":1}"#).unwrap();
    let error = Store::open(store.root()).unwrap_err();
    assert!(error.to_string().ends_with("has format version 2; this rpub knows 1"), "{error}");
    fs::write(store.root().join("rpub.json"), b"{").unwrap();
    assert!(matches!(Store::open(store.root()), Err(Error::Corrupt { .. })));
    let home = directory.path().join("home");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("letter"), b"").unwrap();
    assert!(matches!(Store::open(&home), Err(Error::NotAStore { .. })));
    assert_eq!(files(&home), 1);
}

#[test]
fn a_damaged_index_is_an_error_that_names_it() {
    let (_directory, store) = store();
    fs::write(store.root().join("index.json"), b"{\"schemaVersion\":2,").unwrap();
    let error = store.images().unwrap_err();
    let expected = format!("`{}/index.json` is damaged", store.root().display());
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(store.tag(&name("a"), &Descriptor::of("x", b"a")).is_err());
    assert!(store.collect_garbage().is_err());
}

#[test]
fn a_writer_makes_a_blob_of_what_it_verified() {
    let (_directory, store) = store();
    let expected = Descriptor::of("x", b"hello");
    let mut writer = store.writer().unwrap();
    writer.write_all(b"hel").unwrap();
    writer.write_all(b"lo").unwrap();
    assert!(!store.has_blob(&expected.digest));
    assert_eq!(writer.commit(Some(&expected)).unwrap(), (expected.digest.clone(), 5));
    assert_eq!(store.blob_size(&expected.digest).unwrap(), Some(5));
    assert_eq!(store.read_blob(&expected.digest, 5).unwrap(), b"hello");
    assert!(matches!(store.read_blob(&expected.digest, 4), Err(Error::TooLarge { .. })));
    assert_eq!(files(&store.root().join("ingest")), 0);
}

#[test]
fn sha512_is_verified_and_kept_too() {
    let (_directory, store) = store();
    let mut hasher = crate::blob::Hasher::new(Algorithm::Sha512);
    hasher.update(b"hello");
    let (digest, size) = hasher.finish();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"hello").unwrap();
    let expected = Descriptor::new("x", digest.clone(), size);
    writer.commit(Some(&expected)).unwrap();
    assert_eq!(store.read_blob(&digest, 100).unwrap(), b"hello");
}

#[test]
fn a_mismatch_leaves_nothing() {
    let (_directory, store) = store();
    for start in [Store::writer, |store: &Store| store.resumable_writer("x")] {
        for wrong in [b"jello".as_slice(), b"hell"] {
            let mut writer = start(&store).unwrap();
            writer.write_all(wrong).unwrap();
            let result = writer.commit(Some(&Descriptor::of("x", b"hello")));
            assert!(matches!(result, Err(Error::Mismatch(_))));
            assert_eq!(files(&store.root().join("ingest")), 0);
            assert_eq!(files(&store.root().join("blobs/sha256")), 0);
        }
    }
}

#[test]
fn a_damaged_blob_is_noticed_when_read() {
    let (_directory, store) = store();
    let digest = store.put_blob(b"hello").unwrap();
    fs::write(store.blob_path(&digest), b"jello").unwrap();
    assert!(matches!(store.read_blob(&digest, 100), Err(Error::Mismatch(_))));
}

#[test]
fn adopted_files_must_have_their_size() {
    let (_directory, store) = store();
    let digest = Digest::of(b"hello");
    for (bytes, fits) in [(b"hell".as_slice(), false), (b"hello", true)] {
        let ingest = store.ingest_file().unwrap();
        ingest.file().write_all(bytes).unwrap();
        assert_eq!(store.adopt(ingest, &digest, 5).is_ok(), fits);
        assert_eq!(store.has_blob(&digest), fits);
    }
    assert_eq!(files(&store.root().join("ingest")), 0);
}

#[test]
fn partial_blobs_go_on_where_they_stopped() {
    let (_directory, store) = store();
    let mut writer = store.resumable_writer("upload").unwrap();
    writer.write_all(b"hel").unwrap();
    assert!(matches!(store.resumable_writer("upload"), Err(Error::Busy(_))));
    drop(writer);
    let mut writer = store.resume_writer("upload").unwrap().unwrap();
    assert_eq!(writer.position(), 3);
    writer.write_all(b"lo").unwrap();
    writer.commit(Some(&Descriptor::of("x", b"hello"))).unwrap();
    assert!(store.resume_writer("upload").unwrap().is_none());
}

#[test]
fn write_errors_name_the_path() {
    let (_directory, store) = store();
    // What a full disk does to a file under way.
    let mut writer = store.writer().unwrap();
    writer.replace_file_for_test("/dev/full");
    let error = writer.write_all(&[0; 4096]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("/dev/full"), "{error}");
    drop(writer);
    fs::remove_dir_all(store.root().join("ingest")).unwrap();
    let error = store.put_blob(b"x").unwrap_err();
    assert!(error.to_string().contains("/ingest/"), "{error}");
}

#[test]
fn names_move_and_leave_dangling_images() {
    let (_directory, store) = store();
    let [a, b] = ["a", "b"].map(|seed| image(&store, seed));
    store.tag(&name("app"), &a.descriptor()).unwrap();
    store.tag(&name("app:1"), &a.descriptor()).unwrap();
    assert_eq!(names(&store), ["app:1", "app:latest"]);
    store.tag(&name("app"), &b.descriptor()).unwrap();
    assert_eq!(names(&store), ["app:1", "app:latest"]);
    store.tag(&name("app:1"), &b.descriptor()).unwrap();
    assert_eq!(names(&store), ["<none>", "app:1", "app:latest"]);
    assert_eq!(store.resolve(&name("app:1")).unwrap(), Some(b.descriptor()));
    store.tag(&name("old"), &a.descriptor()).unwrap();
    assert_eq!(names(&store), ["app:1", "app:latest", "old:latest"]);
    assert_eq!(store.remove_name(&name("old")).unwrap(), Some(a.descriptor()));
    assert_eq!(store.remove_name(&name("old")).unwrap(), None);
    assert_eq!(store.remove_image(&b.digest).unwrap(), 2);
    assert_eq!(names(&store), [""; 0]);
}

#[test]
fn digests_name_images_too() {
    let (_directory, store) = store();
    let manifest = image(&store, "a");
    let by_digest = name(&format!("r.example/app@{}", manifest.digest));
    store.tag_all(&[(None, manifest.descriptor())]).unwrap();
    assert_eq!(names(&store), ["<none>"]);
    store.tag(&by_digest, &manifest.descriptor()).unwrap();
    assert_eq!(names(&store), [by_digest.to_string()]);
    store.tag(&name("r.example/app:1"), &manifest.descriptor()).unwrap();
    assert_eq!(names(&store), ["r.example/app:1"]);
    store.tag(&by_digest, &manifest.descriptor()).unwrap();
    store.tag_all(&[(None, manifest.descriptor())]).unwrap();
    assert_eq!(names(&store), ["r.example/app:1"]);
    let elsewhere = name(&format!("other@{}", manifest.digest));
    assert_eq!(store.resolve(&elsewhere).unwrap(), Some(manifest.descriptor()));
}

#[test]
fn names_of_other_tools_are_understood() {
    let (_directory, store) = store();
    let manifest = image(&store, "a");
    let text = fs::read_to_string(store.root().join("index.json")).unwrap();
    let entry = format!(
        r#"[{{"mediaType":"{}","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"app","theirs":"1"}}}}]"#,
        manifest.media_type,
        manifest.digest,
        manifest.bytes.len()
    );
    fs::write(store.root().join("index.json"), text.replace("[]", &entry)).unwrap();
    assert_eq!(names(&store), ["app:latest"]);
    let found = store.resolve(&name("docker.io/library/app:latest")).unwrap().unwrap();
    assert_eq!(found.annotations.get("theirs").map(String::as_str), Some("1"));
    store.tag(&name("app"), &image(&store, "b").descriptor()).unwrap();
    assert_eq!(names(&store), ["<none>", "app:latest"]);
}

#[test]
fn concurrent_tags_lose_nothing() {
    let (_directory, store) = store();
    let manifest = image(&store, "a");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            // A store of its own, as another process has.
            let store = Store::open(store.root()).unwrap();
            let descriptor = manifest.descriptor();
            scope.spawn(move || {
                for number in 0..10 {
                    store.tag(&name(&format!("app:{thread}-{number}")), &descriptor).unwrap();
                }
            });
        }
    });
    assert_eq!(names(&store).len(), 80);
}

#[test]
fn concurrent_making_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let root = root.clone();
            scope.spawn(move || {
                let store = Store::open(&root).unwrap();
                let manifest = image(&store, &thread.to_string());
                store.tag(&name(&format!("app:{thread}")), &manifest.descriptor()).unwrap();
            });
        }
    });
    assert_eq!(names(&Store::open(&root).unwrap()).len(), 8);
}

#[test]
fn garbage_is_what_no_image_reaches() {
    let (_directory, store) = store();
    let [kept, lost] = ["kept", "lost"].map(|seed| image(&store, seed));
    store.tag(&name("kept"), &kept.descriptor()).unwrap();
    let cached = store.put_blob(b"cached layer").unwrap();
    let record =
        format!(r#"{{"layer":{{"digest":"{cached}"}},"diff_id":"{}"}}"#, diff_id("cached"));
    store.put_cache_record(&Digest::of(b"key"), record.as_bytes()).unwrap();
    for seed in ["kept", "lost", "cached"] {
        fs::create_dir_all(store.snapshot_path("root", &diff_id(seed))).unwrap();
        fs::write(store.paths_index_path(&diff_id(seed)), b"index").unwrap();
    }
    let reclaimed = store.collect_garbage().unwrap();
    assert_eq!((reclaimed.blobs, reclaimed.snapshots.len()), (3, 1));
    assert!(store.has_blob(&cached) && store.has_blob(&kept.digest));
    assert!(store.has_blob(&Digest::of(b"kept")) && !store.has_blob(&lost.digest));
    assert!(store.paths_index_path(&diff_id("cached")).exists());
    assert!(!store.paths_index_path(&diff_id("lost")).exists());
    assert!(!store.snapshot_path("root", &diff_id("lost")).exists());
    assert!(store.snapshot_path("root", &diff_id("kept")).exists());
    // Until the worker removes it, the snapshot is listed again.
    assert_eq!(store.collect_garbage().unwrap().snapshots, reclaimed.snapshots);
    store.remove_cache_record(&Digest::of(b"key")).unwrap();
    assert_eq!(store.collect_garbage().unwrap().blobs, 1);
    assert!(!store.has_blob(&cached));
}

#[test]
fn an_index_keeps_its_manifests() {
    let (_directory, store) = store();
    let child = image(&store, "child");
    let index = Index {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        manifests: vec![child.descriptor(), Descriptor::of(media_type::OCI_MANIFEST, b"absent")],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = store.put_blob(&bytes).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_INDEX, digest, bytes.len() as u64);
    store.tag(&name("multi"), &descriptor).unwrap();
    assert_eq!(store.collect_garbage().unwrap().blobs, 0);
    let by_digest = name(&format!("multi@{}", child.digest));
    assert_eq!(store.resolve(&by_digest).unwrap(), Some(child.descriptor()));
}

#[test]
fn a_damaged_manifest_stops_collection() {
    let (_directory, store) = store();
    let manifest = image(&store, "a");
    store.tag(&name("a"), &manifest.descriptor()).unwrap();
    fs::write(store.blob_path(&manifest.digest), b"{}").unwrap();
    assert!(store.collect_garbage().is_err());
    assert!(store.has_blob(&Digest::of(b"a")));
}

#[test]
fn what_a_killed_process_left_is_ignored_then_swept() {
    let (_directory, store) = store();
    let ingest = store.root().join("ingest");
    let hour = Duration::from_secs(3600);
    for (file, age) in [("dead", hour), ("new.partial", hour), ("old.partial", 30 * hour)] {
        fs::write(ingest.join(file), b"half a blo").unwrap();
        make_old(&ingest.join(file), age);
    }
    fs::write(store.root().join("tmp/index"), b"{").unwrap();
    make_old(&store.root().join("tmp/index"), hour);
    fs::create_dir_all(store.temporary_path()).unwrap();
    let unpacking = store.snapshot_temporary("root").unwrap();
    fs::create_dir_all(&unpacking).unwrap();
    let mut alive = store.writer().unwrap();
    alive.write_all(b"alive").unwrap();
    make_old(alive.ingest_path_for_test(), hour);

    let store = Store::open(store.root()).unwrap();
    assert_eq!(store.images().unwrap(), []);
    let reclaimed = store.collect_garbage().unwrap();
    assert_eq!(reclaimed.snapshots.len(), 2);
    assert!(reclaimed.snapshots.contains(&unpacking));
    assert!(!ingest.join("dead").exists() && !ingest.join("old.partial").exists());
    assert!(ingest.join("new.partial").exists());
    assert_eq!(reclaimed.bytes, 21);
    alive.commit(None).unwrap();
}

#[test]
fn collection_never_runs_beside_a_command() {
    let (_directory, store) = store();
    let manifest = image(&store, "being built");
    let (one, two) = (store.lock_shared().unwrap(), store.lock_shared().unwrap());
    assert_eq!(store.try_collect_garbage().unwrap(), None);
    drop(one);
    let waiting = {
        let store = store.clone();
        std::thread::spawn(move || store.collect_garbage().unwrap())
    };
    store.tag(&name("built"), &manifest.descriptor()).unwrap();
    drop(two);
    assert_eq!(waiting.join().unwrap().blobs, 0);
    assert!(store.try_collect_garbage().unwrap().is_some());
}

#[test]
fn cache_records_are_replaced_and_an_empty_one_is_none() {
    let (_directory, store) = store();
    let key = Digest::of(b"key");
    assert_eq!(store.cache_record(&key).unwrap(), None);
    store.put_cache_record(&key, b"1").unwrap();
    store.put_cache_record(&key, b"2").unwrap();
    assert_eq!(store.cache_record(&key).unwrap(), Some(b"2".to_vec()));
    assert_eq!(store.cache_keys().unwrap(), std::slice::from_ref(&key));
    store.put_cache_record(&key, b"").unwrap();
    assert_eq!(store.cache_record(&key).unwrap(), None);
    store.remove_cache_record(&key).unwrap();
    store.remove_cache_record(&key).unwrap();
}

#[test]
fn what_was_got_from_elsewhere_stays_while_it_is_used() {
    let (_directory, store) = store();
    let key = |text: &str| Digest::of(text.as_bytes());
    let [used, unused] =
        ["a", "b"].map(|name| store.remote_entry(super::RemoteKind::Http, &key(name)).unwrap());
    fs::write(unused.join("file"), "content").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(15 * 24 * 60 * 60);
    let age = |path: &Path| fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    age(&used);
    age(&unused);
    store.remote_entry(super::RemoteKind::Http, &key("a")).unwrap();
    let reclaimed = store.collect_garbage().unwrap();
    assert_eq!(reclaimed.snapshots.len(), 1);
    assert_eq!(fs::read_to_string(reclaimed.snapshots[0].join("file")).unwrap(), "content");
    assert!(used.exists() && !unused.exists());
}

#[test]
fn what_newer_content_has_replaced_goes() {
    let (_directory, store) = store();
    let file = store.remote_entry(super::RemoteKind::Http, &Digest::of(b"a")).unwrap();
    for name in ["old", "new"] {
        fs::create_dir(file.join(name)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let git = store.remote_entry(super::RemoteKind::Git, &Digest::of(b"a")).unwrap();
    fs::create_dir_all(git.join("trees/one")).unwrap();
    fs::create_dir(git.join("repository")).unwrap();
    fs::write(git.join("repository/HEAD"), "ref").unwrap();
    assert_eq!(store.collect_garbage().unwrap().snapshots.len(), 1);
    assert!(!file.join("old").exists() && file.join("new").exists());
    let long_ago = SystemTime::now() - Duration::from_secs(61 * 24 * 60 * 60);
    let head = fs::OpenOptions::new().write(true).open(git.join("repository/HEAD")).unwrap();
    head.file().set_modified(long_ago).unwrap();
    store.collect_garbage().unwrap();
    assert!(!git.join("repository").exists() && git.join("trees/one").exists());
}

#[test]
fn an_entry_is_changed_by_one_at_a_time() {
    let (_directory, store) = store();
    let entry = store.remote_entry(super::RemoteKind::Git, &Digest::of(b"a")).unwrap();
    let lock = store.try_lock_remote(&entry).unwrap();
    assert!(lock.is_some());
    assert!(store.try_lock_remote(&entry).unwrap().is_none());
    drop(lock);
    assert!(store.try_lock_remote(&entry).unwrap().is_some());
}
