//! `login`, `logout` and what follows from them, on registries that know their users.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::context::{Auth, PASSWORD, Registry, Role, TestContext, USERNAME};

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

fn login(context: &TestContext, registry: &Registry, password: &str) -> crate::context::Output {
    context
        .rpub(["login", "-u", USERNAME, "--password-stdin", &registry.name()])
        .input(password)
        .run()
}

fn build_push(context: &TestContext, registry: &Registry, name: &str) -> crate::context::Output {
    context.rpub(["build-push", "-t", &registry.reference(name), "app"]).run()
}

fn whole_way(auth: Auth) {
    let Some((context, registry)) = context_and_registry(auth) else { return };
    // Other programs' keys stay.
    let existing =
        r#"{"auths":{"other.example":{"auth":"YTpi"}},"psFormat":"x","HttpHeaders":{"A":"b"}}"#;
    let path = context.write("home/docker/config.json", existing);

    let output = build_push(&context, &registry, "team/app:1");
    output.expect_code(4);
    let output = login(&context, &registry, "wrong");
    output.expect_code(4);
    assert!(!output.stderr.contains("wrong\n"), "the password is shown\n{output}");
    assert_eq!(fs_err::read_to_string(&path).unwrap(), existing);

    // A final newline, as `echo` and files have it, is not part of the password.
    let output = login(&context, &registry, &format!("{PASSWORD}\n"));
    output.expect_code(0);
    output.expect_output("Login Succeeded");
    let settings: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    assert!(settings["auths"][registry.name()]["auth"].is_string(), "{settings}");
    assert_eq!(settings["auths"]["other.example"]["auth"], "YTpi");
    assert_eq!(settings["psFormat"], "x");
    assert_eq!(settings["HttpHeaders"]["A"], "b");
    assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let output = build_push(&context, &registry, "team/app:1");
    output.expect_code(0);
    context.rpub(["pull", &registry.reference("team/app:1")]).success();

    context.rpub(["logout", &registry.name()]).success();
    let settings: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    assert!(settings["auths"][registry.name()].is_null(), "{settings}");
    assert_eq!(settings["auths"]["other.example"]["auth"], "YTpi");
    build_push(&context, &registry, "team/app:2").expect_code(4);
}

#[test]
fn basic_authentication_over_tls() {
    whole_way(Auth::Htpasswd);
}

#[test]
fn token_authentication() {
    whole_way(Auth::Token);
}

#[test]
fn a_mount_asks_for_both_repositories_in_one_token() {
    let Some((context, registry)) = context_and_registry(Auth::Token) else { return };
    login(&context, &registry, PASSWORD).expect_code(0);
    build_push(&context, &registry, "team/one:1").expect_code(0);
    build_push(&context, &registry, "team/two:1").expect_code(0);
    let union = |request: &&String| request.contains("one") && request.contains("two");
    let requests = registry.token_requests();
    assert!(requests.iter().any(|request| union(&request)), "{requests:#?}");
    let mounted = registry.requests().into_iter().filter(|line| line.contains("mount="));
    assert!(
        mounted.clone().all(|line| line.ends_with(" 201")),
        "{:?}",
        mounted.collect::<Vec<_>>()
    );
}

#[test]
fn an_authority_that_is_not_trusted_is_refused() {
    let Some((mut context, registry)) = context_and_registry(Auth::Htpasswd) else { return };
    context.set("RPUB_CA_FILE", "/etc/ssl/certs/ca-certificates.crt");
    let output = login(&context, &registry, PASSWORD);
    output.expect_code(1);
    output.expect_error("certificate");
    assert!(!context.path("home/docker/config.json").exists());
}

#[test]
fn podmans_auth_file_and_credential_helpers_are_read() {
    let Some((context, registry)) = context_and_registry(Auth::Htpasswd) else { return };
    login(&context, &registry, PASSWORD).expect_code(0);
    let saved = fs_err::read_to_string(context.path("home/docker/config.json")).unwrap();
    context.rpub(["logout", &registry.name()]).success();
    build_push(&context, &registry, "team/app:1").expect_code(4);

    context.write("run/containers/auth.json", saved);
    build_push(&context, &registry, "team/app:1").expect_code(0);
    fs_err::remove_file(context.path("run/containers/auth.json")).unwrap();

    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 1\nread -r server\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"{USERNAME}\",\"Secret\":\"%s\"}}' \
         \"$server\" '{PASSWORD}'\n"
    );
    let helper = context.write("bin/docker-credential-test", script);
    fs_err::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.name());
    context.write("home/docker/config.json", settings);
    let path = format!("{}:/usr/bin:/bin", context.path("bin").display());
    let reference = registry.reference("team/app:2");
    context.rpub(["build-push", "-t", &reference, "app"]).env("PATH", &path).success();

    context.write("home/docker/config.json", "{}");
    context.rpub(["build-push", "-t", &reference, "app"]).env("PATH", &path).code(4);
    let helpers = "credential-helpers = ['containers-auth.json', 'absent', 'test']\n";
    context.write("home/settings/containers/registries.conf", helpers);
    context.rpub(["build-push", "-t", &reference, "app"]).env("PATH", &path).success();
    let explain = context.rpub(["auth", "explain", &reference]).env("PATH", &path).run();
    explain.expect_code(0);
    let lines: Vec<&str> = explain.stdout.lines().collect();
    let [.., absent, found] = &lines[..] else { panic!("{explain}") };
    assert!(absent.starts_with("docker-credential-absent "), "{explain}");
    assert!(found.starts_with("docker-credential-test "), "{explain}");
    assert!(found.contains(USERNAME) && !explain.stdout.contains(PASSWORD), "{explain}");
}

