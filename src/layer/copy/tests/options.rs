//! Tables of the flags, and of sources that are in no tree.

use super::*;

/// Copies and gives only the paths.
fn paths(root: &TempDir, view: &View, request: &CopyRequest) -> Result<Vec<String>, String> {
    let tar = tar_of(root, view, request).map_err(|error| error.to_string())?;
    Ok(list(&tar).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect())
}

fn of(sources: &[CopyInput], destination: &str) -> CopyRequest {
    CopyRequest { sources: sources.to_vec(), ..request(&[], destination) }
}

fn inline(name: &str, content: &str) -> CopyInput {
    CopyInput::Inline { name: name.to_owned(), content: content.to_owned() }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn parents_are_kept() {
    let root = tree(&[
        "x/a.txt",
        "x/b.md",
        "x/y/a.txt",
        "x/y/b.txt",
        "y/a.txt",
        "y/z/deep/c.txt",
        "top",
        "to -> x",
        "empty/",
    ]);
    let cases: &[(&[&str], &[&str])] = &[
        (&["./x/a.txt", "./y/a.txt"], &["o/", "o/x/", "o/x/a.txt", "o/y/", "o/y/a.txt"]),
        (&["/top"], &["o/", "o/top"]),
        (&["x/y"], &["o/", "o/x/", "o/x/y/", "o/x/y/a.txt", "o/x/y/b.txt"]),
        (&["x/y/"], &["o/", "o/x/", "o/x/y/", "o/x/y/a.txt", "o/x/y/b.txt"]),
        (&["../../x/../x/b.md"], &["o/", "o/x/", "o/x/b.md"]),
        // What precedes the first `/./` is not kept.
        (&["./x/./y/*.txt"], &["o/", "o/y/", "o/y/a.txt", "o/y/b.txt"]),
        (&["y/./z/./deep"], &["o/", "o/z/", "o/z/deep/", "o/z/deep/c.txt"]),
        (&["x/./"], &["o/", "o/a.txt", "o/b.md", "o/y/", "o/y/a.txt", "o/y/b.txt"]),
        (&["to/./b.md"], &["o/", "o/b.md"]),
        // A file in place of the directory is taken as it is, as BuildKit does.
        (&["*/./a.txt"], &["o/", "o/a.txt", "o/top"]),
        // Any depth, none included.
        (&["./x/**/*.txt"], &["o/", "o/x/", "o/x/a.txt", "o/x/y/", "o/x/y/a.txt", "o/x/y/b.txt"]),
        (&["**/c.txt"], &["o/", "o/y/", "o/y/z/", "o/y/z/deep/", "o/y/z/deep/c.txt"]),
        (&["*/a.txt"], &["o/", "o/x/", "o/x/a.txt", "o/y/", "o/y/a.txt"]),
        (&["em*"], &["o/", "o/empty/"]),
        // A pattern may match nothing: the destination is made all the same.
        (&["none*"], &["o/"]),
        (&["x/**/none"], &["o/"]),
    ];
    for (sources, expected) in cases {
        for destination in ["/o", "/o/"] {
            let request = CopyRequest { parents: true, ..request(sources, destination) };
            let actual = paths(&root, &View::default(), &request).unwrap();
            assert_eq!(actual, *expected, "{sources:?}");
        }
    }
    for source in ["none", "x/none", "none/./x", "x/./none"] {
        let request = CopyRequest { parents: true, ..request(&[source], "/o/") };
        let error = paths(&root, &View::default(), &request).unwrap_err();
        assert_eq!(error, format!("`{source}` not found"));
    }
}

#[test]
fn parents_take_the_metadata_of_the_source() {
    let root = tree(&["a/b/f"]);
    for (name, mode) in [("a", 0o711), ("a/b", 0o751)] {
        let mode = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(root.path().join(name), mode).unwrap();
    }
    let parents = CopyRequest { parents: true, ..request(&["a/b/f"], "/o/") };
    let lines = list(&tar_of(&root, &View::default(), &parents).unwrap());
    assert_eq!(lines, ["o/ 755 0:0", "o/a/ 711 0:0", "o/a/b/ 751 0:0", "o/a/b/f 644 0:0 a/b/f"]);
    // One that exists keeps its owner and takes the mode.
    let base = view(&["o/", "o/a/"]);
    let lines = list(&tar_of(&root, &base, &parents).unwrap());
    assert_eq!(lines[..3], ["o/ 750 7:8", "o/a/ 711 7:8", "o/a/b/ 751 0:0"]);
    let changed =
        CopyRequest { owner: Some((1, 2)), mode: Some("600".parse().unwrap()), ..parents.clone() };
    let lines = list(&tar_of(&root, &base, &changed).unwrap());
    let expected = ["o/ 750 7:8", "o/a/ 711 7:8", "o/a/b/ 600 1:2", "o/a/b/f 600 1:2 a/b/f"];
    assert_eq!(lines, expected);
}

#[test]
fn excluded_files_are_left_out() {
    let root = tree(&[
        "d1/a.png",
        "d1/b.txt",
        "d1/c.jpeg",
        "d2/a.pdf",
        "d2/sub/b.txt",
        "d2/sub/keep",
        "top.txt",
        "top.md",
    ]);
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["*/*.png", "*/*.jpeg", "d2", "top*"], &["."], &["o/", "o/d1/", "o/d1/b.txt"]),
        (&["*.png"], &["d1/"], &["o/", "o/b.txt", "o/c.jpeg"]),
        // Relative to each source, at its top only without `**`.
        (
            &["b.txt"],
            &["d1", "d2"],
            &["o/", "o/a.pdf", "o/a.png", "o/c.jpeg", "o/sub/", "o/sub/b.txt", "o/sub/keep"],
        ),
        (&["**/b.txt"], &["d2"], &["o/", "o/a.pdf", "o/sub/", "o/sub/keep"]),
        (
            &["d1/*", "top*"],
            &["."],
            &["o/", "o/d1/", "o/d2/", "o/d2/a.pdf", "o/d2/sub/", "o/d2/sub/b.txt", "o/d2/sub/keep"],
        ),
        (&["*", "!sub/keep"], &["d2"], &["o/", "o/sub/", "o/sub/keep"]),
        (&["sub", "!sub/b.txt"], &["d2"], &["o/", "o/a.pdf", "o/sub/", "o/sub/b.txt"]),
        (&["*"], &["d*"], &["o/"]),
        // By name, of files that a wildcard matches; what is named itself is not left out.
        (&["*.txt"], &["top*"], &["o/", "o/top.md"]),
        (&["*.txt"], &["top.txt"], &["o/", "o/top.txt"]),
        (&["d1"], &["d1"], &["o/", "o/a.png", "o/b.txt", "o/c.jpeg"]),
    ];
    for (exclude, sources, expected) in cases {
        let request = CopyRequest { exclude: texts(exclude), ..request(sources, "/o/") };
        let actual = paths(&root, &View::default(), &request).unwrap();
        assert_eq!(actual, *expected, "{sources:?} without {exclude:?}");
    }
    let both = CopyRequest {
        parents: true,
        exclude: texts(&["d2/sub/b*"]),
        ..request(&["d*/**/*.txt", "d2"], "/o/")
    };
    let actual = paths(&root, &View::default(), &both).unwrap();
    assert_eq!(
        actual,
        ["o/", "o/d1/", "o/d1/b.txt", "o/d2/", "o/d2/a.pdf", "o/d2/sub/", "o/d2/sub/keep"]
    );
    let bad = CopyRequest { exclude: texts(&["ok", "[a"]), ..request(&["."], "/o/") };
    assert_eq!(paths(&root, &View::default(), &bad).unwrap_err(), "invalid pattern `[a`");
}

