//! Layers of the final image are uploading while a later `RUN` still runs.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{Role, World, verify_image};

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

/// Returns bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| next()).collect()
}
