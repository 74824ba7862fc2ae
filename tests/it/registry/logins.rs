//! Where logins are kept and whom they open doors for: real helpers, files of one's own, tokens.

use crate::context::{
    Auth, Output, PASSWORD, Registry, Role, TestCommand, TestContext, USERNAME, has_tools, program,
};

/// A context whose program trusts the registry's authority and has something to push.
fn context_and_registry(auth: Auth) -> Option<(TestContext, Registry)> {
    let mut context = TestContext::for_role(Role::Unprivileged)?;
    let registry = Registry::with_auth(&context, auth)?;
    if registry.has_tls() {
        context.set("RPUB_CA_FILE", registry.authority());
    }
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    Some((context, registry))
}

fn login<'a>(
    context: &TestContext,
    registry: &Registry,
    more: impl IntoIterator<Item = &'a str>,
) -> TestCommand {
    let name = registry.name();
    let command = context.rpub(["login", "-u", USERNAME, "--password-stdin", &name]);
    command.args(more).input(PASSWORD)
}

/// Wire row A12: tokens of one second open a registry for an upload of several.
#[test]
fn an_upload_outlives_its_tokens() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::with_short_tokens(&context, 1) else { return };
    let noise: Vec<u8> = (0_u64..1 << 19)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes())
        .collect();
    context.write("app/noise", noise);
    context.write("app/Dockerfile", "FROM scratch\nCOPY noise /\n");
    login(&context, &registry, []).success();
    let before = registry.token_requests().len();
    let name = registry.reference("team/app:1");
    context.rpub(["build-push", "--limit-rate=1M", "-t", &name, "app"]).success();
    let tokens = registry.token_requests().len() - before;
    assert!(tokens >= 2, "{tokens} tokens: {:#?}", registry.token_requests());
    // The commit comes too late for its token, and is sent once more.
    let requests = registry.requests();
    let refused = requests.iter().find(|line| line.starts_with("PUT ") && line.ends_with(" 401"));
    let refused = refused.unwrap_or_else(|| panic!("{requests:#?}"));
    let again = format!("{}201", refused.strip_suffix("401").unwrap());
    assert!(requests.contains(&again), "{requests:#?}");
    context.rpub(["rmi", &name]).success();
    context.rpub(["pull", &name]).success();
}

#[test]
fn readers_and_writers_are_different_people() {
    let Some((context, registry)) = context_and_registry(Auth::Token) else { return };
    let name = registry.reference("team/app:1");
    let file = context.path("writers.json");
    let file = file.to_str().unwrap();
    login(&context, &registry, ["--authfile", file]).success();
    assert!(!context.path("home/docker/config.json").exists(), "only the named file is written");

    // Nobody may write, and who writes is not who reads.
    context.rpub(["build-push", "-t", &name, "app"]).code(4);
    context.rpub(["build-push", "--src-authfile", file, "-t", &name, "app"]).code(4);
    context.rpub(["build-push", "--dest-authfile", file, "-t", &name, "app"]).success();
    context.rpub(["rmi", &name]).success();
    context.rpub(["pull", "--dest-authfile", file, &name]).code(4);
    context.rpub(["pull", "--src-authfile", file, &name]).success();

    let explain = |more: &[&str]| {
        let command = context.rpub(["auth", "explain", "--dest-authfile", file, &name]);
        command.args(more).run()
    };
    assert!(!explain(&[]).stdout.contains("writers.json"), "{}", explain(&[]));
    assert!(explain(&["--push"]).stdout.contains("writers.json"), "{}", explain(&["--push"]));
    let missing = context.rpub(["pull", "--authfile", "/nowhere.json", &name]).code(4);
    missing.expect_error("/nowhere.json");
}