#[test]
fn what_is_excluded_does_not_count() {
    let root = tree(&["d/a=1", "d/b=2"]);
    let without = CopyRequest { exclude: texts(&["b"]), ..request(&["d"], "/") };
    let of_a =
        |pattern: &str| key(&root, &CopyRequest { parents: true, ..request(&[pattern], "/") });
    let (first, first_of_a) = (key(&root, &without), of_a("d/a*"));
    fs_err::write(root.path().join("d/b"), "3").unwrap();
    assert_eq!((key(&root, &without), of_a("d/a*")), (first.clone(), first_of_a.clone()));
    fs_err::write(root.path().join("d/a"), "3").unwrap();
    assert!(key(&root, &without) != first && of_a("d/a*") != first_of_a);
}

#[test]
fn sources_are_mixed_and_the_last_counts() {
    let root = tree(&["f=tree", "d/g=tree"]);
    let fetched = tree(&["download=D"]);
    let repository = tree(&["src/main=m", "f=repository"]);
    let mode = std::fs::Permissions::from_mode(0o711);
    fs_err::set_permissions(repository.path(), mode).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    fs_err::set_permissions(fetched.path().join("download"), mode).unwrap();
    let download = CopyInput::File {
        directory: fetched.path().to_owned(),
        name: "download".to_owned(),
        extract: false,
    };
    let checkout = CopyInput::Directory(repository.path().to_owned());
    let written = |request: &CopyRequest| list(&tar_of(&root, &View::default(), request).unwrap());

    let all = of(
        &[
            checkout.clone(),
            CopyInput::path("f"),
            inline("f", "inline"),
            inline("e", ""),
            download.clone(),
        ],
        "/o/",
    );
    let expected = [
        "o/ 755 0:0",
        "o/download 600 0:0 D",
        "o/e 644 0:0 ",
        "o/f 644 0:0 inline",
        "o/src/ 755 0:0",
        "o/src/main 644 0:0 m",
    ];
    assert_eq!(written(&all), expected);
    let reversed = of(&[inline("f", "inline"), CopyInput::path("f"), checkout.clone()], "/o/");
    assert_eq!(written(&reversed)[1], "o/f 644 0:0 repository");

    // A repository gives its own directory's mode to one that is not there.
    assert_eq!(written(&of(&[checkout], "/o"))[0], "o/ 711 0:0");
    assert_eq!(
        written(&of(&[inline("f", "text")], "/etc/conf")),
        ["etc/ 755 0:0", "etc/conf 644 0:0 text"]
    );
    assert_eq!(written(&of(std::slice::from_ref(&download), "/x")), ["x 600 0:0 D"]);
    let changed = CopyRequest {
        owner: Some((3, 4)),
        mode: Some("u+x".parse().unwrap()),
        ..of(&[inline("f", "text"), download], "/new/")
    };
    assert_eq!(written(&changed), ["new/ 755 3:4", "new/download 700 3:4 D", "new/f 744 3:4 text"]);
}

