use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::layer::{Entry, EntryKind, LayerTar, View};

/// One raw header, without any of the checks that the canonical writer has.
fn raw(name: &str, typeflag: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = crate::layer::header::Fields {
        path: name.as_bytes(),
        link: link.as_bytes(),
        typeflag,
        mode: if typeflag == b'5' { 0o755 } else { 0o644 },
        size: content.len() as u64,
        mtime: 1_000,
        ..Default::default()
    };
    crate::layer::header::write(&mut out, &fields, &std::collections::BTreeMap::new());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn options() -> ApplyOptions {
    let root = rustix::process::geteuid().is_root();
    let ownership = if root { Ownership::Set } else { Ownership::Ignore };
    ApplyOptions { ownership, ..ApplyOptions::default() }
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir(directory.path().join("root")).unwrap();
        fs_err::write(directory.path().join("outside"), "untouched").unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn apply(&self, members: &[Vec<u8>]) -> Result<Applied> {
        let result = apply(members.concat().as_slice(), &self.root(), &options());
        let names: Vec<_> = fs_err::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "something was made outside the root: {names:?}");
        let outside = self.directory.path().join("outside");
        assert_eq!(fs_err::read_to_string(&outside).unwrap(), "untouched");
        let metadata = fs_err::metadata(&outside).unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (1, 0o644));
        result
    }

    fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.root().join(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs_err::symlink_metadata(self.root().join(path)).unwrap().permissions().mode() & 0o7777
    }
}

#[test]
fn hostile_names_are_refused() {
    let cases = [
        raw("../escape", b'0', "", b"x"),
        raw("a/../../escape", b'0', "", b"x"),
        raw("/escape", b'0', "", b"x"),
        raw("..", b'5', "", b""),
        raw("a/..", b'5', "", b""),
        raw(".", b'0', "", b"x"),
        raw("", b'2', "/etc", b""),
        raw("link", b'1', "../outside", b""),
        raw(".wh...", b'0', "", b""),
        raw(".wh..", b'0', "", b""),
        raw("a/.wh.", b'0', "", b""),
        raw("a/../.wh.b", b'0', "", b""),
    ];
    for case in cases {
        let error = Place::new().apply(std::slice::from_ref(&case)).unwrap_err();
        assert!(matches!(error, Error::UnsafePath { .. }), "{error:?} for {case:?}");
    }
}

#[test]
fn links_never_lead_out_of_the_root() {
    for target in ["..", "../..", "/", "/..", "../../../../../..", "x/../../.."] {
        let place = Place::new();
        let members = [raw("up", b'2', target, b""), raw("up/outside", b'0', "", b"inside")];
        place.apply(&members).unwrap();
        assert_eq!(place.read("outside"), "inside", "{target}");
    }
    // An absolute target means the image's root, also for the targets of hard links.
    let place = Place::new();
    let absolute = place.directory.path().join("outside");
    let absolute = absolute.to_str().unwrap();
    let error = place.apply(&[raw("hard", b'1', absolute, b"")]).unwrap_err();
    assert!(matches!(error, Error::HardLinkOutside { .. }), "{error:?}");
    let up = raw("up", b'2', "..", b"");
    let error = Place::new().apply(&[up, raw("hard", b'1', "up/outside", b"")]).unwrap_err();
    assert!(matches!(error, Error::HardLinkOutside { .. }), "{error:?}");
    let place = Place::new();
    let link = raw("file", b'2', absolute, b"");
    place.apply(&[link.clone(), raw("file", b'0', "", b"new")]).unwrap();
    assert_eq!(place.read("file"), "new");
    let place = Place::new();
    place.apply(&[raw("directory", b'2', "..", b""), raw("directory", b'5', "", b"")]).unwrap();
    assert!(place.root().join("directory").symlink_metadata().unwrap().is_dir());
    let error = Place::new().apply(&[link, raw("hard/x", b'1', "file", b"")]);
    assert!(error.is_ok(), "a hard link to the link itself is no harm: {error:?}");
    let around = [raw("a", b'2', "b", b""), raw("b", b'2', "a", b""), raw("a/x", b'0', "", b"")];
    assert!(matches!(Place::new().apply(&around), Err(Error::LinkLoop(_))));
}

