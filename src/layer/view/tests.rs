use super::*;
use crate::layer::IndexBuilder;

fn directory(path: &str, mode: u32) -> Entry {
    Entry::new(path, EntryKind::Directory, mode)
}

fn file(path: &str, size: u64) -> Entry {
    Entry::new(path, EntryKind::File { size }, 0o644)
}

fn link(path: &str, target: &str) -> Entry {
    Entry::new(path, EntryKind::Symlink { target: target.into() }, 0o777)
}

fn index(build: impl FnOnce(&mut IndexBuilder)) -> Arc<PathIndex> {
    let mut builder = IndexBuilder::default();
    build(&mut builder);
    Arc::new(builder.finish().unwrap())
}

fn sample() -> View {
    let bottom = index(|b| {
        b.insert(directory("etc", 0o711), None);
        b.insert(file("etc/passwd", 5), Some(b"below".to_vec()));
        b.insert(file("etc/shadow", 1), None);
        b.insert(directory("opt", 0o755), None);
        b.insert(file("opt/old/deep", 1), None);
        b.insert(file("tmp/x", 1), None);
        b.insert(link("bin", "usr/bin"), None);
        b.insert(link("loop", "/loop/x"), None);
        b.insert(link("usr/abs", "/../etc/./passwd"), None);
        b.insert(file("usr/bin/sh", 7), None);
        let target = "usr/bin/sh".into();
        b.insert(Entry::new("usr/bin/dash", EntryKind::HardLink { target }, 0o755), None);
    });
    let top = index(|b| {
        b.whiteout(Path::new("etc/shadow"));
        b.insert(file("etc/new", 2), None);
        b.insert(directory("opt", 0o700), None);
        b.opaque(Path::new("opt"));
        b.insert(file("opt/fresh", 3), None);
        b.insert(file("tmp", 4), None);
    });
    View::new(vec![bottom, top])
}

#[test]
fn looks_up_through_deletions_and_opaque_directories() {
    let view = sample();
    let kind = |path: &str| view.lookup(Path::new(path)).map(|entry| entry.kind.name());
    let expected = [
        ("etc/shadow", None),
        ("etc/new", Some("file")),
        ("opt/old", None),
        ("opt/old/deep", None),
        ("opt/fresh", Some("file")),
        ("tmp", Some("file")),
        ("tmp/x", None),
        ("", Some("directory")),
        ("/etc/", Some("directory")),
        ("bin", Some("symbolic link")),
        ("bin/sh", None),
    ];
    for (path, expected) in expected {
        assert_eq!(kind(path), expected, "{path}");
    }
    let etc = view.lookup(Path::new("etc")).unwrap();
    assert_eq!(etc.mode, 0o711, "an implied directory must not hide the listed one");
    assert_eq!(view.lookup(Path::new("opt")).unwrap().mode, 0o700);
    let dash = view.lookup(Path::new("usr/bin/dash")).unwrap();
    assert_eq!((dash.kind, dash.path), (EntryKind::File { size: 7 }, "usr/bin/dash".into()));
}

#[test]
fn resolves_links_inside_the_root() {
    let view = sample();
    let cases = [
        ("/bin/sh", true, "usr/bin/sh"),
        ("bin", false, "bin"),
        ("bin", true, "usr/bin"),
        ("usr/abs", true, "etc/passwd"),
        ("../../bin/../x/y", true, "usr/x/y"),
        ("/", true, ""),
        ("a/b/../c", true, "a/c"),
        ("bin/new/file", false, "usr/bin/new/file"),
    ];
    for (path, follow, expected) in cases {
        let resolved = view.resolve(Path::new(path), follow).unwrap();
        assert_eq!(resolved, Path::new(expected), "{path}");
    }
    assert!(matches!(view.resolve(Path::new("loop"), true), Err(Error::LinkLoop(_))));
    assert!(view.resolve(Path::new("loop"), false).is_ok());
}

#[test]
fn lists_merged_directories() {
    let view = sample();
    let names = |path: &str| -> Vec<String> {
        let entries = view.children(Path::new(path));
        entries.iter().map(|entry| entry.path.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("etc"), ["etc/new", "etc/passwd"]);
    assert_eq!(names("opt"), ["opt/fresh"]);
    assert!(names("tmp").is_empty() && names("opt/old").is_empty() && names("none").is_empty());
    assert_eq!(names("/"), ["bin", "etc", "loop", "opt", "tmp", "usr"]);
}

#[test]
fn small_files_follow_links() {
    let view = sample();
    assert_eq!(view.small_file(Path::new("/etc/passwd")), Some(&b"below"[..]));
    assert_eq!(view.small_file(Path::new("usr/abs")), Some(&b"below"[..]));
    assert_eq!(view.small_file(Path::new("etc/group")), None);
    let replaced = index(|b| b.insert(file("etc/passwd", 900_000), None));
    let view = View::new(view.layers.iter().cloned().chain([replaced]).collect());
    assert_eq!(view.small_file(Path::new("etc/passwd")), None);
}