#[test]
fn sources_beside_the_tree() {
    let root = tree(&["f=tree"]);
    // Nothing takes another's place unseen.
    let twice = of(&[inline("f", "1"), CopyInput::path("f")], "/o");
    let error = tar_of(&root, &View::default(), &twice).unwrap_err();
    assert!(matches!(error, CopyError::DestinationNotDirectory(_)), "{error}");
    // No tree is needed where no path is asked for.
    let request = of(&[inline("f", "1")], "/o");
    assert_eq!(select(None, &request).unwrap().len(), 1);
    assert!(select(None, &of(&[CopyInput::path("f")], "/o")).is_err());
    let keys: Vec<_> = ["1", "2"].map(|text| key(&root, &of(&[inline("f", text)], "/o"))).into();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn numbers_also_change_new_parents() {
    let root = tree(&["f", "d/g"]);
    let base = view(&["app/"]);
    let cases = [
        ("0500", ["app/ 750 7:8", "app/n/ 500 0:0", "app/n/f 500 0:0 f"]),
        ("2755", ["app/ 750 7:8", "app/n/ 755 0:0", "app/n/f 2755 0:0 f"]),
        ("u=rwx,go=", ["app/ 750 7:8", "app/n/ 755 0:0", "app/n/f 700 0:0 f"]),
    ];
    for (mode, expected) in cases {
        let request =
            CopyRequest { mode: Some(mode.parse().unwrap()), ..request(&["f"], "/app/n/") };
        assert_eq!(list(&tar_of(&root, &base, &request).unwrap()), expected, "{mode}");
    }
}

#[test]
fn an_exact_path_is_no_pattern() {
    let root = tree(&["a*=star", "ab=b", "d/[x]=x"]);
    for (path, expected) in [("a*", "o star"), ("/d/[x]", "o x")] {
        let request =
            CopyRequest { sources: vec![CopyInput::Exact(path.to_owned())], ..request(&[], "/o") };
        assert_eq!(copied(&root, &View::default(), &request), [expected]);
    }
}

#[test]
fn portable_metadata_is_that_of_every_checkout() {
    let pick = |root: &TempDir| {
        let tree = SourceTree {
            root: root.path(),
            ignored: None,
            owners: None,
            metadata: Metadata::Portable,
        };
        let request = request(&["."], "/app/");
        let selection = select(Some(&tree), &request).unwrap();
        let mut tar = LayerTar::new(Vec::new());
        selection.write(&View::default(), &request, &mut tar).unwrap();
        let digest = selection.digest(&StatCache::default()).unwrap();
        (digest, list(&tar.finish().unwrap().0))
    };
    let one = tree(&["d/run=x", "d/plain=y", "d/same=y", "link -> d/run"]);
    let two = tree(&["d/run=x", "d/plain=y", "d/same => d/plain", "link -> d/run"]);
    let set = |root: &TempDir, path: &str, mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs_err::set_permissions(root.path().join(path), mode).unwrap();
    };
    for (root, [directory, run, plain]) in
        [(&one, [0o755, 0o755, 0o644]), (&two, [0o2700, 0o711, 0o600])]
    {
        set(root, "d", directory);
        set(root, "d/run", run);
        set(root, "d/plain", plain);
    }
    let flags = rustix::fs::XattrFlags::empty();
    // Where the file system keeps none, there is nothing to leave out.
    let _ = rustix::fs::setxattr(two.path().join("d/run"), "user.note", b"mine", flags);
    assert_eq!(pick(&one), pick(&two));
    let expected = "app/d/plain 644 0:0 y";
    assert!(pick(&two).1.iter().any(|line| line == expected), "{:?}", pick(&two).1);
}
