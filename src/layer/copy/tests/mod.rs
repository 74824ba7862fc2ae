//! Tables of COPY and ADD: a tree, a root file system, a request, and the tar that comes out.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::ignore::Patterns;
use crate::image::Digest;
use crate::layer::{Entry, EntryKind, LayerTar, Metadata, View};

use super::*;

mod archives;
mod options;

/// Makes a tree: `name` or `name=content` for a file, `name/` a directory, `a -> b` a link, `a => b`
/// a hard link of `b`.
fn tree(items: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for item in items {
        let parent = |name: &str| fs_err::create_dir_all(root.path().join(name).parent().unwrap());
        if let Some((name, target)) = item.split_once(" -> ") {
            parent(name).unwrap();
            symlink(target, root.path().join(name)).unwrap();
        } else if let Some((name, target)) = item.split_once(" => ") {
            parent(name).unwrap();
            fs_err::hard_link(root.path().join(target), root.path().join(name)).unwrap();
        } else if item.ends_with('/') {
            fs_err::create_dir_all(root.path().join(item)).unwrap();
        } else {
            let (name, content) = item.split_once('=').unwrap_or((item, item));
            parent(name).unwrap();
            fs_err::write(root.path().join(name), content).unwrap();
            let mode = std::fs::Permissions::from_mode(0o644);
            fs_err::set_permissions(root.path().join(name), mode).unwrap();
        }
    }
    root
}

/// Makes a root file system of directories `name/` (mode 0750, 7:8), files, and links `a -> b`.
fn view(items: &[&str]) -> View {
    let mut tar = LayerTar::new(std::io::sink());
    for item in items {
        let entry = if let Some((name, target)) = item.split_once(" -> ") {
            Entry::new(name, EntryKind::Symlink { target: target.into() }, 0o777)
        } else if let Some(name) = item.strip_suffix('/') {
            let mut entry = Entry::new(name, EntryKind::Directory, 0o750);
            (entry.uid, entry.gid, entry.mtime) = (7, 8, 1234);
            entry
        } else {
            Entry::new(*item, EntryKind::File { size: 0 }, 0o600)
        };
        tar.append(&entry, Some(&mut std::io::empty())).unwrap();
    }
    View::new(vec![Arc::new(tar.finish().unwrap().1)])
}

fn request(sources: &[&str], destination: &str) -> CopyRequest {
    CopyRequest {
        sources: sources.iter().map(|source| CopyInput::path(*source)).collect(),
        destination: destination.to_owned(),
        ..CopyRequest::default()
    }
}

fn pick(root: &TempDir, request: &CopyRequest) -> Result<Selection, CopyError> {
    select(
        Some(&SourceTree {
            root: root.path(),
            ignored: None,
            owners: None,
            metadata: Metadata::All,
        }),
        request,
    )
}

fn tar_of(root: &TempDir, view: &View, request: &CopyRequest) -> Result<Vec<u8>, CopyError> {
    let mut tar = LayerTar::new(Vec::new());
    pick(root, request)?.write(view, request, &mut tar)?;
    Ok(tar.finish()?.0)
}

/// Lists a tar, read by a library that is not ours: `path kind mode uid:gid content`.
fn list(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    let lines = entries.map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
        let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        match kind {
            tar::EntryType::Directory => format!("{path}/ {mode:o} {owner}"),
            tar::EntryType::Symlink => format!("{path} -> {}", link.unwrap()),
            tar::EntryType::Link => format!("{path} => {}", link.unwrap()),
            tar::EntryType::Fifo => format!("{path} fifo"),
            _ => format!("{path} {mode:o} {owner} {content}"),
        }
    });
    lines.collect()
}

/// Copies and gives the listing without modes and owners.
fn copied(root: &TempDir, view: &View, request: &CopyRequest) -> Vec<String> {
    let lines = list(&tar_of(root, view, request).unwrap());
    lines
        .into_iter()
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(path), Some(_), Some(_), Some(content)) => format!("{path} {content}"),
                (Some(path), Some(_), Some(_), None) if path.ends_with('/') => path.to_owned(),
                _ => line,
            }
        })
        .collect()
}

