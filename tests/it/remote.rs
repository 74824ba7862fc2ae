//! `ADD` of URLs and git repositories.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::context::{
    Page, Repository, Role, TestCommand, TestContext, WebServer, files_of, git_daemon, has_tools,
};

/// A user's world and a web server.
struct Place {
    context: TestContext,
    web: WebServer,
}

impl Place {
    fn new() -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        has_tools(&["git"]).then(|| Self { context, web: WebServer::start() })
    }

    /// Returns `rpub build` of a Dockerfile of this `ADD` alone.
    fn add(&self, add: &str) -> TestCommand {
        self.context.write("ctx/Dockerfile", format!("FROM scratch\nADD {add}\n"));
        self.context.rpub(["build", "-q", "ctx"])
    }

    /// Returns names and content of what an `ADD` brings.
    fn added(&self, add: &str) -> Vec<(String, String)> {
        let output = self.add(add).success();
        let files = files_of(&self.context.store(), output.line());
        files.into_iter().map(|(name, file)| (name, file.content)).collect()
    }

    fn names(&self, add: &str) -> Vec<String> {
        self.added(add).into_iter().map(|(name, _)| name).collect()
    }

    fn statuses(&self) -> Vec<u16> {
        self.web.asked().iter().map(|asked| asked.status).collect()
    }
}

fn page(body: &str) -> Page {
    Page { body: body.into(), ..Page::default() }
}

fn digest(text: &str) -> String {
    rpub::image::Digest::of(text.as_bytes()).to_string()
}

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn a_file_has_the_name_of_its_url_and_the_time_of_the_server() {
    let Some(place) = Place::new() else { return };
    let dated = Page { last_modified: Some(DATE), ..page("x") };
    let url = place.web.put("/a/some%20file.txt", dated);
    place.web.put("/", page("root"));
    let output = place.add(&format!("{url}?version=1 /d/")).success();
    let files = files_of(&place.context.store(), output.line());
    let file = &files["d/some file.txt"];
    assert_eq!((file.content.as_str(), file.mode, file.mtime), ("x", 0o600, 784_111_777));
    let undated = place.web.put("/plain", page("y"));
    let output = place.add(&format!("--chmod=644 {undated} /e")).success();
    let file = &files_of(&place.context.store(), output.line())["e"];
    assert_eq!((file.mode, file.mtime), (0o644, 0));
    assert_eq!(place.names(&format!("{} /d/", place.web.url("/"))), ["d/__unnamed__"]);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let Some(place) = Place::new() else { return };
    let tagged = Page { etag: Some("\"1\""), ..page("one") };
    let url = place.web.put("/file", tagged);
    let add = format!("{url} /");
    assert_eq!(place.added(&add), [("file".to_owned(), "one".to_owned())]);
    assert_eq!(place.added(&add), [("file".to_owned(), "one".to_owned())]);
    assert_eq!(place.statuses(), [200, 304]);
    place.web.put("/file", Page { etag: Some("\"2\""), ..page("two") });
    assert_eq!(place.added(&add), [("file".to_owned(), "two".to_owned())]);
    assert_eq!(place.statuses(), [200]);
    let dated = place.web.put("/dated", Page { last_modified: Some(DATE), ..page("d") });
    place.added(&format!("{dated} /"));
    place.added(&format!("{dated} /"));
    assert_eq!(place.statuses(), [200, 304]);
    // With a known digest nobody is asked at all.
    let sum = digest("two");
    place.added(&format!("--checksum={sum} {url} /"));
    assert!(place.statuses().is_empty());
}

#[test]
fn a_wrong_checksum_is_an_integrity_failure() {
    let Some(place) = Place::new() else { return };
    let url = place.web.put("/file", page("content"));
    let (right, wrong) = (digest("content"), digest("other"));
    assert_eq!(place.names(&format!("--checksum={right} {url} /")), ["file"]);
    let refused = place.add(&format!("--checksum={wrong} {url} /")).code(7);
    refused.expect_error(&right);
    refused.expect_error(&wrong);
    refused.expect_error("2 | ADD");
}

#[test]
fn a_broken_transfer_is_tried_again_and_a_lie_is_not_believed() {
    let Some(place) = Place::new() else { return };
    let cut = place.web.put("/cut", Page { cut: Some((3, 1)), ..page("content") });
    assert_eq!(place.added(&format!("{cut} /")), [("cut".to_owned(), "content".to_owned())]);
    assert_eq!(place.statuses(), [200, 200]);
    let lying = place.web.put("/lying", Page { length: Some(100), ..page("short") });
    let failed = place.add(&format!("{lying} /")).code(1);
    failed.expect_error("failed to get");
    let leftovers: Vec<_> = fs_err::read_dir(place.context.store().join("tmp")).unwrap().collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let missing = place.add(&format!("{} /", place.web.url("/missing"))).code(3);
    missing.expect_error("404 Not Found");
}

