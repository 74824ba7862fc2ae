//! Tables of what ADD extracts.

use super::*;

/// Makes a tar by hand: names as they are, which the library's own builder would refuse.
fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(99);
        let is_link = matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink);
        let content = if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            ""
        } else {
            content
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn empty_numbers_are_zero() {
    for filler in [0, b' '] {
        let mut members = archive(&[("a", tar::EntryType::Regular, "1")]);
        // Mode, owner and group; the time.
        for field in [100..124, 136..148] {
            members[field].fill(filler);
        }
        members[148..156].fill(b' ');
        let sum: u32 = members[..512].iter().map(|byte| u32::from(*byte)).sum();
        members[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let root = tree(&[]);
        fs_err::write(root.path().join("data"), &members).unwrap();
        let lines = list(&tar_of(&root, &view(&[]), &add(&["data"], "/")).unwrap());
        assert_eq!(lines, ["a 0 0:0 1"]);
    }
}

fn add(sources: &[&str], destination: &str) -> CopyRequest {
    CopyRequest { extract: true, ..request(sources, destination) }
}

#[test]
fn add_extracts_tars_by_content() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let members = archive(&[
        ("./", Directory, ""),
        ("./bin/tool", Regular, "t"),
        ("/abs", Regular, "a"),
        ("bin/l", Symlink, "/bin/tool"),
        ("bin/h", Link, "bin/tool"),
        ("to -> dir", Symlink, "bin"),
        ("to -> dir/through", Regular, "th"),
    ]);
    let root = tree(&["readme.tar=not a tar", "plain=p"]);
    fs_err::write(root.path().join("data"), &members).unwrap();
    let base = view(&["opt/"]);
    let expected = [
        "opt/bin/ 755 0:0",
        "opt/bin/tool 640 11:12 t",
        "opt/abs 640 11:12 a",
        "opt/bin/l -> /bin/tool",
        "opt/bin/h => opt/bin/tool",
        "opt/to -> dir -> bin",
        "opt/bin/through 640 11:12 th",
    ];
    let lines = list(&tar_of(&root, &base, &add(&["data"], "/opt")).unwrap());
    // An archive's own root leaves a directory that is there as it was.
    assert_eq!(lines[1..], expected);
    assert_eq!(lines[0], "opt/ 750 7:8");

    // Compressed in any way; COPY does not extract; --chown counts, --chmod does not.
    let mut gzip = crate::layer::LayerWriter::new(Vec::new(), crate::layer::Compression::Gzip(6));
    std::io::Write::write_all(&mut gzip, &members).unwrap();
    let (_, gzip) = gzip.finish_with_output().unwrap();
    fs_err::write(root.path().join("data"), gzip).unwrap();
    let request_changed = CopyRequest {
        owner: Some((1, 2)),
        mode: Some("777".parse().unwrap()),
        ..add(&["data"], "/new/")
    };
    let lines = list(&tar_of(&root, &base, &request_changed).unwrap());
    assert_eq!(lines[0], "new/ 755 1:2");
    assert_eq!(lines[1], "new/bin/ 755 1:2");
    assert_eq!(lines[2], "new/bin/tool 640 1:2 t");
    let lines = copied(&root, &base, &add(&["readme.tar", "plain"], "/x/"));
    assert_eq!(lines, ["x/", "x/plain p", "x/readme.tar not a tar"]);
    let selection = pick(&root, &request(&["data"], "/x")).unwrap();
    assert_eq!((selection.len(), selection.sources.len()), (1, 1));
}

#[test]
fn add_never_writes_outside_the_destination() {
    use tar::EntryType::{Link, Regular, Symlink};
    let cases: [&[(&str, tar::EntryType, &str)]; 4] = [
        &[("../evil", Regular, "e")],
        &[("a/../../evil", Regular, "e")],
        &[("h", Link, "../../etc/passwd")],
        &[("h", Link, "etc/passwd")],
    ];
    let base = view(&["etc/", "etc/passwd", "opt/"]);
    for members in cases {
        let root = tree(&[]);
        fs_err::write(root.path().join("t"), archive(members)).unwrap();
        let error = tar_of(&root, &base, &add(&["t"], "/opt/")).unwrap_err();
        assert!(matches!(error, CopyError::Outside { .. }), "{members:?}: {error}");
    }
    // A link to elsewhere is kept, and what goes through it stays below the destination.
    let root = tree(&[]);
    let members = [
        ("l", Symlink, "/etc"),
        ("l/passwd", Regular, "e"),
        ("u", Symlink, "../../etc"),
        ("u/x", Regular, "e"),
    ];
    fs_err::write(root.path().join("t"), archive(&members)).unwrap();
    let lines = copied(&root, &base, &add(&["t"], "/opt/"));
    assert_eq!(
        lines,
        [
            "opt/",
            "opt/l -> /etc",
            "opt/etc/",
            "opt/etc/passwd e",
            "opt/u -> ../../etc",
            "opt/etc/x e"
        ]
    );
}