#[test]
fn names_through_links_of_the_layer_land_where_the_layer_says() {
    let place = Place::new();
    let members = [
        raw("lib", b'2', "usr/lib", b""),
        raw("lib/one", b'0', "", b"1"),
        raw("usr/bin/", b'5', "", b""),
        raw("usr/bin/back", b'2', "/lib", b""),
        raw("usr/bin/back/two", b'0', "", b"2"),
        raw("three", b'1', "lib/one", b""),
    ];
    let index = place.apply(&members).unwrap().index;
    assert_eq!((place.read("usr/lib/one"), place.read("usr/lib/two")), ("1".into(), "2".into()));
    assert!(index.get(Path::new("lib/one")).is_none());
    assert!(index.get(Path::new("usr/lib")).unwrap().is_implied());
    let target = PathBuf::from("usr/lib/one");
    let three = index.get(Path::new("three")).unwrap();
    assert_eq!(three.kind(), Some(EntryKind::HardLink { target }));
    let file = fs_err::metadata(place.root().join("three")).unwrap();
    assert_eq!(file.nlink(), 2);
}

#[test]
fn a_file_is_not_a_directory() {
    let members = [raw("a", b'0', "", b""), raw("a/b", b'0', "", b"")];
    let error = Place::new().apply(&members).unwrap_err();
    assert!(matches!(error, Error::ParentNotDirectory { .. }), "{error:?}");
    let missing = Place::new().apply(&[raw("a", b'1', "absent", b"")]).unwrap_err();
    assert_eq!(missing.to_string(), "hard link `a` names `absent`, which is not in the same layer");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let members = [
        raw("a/b/c", b'0', "", b"old"),
        raw("a", b'0', "", b"file"),
        raw("d", b'0', "", b"old"),
        raw("d/", b'5', "", b""),
        raw("d/e", b'0', "", b"1"),
        raw("d/e", b'0', "", b"2"),
        raw("d", b'5', "", b""),
        raw("f", b'0', "", b"same"),
        raw("f", b'1', "f", b""),
        raw("g", b'6', "", b""),
        raw("g", b'2', "f", b""),
    ];
    let index = place.apply(&members).unwrap().index;
    assert_eq!(place.read("a") + &place.read("d/e") + &place.read("g"), "file2same");
    let paths: Vec<_> = index.records().map(|record| record.path().to_str().unwrap()).collect();
    assert_eq!(paths, ["", "a", "d", "d/e", "f", "g"]);
}

#[test]
fn deletions_become_what_overlayfs_reads() {
    for form in [WhiteoutForm::Device, WhiteoutForm::Xattr] {
        let place = Place::new();
        let members = [
            raw("etc/.wh.shadow", b'0', "", b""),
            raw("var/.wh..wh..opq", b'0', "", b""),
            raw(".wh..wh.plnk", b'5', "", b""),
            raw("was/new", b'0', "", b"kept"),
            raw(".wh.was", b'0', "", b""),
            raw(".wh.then", b'0', "", b""),
            raw("then/new", b'0', "", b"kept"),
            raw(".wh.etc2", b'0', "", b""),
            raw("etc2", b'0', "", b"file"),
        ]
        .concat();
        let options = ApplyOptions { whiteouts: form, ..options() };
        let index = apply(members.as_slice(), &place.root(), &options).unwrap().index;
        let shadow = fs_err::symlink_metadata(place.root().join("etc/shadow")).unwrap();
        let attribute = |path: &str, name: &str| {
            let mut value = [0; 8];
            let path = place.root().join(path);
            rustix::fs::lgetxattr(&path, name, &mut value).ok().map(|count| value[..count].to_vec())
        };
        let device = form == WhiteoutForm::Device;
        assert_eq!(shadow.file_type().is_char_device(), device);
        assert_eq!(attribute("etc/shadow", "user.overlay.whiteout").is_some(), !device);
        let mark = (!device).then(|| b"x".to_vec());
        assert_eq!(attribute("etc", "user.overlay.opaque"), mark);
        for opaque in ["var", "was", "then"] {
            let value = attribute(opaque, "user.overlay.opaque");
            assert_eq!(value, Some(b"y".to_vec()), "{opaque}");
            assert!(index.get(Path::new(opaque)).unwrap().is_opaque());
        }
        assert_eq!(place.read("was/new") + &place.read("then/new"), "keptkept");
        assert_eq!(place.read("etc2"), "file");
        assert!(index.get(Path::new("etc/shadow")).unwrap().is_whiteout());
        assert!(index.get(Path::new(".wh..wh.plnk")).is_none());
    }
}