#[test]
fn redirects_end_and_take_no_credentials_elsewhere() {
    let Some(place) = Place::new() else { return };
    let there = place.web.put("/there", page("content"));
    let here = place.web.put("/here", Page { location: Some(there), ..Page::default() });
    assert_eq!(place.names(&format!("{here} /")), ["here"]);
    let circle = place.web.url("/circle");
    place.web.put("/circle", Page { location: Some(circle.clone()), ..Page::default() });
    place.add(&format!("{circle} /")).code(1).expect_error("the redirects do not end");
    let other = WebServer::start();
    let target = other.put("/file", page("x"));
    place.web.put("/away", Page { location: Some(target), ..Page::default() });
    let with_user = place.web.url("/away").replace("http://", "http://me:hunter2@");
    assert_eq!(place.names(&format!("{with_user} /")), ["away"]);
    assert!(place.web.asked().iter().any(|asked| asked.headers.contains_key("authorization")));
    assert!(other.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

#[test]
fn archives_are_unpacked_only_on_demand() {
    let Some(place) = Place::new() else { return };
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, "inside", b"1".as_slice()).unwrap();
    let body = builder.into_inner().unwrap();
    let url = place.web.put("/a.tar", Page { body, ..Page::default() });
    assert_eq!(place.names(&format!("{url} /d/")), ["d/a.tar"]);
    assert_eq!(place.names(&format!("--unpack {url} /d/")), ["d/inside"]);
}

#[test]
fn a_repository_is_added_as_files() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("a", "1").write("d/b", "2");
    std::os::unix::fs::symlink("a", repository.work().join("link")).unwrap();
    repository.git(&["add", "--all"]);
    repository.git(&["update-index", "--chmod=+x", "d/b"]);
    repository.git(&["commit", "--quiet", "--message", "one"]);
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["checkout", "--quiet", "--", "."]);
    let second = repository.write("c", "3").commit("two");
    place.web.serve_git(place.context.path("git"));
    let url = place.web.url("/git/app.git");
    let output = place.add(&format!("{url} /r/")).success();
    let files = files_of(&place.context.store(), output.line());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["r/a", "r/c", "r/d/b", "r/link"]);
    assert_eq!((files["r/a"].mode, files["r/d/b"].mode), (0o644, 0o755));
    assert_eq!(files["r/link"].content, "a");
    assert!(files.values().all(|file| file.owner == (0, 0)), "{files:?}");
    assert_eq!(place.names(&format!("{url}#main:d /r/")), ["r/b"]);
    let dated = place.add(&format!("{url}?mtime=commit /r/")).success();
    let dated = files_of(&place.context.store(), dated.line());
    assert!(dated.values().all(|file| file.mtime == 981_173_106), "{dated:?}");
    let kept = place.names(&format!("--keep-git-dir=true {url} /r/"));
    assert!(kept.iter().any(|name| name == "r/.git/HEAD"), "{kept:?}");
    // The commit is known by now: nobody is asked.
    place.web.asked();
    assert_eq!(place.names(&format!("{url}#{second} /r/")).len(), 4);
    assert!(place.web.asked().is_empty());
    assert_eq!(place.names(&format!("--checksum={} {url}#main /r/", &second[..10])).len(), 4);
    let refused = place.add(&format!("--checksum={first} {url}#main /r/")).code(7);
    refused.expect_error(&first);
    refused.expect_error(&second);
    assert_eq!(place.names(&format!("{url}#{first} /r/")), ["r/a", "r/d/b", "r/link"]);
}

#[test]
fn submodules_come_along_unless_they_shall_not() {
    let Some(place) = Place::new() else { return };
    let library = Repository::new(&place.context, "library");
    library.write("code", "1").commit("one");
    place.web.serve_git(place.context.path("git"));
    let repository = Repository::new(&place.context, "app");
    repository.write("a", "1");
    let bare = place.context.path("git/library.git");
    repository.git(&["submodule", "--quiet", "add", &bare.display().to_string(), "lib"]);
    // As most repositories name theirs: relative to their own address.
    repository.git(&["config", "--file", ".gitmodules", "submodule.lib.url", "../library.git"]);
    repository.commit("one");
    let url = place.web.url("/git/app.git");
    assert_eq!(place.names(&format!("{url} /")), [".gitmodules", "a", "lib/code"]);
    assert_eq!(place.names(&format!("{url}?submodules=false /")), [".gitmodules", "a"]);
    let kept = place.names(&format!("--keep-git-dir=true {url} /"));
    assert!(kept.contains(&"lib/code".to_owned()) && kept.contains(&"lib/.git".to_owned()));
    let local = Repository::new(&place.context, "local");
    local.git(&["submodule", "--quiet", "add", &bare.display().to_string(), "lib"]);
    local.commit("one");
    let refused = place.add(&format!("{} /", place.web.url("/git/local.git"))).code(1);
    refused.expect_error("transport 'file' not allowed");
}

