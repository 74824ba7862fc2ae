use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use proptest::prelude::*;
use rustix::fs::XattrFlags;

use super::*;
use crate::layer::{ApplyOptions, Ownership, PathIndex, WhiteoutForm, apply};

fn options() -> ApplyOptions {
    let ownership = if is_root() { Ownership::Set } else { Ownership::Ignore };
    ApplyOptions { ownership, ..ApplyOptions::default() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn tar_of(upper: &Path, exclude: &dyn Fn(&Path) -> bool) -> (Vec<u8>, PathIndex) {
    let mut tar = LayerTar::new(Vec::new());
    diff(upper, exclude, &mut tar).unwrap();
    tar.finish().unwrap()
}

fn everything(upper: &Path) -> (Vec<u8>, PathIndex) {
    tar_of(upper, &|_| false)
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn names(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let paths = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let kind = entry.header().entry_type().as_byte();
        let link = entry.link_name_bytes().map(|link| String::from_utf8(link.to_vec()).unwrap());
        let name = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
        if kind == b'1' { format!("{name}={}", link.unwrap()) } else { name }
    });
    paths.collect()
}

/// A change set with one of everything.
fn sample(upper: &Path) {
    let make = |path: &str, content: &str| {
        let path = upper.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    };
    make("b/file", "content");
    make("b.txt", "x");
    make("b/sub/deep", "");
    make("opaque/new", "new");
    make("mount/stub", "");
    make("mountain", "");
    fs_err::hard_link(upper.join("b/file"), upper.join("a-first")).unwrap();
    fs_err::hard_link(upper.join("b/file"), upper.join("z-last")).unwrap();
    std::os::unix::fs::symlink("../no/where", upper.join("b/link")).unwrap();
    fs_err::hard_link(upper.join("b/link"), upper.join("b/link2")).unwrap();
    std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    let fifo = FileType::Fifo;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("fifo"), fifo, mode, 0).unwrap();
    set(&upper.join("b"), "user.overlay.impure", b"y");
    set(&upper.join("b"), "user.kept", b"1");
    set(&upper.join("b.txt"), "user.overlay.origin", b"\0\xfb");
    set(&upper.join("b.txt"), "user.overlay.overlay.opaque", b"inner");
    set(&upper.join("opaque"), "user.overlay.opaque", b"y");
    // An unprivileged mknod of 0/0 is what overlayfs itself relies on.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("b/deleted"),
        FileType::CharacterDevice,
        Mode::empty(),
        rustix::fs::makedev(0, 0),
    )
    .unwrap();
    make("b/deleted-too", "");
    set(&upper.join("b/deleted-too"), "user.overlay.whiteout", b"");
    set(&upper.join("b/sub"), "user.overlay.opaque", b"x");
}

#[test]
fn change_sets_become_canonical_tars() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    let (bytes, index) = tar_of(directory.path(), &|path| path == Path::new("mount"));
    let expected = [
        "a-first",
        "b/",
        "b/.wh.deleted",
        "b/.wh.deleted-too",
        "b/file=a-first",
        "b/link",
        "b/link2=b/link",
        "b/sub/",
        "b/sub/deep",
        "b.txt",
        "fifo",
        "mountain",
        "opaque/",
        "opaque/.wh..wh..opq",
        "opaque/new",
        "z-last=a-first",
    ];
    assert_eq!(names(&bytes), expected);
    let get = |path: &str| index.get(Path::new(path)).unwrap().entry().unwrap();
    assert_eq!(get("b").xattrs, BTreeMap::from([(b"user.kept".to_vec(), b"1".to_vec())]));
    let unescaped = BTreeMap::from([(b"user.overlay.opaque".to_vec(), b"inner".to_vec())]);
    assert_eq!(get("b.txt").xattrs, unescaped);
    assert!(index.get(Path::new("opaque")).unwrap().is_opaque());
    assert!(!index.get(Path::new("b/sub")).unwrap().is_opaque());
    assert!(index.get(Path::new("b/deleted")).unwrap().is_whiteout());
}

#[test]
fn apply_reverses_diff() {
    for whiteouts in [WhiteoutForm::Device, WhiteoutForm::Xattr] {
        let directory = tempfile::tempdir().unwrap();
        let (upper, again) = (directory.path().join("a"), directory.path().join("b"));
        fs_err::create_dir(&upper).unwrap();
        fs_err::create_dir(&again).unwrap();
        sample(&upper);
        let (bytes, index) = everything(&upper);
        let options = ApplyOptions { whiteouts, ..options() };
        let applied = apply(bytes.as_slice(), &again, &options).unwrap();
        assert_eq!(applied.warnings, []);
        assert_eq!(applied.index, index);
        assert!(everything(&again).0 == bytes, "the tree changed on its way");
        let links = fs_err::metadata(again.join("z-last")).unwrap().nlink();
        assert_eq!(links, 3);
    }
}

#[test]
fn devices_and_capabilities_are_kept() {
    if !is_root() {
        crate::layer::skip("only root may make devices and set capabilities");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("null");
    let device = rustix::fs::makedev(1, 3);
    let kind = FileType::CharacterDevice;
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::RUSR, device);
    let program = directory.path().join("program");
    fs_err::write(&program, "x").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set(&program, "security.capability", &capability);
    let (_, index) = everything(directory.path());
    let entry = index.get(Path::new("program")).unwrap().entry().unwrap();
    assert_eq!(entry.xattrs[&b"security.capability"[..]], capability);
    made.expect("root makes device nodes");
    let kind = index.get(Path::new("null")).unwrap().kind();
    assert_eq!(kind, Some(EntryKind::CharDevice { major: 1, minor: 3 }));
}

