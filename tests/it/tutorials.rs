//! The Dockerfiles that rpub's users learnt from: built and pushed as root and as an unprivileged
//! user, read and run by tools that are not ours.

use serde_json::{Value, json};

use crate::context::{Role, Unpacked, World, verify_image};

/// Builds and pushes a tutorial; returns the image's config. Its command must answer on `port`.
fn tutorial(role: Role, letter: &str, port: u16, text: &str) -> Option<Value> {
    let world = World::new(role)?;
    let directory = world.context.fixture(&format!("tutorials/{letter}"), letter);
    let name = format!("tutorials/{letter}:1.0");
    let output = world.build_push(&name, &directory).run();
    output.expect_code(0);

    let (digest, _) = world.registry.manifest(&format!("tutorials/{letter}"), "1.0").unwrap();
    let repository = world.registry.reference(&format!("tutorials/{letter}"));
    assert!(output.line().starts_with(&repository), "{output}");
    assert!(output.line().ends_with(&format!("@{digest}")), "{output}");

    let config = verify_image(&world.registry, &format!("tutorials/{letter}"), "1.0");
    let image = Unpacked::new(&world.context, &world.registry, &name)?;
    assert!(!image.path("/etc/resolv.conf").exists(), "the build's own file is in a layer");
    assert_eq!(image.answer(port), text);
    Some(config["config"].clone())
}

fn a(role: Role) {
    let Some(config) = tutorial(role, "a", 8000, "Hello from tutorial a, requests 2\n") else {
        return;
    };
    assert_eq!(config["WorkingDir"], "/usr/src/app");
    assert_eq!(config["Cmd"], json!(["python3", "./server.py"]));
    assert_eq!(config["ExposedPorts"], json!({"8000/tcp": {}}));
}

fn b(role: Role) {
    let Some(config) = tutorial(role, "b", 5000, "Hello from tutorial b\n") else { return };
    assert_eq!(config["Cmd"], json!(["python3", "/usr/src/app/app.py"]));
}

fn c(role: Role) {
    let Some(config) = tutorial(role, "c", 5000, "Hello from tutorial c\n") else { return };
    assert_eq!(config["WorkingDir"], "/app");
    assert_eq!(config["Cmd"], json!(["flask", "run", "--host=0.0.0.0"]));
    let variables = config["Env"].as_array().unwrap();
    assert!(variables.contains(&json!("FLASK_APP=main.py")), "{variables:?}");
}

fn d(role: Role) {
    let Some(config) = tutorial(role, "d", 5000, "Hello from tutorial d\n") else { return };
    assert_eq!(config["Cmd"], json!(["python", "app.py"]));
}

fn e(role: Role) {
    let Some(config) = tutorial(role, "e", 5000, "Hello from tutorial e\n") else { return };
    assert_eq!(config["Cmd"], json!(["python", "app.py"]));
}

#[test]
fn a_as_root() {
    a(Role::Root);
}

#[test]
fn a_as_user() {
    a(Role::Unprivileged);
}

#[test]
fn b_as_root() {
    b(Role::Root);
}

#[test]
fn b_as_user() {
    b(Role::Unprivileged);
}

#[test]
fn c_as_root() {
    c(Role::Root);
}

#[test]
fn c_as_user() {
    c(Role::Unprivileged);
}

#[test]
fn d_as_root() {
    d(Role::Root);
}

#[test]
fn d_as_user() {
    d(Role::Unprivileged);
}

#[test]
fn e_as_root() {
    e(Role::Root);
}

#[test]
fn e_as_user() {
    e(Role::Unprivileged);
}

#[test]
fn a_changed_app_redoes_only_the_last_layer() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.context.fixture("tutorials/d", "d");
    world.build_push("tutorials/d:1", &directory).run().expect_code(0);
    let blobs = world.blobs_of("tutorials/d");

    let app = fs_err::read_to_string(directory.join("app.py")).unwrap();
    world.context.write("d/app.py", app.replace("Hello from", "Hello again from"));
    let output = world.build_push("tutorials/d:2", &directory).arg("--progress=rawjson").run();
    output.expect_code(0);

    let layers = |tag: &str| {
        let (_, manifest) = world.registry.manifest("tutorials/d", tag).unwrap();
        manifest["layers"].as_array().unwrap().clone()
    };
    let (before, after) = (layers("1"), layers("2"));
    let last = before.len() - 1;
    assert_eq!(before[..last], after[..last]);
    assert_ne!(before[last], after[last]);
    let new: Vec<String> = world.blobs_of("tutorials/d").difference(&blobs).cloned().collect();
    assert_eq!(new.len(), 2, "one layer and one config: {new:?}");

    let done: Vec<Value> = output
        .events()
        .into_iter()
        .filter(|event| event["event"] == "step_finished" && event["outcome"] == "done")
        .collect();
    assert_eq!(done.len(), 1, "one step is redone\n{output}");
}
