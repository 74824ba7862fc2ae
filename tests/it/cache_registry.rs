//! `--cache-from` and `--cache-to`: a machine that has nothing finds what others made.

use serde_json::Value;

use crate::context::{Output, Role, World};

const DOCKERFILE: &str = "\
FROM busybox AS build
COPY src /src
RUN mkdir /out && cp /src/main /out/main && cat /proc/sys/kernel/random/uuid > /out/id
FROM busybox
RUN echo tools > /tools
COPY --from=build /out /out
COPY last /last
";

struct Project {
    world: World,
}

impl Project {
    fn new() -> Option<Self> {
        let world = World::new(Role::Unprivileged)?;
        world.dockerfile("app", DOCKERFILE);
        world.context.write("app/src/main", "main");
        world.context.write("app/last", "last");
        Some(Self { world })
    }

    fn cache(&self) -> String {
        format!("type=registry,ref={}", self.world.registry.reference("team/cache"))
    }

    /// Builds and pushes with a store of its own, as another machine would.
    fn build(&self, store: &str, args: &[&str]) -> Output {
        let store = self.world.context.path(store);
        let directory = self.world.context.path("app");
        let command = self.world.build_push("team/app:1", &directory).arg("--progress=rawjson");
        command.arg("--store").arg(store).args(args).run()
    }

    fn export(&self, store: &str) -> Output {
        let cache = self.cache();
        let output = self.build(store, &["--cache-to", &format!("{cache},mode=max")]);
        output.expect_code(0);
        output
    }

    /// Builds on a machine with nothing; returns the output and what the registries were asked.
    fn cold(&self, store: &str, args: &[&str]) -> (Output, Vec<String>) {
        let (pushed, pulled) =
            (self.world.registry.requests().len(), self.world.hub.requests().len());
        let output = self.build(store, args);
        output.expect_code(0);
        let mut requests = self.world.registry.requests().split_off(pushed);
        requests.extend(self.world.hub.requests().split_off(pulled));
        (output, requests)
    }

    /// Returns the digests of the layers of the pushed image and of its base.
    fn layers(&self) -> Vec<String> {
        let (_, manifest) = self.world.registry.manifest("team/app", "1").unwrap();
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        manifest["layers"].as_array().unwrap().iter().map(digest).collect()
    }
}

