//! How registries are reached: certificates, proxies, given addresses, mirrors.

use std::path::Path;

use crate::context::{Auth, ForwardProxy, Registry, Role, TestContext};

/// A context with something to push, and a registry that wants a client's certificate.
fn guarded() -> Option<(TestContext, Registry)> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let registry = Registry::with_auth(&context, Auth::Certificates)?;
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    Some((context, registry))
}

/// Copies the authority's and the client's files of the registry to `directory`.
fn hand_out(context: &TestContext, registry: &Registry, directory: &str, files: &[&str]) {
    for name in files {
        let content = fs_err::read(registry.client_file(name)).unwrap();
        context.write(Path::new(directory).join(name), content);
    }
}

const FILES: [&str; 3] = ["ca.crt", "client.cert", "client.key"];

fn build_push(context: &TestContext, more: &[&str], name: &str) -> crate::context::Output {
    context.rpub(["build-push"]).args(more).args(["-t", name, "app"]).run()
}

#[test]
fn certificates_are_found_in_every_tools_place() {
    let Some((context, registry)) = guarded() else { return };
    let name = registry.reference("team/app:1");
    build_push(&context, &[], &name).expect_code(1);
    for place in ["settings/containers", "settings/docker", "docker", "settings/containerd"] {
        let parent = format!("home/{place}/certs.d");
        let directory = format!("{parent}/{}", registry.name());
        hand_out(&context, &registry, &directory, &FILES);
        let output = build_push(&context, &[], &name);
        output.expect_code(0);
        fs_err::remove_dir_all(context.path(parent)).unwrap();
    }
    hand_out(&context, &registry, "certificates", &FILES);
    build_push(&context, &["--cert-dir", "certificates"], &name).expect_code(0);
    build_push(&context, &["--cert-dir", "nowhere"], &name).expect_code(2);

    let toml = format!(
        "server = 'https://{0}'\nca = '{1}/ca.crt'\n\
         client = [['{1}/client.cert', '{1}/client.key']]\n",
        registry.name(),
        context.path("certificates").display()
    );
    context.write(format!("home/settings/containerd/certs.d/{}/hosts.toml", registry.name()), toml);
    build_push(&context, &[], &name).expect_code(0);
    context.rpub(["pull", &name]).success();
}

#[test]
fn halves_of_certificates_are_named() {
    let Some((context, registry)) = guarded() else { return };
    let directory = format!("home/settings/containers/certs.d/{}", registry.name());
    hand_out(&context, &registry, &directory, &FILES[..2]);
    let output = build_push(&context, &[], &registry.reference("app:1"));
    output.expect_code(2);
    output.expect_error("`client.key` is missing beside it");
    context.write(format!("{directory}/client.key"), "no key");
    let output = build_push(&context, &[], &registry.reference("app:1"));
    output.expect_code(2);
    output.expect_error("failed to read the client certificate");
}

#[test]
fn unverified_tls_is_asked_for_and_said() {
    let Some((context, registry)) = guarded() else { return };
    let directory = format!("home/settings/containers/certs.d/{}", registry.name());
    hand_out(&context, &registry, &directory, &FILES[1..]);
    let (host, name) = (registry.name(), registry.reference("app:1"));
    build_push(&context, &[], &name).expect_code(1);
    let output = build_push(&context, &["--skip-tls-verify", &host], &name);
    output.expect_code(0);
    output.expect_error("is used by TLS without verifying its certificate");
}

#[test]
fn proxies_of_the_environment_are_used() {
    let Some((mut context, registry)) = guarded() else { return };
    let proxy = ForwardProxy::start(&registry.name());
    hand_out(&context, &registry, "home/settings/containers/certs.d/registry.test", &FILES);
    context.set("HTTPS_PROXY", proxy.url());
    build_push(&context, &[], "registry.test/app:1").expect_code(0);
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line == "CONNECT registry.test:443"), "{asked:?}");

    // Nobody else knows the name.
    context.set("NO_PROXY", "registry.test");
    let output = build_push(&context, &["--retry-times", "0"], "registry.test/app:2");
    output.expect_code(1);
    assert_eq!(proxy.asked().len(), asked.len());
    // An address of the user's is gone to directly.
    context.set("NO_PROXY", "");
    let resolve = format!("registry.test:443:{}", registry.name());
    build_push(&context, &["--resolve", &resolve], "registry.test/app:3").expect_code(0);
    assert_eq!(proxy.asked().len(), asked.len());
}

#[test]
fn plain_http_goes_through_a_proxy_too() {
    let Some(mut context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::plain(&context) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let proxy = ForwardProxy::start(&registry.name());
    context.set("http_proxy", proxy.url());
    let output = build_push(&context, &["--plain-http", "registry.test"], "registry.test/app:1");
    output.expect_code(0);
    output.expect_error("registry `registry.test` is used by plain HTTP");
    let asked = proxy.asked();
    assert!(asked.iter().any(|line| line.contains(" http://registry.test/v2/app/")), "{asked:?}");
    // The loopback is not the proxy's.
    build_push(&context, &[], &registry.reference("app:2")).expect_code(0);
    assert_eq!(proxy.asked().len(), asked.len());
}

#[test]
fn mirrors_and_blocked_registries_are_those_of_the_files() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::plain(&context) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    build_push(&context, &[], &registry.reference("copy/team/app:1")).expect_code(0);
    let mirror = format!(
        "[[registry]]\nlocation = 'origin.test'\n[[registry.mirror]]\nlocation = '{}/copy'\n",
        registry.name()
    );
    context.write("home/settings/containers/registries.conf.d/mirror.conf", mirror);
    let pull = |name: &str| context.rpub(["pull", "--progress=rawjson", name]).run();
    let output = pull("origin.test/team/app:1");
    output.expect_code(0);
    output.expect_error("served_by_mirror");

    let blocked = "[[registry]]\nlocation = 'origin.test'\nblocked = true\n";
    let path = context.write("home/settings/containers/registries.conf.d/no.conf", blocked);
    let output = pull("origin.test/team/app:1");
    output.expect_code(2);
    output.expect_error("`origin.test/team/app` is blocked: `");
    fs_err::remove_file(path).unwrap();
    context.write("home/settings/containers/registries.conf", "[registries.search]\n");
    let output = pull("origin.test/team/app:1");
    output.expect_code(2);
    output.expect_error("version 1");
}