#[test]
fn metadata_is_restored() {
    let mut tar = LayerTar::new(Vec::new());
    let root = rustix::process::geteuid().is_root();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut add = |path: &str, kind: EntryKind, mode: u32, xattrs: &[(&str, &[u8])]| {
        let mut entry = Entry::new(path, kind, mode);
        (entry.uid, entry.gid) = if root { (1234, 42) } else { own };
        entry.mtime = 1_234_567;
        for (name, value) in xattrs {
            entry.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
        }
        let mut content: &[u8] = b"abc";
        tar.append(&entry, Some(&mut content)).unwrap();
    };
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    add("d", EntryKind::Directory, 0o3751, &[("user.d", b"1")]);
    add("d/set", EntryKind::File { size: 3 }, 0o6755, &[("user.overlay.opaque", b"y")]);
    add("d/none", EntryKind::File { size: 3 }, 0, &[("user.f", b"\n=\0")]);
    add("d/fifo", EntryKind::Fifo, 0o640, &[]);
    add("d/link", EntryKind::Symlink { target: "nowhere".into() }, 0o777, &[]);
    add("null", EntryKind::CharDevice { major: 1, minor: 3 }, 0o666, &[]);
    add("bad", EntryKind::File { size: 3 }, 0o600, &[("trusted.x", b"1"), ("strange", b"")]);
    if root {
        add("cap", EntryKind::File { size: 3 }, 0o755, &[("security.capability", &capability)]);
    } else {
        crate::layer::skip("only root may give files away and set capabilities");
    }
    let (bytes, written) = tar.finish().unwrap();
    let place = Place::new();
    let applied = place.apply(&[bytes]).unwrap();
    assert_eq!(applied.index, written);
    assert_eq!(applied.warnings.len(), 2, "{:?}", applied.warnings);
    for (path, mode) in
        [("d", 0o3751), ("d/set", 0o6755), ("d/none", 0), ("d/fifo", 0o640), ("null", 0o666)]
    {
        assert_eq!(place.mode(path), mode, "{path}");
    }
    for path in ["d", "d/set", "d/fifo", "d/link", "null"] {
        let metadata = fs_err::symlink_metadata(place.root().join(path)).unwrap();
        assert_eq!(metadata.mtime(), 1_234_567, "{path}");
        assert_eq!((metadata.uid(), metadata.gid()), if root { (1234, 42) } else { own }, "{path}");
    }
    assert!(fs_err::metadata(place.root().join("null")).unwrap().is_file());
    assert!(place.root().join("d/fifo").metadata().unwrap().file_type().is_fifo());
    let value = |path: &str, name: &str| {
        let mut value = [0; 32];
        let count = rustix::fs::lgetxattr(place.root().join(path), name, &mut value).unwrap();
        value[..count].to_vec()
    };
    assert_eq!(value("d", "user.d"), b"1");
    assert_eq!(value("d/set", "user.overlay.overlay.opaque"), b"y");
    if root {
        assert_eq!(value("d/none", "user.f"), b"\n=\0");
        assert_eq!(value("cap", "security.capability"), capability);
    }
    assert_eq!(applied.bytes, written.records().filter(|r| is_file(*r)).count() as u64 * 3);
}

fn is_file(record: crate::layer::Record<'_>) -> bool {
    matches!(record.kind(), Some(EntryKind::File { .. }))
}

