//! What goes over the wire, and that it comes back the same; also with the embedded registry.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::context::{Output, Role, Serve, Unpacked, World, verify_image, verify_store};

const SMALL: &str = "FROM busybox\nCOPY file /file\nRUN cat /file > /copy\n";

fn world_with_image() -> Option<World> {
    let world = World::new(Role::Unprivileged)?;
    let directory = world.dockerfile("app", SMALL);
    world.context.write("app/file", "some text\n");
    world.build_push("team/app:1", &directory).run().expect_code(0);
    Some(world)
}

/// Returns the requests that moved a blob to the registry, after the first `seen` requests.
fn uploads(world: &World, seen: usize) -> Vec<String> {
    let requests = world.registry.requests().into_iter().skip(seen);
    requests.filter(|line| line.starts_with("PUT ") && line.contains("/blobs/")).collect()
}

#[test]
fn what_is_pushed_can_be_pulled_into_an_empty_store() {
    let Some(world) = world_with_image() else { return };
    let (digest, _) = world.registry.manifest("team/app", "1").unwrap();
    let reference = world.registry.reference("team/app:1");
    let empty = world.context.path("empty");
    let pull = world.context.rpub(["pull", &reference]).env("RPUB_STORE", &empty).run();
    pull.expect_code(0);
    pull.expect_output(&digest);
    assert!(verify_store(&empty).contains(&reference));

    // The same manifest, byte for byte, goes back under another name.
    let other = world.registry.reference("other/app:2");
    for command in [vec!["tag", &reference, &other], vec!["push", &other]] {
        world.context.rpub(command).env("RPUB_STORE", &empty).success();
    }
    assert_eq!(world.registry.manifest("other/app", "2").unwrap().0, digest);
    verify_image(&world.registry, "other/app", "2");
}

#[test]
fn a_second_push_sends_no_blob() {
    let Some(world) = world_with_image() else { return };
    let seen = world.registry.requests().len();
    let reference = world.registry.reference("team/app:1");
    world.context.rpub(["push", &reference]).success();
    assert_eq!(uploads(&world, seen), Vec::<String>::new());
}

#[test]
fn another_repository_of_the_registry_gets_the_blobs_by_mounting() {
    let Some(world) = world_with_image() else { return };
    let seen = world.registry.requests().len();
    let (from, to) =
        (world.registry.reference("team/app:1"), world.registry.reference("new/app:1"));
    world.context.rpub(["tag", &from, &to]).success();
    world.context.rpub(["push", &to]).success();
    assert_eq!(uploads(&world, seen), Vec::<String>::new());
    verify_image(&world.registry, "new/app", "1");
}

#[test]
fn another_client_reads_what_was_pushed() {
    use oci_client::client::{Client, ClientConfig, ClientProtocol};
    use oci_client::manifest::OciDescriptor;
    use oci_client::secrets::RegistryAuth;

    let Some(world) = world_with_image() else { return };
    let (digest, manifest) = world.registry.manifest("team/app", "1").unwrap();
    // The process may have one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let protocol = ClientProtocol::Http;
    let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
    let reference = world.registry.reference("team/app:1").parse().unwrap();
    let layer = &manifest["layers"][1];
    let descriptor: OciDescriptor = serde_json::from_value(layer.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let content = runtime.block_on(async {
        let auth = RegistryAuth::Anonymous;
        let (pulled, pulled_digest) = client.pull_image_manifest(&reference, &auth).await.unwrap();
        assert_eq!(pulled_digest, digest);
        assert_eq!(serde_json::to_value(&pulled.layers[1]).unwrap()["digest"], layer["digest"]);
        let mut content = Vec::new();
        client.pull_blob(&reference, &descriptor, &mut content).await.unwrap();
        content
    });
    assert_eq!(rpub::image::Digest::of(&content).to_string(), layer["digest"].as_str().unwrap());
}

#[test]
fn every_tag_is_pushed_and_tags_come_last() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.write("app/file", "x");
    let tags = ["1", "1.0", "latest"];
    let mut command = world.context.rpub(["build-push"]);
    for tag in tags {
        command = command.arg("-t").arg(world.registry.reference(&format!("team/app:{tag}")));
    }
    let output: Output = command.arg(&directory).run();
    output.expect_code(0);
    assert_eq!(world.registry.tags("team/app"), ["1", "1.0", "latest"]);
    let (digest, _) = world.registry.manifest("team/app", "latest").unwrap();
    assert_eq!(output.stdout.lines().count(), tags.len(), "{output}");
    assert!(output.stdout.lines().all(|line| line.ends_with(&format!("@{digest}"))), "{output}");

    let requests = world.registry.requests();
    let last_blob = requests.iter().rposition(|line| line.contains("/blobs/")).unwrap();
    let put = |line: &String| line.starts_with("PUT ") && line.contains("/manifests/");
    assert!(requests.iter().position(put).unwrap() > last_blob, "{requests:#?}");
}

