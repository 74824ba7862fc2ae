use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn copy(instruction: &str) -> Copy {
    let plan = plan(&format!("FROM scratch\nARG A=x\nENV P=o\n{instruction}\n"));
    only_copy(&plan).clone()
}

#[test]
fn here_documents_come_after_paths() {
    let text = "FROM scratch\nARG A=x\nCOPY <<one b <<\"two\" /d/\na $A \"q\" \\$A\none\n$A\ntwo\n";
    let plan = plan(text);
    let inline = |name: &str, content: &str| CopySource::Inline {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    assert_eq!(
        only_copy(&plan).sources,
        [CopySource::Path("b".to_owned()), inline("one", "a x \"q\" $A\n"), inline("two", "$A\n"),]
    );
    assert_eq!(history(&plan)[1], "COPY b <<one <<two /d/ # buildkit");
    assert_eq!(refusal("FROM scratch\nCOPY <<../e /d\nx\n../e\n").1, "2:6");
}

#[test]
fn flags_are_expanded() {
    let step = copy("COPY --parents --exclude=*.$A --exclude=!b --link --chown=$P:1 a/ /d");
    assert!(step.parents && step.link);
    assert_eq!(step.exclude, ["*.x", "!b"]);
    assert_eq!(step.chown.as_deref(), Some("o:1"));
    let step = copy("ADD --link --chmod=u=rw$A a /d");
    assert!(!step.link, "BuildKit does not link with --chmod");
    assert_eq!(step.chmod.as_deref(), Some("u=rwx"));
    assert!(copy("COPY --link --chmod=$NOPE a /d").link);
    let plan =
        plan("FROM scratch\nCOPY --parents --link --exclude=x --chown=1 --chmod=700 a b c/\n");
    assert_eq!(history(&plan), ["COPY --parents --chown=1 --chmod=700 a b c/ # buildkit"]);
}

#[test]
fn urls_are_files_or_repositories() {
    let http = |url: &str, checksum: Option<&str>| {
        let checksum = checksum.map(|text| text.parse().expect("valid"));
        CopySource::Remote(Remote::Http { url: url.to_owned(), checksum })
    };
    let git = |url: &str, checksum: Option<&str>, keep_git_dir| {
        let checksum = checksum.map(str::to_owned);
        CopySource::Remote(Remote::Git { url: url.to_owned(), checksum, keep_git_dir })
    };
    let url = "https://h.example/a";
    for (arguments, expected) in [
        (format!("{url}.tar"), http("https://h.example/a.tar", None)),
        (format!("{url}-$A"), http("https://h.example/a-x", None)),
        (format!("--checksum={SHA} {url}"), http(url, Some(SHA))),
        (format!("{url}.git"), git("https://h.example/a.git", None, false)),
        (format!("--checksum=ab12 {url}.git#v1"), {
            git("https://h.example/a.git#v1", Some("ab12"), false)
        }),
        (format!("{url}.git?commit=ab12"), {
            git("https://h.example/a.git?commit=ab12", Some("ab12"), false)
        }),
        (format!("--keep-git-dir {url}"), git(url, None, true)),
        (format!("--keep-git-dir=false {url}"), git(url, None, false)),
        ("git@h.example:a#v1:d".to_owned(), git("git@h.example:a#v1:d", None, false)),
        ("a.git".to_owned(), CopySource::Path("a.git".to_owned())),
        ("github.com/a/b".to_owned(), CopySource::Path("github.com/a/b".to_owned())),
    ] {
        assert_eq!(copy(&format!("ADD {arguments} /d")).sources, [expected], "{arguments}");
    }
    assert_eq!(copy("ADD a /d").unpack, Unpack::Local);
    assert_eq!(copy("ADD --unpack a /d").unpack, Unpack::Always);
    assert_eq!(copy("ADD --unpack=false a /d").unpack, Unpack::Never);
}

#[test]
fn bad_sources_are_refused() {
    for (instruction, message, column) in [
        ("COPY https://h.example/a /", "source can't be a URL for COPY", 6),
        ("COPY git@h.example:a /", "source can't be a git ref for COPY", 6),
        ("ADD --checksum=ab a /", "checksum requires HTTP(S) or Git sources", 5),
        (
            "ADD --checksum=ab a https://h.example/b /",
            "checksum can't be specified for multiple sources",
            5,
        ),
        ("ADD https://h.example/a.git?nope=1 /", "unexpected query \"nope\"", 5),
        (
            "ADD --checksum=ab https://h.example/a.git?commit=cd /",
            "checksum mismatch \"ab\" != \"cd\"",
            19,
        ),
        (
            "ADD --keep-git-dir=false https://h.example/a.git?keep-git-dir=true /",
            "inconsistent keep-git-dir configuration",
            26,
        ),
        ("COPY --from=scratch a /", "`scratch` has no files", 6),
    ] {
        let (said, at) = refusal(&format!("FROM scratch\n{instruction}\n"));
        assert_eq!((said.as_str(), at), (message, format!("2:{column}")), "{instruction}");
    }
    assert_eq!(refusal("FROM scratch\nADD --checksum=md5:x https://h.example/a /\n").1, "2:5");
}