fn outcomes(output: &Output) -> Vec<String> {
    let mut steps: Vec<(u64, String)> = output
        .events()
        .iter()
        .filter(|event| event["event"] == "step_finished")
        .map(|event| {
            let outcome = event["outcome"].as_str().unwrap().to_owned();
            (event["step"].as_u64().unwrap(), outcome)
        })
        .collect();
    steps.sort();
    steps.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Returns the requests that moved a blob: one that was fetched, or that was sent.
fn moved(requests: &[String]) -> Vec<&String> {
    let is_move = |line: &&String| {
        (line.starts_with("GET ") && line.contains("/blobs/"))
            || line.starts_with("PATCH ")
            || (line.starts_with("PUT ") && line.contains("/blobs/uploads/"))
    };
    requests.iter().filter(is_move).collect()
}

#[test]
fn a_cold_machine_moves_no_layer_when_nothing_changed() {
    let Some(project) = Project::new() else { return };
    let first = project.export("store-a");
    let layers = project.layers();
    let cache = project.cache();
    let (second, requests) =
        project.cold("store-b", &["--cache-from", &cache, "--cache-to", &cache]);
    assert!(outcomes(&second).iter().all(|outcome| outcome == "cached"), "{second}");
    assert_eq!(first.stdout, second.stdout, "the same digest");
    let moves = moved(&requests);
    let is_layer = |line: &&&String| layers.iter().any(|layer| line.contains(layer.as_str()));
    assert_eq!(moves.iter().filter(is_layer).count(), 0, "{requests:#?}");
    // Of blobs only the base's config is read, and nothing is sent.
    assert!(moves.iter().all(|line| line.starts_with("GET ")), "{requests:#?}");
    assert!(moves.len() <= 1, "{requests:#?}");
    assert!(!requests.iter().any(|line| line.starts_with("POST ")), "{requests:#?}");
    crate::context::verify_image(&project.world.registry, "team/app", "1");
}

#[test]
fn only_what_a_step_needs_is_fetched() {
    let Some(project) = Project::new() else { return };
    let _ = project.export("store-a");
    let layers = project.layers();
    let cache = project.cache();
    // A change of what the last COPY takes: its destination's layers are not read.
    project.world.context.write("app/last", "other");
    let (output, requests) = project.cold("store-b", &["--cache-from", &cache]);
    assert_eq!(outcomes(&output), ["cached", "cached", "cached", "cached", "done"], "{output}");
    let _ = requests;
    crate::context::verify_image(&project.world.registry, "team/app", "1");
    // A RUN at the end needs all that is below it, and nothing of the other stage.
    let text = format!("{DOCKERFILE}RUN cat /out/main /last\n");
    project.world.dockerfile("app", &text);
    project.world.context.write("app/last", "last");
    let (output, requests) = project.cold("store-c", &["--cache-from", &cache]);
    assert_eq!(outcomes(&output)[..5], ["cached"; 5], "{output}");
    assert_eq!(outcomes(&output)[5], "done", "{output}");
    for layer in &layers {
        let gets = requests.iter().filter(|line| line.starts_with("GET ") && line.contains(layer));
        assert_eq!(gets.count(), 1, "{layer}: {requests:#?}");
    }
    crate::context::verify_image(&project.world.registry, "team/app", "1");
}

#[test]
fn machines_add_to_a_cache_and_overwrite_nothing() {
    let Some(project) = Project::new() else { return };
    let cache = project.cache();
    let directory = project.world.context.path("app");
    let running: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let store = project.world.context.path(format!("store-{name}"));
            let command = project.world.build_push(&format!("team/{name}:1"), &directory);
            let command = command.arg("--store").arg(store);
            command.args(["--cache-to", &format!("{cache},mode=max")]).spawn()
        })
        .collect();
    for build in running {
        build.finish().expect_code(0);
    }
    let tags = project.world.registry.tags("team/cache");
    assert_eq!(tags.len(), 5, "{tags:?}");
    let before: Vec<String> = tags
        .iter()
        .map(|tag| project.world.registry.manifest("team/cache", tag).unwrap().0)
        .collect();
    project.world.context.write("app/last", "other");
    let _ = project.export("store-d");
    let after: Vec<String> = tags
        .iter()
        .map(|tag| project.world.registry.manifest("team/cache", tag).unwrap().0)
        .collect();
    assert_eq!(before, after, "an entry was overwritten");
    let (output, _) = project.cold("store-e", &["--cache-from", &cache]);
    assert!(outcomes(&output).iter().all(|outcome| outcome == "cached"), "{output}");
}

#[test]
fn a_cache_that_lies_or_is_away_is_a_miss() {
    let Some(project) = Project::new() else { return };
    let _ = project.export("store-a");
    let cache = project.cache();
    // The entry of another key under this one's tag.
    let tags = project.world.registry.tags("team/cache");
    let storage = project.world.registry.storage();
    let path = |tag: &str| {
        let path = "docker/registry/v2/repositories/team/cache/_manifests/tags";
        storage.join(path).join(tag).join("current/link")
    };
    let link = fs_err::read(path(&tags[0])).unwrap();
    for tag in &tags {
        fs_err::write(path(tag), &link).unwrap();
    }
    let (output, _) = project.cold("store-b", &["--cache-from", &cache]);
    assert!(outcomes(&output).contains(&"done".to_owned()), "{output}");
    assert!(output.stderr.contains("it is the entry of another key"), "{output}");

    let away = "type=registry,ref=127.0.0.1:1/team/cache";
    let (output, _) = project.cold("store-c", &["--cache-from", away]);
    assert!(output.stderr.contains("the cache `127.0.0.1:1/team/cache` is not used"), "{output}");
}

