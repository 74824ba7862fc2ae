//! What is wrong is said clearly, with an exit code of its own, and harms nothing.

use crate::context::{
    CraftedLayer, Output, Registry, Role, TestContext, World, push_crafted, skip, verify_image,
    verify_store,
};

/// Builds a Dockerfile that must be refused; checks the exit code and every text.
fn refused(text: &str, code: i32, says: &[&str]) {
    let context = TestContext::new();
    context.write("app/Dockerfile", text);
    let output = context.rpub(["build", "-t", "app"]).arg(context.path("app")).run();
    output.expect_code(code);
    for text in says {
        output.expect_error(text);
    }
    assert!(output.stdout.is_empty(), "{output}");
    let images = context.rpub(["images", "-q"]).success();
    assert_eq!(images.line(), "", "nothing is tagged");
}

#[test]
fn a_wrong_dockerfile_is_refused_with_its_place() {
    let cases: &[(&str, &[&str])] = &[
        ("FROM scratch\nCOYP a /b\n", &["COYP", "Dockerfile:2:1", "did you mean COPY"]),
        ("RUN true\n", &["no build stage in current context"]),
        ("", &["file with no instructions"]),
        ("FROM scratch\nSHELL [\"a\", b]\n", &["SHELL", "Dockerfile:2"]),
        (
            "FROM two AS one\nCOPY --from=two /a /a\nFROM scratch AS two\nCOPY --from=one /a /a\n",
            &["two"],
        ),
        ("FROM scratch\nCOPY missing.txt /\n", &["missing.txt", "Dockerfile:2"]),
        ("FROM scratch\nRUN --mount=type=ssh true\n", &["Dockerfile:2"]),
        ("FROM scratch\nADD https://example.com/a /\n", &["Dockerfile:2"]),
        ("FROM scratch\nENV\n", &["ENV", "Dockerfile:2"]),
        ("FROM scratch\nCOPY --chmdo=1 a b\n", &["chmdo", "chmod"]),
    ];
    for (text, says) in cases {
        refused(text, 1, says);
    }
}

#[test]
fn a_missing_copy_source_is_hinted_at() {
    let context = TestContext::new();
    context.write("app/src/main.py", "");
    for (source, hint) in [
        ("src/mian.py", "did you mean `src/main.py`, in "),
        ("elsewhere/file", "the build context is "),
    ] {
        context.write("app/Dockerfile", format!("FROM scratch\nCOPY {source} /\n"));
        let output = context.rpub(["build", "app"]).code(1);
        output.expect_error(&format!("{hint}{}", context.path("app").display()));
    }
}

#[test]
fn a_dockerfile_error_shows_the_line() {
    let context = TestContext::new();
    context.write("app/Dockerfile", "FROM scratch\nCOYP a /b\n");
    let output = context.rpub(["build", "app"]).run();
    insta::assert_snapshot!(output.snapshot(), @r"
    exit code: 1
    ----- stdout

    ----- stderr
    error: unknown instruction: COYP (did you mean COPY?)
     --> Dockerfile:2:1
      |
    2 | COYP a /b
      | ^^^^
    ");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let context = TestContext::new();
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    context.rpub(["biuld", "."]).code(2).expect_error("build");
    context.rpub(["build", "--no-such-flag", "app"]).code(2).expect_error("--no-such-flag");
    let output = context.rpub(["build-push", "app"]).code(2);
    output.expect_error("-t");
    context.rpub(["build", "-t", "team/UPPER", "app"]).code(2).expect_error("team/UPPER");
    assert!(context.rpub(["build", "nowhere"]).run().status.code() != Some(0));
    context.rpub(["build", "-f", "app/Nofile", "app"]).run().expect_error("Nofile");
}

#[test]
fn a_missing_base_is_not_found() {
    let context = TestContext::new();
    let Some(registry) = Registry::plain(&context) else { return };
    let text = format!("FROM {}\nRUN true\n", registry.reference("no/such:base"));
    context.write("app/Dockerfile", text);
    let output = context.rpub(["build", "-t", "app", "app"]).code(3);
    output.expect_error("no/such:base");
    context.rpub(["pull", &registry.reference("no/such:base")]).code(3);
    context.rpub(["push", &registry.reference("not/built:1")]).code(3);
}

#[test]
fn an_unreachable_registry_is_named() {
    let context = TestContext::new();
    // Port 1 of the loopback: refused at once.
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let output = context.rpub(["build-push", "-t", "127.0.0.1:1/app:1", "app"]).code(1);
    output.expect_error("127.0.0.1:1");
    context.rpub(["pull", "127.0.0.1:1/app:1"]).code(1).expect_error("127.0.0.1:1");
}

#[test]
fn a_failed_step_shows_its_line_its_output_and_its_code() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let text = "FROM busybox\nRUN echo before; echo trouble >&2; exit 42\n";
    let directory = world.dockerfile("app", text);
    let output = world.build_push("team/app:1", &directory).code(1);
    for text in ["before", "trouble", "42", "Dockerfile:2", "exit 42"] {
        output.expect_error(text);
    }
    assert!(world.registry.manifest("team/app", "1").is_none(), "a failed build moves no tag");
    let killed = world.dockerfile("killed", "FROM busybox\nRUN kill -9 $$\n");
    world.build_push("team/app:1", &killed).code(1).expect_error("signal");
}