#[test]
fn skopeo_reads_the_store_as_an_image_layout() {
    let Some(world) = world_with_image() else { return };
    let reference = world.registry.reference("team/app:1");
    let store = world.context.store();
    // As the owner of the store; it is nobody else's to read.
    let output = world
        .context
        .command("skopeo")
        .args(["inspect", "--raw"])
        .arg(format!("oci:{}:{reference}", store.display()))
        .run();
    output.expect_code(0);
    let (_, manifest) = world.registry.manifest("team/app", "1").unwrap();
    assert_eq!(output.json(), manifest);
}

#[test]
fn the_embedded_registry_takes_and_gives() {
    let Some(world) = world_with_image() else { return };
    let serve = Serve::start(&world.context, "served");
    let (digest, _) = world.registry.manifest("team/app", "1").unwrap();
    let source = world.registry.reference("team/app:1");
    let ours = serve.reference("team/app:1");

    // In by our own push, and by skopeo.
    world.context.rpub(["tag", &source, &ours]).success();
    world.context.rpub(["push", &ours]).success();
    let copy = |from: &str, to: &str| {
        world
            .context
            .tool("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
            .args(["--dest-tls-verify=false", "--preserve-digests"])
            .args([format!("docker://{from}"), format!("docker://{to}")])
            .success()
    };
    let by_skopeo = serve.reference("copied/python:1");
    let _copied = copy(&world.hub.reference("library/python:3.10"), &by_skopeo);

    // Out by skopeo and by our own pull.
    let back = world.registry.reference("back/app:1");
    let _copied = copy(&ours, &back);
    assert_eq!(world.registry.manifest("back/app", "1").unwrap().0, digest);
    verify_image(&world.registry, "back/app", "1");
    let fresh = world.context.path("fresh");
    world.context.rpub(["pull", &by_skopeo]).env("RPUB_STORE", &fresh).success();
    verify_store(&fresh);

    let tags = world
        .context
        .tool("skopeo")
        .args(["list-tags", "--tls-verify=false"])
        .arg(format!("docker://{}", serve.reference("team/app")))
        .run();
    let tags: Value = tags.json();
    assert_eq!(tags["Tags"], serde_json::json!(["1"]));
}

#[test]
fn copies_and_runs_are_in_the_image() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let text = "\
FROM busybox AS build
WORKDIR /job
COPY --chmod=0640 --chown=7:8 file other* ./
RUN echo made > made && rm /job/other && mkdir -p /keep/empty && ln made hard && ln -s made soft
FROM busybox
COPY --from=build /job /job
COPY --from=build /keep /keep
ADD archive.tar /archive/
ENV A=1 B=${A:-2}
ARG C=3
RUN echo $A-$B-$C > /values && rm /bin/vi
USER 7:8
WORKDIR /job
RUN id -u > /tmp/id
";
    let directory = world.dockerfile("app", text);
    world.context.write("app/file", "file");
    world.context.write("app/other", "other");
    world.context.write("app/inner/deep", "deep");
    let inner = world.context.path("app");
    world
        .context
        .tool("tar")
        .arg("-C")
        .arg(&inner)
        .args(["-cf", "app/archive.tar", "inner"])
        .success();
    world.build_push("team/app:1", &directory).success();
    verify_image(&world.registry, "team/app", "1");
    let Some(image) = Unpacked::new(&world.context, &world.registry, "team/app:1") else { return };
    let read = |path: &str| fs_err::read_to_string(image.path(path)).unwrap();
    assert_eq!(read("/job/file"), "file");
    assert_eq!(read("/job/made"), "made\n");
    assert_eq!(read("/job/hard"), "made\n");
    assert_eq!(read("/archive/inner/deep"), "deep");
    assert_eq!(read("/values"), "1-2-3\n");
    assert_eq!(read("/tmp/id"), "7\n");
    assert!(!image.path("/job/other").exists());
    assert!(image.path("/keep/empty").is_dir());
    assert!(fs_err::symlink_metadata(image.path("/bin/vi")).is_err(), "a whiteout");
    let file = fs_err::metadata(image.path("/job/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o640));
}