#[test]
fn a_directory_and_an_image_are_caches_too() {
    let Some(project) = Project::new() else { return };
    let directory = project.world.context.path("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    project.build("store-a", &["--cache-to", &to, "--cache-to", "type=inline"]).expect_code(0);
    let from = format!("type=local,src={}", directory.display());
    let (output, _) = project.cold("store-b", &["--cache-from", &from]);
    assert!(outcomes(&output).iter().all(|outcome| outcome == "cached"), "{output}");

    project.build("store-a", &["--cache-to", "type=inline"]).expect_code(0);
    let image = project.world.registry.reference("team/app:1");
    let (output, requests) = project.cold("store-c", &["--cache-from", &image]);
    assert!(outcomes(&output).iter().all(|outcome| outcome == "cached"), "{output}");
    let layers = project.layers();
    let layer = |line: &&String| {
        line.starts_with("GET ") && layers.iter().any(|layer| line.contains(layer.as_str()))
    };
    assert_eq!(requests.iter().filter(layer).count(), 0, "{requests:#?}");
}

#[test]
fn each_image_of_an_index_carries_its_cache() {
    let Some(project) = Project::new() else { return };
    let text = "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
                RUN cat /proc/sys/kernel/random/uuid > /$TARGETARCH\n\
                FROM scratch\nCOPY --from=build /a* /made/\nCOPY last /last\n";
    project.world.dockerfile("app", text);
    let inline = ["--platform=linux/amd64,linux/arm64", "--cache-to=type=inline"];
    let first = project.build("store-a", &inline);
    first.expect_code(0);
    let image = project.world.registry.reference("team/app:1");
    let (second, _) = project.cold("store-b", &[&inline[..], &["--cache-from", &image]].concat());
    assert!(outcomes(&second).iter().all(|outcome| outcome == "cached"), "{second}");
    assert_eq!(first.stdout, second.stdout, "the same digest");
}

#[test]
fn outputs_that_need_layers_get_them_from_the_cache() {
    let Some(project) = Project::new() else { return };
    let context = &project.world.context;
    context.directory("out");
    let scratch = "FROM busybox AS build\nRUN mkdir /out && echo main > /out/main\n\
                   FROM scratch\nCOPY --from=build /out /out\n";
    for (kind, text) in [("base", DOCKERFILE), ("scratch", scratch)] {
        project.world.dockerfile("app", text);
        let _ = project.export(&format!("store-{kind}"));
        let outputs: [&[&str]; 6] = [
            &["-o", "out/files"],
            &["-o", "type=oci,dest=out/oci.tar"],
            &["-o", "type=docker,dest=out/docker.tar"],
            &["-o", "type=oci,dest=out/zstd.tar,compression=zstd,force-compression=true"],
            &["-o", "type=oci,dest=out/squashed.tar", "--squash"],
            &["--load"],
        ];
        for (number, output) in outputs.iter().enumerate() {
            let build = context.rpub(["build", "--progress=rawjson", "--cache-from"]);
            let build = build.arg(project.cache()).arg("--store");
            let build = build.arg(context.path(format!("store-{kind}-{number}"))).args(*output);
            let output = build.arg(context.path("app")).run();
            output.expect_code(0);
            assert!(outcomes(&output).iter().all(|outcome| outcome == "cached"), "{output}");
        }
        assert!(context.path("out/files/out/main").exists(), "{kind}");
        fs_err::remove_dir_all(context.path("out/files")).unwrap();
    }
}

#[test]
fn other_caches_are_refused_with_a_hint() {
    let Some(project) = Project::new() else { return };
    let output = project.build("store-a", &["--cache-to", "type=gha"]);
    output.expect_code(2);
    assert!(output.stderr.contains("`--cache-to type=gha` is not supported"), "{output}");
    assert!(output.stderr.contains("type=registry,ref=..."), "{output}");
}