#[test]
fn a_directory_of_a_repository_must_lie_in_it() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("d/a", "1");
    std::os::unix::fs::symlink("/etc", repository.work().join("out")).unwrap();
    std::os::unix::fs::symlink("d", repository.work().join("in")).unwrap();
    repository.commit("one");
    place.web.serve_git(place.context.path("git"));
    let url = place.web.url("/git/app.git");
    assert_eq!(place.names(&format!("{url}#main:in /")), ["a"]);
    let refused = place.add(&format!("{url}#main:out /")).code(3);
    refused.expect_error("a symbolic link leads outside");
    place.add(&format!("{url}#nope /")).code(3).expect_error("does not contain ref nope");
    place.add(&format!("{} /", place.web.url("/git/absent.git"))).code(3);
}

#[test]
fn git_runs_nothing_of_the_user_and_must_be_there() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("a", "1").commit("one");
    let url = format!("git://{}/app.git", git_daemon(place.context.path("git")));
    let hooks = place.context.directory("hooks");
    let witness = place.context.path("home/witness");
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        let script = format!("#!/bin/sh\ntouch {}\n", witness.display());
        let path = place.context.write(format!("hooks/{hook}"), script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(path, mode).unwrap();
    }
    let config = format!(
        "[core]\nhooksPath = {0}\n[url \"file:///nowhere/\"]\ninsteadOf = git://\n",
        hooks.display()
    );
    place.context.write("home/.gitconfig", config);
    assert_eq!(place.names(&format!("{url} /")), ["a"]);
    assert!(!witness.exists());
    let other = place.add(&format!("{url}?branch=main /x/"));
    // What the tests themselves need to become another user stays.
    let nothing = place.context.directory("nothing");
    std::os::unix::fs::symlink("/usr/bin/setpriv", nothing.join("setpriv")).unwrap();
    let missing = other.env("PATH", nothing).code(1);
    missing.expect_error("failed to run `git`");
    missing.expect_error("apt-get install git");
}