#[test]
fn names_that_mean_deletions_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs_err::write(directory.path().join(".wh.me"), "").unwrap();
    let error = diff(directory.path(), &|_| false, &mut LayerTar::new(Vec::new())).unwrap_err();
    assert!(matches!(error, Error::Unstorable { .. }), "{error:?}");
}

/// What a property test puts at a path.
#[derive(Debug, Clone)]
enum Node {
    Directory,
    File(Vec<u8>),
    Link(String),
    HardLink(usize),
    Fifo,
    Whiteout,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        2 => Just(Node::Directory),
        3 => prop::collection::vec(any::<u8>(), 0..1500).prop_map(Node::File),
        1 => "[a-z./]{1,150}".prop_map(Node::Link),
        1 => any::<usize>().prop_map(Node::HardLink),
        1 => Just(Node::Fifo),
        1 => Just(Node::Whiteout),
    ]
}

type Wanted = (usize, String, Node, u32, i64, u32);

/// Builds a tree; what collides or does not fit is left out.
fn build(root: &Path, wanted: &[Wanted]) {
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for (parent, name, node, mode, _, owner) in wanted {
        let path = directories[parent % directories.len()].join(name);
        let kind = |kind| rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::RUSR, 0).is_ok();
        if path.symlink_metadata().is_ok() {
            continue;
        }
        let made = match node {
            Node::Directory => fs_err::create_dir(&path).is_ok(),
            Node::File(content) => fs_err::write(&path, content).is_ok(),
            Node::Link(target) => std::os::unix::fs::symlink(target, &path).is_ok(),
            Node::Fifo => kind(FileType::Fifo),
            // A deletion has no metadata to set.
            Node::Whiteout => !kind(FileType::CharacterDevice),
            Node::HardLink(_) if files.is_empty() => false,
            Node::HardLink(which) => {
                fs_err::hard_link(&files[which % files.len()], &path).unwrap();
                false
            }
        };
        if !made {
            continue;
        }
        if is_root() {
            std::os::unix::fs::lchown(&path, Some(*owner), Some(owner / 2)).unwrap();
        }
        match node {
            Node::Directory => directories.push(path),
            Node::Link(_) => {}
            _ => {
                let readable = if is_root() { *mode } else { *mode | 0o600 };
                fs_err::set_permissions(&path, PermissionsExt::from_mode(readable)).unwrap();
                files.push(path);
            }
        }
    }
}

/// Sets directories' modes and all times, deepest first.
fn settle(root: &Path, wanted: &[Wanted]) {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while at < paths.len() {
        if paths[at].symlink_metadata().unwrap().is_dir() {
            paths.extend(fs_err::read_dir(&paths[at]).unwrap().map(|e| e.unwrap().path()));
        }
        at += 1;
    }
    for (path, wanted) in paths[1..].iter().rev().zip(wanted.iter().cycle()) {
        if path.symlink_metadata().unwrap().is_dir() {
            let mode = if is_root() { wanted.3 } else { wanted.3 | 0o700 };
            fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let time = rustix::fs::Timespec { tv_sec: wanted.4, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
    }
}

/// Everything that matters about a tree, by path.
fn described(root: &Path, path: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs_err::read_dir(root.join(path)).unwrap() {
        let entry = entry.unwrap();
        let path = path.join(entry.file_name());
        let full = root.join(&path);
        let metadata = full.symlink_metadata().unwrap();
        let content = if metadata.is_symlink() {
            fs_err::read_link(&full).unwrap().into_os_string().into_encoded_bytes()
        } else if metadata.is_file() {
            fs_err::read(&full).unwrap()
        } else {
            Vec::new()
        };
        // Deletions have no metadata, and directories' counts of names differ by file system.
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let text = if metadata.mode() & 0o170_000 == 0o020_000 {
            "deletion".to_owned()
        } else {
            let (m, o) = (metadata.mode(), (metadata.uid(), metadata.gid()));
            format!("{m:o} {o:?} {} {links} {content:?}", metadata.mtime())
        };
        into.insert(path.clone(), text);
        if metadata.is_dir() {
            described(root, &path, into);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn diff_then_apply_gives_the_same_tree(
        wanted in prop::collection::vec(
            (
                any::<usize>(), "[^/\0]{1,40}", node(), 0..=0o7777_u32, -9_999_i64..4_000_000_000,
                0..70_000_u32,
            ),
            1..24,
        )
    ) {
        let wanted: Vec<Wanted> = wanted
            .into_iter()
            .filter(|wanted| wanted.1 != "." && wanted.1 != ".." && !wanted.1.starts_with(".wh."))
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let (upper, again) = (directory.path().join("a"), directory.path().join("b"));
        fs_err::create_dir(&upper).unwrap();
        fs_err::create_dir(&again).unwrap();
        build(&upper, &wanted);
        settle(&upper, &wanted);
        let (bytes, index) = everything(&upper);
        let applied = apply(bytes.as_slice(), &again, &options()).unwrap();
        let [mut before, mut after] = [BTreeMap::new(), BTreeMap::new()];
        described(&upper, Path::new(""), &mut before);
        described(&again, Path::new(""), &mut after);
        prop_assert_eq!(before, after);
        prop_assert!(applied.index == index);
        prop_assert!(everything(&again).0 == bytes);
    }
}
