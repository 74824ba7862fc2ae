//! Layers of the final image are uploading while a later `RUN` still runs.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{Role, World, noise, verify_image};

#[test]
fn a_layer_is_in_the_registry_before_the_next_step_ends() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    // The step ends when the tag `gate:open` appears, which the test pushes only after it has seen
    // the layer of `COPY` in the registry: without overlap the build can never succeed.
    let gate = format!("http://{}/v2/gate/tags/list", world.registry.name());
    let text = format!(
        "FROM busybox\nCOPY data /data\n\
         RUN for i in $(seq 600); do wget -q -O /dev/null {gate} && exit 0; sleep 0.1; done; exit 1\n"
    );
    let directory = world.dockerfile("app", &text);
    world.context.write("app/data", noise(8 << 20));
    let base = world.hub.manifest("library/busybox", "latest").unwrap().1;
    let base = base["layers"][0]["digest"].as_str().unwrap().to_owned();

    let build = world.build_push("team/app:1", &directory).arg("--progress=rawjson").spawn();
    let deadline = Instant::now() + Duration::from_secs(50);
    let layer = loop {
        let blobs = world.blobs_of("team/app");
        if let Some(digest) = blobs.into_iter().find(|digest| *digest != base) {
            break digest;
        }
        assert!(Instant::now() < deadline, "no layer was uploaded while the step ran");
        std::thread::sleep(Duration::from_millis(20));
    };
    world
        .context
        .tool("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .arg(format!("docker://{}", world.hub.reference("library/busybox:latest")))
        .arg(format!("docker://{}", world.registry.reference("gate:open")))
        .success();
    let output = build.finish();
    output.expect_code(0);
    verify_image(&world.registry, "team/app", "1");

    let (_, manifest) = world.registry.manifest("team/app", "1").unwrap();
    assert_eq!(manifest["layers"][1]["digest"], Value::String(layer));
    let events = output.events();
    let run = step_named(&events, "RUN");
    let ended =
        position(&events, |event| event["event"] == "step_finished" && event["step"] == run);
    let pushed = position(&events, |event| {
        event["event"] == "transfer_started" && event["direction"] == "push"
    });
    assert!(pushed < ended, "the event log shows no upload before the step's end\n{output}");
}

#[test]
fn a_large_copy_is_sent_while_it_is_compressed() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", "FROM busybox\nCOPY data /data\n");
    world.context.write("app/data", noise(128 << 20));
    let build = world.build_push("team/app:1", &directory);
    let second = world.registry.reference("team/other:1");
    let output = build.args(["-t", &second, "--progress=rawjson"]).run();
    output.expect_code(0);
    for name in ["team/app", "team/other"] {
        verify_image(&world.registry, name, "1");
    }

    let events = output.events();
    let copy = step_named(&events, "COPY");
    let ended =
        position(&events, |event| event["event"] == "step_finished" && event["step"] == copy);
    let begun = position(&events, |event| {
        event["event"] == "transfer_started"
            && event["name"].as_str().is_some_and(|name| name.starts_with("layer of ["))
    });
    assert!(begun < ended, "the upload began after the step's end\n{output}");

    // Sent once, as one body of unknown length, and mounted in the other repository.
    let layer = world.registry.manifest("team/app", "1").unwrap().1["layers"][1].clone();
    let digest = layer["digest"].as_str().unwrap().replace(':', "%3A");
    let requests = world.registry.requests();
    let count = |start: &str, part: &str| {
        requests.iter().filter(|line| line.starts_with(start) && line.contains(part)).count()
    };
    assert_eq!(count("PATCH ", "/team/app/blobs/"), 1, "{requests:#?}");
    assert_eq!(count("PATCH ", "/team/other/"), 0, "{requests:#?}");
    assert_eq!(count("PUT ", &digest), 1, "{requests:#?}");
}

#[test]
fn a_failed_build_cancels_what_it_was_sending() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let text = "FROM busybox\nCOPY data /data\nRUN exit 3\n";
    let directory = world.dockerfile("app", text);
    world.context.write("app/data", noise(64 << 20));
    world.build_push("team/app:1", &directory).run().expect_code(1);
    assert!(world.registry.manifest("team/app", "1").is_none());
    // Whatever was opened was closed, one way or the other.
    let requests = world.registry.requests();
    let patches = requests.iter().filter(|line| line.starts_with("PATCH "));
    let ends = ["PUT ", "DELETE "];
    let closed = requests.iter().filter(|line| {
        ends.iter().any(|end| line.starts_with(end)) && line.contains("/team/app/blobs/uploads/")
    });
    assert!(closed.count() >= patches.count(), "{requests:#?}");
}

fn position(events: &[Value], wanted: impl Fn(&Value) -> bool) -> usize {
    events.iter().position(wanted).expect("the event is in the log")
}

fn step_named(events: &[Value], word: &str) -> Value {
    let at = position(events, |event| {
        event["event"] == "step_started"
            && event["name"].as_str().is_some_and(|name| name.contains(word))
    });
    events[at]["step"].clone()
}