#[test]
fn places_sources_as_buildkit_does() {
    let root = tree(&[
        "file=1",
        "other=2",
        "dir/a=a",
        "dir/sub/b=b",
        "dir/sub/c -> b",
        "dir/.hidden=h",
        "link -> dir",
        "filelink -> dir/a",
        "up -> ../../..",
        "abs -> /dir/sub",
        "dangling -> nowhere",
        "x1.txt=x1",
        "x2.txt=x2",
        "one.md=o",
        "nested/p/q.txt=q",
    ]);
    let empty = View::default();
    let base =
        view(&["app/", "app/lib/", "bin -> usr/bin", "etc/", "etc/conf", "usr/", "usr/bin/"]);
    let abs = view(&["a -> /b/../c", "c/", "loop -> ../../c"]);
    let cases: &[(&[&str], &str, &View, &[&str])] = &[
        (&["file"], "/out", &empty, &["out 1"]),
        (&["/file"], "/out", &empty, &["out 1"]),
        (&["../../file"], "/out", &empty, &["out 1"]),
        (&["dir/../file"], "/deep/down/", &empty, &["deep/", "deep/down/", "deep/down/file 1"]),
        (&["file"], "/", &empty, &["file 1"]),
        (&["file/"], "/out", &empty, &["out 1"]),
        (&["dir/sub", "file"], "/d", &empty, &["d/", "d/b b", "d/c -> b", "d/file 1"]),
        (&["file"], "/app", &base, &["app/", "app/file 1"]),
        (&["file"], "/app/", &base, &["app/", "app/file 1"]),
        (&["file"], "/etc/conf", &base, &["etc/", "etc/conf 1"]),
        (&["file"], "/bin/", &base, &["usr/", "usr/bin/", "usr/bin/file 1"]),
        (&["file"], "/bin/tool", &base, &["usr/", "usr/bin/", "usr/bin/tool 1"]),
        (&["file"], "/a/", &abs, &["c/", "c/file 1"]),
        (&["file"], "/loop/x/../y", &abs, &["c/", "c/y 1"]),
        (&["file", "other"], "/d/", &empty, &["d/", "d/file 1", "d/other 2"]),
        (&["file", "other"], "/app", &base, &["app/", "app/file 1", "app/other 2"]),
        (
            &["dir"],
            "/d",
            &empty,
            &["d/", "d/.hidden h", "d/a a", "d/sub/", "d/sub/b b", "d/sub/c -> b"],
        ),
        (&["dir/sub"], "/", &empty, &["b b", "c -> b"]),
        (&["link/sub/."], "/s/", &empty, &["s/", "s/b b", "s/c -> b"]),
        (&["abs"], "/s", &empty, &["s/", "s/b b", "s/c -> b"]),
        (&["up/dir/sub"], "/s", &empty, &["s/", "s/b b", "s/c -> b"]),
        (&["filelink"], "/d/", &empty, &["d/", "d/filelink a"]),
        (&["x*.txt"], "/d/", &empty, &["d/", "d/x1.txt x1", "d/x2.txt x2"]),
        (&["*.md"], "/out", &empty, &["out o"]),
        (&["nes*/*/q.txt"], "/d/", &empty, &["d/", "d/q.txt q"]),
        (&["nes*"], "/d", &empty, &["d/", "d/p/", "d/p/q.txt q"]),
        (&["none*"], "/d/", &empty, &[]),
        (&["missing/*"], "/d/", &empty, &[]),
        (&["dang*"], "/d/", &empty, &[]),
        (&["none*", "file"], "/d/", &empty, &["d/", "d/file 1"]),
        (&["file", "dir/sub", "file"], "/d/", &empty, &["d/", "d/b b", "d/c -> b", "d/file 1"]),
    ];
    for (sources, destination, view, expected) in cases {
        let actual = copied(&root, view, &request(sources, destination));
        assert_eq!(actual, *expected, "{sources:?} to {destination}");
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let root = tree(&["file", "other", "dir/a/b", "dir/c", "loop1 -> loop2", "loop2 -> loop1"]);
    let base = view(&["a", "app/", "app/c/", "l -> l", "link -> app"]);
    let message = |sources: &[&str], destination: &str| {
        tar_of(&root, &base, &request(sources, destination)).unwrap_err().to_string()
    };
    assert_eq!(message(&["missing"], "/"), "`missing` not found");
    assert_eq!(message(&["file/x"], "/"), "`file/x` not found");
    assert!(message(&["file", "other"], "/out").contains("must be a directory and end with a /"));
    assert!(message(&["loop1"], "/out").contains("too many symbolic links"));
    assert!(message(&["file"], "/l").contains("too many symbolic links"));
    assert_eq!(message(&["dir"], "/a"), "cannot copy to non-directory: `/a`");
    assert_eq!(message(&["file"], "/a/"), "cannot copy to non-directory: `/a`");
    assert_eq!(message(&["dir"], "/"), "cannot copy to non-directory: `/a`");
    assert_eq!(message(&["dir/c"], "/app"), "cannot replace directory `/app/c` with a file");
    assert_eq!(
        message(&["[a"], "/x"),
        "invalid pattern `[a`: `[` without an end, or nothing after `\\`"
    );
    let into_link = tree(&["s/link/x"]);
    let error = tar_of(&into_link, &base, &request(&["s"], "/")).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy to non-directory: `/link`");
}

#[test]
fn metadata_follows_the_rules() {
    let root = tree(&["dir/sub/f", "dir/top"]);
    let set = |name: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(root.path().join(name), mode).unwrap();
    };
    set("dir", 0o700);
    set("dir/sub", 0o2711);
    set("dir/sub/f", 0o4755);
    let base = view(&["app/", "app/sub/"]);
    // The top directory keeps what it has, one further down takes the source's.
    let plain = request(&["dir"], "/app");
    let lines = list(&tar_of(&root, &base, &plain).unwrap());
    let expected = [
        "app/ 750 7:8",
        "app/sub/ 2711 0:0",
        "app/sub/f 4755 0:0 dir/sub/f",
        "app/top 644 0:0 dir/top",
    ];
    assert_eq!(lines, expected);

    // New parents get the owner and the mode as well, existing ones do not.
    let changed = CopyRequest {
        owner: Some((5, 6)),
        mode: Some("0500".parse().unwrap()),
        ..request(&["dir/top"], "/app/new/")
    };
    let lines = list(&tar_of(&root, &base, &changed).unwrap());
    assert_eq!(lines, ["app/ 750 7:8", "app/new/ 500 5:6", "app/new/top 500 5:6 dir/top"]);

    // A new destination directory has mode 0755, whatever the source has.
    let lines = list(&tar_of(&root, &View::default(), &request(&["dir"], "/n")).unwrap());
    assert_eq!(lines[0], "n/ 755 0:0");

    // From another stage owners are kept.
    let kept = CopyRequest { keep_ownership: true, ..request(&["dir/top"], "/t") };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let lines = list(&tar_of(&root, &base, &kept).unwrap());
    assert_eq!(lines, [format!("t 644 {uid}:{gid} dir/top")]);
}