/// Returns the files below `root` that hold `text`.
pub(crate) fn holding(root: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(root).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file() {
            let bytes = fs_err::read(entry.path()).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Fails when the store, or what a build wrote, holds one of the texts.
fn expect_nowhere(place: &Place, output: &str, texts: &[&str]) {
    for text in texts {
        assert!(!output.contains(text), "{output}");
        assert_eq!(holding(&place.context.store(), text), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn tokens_come_from_secrets_and_stay_there() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("a", "1").commit("one");
    place.web.serve_git(place.context.path("git"));
    // x-access-token:hunter2zq7
    place.web.protect_git("basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMnpxNw==");
    let private = Page { authorization: Some("Bearer hunter2zq7"), ..page("content") };
    let file = place.web.put("/file", private);
    let git = place.web.url("/git/app.git");
    let text = format!("FROM scratch\nADD {file} /\nADD --keep-git-dir=true {git} /r/\n");
    place.context.write("ctx/Dockerfile", text);
    let token = place.context.write("home/token", "hunter2zq7\n");
    let host = git.split('/').nth(2).unwrap();
    let build = |git_secret: &str| {
        let build = place.context.rpub(["build", "--progress=plain", "--no-cache", "ctx"]);
        let build = build.env("RPUB_LOG", "rpub=trace").env("TOKEN", "hunter2zq7");
        build
            .arg("--secret=id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN")
            .arg(format!("--secret=id={git_secret},src={}", token.display()))
    };
    let texts = ["hunter2zq7", "aHVudGVyMnpxNw", "eC1hY2Nlc3"];
    for name in ["GIT_AUTH_TOKEN", &format!("GIT_AUTH_TOKEN.{host}")] {
        let output = build(name).success();
        expect_nowhere(&place, &format!("{}{}", output.stdout, output.stderr), &texts);
    }
    let denied = build("GIT_AUTH_TOKEN.elsewhere").code(4);
    denied.expect_error("give a token by `--secret id=GIT_AUTH_TOKEN");
    expect_nowhere(&place, &denied.stderr, &texts);
    let none = place.context.rpub(["build", "--no-cache", "ctx"]).code(4);
    none.expect_error("give a token by `--secret id=HTTP_AUTH_TOKEN_127.0.0.1");
    // While git runs, its arguments say nothing either.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let text = format!("FROM scratch\nADD http://{address}/app.git /r/\n");
    place.context.write("ctx/Dockerfile", text);
    let running = build("GIT_AUTH_TOKEN").spawn();
    let connection = silent.accept().unwrap();
    eventually("git does not run", || !processes_with(&address).is_empty());
    let arguments = processes_with(&address).concat();
    running.interrupt();
    running.finish().expect_code(130);
    drop(connection);
    assert!(texts.iter().all(|text| !arguments.contains(text)), "{arguments}");
}

#[test]
fn credentials_of_an_address_reach_the_server_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("Dockerfile", "FROM scratch\nCOPY . /\n").commit("one");
    place.web.serve_git(place.context.path("git"));
    place.web.protect_git("basic bWU6aHVudGVyMnpxNw==");
    let url = place.web.url("/git/app.git");
    let with_user = url.replace("http://", "http://me:hunter2zq7@");
    let context = &place.context;
    let build = |address: &str| {
        let address = format!("{address}?keep-git-dir=1");
        context.rpub(["build", "--progress=plain", &address]).env("RPUB_LOG", "rpub=trace")
    };
    let output = build(&with_user).success();
    let denied = build(&url).code(4);
    denied.expect_error("GIT_AUTH_TOKEN");
    expect_nowhere(&place, &output.stderr, &["hunter2zq7", "bWU6aHVudGVyMnpxNw"]);
}

/// Waits until `is_so`, for ten seconds at most.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the arguments of the processes that have `text` among them.
fn processes_with(text: &str) -> Vec<String> {
    let lines = fs_err::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let bytes = fs_err::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    });
    lines.filter(|line| line.starts_with("git") && line.contains(text)).collect()
}

#[test]
fn a_transfer_that_hangs_can_be_interrupted() {
    let Some(place) = Place::new() else { return };
    let url = place.web.put("/hangs", Page { hangs: true, ..page("content") });
    let build = place.add(&format!("{url} /")).spawn();
    eventually("nothing was asked", || !place.web.asked().is_empty());
    build.interrupt();
    let output = build.finish();
    output.expect_code(130);
    assert!(output.elapsed < Duration::from_secs(15), "{output}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let build = place.add(&format!("git://{address}/app.git /")).spawn();
    let connection = silent.accept().unwrap();
    eventually("git does not run", || !processes_with(&address).is_empty());
    build.interrupt();
    build.finish().expect_code(130);
    eventually("git still runs", || processes_with(&address).is_empty());
    drop(connection);
    let left: Vec<_> = fs_err::read_dir(place.context.store().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn builds_side_by_side_share_what_they_get() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("a", "1").commit("one");
    place.web.serve_git(place.context.path("git"));
    let file = place.web.put("/file", page("content"));
    let git = place.web.url("/git/app.git");
    let text = format!("FROM scratch\nADD {file} /\nADD {git} /r/\n");
    place.context.write("ctx/Dockerfile", text);
    let build = || place.context.rpub(["build", "-q", "ctx"]).spawn();
    let running = [build(), build(), build()];
    for build in running {
        let output = build.finish();
        output.expect_code(0);
        let files = files_of(&place.context.store(), output.line());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["file", "r/a"]);
    }
}

#[test]
fn ssh_gets_no_key_that_was_not_given() {
    let Some(place) = Place::new() else { return };
    let context = &place.context;
    let repository = Repository::new(context, "app");
    repository.write("a", "1").commit("one");
    // Plays the other side, and writes down how it was called.
    let said = context.path("home/said");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nfor last; do :; done\nexport GIT_CONFIG_COUNT=1 \
         GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\ncd {} && eval \"$last\"\n",
        said.display(),
        context.path("git").display()
    );
    let ssh = context.write("bin/ssh", script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(ssh, mode).unwrap();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = format!("{}:{path}", context.path("bin").display());
    let agent = context.path("home/agent");
    let build = place.add("git@host.example:app.git /r/").env("PATH", &path);
    let output = build.env("SSH_AUTH_SOCK", &agent).success();
    assert!(files_of(&context.store(), output.line()).contains_key("r/a"));
    let calls = fs_err::read_to_string(&said).unwrap();
    for part in ["-F /dev/null", "IdentityAgent=\"none\"", "IdentityFile=none", "BatchMode=yes"] {
        assert!(calls.contains(part), "{calls}");
    }
    assert!(calls.contains("git@host.example"), "{calls}");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let build = place.add("git@host.example:app.git?keep-git-dir=1 /r/").env("PATH", &path);
    build.env("SSH_AUTH_SOCK", &agent).args(["--ssh", "default"]).success();
    let calls = fs_err::read_to_string(&said).unwrap();
    assert!(calls.contains(&format!("IdentityAgent=\"{}\"", agent.display())), "{calls}");
}