#[test]
fn broken_tars_give_errors() {
    let good = raw("a", b'0', "", &[7; 600]);
    for length in [1, 100, 511, 513, 600, 512 + 599] {
        let error = Place::new().apply(&[good[..length].to_vec()]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error:?} at {length}");
    }
    let noise: Vec<u8> =
        (0..4096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    assert!(matches!(Place::new().apply(&[noise]), Err(Error::Header { .. })));
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    assert!(matches!(Place::new().apply(&[flipped]), Err(Error::Header { offset: 0, .. })));
    let strange = Place::new().apply(&[raw("a", b'Z', "", b"")]).unwrap_err();
    assert_eq!(strange.to_string(), "tar entry `a` has the unsupported type `Z`");
    let long = raw(&"x/".repeat(2100), b'5', "", b"");
    assert!(matches!(Place::new().apply(&[long]), Err(Error::Limit { .. })));
    let deep = raw(&"x/".repeat(300), b'5', "", b"");
    assert!(matches!(Place::new().apply(&[deep]), Err(Error::Limit { .. })));
    let name = raw(&"n".repeat(300), b'0', "", b"");
    assert!(matches!(Place::new().apply(&[name]), Err(Error::File { .. })));
    let huge = raw("L", b'L', "", &vec![b'x'; 2 << 20]);
    assert!(matches!(Place::new().apply(&[huge]), Err(Error::Limit { .. })));
    assert!(Place::new().apply(&[]).unwrap().index.len() == 1);
}

#[test]
fn limits_hold() {
    let tar = [raw("a", b'0', "", &[1; 600]), raw("b", b'0', "", &[1; 600])].concat();
    let bytes = ApplyOptions { max_bytes: 1000, ..options() };
    assert!(matches!(
        apply(tar.as_slice(), &Place::new().root(), &bytes),
        Err(Error::Limit { limit: 1000, .. })
    ));
    let entries = ApplyOptions { max_entries: 1, ..options() };
    assert!(matches!(
        apply(tar.as_slice(), &Place::new().root(), &entries),
        Err(Error::Limit { limit: 1, .. })
    ));
}

#[test]
fn implied_directories_follow_the_layers_below() {
    let below = Place::new();
    let mut tar = LayerTar::new(Vec::new());
    let mut etc = Entry::new("etc", EntryKind::Directory, 0o2711);
    etc.mtime = 77;
    tar.append(&etc, None).unwrap();
    tar.append(&Entry::new("same", EntryKind::Directory, 0o755), None).unwrap();
    let link = Entry::new("lib", EntryKind::Symlink { target: "usr/lib".into() }, 0o777);
    tar.append(&link, None).unwrap();
    let base = below.apply(&[tar.finish().unwrap().0]).unwrap().index;
    let view = View::new(vec![std::sync::Arc::new(base)]);
    let layer = |names: &[&str]| {
        let members: Vec<_> = names.iter().map(|name| raw(name, b'0', "", b"")).collect();
        Place::new().apply(&members).unwrap().index
    };
    let fixes = crate::layer::implied_fixes(&view, &layer(&["etc/a", "same/b", "new/c"])).unwrap();
    assert_eq!(fixes, [etc]);
    let error = crate::layer::implied_fixes(&view, &layer(&["lib/a"])).unwrap_err();
    assert!(matches!(error, Error::ImpliedParent { kind: "symbolic link", .. }), "{error:?}");
    let fine = layer(&[".wh.lib", "lib/a"]);
    assert_eq!(crate::layer::implied_fixes(&view, &fine).unwrap(), []);
}

/// Runs GNU tar in `directory`, and returns what it writes.
pub(super) fn gnu_tar(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new("tar")
        .current_dir(directory)
        .args(arguments)
        .args(["--sort=name", "--numeric-owner", "-cf", "-", "."])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn reads_every_format_of_gnu_tar() {
    let source = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(180), "f".repeat(180));
    fs_err::create_dir(source.path().join("d".repeat(180))).unwrap();
    fs_err::write(source.path().join(&long), "long").unwrap();
    fs_err::write(source.path().join("näme"), "umlaut").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), source.path().join("link")).unwrap();
    let sparse = fs_err::File::create(source.path().join("sparse")).unwrap();
    for piece in 0..40 {
        rustix::io::pwrite(&sparse, b"data", piece * 1_000_000 + 70_000).unwrap();
    }
    sparse.set_len(50_000_000).unwrap();
    let formats: [&[&str]; 7] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--mtime=@-1000000"],
    ];
    let expected = fs_err::read(source.path().join("sparse")).unwrap();
    for format in formats {
        let bytes = gnu_tar(source.path(), format);
        let place = Place::new();
        let applied = place.apply(std::slice::from_ref(&bytes)).unwrap();
        assert_eq!(place.read(&long), "long", "{format:?}");
        assert_eq!(place.read("näme"), "umlaut", "{format:?}");
        let target = fs_err::read_link(place.root().join("link")).unwrap();
        assert_eq!(target.as_os_str().as_bytes(), "t".repeat(300).as_bytes(), "{format:?}");
        let path = place.root().join("sparse");
        assert!(fs_err::read(&path).unwrap() == expected, "{format:?}");
        let record = applied.index.get(Path::new("sparse")).unwrap();
        assert_eq!(record.kind(), Some(EntryKind::File { size: 50_000_000 }), "{format:?}");
        if format.contains(&"--sparse") {
            assert!(bytes.len() < 2_000_000, "GNU tar did not write a sparse file");
            assert!(fs_err::metadata(&path).unwrap().blocks() * 512 < 2_000_000, "{format:?}");
        }
        let mut reader = TarReader::new(bytes.as_slice());
        while let Some(member) = reader.next_member().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, member.size, "{format:?}");
            assert!(member.path != b"./sparse" || content == expected, "{format:?}");
        }
        if format.contains(&"--mtime=@-1000000") {
            let root = applied.index.get(Path::new("")).unwrap();
            assert!(!root.is_implied() && root.entry().unwrap().mtime == -1_000_000);
        }
    }
}

#[test]
fn a_plain_tar_deletes_nothing_and_brings_no_devices() {
    let place = Place::new();
    let members = [
        raw("/a/.wh.b", b'0', "", b"mine"),
        raw("null", b'3', "", b""),
        raw("a/c", b'0', "", b"file"),
    ];
    let options = ApplyOptions { whiteouts: WhiteoutForm::Plain, ..options() };
    let applied = apply(members.concat().as_slice(), &place.root(), &options).unwrap();
    assert_eq!(place.read("a/.wh.b") + &place.read("a/c"), "minefile");
    assert!(!place.root().join("null").exists());
    assert_eq!(applied.warnings.len(), 1);
}