#[test]
fn no_secret_is_shown() {
    let Some((context, registry)) = context_and_registry(Auth::Token) else { return };
    login(&context, &registry, PASSWORD).expect_code(0);
    let reference = registry.reference("team/app:1");
    let output = context
        .rpub(["build-push", "--progress=rawjson", "-t", &reference, "app"])
        .env("RPUB_LOG", "trace")
        .env("RUST_LOG", "trace")
        .success();
    let auth: Value =
        serde_json::from_slice(&fs_err::read(context.path("home/docker/config.json")).unwrap())
            .unwrap();
    let auth = auth["auths"][registry.name()]["auth"].as_str().unwrap().to_owned();
    for secret in [PASSWORD, auth.as_str(), "eyJ0eXAi"] {
        assert!(!output.stderr.contains(secret), "`{secret}` is shown\n{output}");
        assert!(!output.stdout.contains(secret), "`{secret}` is shown\n{output}");
    }
}

#[test]
fn whoami_explain_and_token_tell_what_a_request_would_use() {
    let Some((mut context, registry)) = context_and_registry(Auth::Token) else { return };
    let host = registry.name();
    let name = registry.reference("team/app:1");
    context.rpub(["whoami", &host]).run().expect_code(4);
    login(&context, &registry, PASSWORD).expect_code(0);
    let output = context.rpub(["whoami", &host]).run();
    assert_eq!(output.stdout, format!("{USERNAME}\n"), "{output}");

    let output = context.rpub(["auth", "explain", "--format=json", &name]).run();
    output.expect_code(0);
    let attempts: Value = serde_json::from_str(&output.stdout).unwrap();
    let last = attempts.as_array().unwrap().last().unwrap();
    assert_eq!((&last["Used"], &last["Username"]), (&Value::Bool(true), &USERNAME.into()));
    assert_eq!(last["Key"], host);
    assert!(last["Place"].as_str().unwrap().ends_with("docker/config.json"), "{last}");
    assert!(!output.stdout.contains(PASSWORD), "{output}");

    // The token opens the repository to a program that is not ours.
    let token = context.rpub(["auth", "token", "--push", &name]).run();
    token.expect_code(0);
    let header = context.rpub(["auth", "token", "--push", "-H", &name]).run();
    assert!(header.stdout.starts_with("Authorization: Bearer "), "{header}");
    let scheme = if registry.has_tls() { "https" } else { "http" };
    let url = format!("{scheme}://{host}/v2/team/app/blobs/uploads/");
    let curl = context.tool("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
    let curl = curl.args(["-k", "-X", "POST", "-H", header.stdout.trim_end(), &url]).run();
    assert_eq!(curl.stdout, "202", "{curl}");

    // The environment comes first, and its secret stays unsaid.
    context.set(
        "DOCKER_AUTH_CONFIG",
        format!(r#"{{"auths":{{"{host}":{{"auth":"ZTpzM2NyZXQ="}}}}}}"#),
    );
    let output = context.rpub(["auth", "explain", &name]).run();
    output.expect_code(0);
    assert!(
        output.stdout.contains("DOCKER_AUTH_CONFIG") && output.stdout.contains("user `e`"),
        "{output}"
    );
    assert!(
        !output.stdout.contains("s3cret") && !output.stdout.contains("config.json"),
        "{output}"
    );
    context.set("DOCKER_AUTH_CONFIG", "{");
    let output = context.rpub(["auth", "explain", &name]).run();
    output.expect_code(2);
    assert!(output.stderr.contains("failed to ask DOCKER_AUTH_CONFIG"), "{output}");

    context.set("DOCKER_AUTH_CONFIG", "");
    context.rpub(["logout", "--all"]).run().expect_output(&host);
    context.rpub(["whoami", &host]).run().expect_code(4);
}