/// Commands that only look must be who reads, not who writes.
#[test]
fn whoever_only_looks_is_who_reads() {
    let Some((context, registry)) = context_and_registry(Auth::Token) else { return };
    let name = registry.reference("team/app:1");
    let repository = registry.reference("team/app");
    let file = context.path("people.json");
    let file = file.to_str().unwrap();
    login(&context, &registry, ["--authfile", file]).success();
    context.rpub(["build-push", "--dest-authfile", file, "-t", &name, "app"]).success();
    let read = ["--src-authfile", file];
    let manifest = context.rpub(["manifest", "get", &name]).args(read).success().json();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let blob = format!("{repository}@{config}");
    for words in [
        &["pull", &name][..],
        &["digest", &name],
        &["manifest", "head", &name],
        &["manifest", "get", &name],
        &["blob", "head", &blob],
        &["blob", "get", &blob],
        &["tag", "ls", &repository],
        &["referrers", &name],
        &["validate", &name],
        &["validate", "--fast", &name],
        &["manifest", "diff", &name, &name],
        &["mutate", "--dry-run", "--label=a=b", &name],
    ] {
        context.rpub(words).args(read).success();
        context.rpub(words).args(["--dest-authfile", file]).code(4);
    }
    // What a push has to know is asked as who pushes.
    context.write("manifest.json", manifest.to_string());
    let other = registry.reference("team/app:2");
    let put = || context.rpub(["manifest", "put", &other, "manifest.json"]);
    put().args(["--dest-authfile", file]).success();
    put().args(read).code(4);
}

#[test]
fn a_token_opens_its_registry_and_no_other() {
    let Some((context, registry)) = context_and_registry(Auth::Token) else { return };
    let (host, name) = (registry.name(), registry.reference("team/app:1"));
    login(&context, &registry, []).success();
    let token = context.rpub(["auth", "token", "--push", &name]).success().line().to_owned();
    context.rpub(["logout", &host]).success();
    context.write("token", format!("{token}\n"));
    let build = |file: &str| {
        let command = context.rpub(["build-push", "--registry-token-file", file, "-t", &name]);
        command.arg("app")
    };
    build("other.example=token").code(4);
    build("token").code(2).expect_error("HOST=FILE");
    let output = build(&format!("{host}=token")).env("RPUB_LOG", "trace").success();
    assert!(!output.stderr.contains(&token), "the token is shown");
    let asked = registry.token_requests().len();
    let pull = context.rpub(["pull", &name]);
    pull.env("RPUB_REGISTRY_TOKEN", format!("{host}={token}")).success();
    assert_eq!(registry.token_requests().len(), asked, "there is nothing to ask for");
    let pull = context.rpub(["pull", &name]).env("RPUB_REGISTRY_TOKEN", &token).run();
    pull.expect_code(2);
    assert!(!pull.stderr.contains(&token), "the token is shown");
}

#[test]
fn login_tells_who_and_what_else_counts() {
    let Some((context, registry)) = context_and_registry(Auth::Htpasswd) else { return };
    let host = registry.name();
    let get_login = |code| context.rpub(["login", "--get-login", &host]).code(code);
    get_login(4);
    login(&context, &registry, []).success();
    assert_eq!(get_login(0).line(), USERNAME);

    let other = format!(r#"{{"auths":{{"{host}":{{"auth":"b3RoZXI6eA=="}}}}}}"#);
    context.write("run/containers/auth.json", other);
    let output = login(&context, &registry, []).success();
    output.expect_error("another credential");
    context.rpub(["logout", &host]).success().expect_error("there still is a credential");
    let compat = context.path("compat.json");
    login(&context, &registry, ["--compat-auth-file", compat.to_str().unwrap()]).success();
    assert!(fs_err::read_to_string(&compat).unwrap().contains(&host));
    let user = ["login", "-u", "a:b", "--password-stdin", &host];
    context.rpub(user).input("x").code(2).expect_error("colon");
}

/// Ends the agent of a key ring when the test does.
struct Agent<'a>(&'a TestContext);

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.0.command("gpgconf").args(["--kill", "all"]).run();
    }
}