#[test]
fn times_are_whole_seconds_of_the_source() {
    let root = tree(&["f"]);
    let file = std::fs::OpenOptions::new().write(true).open(root.path().join("f")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900)).unwrap();
    let tar = tar_of(&root, &View::default(), &request(&["f"], "/new/")).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let times: Vec<u64> =
        archive.entries().unwrap().map(|e| e.unwrap().header().mtime().unwrap()).collect();
    assert_eq!(times, [1_700_000_000, 1_700_000_000]);
}

#[test]
fn special_files() {
    let root = tree(&["d/a=x", "d/b => d/a", "d/c => d/a", "e/z => d/a"]);
    let fifo = root.path().join("d/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("d/socket")).unwrap();
    let socket_mode = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(root.path().join("d/socket"), socket_mode).unwrap();
    let lines = list(&tar_of(&root, &View::default(), &request(&["d", "e"], "/o/")).unwrap());
    let expected = [
        "o/ 755 0:0",
        "o/a 644 0:0 x",
        "o/b => o/a",
        "o/c => o/a",
        "o/pipe fifo",
        "o/socket 755 0:0 ",
        "o/z 644 0:0 x",
    ];
    assert_eq!(lines, expected);
    // The first name goes to another source: the links name what is left of theirs.
    let other = tree(&["d/a=x", "d/b => d/a", "d/c => d/a", "a=y"]);
    let lines = list(&tar_of(&other, &View::default(), &request(&["d", "a"], "/")).unwrap());
    assert_eq!(lines, ["a 644 0:0 y", "b 644 0:0 x", "c => b"]);
}

#[test]
fn links_never_lead_out_of_the_tree() {
    let outside = tree(&["secret=s"]);
    let root = tree(&["inside/f=1"]);
    let secret = outside.path().to_str().unwrap();
    symlink(secret, root.path().join("absolute")).unwrap();
    symlink(format!("../../../../../..{secret}"), root.path().join("relative")).unwrap();
    for source in ["absolute/secret", "relative/secret", "absolute", "relative"] {
        let error = pick(&root, &request(&[source], "/")).unwrap_err();
        assert!(matches!(error, CopyError::NotFound { .. }), "{source}: {error}");
    }
    let found = pick(&root, &request(&["absolute/*", "*/secret"], "/")).unwrap();
    assert!(found.is_empty());

    // Swapped for a link after it was selected: the directory, then the file.
    let all = request(&["."], "/");
    let selection = pick(&root, &request(&["inside"], "/")).unwrap();
    fs_err::rename(root.path().join("inside"), root.path().join("was")).unwrap();
    symlink(secret, root.path().join("inside")).unwrap();
    let mut tar = LayerTar::new(Vec::new());
    assert!(selection.write(&View::default(), &all, &mut tar).is_err());
    assert!(selection.digest(&StatCache::default()).is_err());
    let selection = pick(&root, &request(&["was"], "/")).unwrap();
    fs_err::remove_file(root.path().join("was/f")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("was/f")).unwrap();
    let error = selection.digest(&StatCache::default()).unwrap_err();
    assert!(matches!(error, CopyError::Changed(_)), "{error}");
}

#[test]
fn the_ignore_file_decides_what_is_there() {
    let root =
        tree(&["keep/a", "keep/b.log", "skip/deep/wanted", "skip/deep/not", "gone/x", "e/b.log"]);
    let ignored = Patterns::parse("gone\n**/*.log\nskip\n!skip/deep/wanted\n").unwrap();
    let tree = SourceTree {
        root: root.path(),
        ignored: Some(&ignored),
        owners: None,
        metadata: Metadata::All,
    };
    let listing = |sources: &[&str]| {
        let request = request(sources, "/");
        let mut tar = LayerTar::new(Vec::new());
        let selection = select(Some(&tree), &request)?;
        selection.write(&View::default(), &request, &mut tar)?;
        let lines = list(&tar.finish()?.0);
        Ok::<_, CopyError>(lines.iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect())
    };
    let all: Vec<String> = listing(&["."]).unwrap();
    assert_eq!(all, ["e/", "keep/", "keep/a", "skip/", "skip/deep/", "skip/deep/wanted"]);
    let below: Vec<String> = listing(&["skip"]).unwrap();
    assert_eq!(below, ["deep/", "deep/wanted"]);
    let wild: Vec<String> = listing(&["*"]).unwrap();
    assert_eq!(wild, ["a", "deep/", "deep/wanted"]);
    for source in ["gone", "gone/x", "keep/b.log", "skip/deep/not"] {
        let error = listing(&[source]).map(|_: Vec<String>| ()).unwrap_err();
        let CopyError::NotFound { excluded, .. } = error else { panic!("{error}") };
        assert!(excluded, "{source}");
    }
    let error = listing(&["absent"]).map(|_: Vec<String>| ()).unwrap_err();
    assert!(matches!(error, CopyError::NotFound { excluded: false, .. }));
}

fn key(root: &TempDir, request: &CopyRequest) -> Digest {
    pick(root, request).unwrap().digest(&StatCache::default()).unwrap()
}

#[test]
fn the_content_key_changes_with_what_matters_only() {
    let items = ["d/a=1", "d/b/c=2", "d/l -> a", "f=x"];
    let root = tree(&items);
    let all = request(&["d"], "/");
    let first = key(&root, &all);
    assert_eq!(key(&tree(&items), &all), first, "the same tree elsewhere");

    let path = |name: &str| root.path().join(name);
    let file = std::fs::OpenOptions::new().write(true).open(path("d/a")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs_err::write(path("f"), "outside").unwrap();
    assert_eq!(key(&root, &all), first, "times, and files that were not asked for");

    let mut seen = vec![first];
    let mut differs = |what: &str| {
        let key = key(&root, &all);
        assert!(!seen.contains(&key), "{what} did not change the key");
        seen.push(key);
    };
    fs_err::write(path("d/a"), "3").unwrap();
    differs("content");
    fs_err::set_permissions(path("d/a"), std::fs::Permissions::from_mode(0o755)).unwrap();
    differs("mode");
    fs_err::rename(path("d/a"), path("d/A")).unwrap();
    differs("name");
    fs_err::remove_file(path("d/l")).unwrap();
    symlink("b", path("d/l")).unwrap();
    differs("link target");
    fs_err::create_dir_all(path("d/empty")).unwrap();
    differs("an empty directory");

    // A file's own name counts, as it may end up in a directory; a directory's does not.
    let pair = tree(&["x=1", "y=1", "dx/a=1", "dy/a=1"]);
    assert_ne!(key(&pair, &request(&["x"], "/")), key(&pair, &request(&["y"], "/")));
    assert_eq!(key(&pair, &request(&["dx"], "/")), key(&pair, &request(&["dy"], "/")));
}

#[test]
fn many_files_give_one_key_and_one_tar() {
    let names: Vec<String> =
        (0..700).map(|n| format!("d{}/e{}/file{n}=content of {n}", n % 23, n % 7)).collect();
    let items: Vec<&str> = names.iter().map(String::as_str).collect();
    let (one, two) = (tree(&items), tree(&items));
    let all = request(&["."], "/app/");
    assert_eq!(key(&one, &all), key(&two, &all));
    let untimed = |root: &TempDir| list(&tar_of(root, &View::default(), &all).unwrap());
    let lines = untimed(&one);
    assert_eq!(lines, untimed(&two));
    let paths: Vec<PathBuf> =
        lines.iter().map(|line| PathBuf::from(line.split(' ').next().unwrap())).collect();
    assert!(paths.is_sorted() && paths.len() == 1 + 700 + 23 + 23 * 7);
}

#[test]
fn the_stat_cache_trusts_only_what_is_settled() {
    let root = tree(&["old=1", "young=2"]);
    let cache_file = root.path().join("cache");
    let all = request(&["old", "young"], "/");
    std::thread::sleep(Duration::from_millis(80));
    // Its change time is now, so another change may follow without a trace.
    fs_err::write(root.path().join("young"), "3").unwrap();
    let cache = StatCache::load(&cache_file);
    let first = pick(&root, &all).unwrap().digest(&cache).unwrap();
    cache.save(&cache_file).unwrap();

    let known = |cache: &StatCache| -> BTreeMap<String, bool> {
        let selection = pick(&root, &all).unwrap();
        let known = selection.nodes().map(|node| {
            (node.path.to_str().unwrap().to_owned(), cache.lookup(&node.meta).is_some())
        });
        known.collect()
    };
    let cache = StatCache::load(&cache_file);
    assert_eq!(known(&cache), [("old".into(), true), ("young".into(), false)].into());
    assert_eq!(pick(&root, &all).unwrap().digest(&cache).unwrap(), first);

    fs_err::write(root.path().join("old"), "4").unwrap();
    assert!(!known(&cache)["old"], "a changed file is still known");
    assert_ne!(pick(&root, &all).unwrap().digest(&cache).unwrap(), first);

    fs_err::write(&cache_file, "rpub stat cache 9\nwhatever").unwrap();
    assert!(!known(&StatCache::load(&cache_file))["old"]);
}