/// Pushes an image of one crafted layer, spoils its blob when asked, and builds on it.
fn build_on(world: &World, layer: CraftedLayer, spoil: impl Fn(&mut Vec<u8>)) -> Option<Output> {
    let name = "crafted/base:1";
    let digests = push_crafted(&world.context, &world.registry, name, &[layer])?;
    let path = world.registry.blob_path(&digests[0]);
    let mut bytes = fs_err::read(&path).unwrap();
    spoil(&mut bytes);
    fs_err::write(&path, bytes).unwrap();
    let text = format!("FROM {}\nRUN true\n", world.registry.reference(name));
    let directory = world.dockerfile("app", &text);
    let output = world.build_push("team/app:1", &directory).run();
    verify_store(&world.context.store());
    Some(output)
}

/// Returns the busybox root file system with more entries at its end.
fn busybox_and(world: &World, add: impl Fn(&mut tar::Builder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = fs_err::read(world.bases.tar("busybox")).unwrap();
    // The two blocks of zeros that end an archive, and what pads it, make room for more.
    while bytes.ends_with(&[0; 512]) {
        bytes.truncate(bytes.len() - 512);
    }
    let mut more = Vec::new();
    let mut builder = tar::Builder::new(&mut more);
    add(&mut builder);
    builder.finish().unwrap();
    drop(builder);
    bytes.extend_from_slice(&more);
    bytes
}

fn header(kind: tar::EntryType, name: &str) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    // `set_path` refuses what the test is about.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header
}

#[test]
fn a_layer_of_other_bytes_does_not_match_its_digest() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let layer = CraftedLayer::gzip(&busybox_and(&world, |_| {}));
    let Some(output) = build_on(&world, layer, |bytes| bytes[1000] ^= 1) else { return };
    output.expect_code(7);
    output.expect_error("sha256:");
}

#[test]
fn a_layer_that_ends_early_is_refused() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let layer = CraftedLayer::gzip(&busybox_and(&world, |_| {}));
    let Some(output) = build_on(&world, layer, |bytes| bytes.truncate(bytes.len() / 2)) else {
        return;
    };
    // The registry announces the whole length and hangs up: asked for again, then given up.
    output.expect_code(1);
    output.expect_error("try 2");
}

#[test]
fn a_layer_that_is_no_gzip_is_refused() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let mut layer = CraftedLayer::gzip(&busybox_and(&world, |_| {}));
    let middle = layer.blob.len() / 2;
    layer.blob[middle..middle + 64].fill(0xff);
    let Some(output) = build_on(&world, layer, |_| {}) else { return };
    assert!([1, 7].contains(&output.status.code().unwrap_or(-1)), "{output}");
    output.expect_error("layer");
}

#[test]
fn a_layer_of_another_diff_id_is_refused() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let mut layer = CraftedLayer::gzip(&busybox_and(&world, |_| {}));
    layer.diff_id = format!("sha256:{}", "5".repeat(64));
    let Some(output) = build_on(&world, layer, |_| {}) else { return };
    output.expect_code(7);
}

#[test]
fn a_layer_never_writes_outside_its_root() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let outside = world.context.directory("outside");
    let absolute = outside.join("absolute").to_string_lossy().into_owned();
    let parents = format!("{}{}", "../".repeat(20), outside.join("up").to_string_lossy());
    let through = outside.to_string_lossy().into_owned();
    let layer = CraftedLayer::gzip(&busybox_and(&world, |tar| {
        for name in [absolute.as_str(), parents.as_str()] {
            tar.append(&header(tar::EntryType::Regular, name), std::io::empty()).unwrap();
        }
        let mut link = header(tar::EntryType::Symlink, "door");
        link.set_link_name(&through).unwrap();
        link.set_cksum();
        tar.append(&link, std::io::empty()).unwrap();
        tar.append(&header(tar::EntryType::Regular, "door/in"), std::io::empty()).unwrap();
    }));
    let Some(output) = build_on(&world, layer, |_| {}) else { return };
    output.expect_code(1);
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0, "written outside\n{output}");
}

#[test]
fn a_layer_with_a_device_node_still_builds() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let layer = CraftedLayer::gzip(&busybox_and(&world, |tar| {
        let mut device = header(tar::EntryType::Block, "disk");
        device.set_device_major(8).unwrap();
        device.set_device_minor(0).unwrap();
        device.set_cksum();
        tar.append(&device, std::io::empty()).unwrap();
    }));
    let Some(output) = build_on(&world, layer, |_| {}) else { return };
    output.expect_code(0);
    verify_image(&world.registry, "team/app", "1");
}

/// A small file system, unmounted when it is dropped.
struct SmallDisk<'a>(&'a World, std::path::PathBuf);

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = self.0.context.tool("umount").arg("--lazy").arg(&self.1).run();
    }
}

#[test]
fn a_full_disk_is_said_and_the_next_run_succeeds() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let store = world.context.directory("small");
    let mounted = world
        .context
        .tool("mount")
        .args(["-t", "tmpfs", "-o", "size=12m,mode=777", "tmpfs"])
        .arg(&store)
        .run();
    if !mounted.status.success() {
        return skip("mounting a small file system needs root");
    }
    let _disk = SmallDisk(&world, store.clone());
    let text = "FROM busybox\nARG MIB\nRUN dd if=/dev/urandom of=/noise bs=1M count=$MIB\n";
    let directory = world.dockerfile("app", text);
    let build = |mib: &str| {
        world
            .build_push("team/app:1", &directory)
            .arg(format!("--build-arg=MIB={mib}"))
            .env("RPUB_STORE", store.join("store"))
    };
    let output = build("30").code(1);
    assert!(output.stderr.to_lowercase().contains("no space left"), "{output}");
    assert!(world.registry.manifest("team/app", "1").is_none());
    build("1").success();
    verify_image(&world.registry, "team/app", "1");
}