/// The whole way with whatever `config.json` names as its store.
fn whole_way_with_helper(context: &TestContext, registry: &Registry, store: &str) {
    context.write("home/docker/config.json", format!(r#"{{"credsStore":"{store}"}}"#));
    let output = login(context, registry, []).success();
    output.expect_error(&format!("saved with the credential helper {store}"));
    let saved = fs_err::read_to_string(context.path("home/docker/config.json")).unwrap();
    assert!(saved.contains("{}") && !saved.contains("\"auth\""), "{saved}");
    let (host, name) = (registry.name(), registry.reference("team/app:1"));
    context.rpub(["build-push", "-t", &name, "app"]).success();
    assert_eq!(context.rpub(["whoami", &host]).success().line(), USERNAME);
    context.rpub(["logout", "--all"]).success().expect_output(&host);
    context.rpub(["whoami", &host]).code(4);
}

/// Wire row H6: docker's helper for `pass`, with a key of the test's.
#[test]
fn the_helper_for_pass() {
    if !has_tools(&["docker-credential-pass", "pass", "gpg", "gpgconf"]) {
        return;
    }
    let Some((mut context, registry)) = context_and_registry(Auth::Htpasswd) else { return };
    let directory = context.directory("gnupg");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs_err::set_permissions(&directory, private).unwrap();
    context.set("GNUPGHOME", &directory);
    context.set("PASSWORD_STORE_DIR", context.path("passwords"));
    let _agent = Agent(&context);
    let key = ["--batch", "--passphrase", "", "--quick-gen-key", "rpub@test.example"];
    context.command("gpg").args(key).args(["default", "default", "never"]).success();
    context.command("pass").args(["init", "rpub@test.example"]).success();
    whole_way_with_helper(&context, &registry, "pass");
}

/// Runs the whole way in a D-Bus session of its own, whose keyring is open.
const SESSION: &str = r#"
set -eu
printf secret | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
daemon=$!
trap 'kill $daemon' EXIT
tries=0
until docker-credential-secretservice list >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 200 ] || exit 9
    sleep 0.05
done
printf %s "$PASSWORD" | "$RPUB" login $FLAGS -u "$NAME" --password-stdin "$REGISTRY"
"$RPUB" build-push -t "$REGISTRY/team/app:1" app
"$RPUB" whoami "$REGISTRY"
"$RPUB" auth explain "$REGISTRY/team/app"
"$RPUB" logout "$REGISTRY"
! "$RPUB" whoami "$REGISTRY"
"#;

/// Returns what the whole way prints in such a session; `None` where the machine has none.
fn in_session(settings: Option<&str>, flags: &str) -> Option<(TestContext, Output)> {
    let tools = ["docker-credential-secretservice", "dbus-run-session", "gnome-keyring-daemon"];
    if !has_tools(&tools) {
        return None;
    }
    let (context, registry) = context_and_registry(Auth::Htpasswd)?;
    if let Some(text) = settings {
        context.write("home/docker/config.json", text);
    }
    let session = context.command("dbus-run-session").args(["--", "sh", "-c", SESSION]);
    let session = session.env("PASSWORD", PASSWORD).env("NAME", USERNAME).env("FLAGS", flags);
    let output = session.env("RPUB", program()).env("REGISTRY", registry.name()).run();
    output.expect_code(0);
    assert!(!output.stdout.contains(PASSWORD) && !output.stderr.contains(PASSWORD), "{output}");
    Some((context, output))
}

/// Wire row H6: docker's helper for the desktop's keyring.
#[test]
fn the_helper_for_the_secret_service() {
    let settings = r#"{"credsStore":"secretservice"}"#;
    let Some((_context, output)) = in_session(Some(settings), "") else { return };
    output.expect_output("docker-credential-secretservice");
    output.expect_error("saved with the credential helper secretservice");
}

#[test]
fn the_desktops_keyring() {
    let Some((context, output)) = in_session(None, "--keyring") else { return };
    output.expect_output("desktop's keyring");
    output.expect_error("saved in the desktop's keyring");
    let saved = fs_err::read_to_string(context.path("home/docker/config.json")).unwrap();
    assert!(!saved.contains("\"auth\""), "{saved}");
}

/// A bus that takes connections and says nothing, and no bus at all.
#[test]
fn keyrings_that_are_not_there_are_passed_over() {
    let Some((mut context, registry)) = context_and_registry(Auth::Htpasswd) else { return };
    let (host, name) = (registry.name(), registry.reference("team/app:1"));
    let socket = context.path("bus");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let world = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs_err::set_permissions(&socket, world).unwrap();
    for bus in [format!("unix:path={}", socket.display()), "unix:path=/nowhere".to_owned()] {
        context.set("DBUS_SESSION_BUS_ADDRESS", bus);
        let output = login(&context, &registry, ["--keyring"]).success();
        output.expect_error("the desktop's keyring");
        // Where the kernel's is not there either, the file takes it, and rpub says so.
        assert!(
            output.stderr.contains("saved unencrypted in")
                || output.stderr.contains("saved in the kernel's keyring"),
            "{output:?}"
        );
        context.rpub(["build-push", "-t", &name, "app"]).success();
        context.rpub(["logout", &host]).success();
    }
}
