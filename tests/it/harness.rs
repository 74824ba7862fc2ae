//! The tests' own registries and readers, checked with tools that are not ours, so that a fault
//! found with them is a fault of the program.

use crate::context::{
    Auth, Output, PASSWORD, Registry, Role, TestContext, USERNAME, Unpacked, bases, has_tools,
    verify_image,
};

/// Copies the busybox base into a registry with `skopeo`.
fn copy_busybox(
    context: &TestContext,
    registry: &Registry,
    name: &str,
    password: Option<&str>,
) -> Output {
    let bases = bases().unwrap().serve(context);
    let mut options = Vec::new();
    if registry.has_tls() {
        let certificates = context.directory("certificates");
        fs_err::copy(registry.authority(), certificates.join("ca.crt")).unwrap();
        options.push(format!("--dest-cert-dir={}", certificates.display()));
    } else {
        options.push("--dest-tls-verify=false".to_owned());
    }
    if let Some(password) = password {
        options.push(format!("--dest-username={USERNAME}"));
        options.push(format!("--dest-password={password}"));
    }
    context
        .tool("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .args(options)
        .arg(format!("docker://{}", bases.reference("library/busybox:latest")))
        .arg(format!("docker://{}", registry.reference(name)))
        .run()
}

#[test]
fn each_kind_of_registry_knows_its_users() {
    for auth in [Auth::None, Auth::Htpasswd, Auth::Token] {
        let context = TestContext::new();
        if !has_tools(&["skopeo"]) || bases().is_none() {
            return;
        }
        let Some(registry) = Registry::with_auth(&context, auth) else { return };
        let credentials = (auth != Auth::None).then_some(PASSWORD);
        copy_busybox(&context, &registry, "team/app:1", credentials).expect_code(0);
        if auth == Auth::None {
            assert_eq!(registry.tags("team/app"), ["1"]);
            verify_image(&registry, "team/app", "1");
            assert!(registry.requests().iter().any(|line| line.ends_with("/manifests/1 201")));
        } else {
            assert!(!copy_busybox(&context, &registry, "a:2", Some("wrong")).status.success());
        }
        assert_eq!(!registry.token_requests().is_empty(), auth == Auth::Token);
    }
}

#[test]
fn an_image_is_unpacked_and_its_command_answers() {
    let Some(context) = TestContext::for_role(Role::Root) else { return };
    let Some(bases) = bases() else { return };
    let registry = bases.serve(&context);
    let Some(image) = Unpacked::new(&context, &registry, "library/python:3.10") else { return };
    let image = image.with_command(&["python3", "-m", "http.server", "8123"]);
    assert!(image.path("/usr/bin/python3").exists());
    assert!(image.answer(8123).contains("Directory listing"));
}

#[test]
fn the_unprivileged_user_can_use_its_subordinate_ids() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    let output = context
        .command("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map"])
        .run();
    output.expect_code(0);
    assert_eq!(output.stdout.lines().count(), 2, "{output}");
}
