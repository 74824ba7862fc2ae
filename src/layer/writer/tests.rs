use std::collections::BTreeMap;

use super::*;

fn written(entries: &[(Entry, &[u8])]) -> (Vec<u8>, PathIndex) {
    let mut tar = LayerTar::new(Vec::new());
    for (entry, content) in entries {
        let mut content = *content;
        tar.append(entry, Some(&mut content)).unwrap();
    }
    tar.finish().unwrap()
}

/// What the `tar` crate reads back, as name, type, link, mode, uid, gid, mtime, content.
type Read1 = (Vec<u8>, u8, Option<Vec<u8>>, u32, u64, u64, u64, Vec<u8>);

fn read_back(bytes: &[u8]) -> Vec<(Read1, BTreeMap<String, Vec<u8>>)> {
    let mut archive = tar::Archive::new(bytes);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut xattrs = BTreeMap::new();
        if let Some(extensions) = entry.pax_extensions().unwrap() {
            for extension in extensions {
                let extension = extension.unwrap();
                if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
                }
            }
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let read = (
            entry.path_bytes().into_owned(),
            header.entry_type().as_byte(),
            entry
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .filter(|link| !link.is_empty()),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            content,
        );
        found.push((read, xattrs));
    }
    found
}

#[test]
fn other_readers_agree() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(90));
    let longer = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut special = Entry::new("a/näme", EntryKind::File { size: 3 }, 0o4755);
    (special.uid, special.gid, special.mtime) = (3_000_000, 65534, 1_700_000_000);
    // No newline byte: the `tar` crate takes one for the end of a record. Our own reader does not.
    special.xattrs.insert(b"security.capability".to_vec(), vec![1, 11, 61, 0, 255]);
    let entries = [
        (Entry::new("a", EntryKind::Directory, 0o1777), &b""[..]),
        (special, b"abc"),
        (Entry::new("b", EntryKind::Symlink { target: "x".repeat(150).into() }, 0o777), b""),
        (Entry::new("c", EntryKind::HardLink { target: "a/näme".into() }, 0o755), b""),
        (Entry::new("d", EntryKind::CharDevice { major: 5, minor: 1 }, 0o600), b""),
        (Entry::new(&long, EntryKind::File { size: 513 }, 0o600), &[7; 513]),
        (Entry::new(&longer, EntryKind::Directory, 0o700), b""),
    ];
    let (bytes, index) = written(&entries);
    let found = read_back(&bytes);
    assert_eq!(found.len(), entries.len());
    for (((path, _, link, mode, uid, gid, mtime, content), xattrs), (entry, expected)) in
        found.iter().zip(&entries)
    {
        let slash = if entry.is_directory() { "/" } else { "" };
        let name = [entry.path.as_os_str().as_bytes(), slash.as_bytes()].concat();
        assert_eq!(*path, name);
        assert_eq!((*mode, *gid), (entry.mode, u64::from(entry.gid)));
        // The `tar` crate leaves ids in extended records to its caller; GNU tar is asked below.
        assert!(*uid == u64::from(entry.uid) || entry.uid > 0o7_777_777);
        assert_eq!(*mtime, entry.mtime.cast_unsigned());
        assert_eq!(content, expected);
        assert_eq!(xattrs.len(), entry.xattrs.len());
        if let EntryKind::Symlink { target } | EntryKind::HardLink { target } = &entry.kind {
            assert_eq!(link.as_deref(), Some(target.as_os_str().as_bytes()));
        }
        assert_eq!(index.get(&entry.path).unwrap().entry().as_ref(), Some(entry));
    }
    assert_eq!(found[1].1["security.capability"], [1, 11, 61, 0, 255]);
    let listed = gnu_tar(&bytes);
    assert_eq!(listed.lines().count(), entries.len(), "{listed}");
    assert!(listed.contains("-rwsr-xr-x 3000000/65534"), "{listed}");
    assert!(listed.contains("2023-11-14 22:13"), "{listed}");
    assert!(listed.contains(&longer) && listed.contains(&long), "{listed}");
    assert!(listed.contains("c link to a/näme") && listed.contains("5,1"), "{listed}");
}

fn gnu_tar(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.tar");
    fs_err::write(&path, bytes).unwrap();
    let output = std::process::Command::new("tar")
        .args(["--numeric-owner", "--quoting-style=literal", "-tvf"])
        .arg(&path)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn deletions_have_the_specified_names() {
    let mut tar = LayerTar::new(Vec::new());
    tar.whiteout(Path::new("etc/shadow")).unwrap();
    tar.whiteout(Path::new("top")).unwrap();
    tar.opaque(Path::new("var/cache")).unwrap();
    tar.opaque(Path::new("")).unwrap();
    let (bytes, index) = tar.finish().unwrap();
    let names: Vec<_> = read_back(&bytes).into_iter().map(|(read, _)| read.0).collect();
    let expected: [&[u8]; 4] =
        [b"etc/.wh.shadow", b".wh.top", b"var/cache/.wh..wh..opq", b".wh..wh..opq"];
    assert_eq!(names, expected);
    assert!(index.get(Path::new("etc/shadow")).unwrap().is_whiteout());
    assert!(index.get(Path::new("var/cache")).unwrap().is_opaque());
}

#[test]
fn refuses_what_a_reader_would_misread() {
    let refused = ["/a", "../a", "a/../b", "a//b", "./a", "a/", ".wh.a", "a/.wh.b/c"];
    for path in refused {
        let mut tar = LayerTar::new(Vec::new());
        let result = tar.append(&Entry::new(path, EntryKind::Fifo, 0o600), None);
        assert!(matches!(result, Err(Error::Unstorable { .. })), "{path} was accepted");
    }
    let mut tar = LayerTar::new(Vec::new());
    let short =
        tar.append(&Entry::new("a", EntryKind::File { size: 4 }, 0o600), Some(&mut &b"abc"[..]));
    assert!(matches!(short, Err(Error::ShortContent { expected: 4, actual: 3, .. })));
}

#[test]
fn clamps_times_and_keeps_accounts() {
    let mut tar = LayerTar::new(Vec::new()).with_latest_mtime(Some(50));
    let mut entry = Entry::new("etc/passwd", EntryKind::File { size: 4 }, 0o644);
    entry.mtime = 99;
    tar.append(&entry, Some(&mut &b"root"[..])).unwrap();
    let (bytes, index) = tar.finish().unwrap();
    let record = index.get(Path::new("etc/passwd")).unwrap();
    assert_eq!((record.entry().unwrap().mtime, record.content()), (50, Some(&b"root"[..])));
    assert_eq!(read_back(&bytes)[0].0.6, 50);
    assert_eq!(bytes.len(), 512 + 512 + 1024);
}

#[test]
fn content_larger_than_the_buffer_is_whole() {
    let content: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let size = content.len() as u64;
    let entry = Entry::new("big", EntryKind::File { size }, 0o644);
    let (bytes, _) = written(&[(entry, &content)]);
    assert!(read_back(&bytes)[0].0.7 == content);
}
