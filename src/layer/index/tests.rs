use super::*;

fn sample() -> PathIndex {
    let mut builder = IndexBuilder::default();
    let mut etc = Entry::new("etc", EntryKind::Directory, 0o755);
    etc.mtime = -5;
    builder.insert(etc, None);
    let passwd = Entry::new("etc/passwd", EntryKind::File { size: 4 }, 0o644);
    builder.insert(passwd, Some(b"root".to_vec()));
    let mut ping = Entry::new("usr/bin/ping", EntryKind::File { size: 9 }, 0o4755);
    ping.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 255]);
    ping.xattrs.insert(b"user.a".to_vec(), Vec::new());
    (ping.uid, ping.gid) = (70_000, 3);
    builder.insert(ping, None);
    let target = PathBuf::from("../x");
    builder.insert(Entry::new("usr/bin.old", EntryKind::Symlink { target }, 0o777), None);
    builder
        .insert(Entry::new("dev/sda", EntryKind::BlockDevice { major: 8, minor: 1 }, 0o600), None);
    builder.whiteout(Path::new("etc/shadow"));
    builder.opaque(Path::new("var/cache"));
    builder.finish().unwrap()
}

fn paths(index: &PathIndex) -> Vec<&str> {
    index.records().map(|record| record.path().to_str().unwrap()).collect()
}

#[test]
fn saves_and_loads_the_same_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = sample();
    index.save(&path).unwrap();
    assert_eq!(PathIndex::load(&path).unwrap(), Some(index));
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1, "a temporary file is left");
    assert!(PathIndex::load(&directory.path().join("absent")).unwrap().is_none());
}

#[test]
fn sorts_what_lies_below_a_directory_right_after_it() {
    let expected = [
        "",
        "dev",
        "dev/sda",
        "etc",
        "etc/passwd",
        "etc/shadow",
        "usr",
        "usr/bin",
        "usr/bin/ping",
        "usr/bin.old",
        "var",
        "var/cache",
    ];
    assert_eq!(paths(&sample()), expected);
    let index = sample();
    let names: Vec<_> = index.children(Path::new("usr")).iter().map(|r| r.path()).collect();
    assert_eq!(names, [Path::new("usr/bin"), Path::new("usr/bin.old")]);
    assert_eq!(index.children(Path::new("")).len(), 4);
    assert!(index.children(Path::new("etc/passwd")).is_empty());
}

#[test]
fn keeps_every_field() {
    let index = sample();
    let get = |path: &str| index.get(Path::new(path)).unwrap();
    assert_eq!(get("etc").entry().unwrap().mtime, -5);
    assert!(!get("etc").is_implied() && get("usr").is_implied() && get("").is_implied());
    assert_eq!(get("etc/passwd").content(), Some(&b"root"[..]));
    assert_eq!(get("etc").content(), None);
    assert!(get("etc/shadow").is_whiteout() && get("etc/shadow").entry().is_none());
    assert!(get("var/cache").is_opaque() && get("var/cache").is_implied());
    let ping = get("usr/bin/ping").entry().unwrap();
    assert_eq!((ping.uid, ping.gid, ping.mode), (70_000, 3, 0o4755));
    assert_eq!(ping.xattrs[&b"security.capability"[..]], [1, 0, 255]);
    assert_eq!(ping.xattrs.len(), 2);
    assert_eq!(get("dev/sda").kind(), Some(EntryKind::BlockDevice { major: 8, minor: 1 }));
    assert_eq!(get("usr/bin.old").kind(), Some(EntryKind::Symlink { target: "../x".into() }));
    assert!(index.get(Path::new("usr/bi")).is_none());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut builder = IndexBuilder::default();
    builder.insert(Entry::new("a/b/c", EntryKind::Fifo, 0o600), None);
    builder.insert(Entry::new("a.x", EntryKind::Fifo, 0o600), None);
    builder.insert(Entry::new("a", EntryKind::File { size: 0 }, 0o600), None);
    assert_eq!(paths(&builder.finish().unwrap()), ["", "a", "a.x"]);

    let mut builder = IndexBuilder::default();
    builder.whiteout(Path::new("a"));
    builder.insert(Entry::new("a", EntryKind::Directory, 0o700), None);
    builder.insert(Entry::new("b", EntryKind::Directory, 0o700), None);
    builder.whiteout(Path::new("b"));
    builder.insert(Entry::new("b", EntryKind::Directory, 0o711), None);
    let index = builder.finish().unwrap();
    assert!(index.get(Path::new("a")).unwrap().is_opaque());
    assert!(index.get(Path::new("b")).unwrap().is_opaque());
    assert_eq!(index.get(Path::new("b")).unwrap().entry().unwrap().mode, 0o711);
}

#[test]
fn refuses_damaged_and_newer_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    sample().save(&path).unwrap();
    let good = fs_err::read(&path).unwrap();
    for at in [0, 9, 14, 17, 25, 40, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs_err::write(&path, bad).unwrap();
        assert!(PathIndex::load(&path).is_err(), "byte {at} changed without notice");
    }
    for length in [0, 10, 32, good.len() - 1] {
        fs_err::write(&path, &good[..length]).unwrap();
        assert!(matches!(PathIndex::load(&path), Err(Error::Index { .. })), "{length} bytes");
    }
    let mut newer = good;
    newer[8] = 2;
    fs_err::write(&path, newer).unwrap();
    assert!(matches!(PathIndex::load(&path), Err(Error::IndexVersion { version: 2, .. })));
}
