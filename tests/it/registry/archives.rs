//! Images in files: copied there and back, saved and loaded, exact, and read by other tools.

use crate::context::{Registry, Role, TestContext, digest_of, has_tools};

/// A registry with `team/app:1`, an index of two images, and an artifact that refers to it.
fn world() -> Option<(TestContext, Registry, String)> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let registry = Registry::plain(&context)?;
    context.write(
        "app/Dockerfile",
        "FROM scratch\nCOPY data /\nARG TARGETARCH\nLABEL a=$TARGETARCH\n",
    );
    context.write("app/data", "some data");
    let name = registry.reference("team/app:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    context.rpub(["build-push", platforms, "-t", &name, "app"]).success();
    context.write("signature", "signed");
    let attach = ["artifact", "attach", "--artifact-type", "application/x.signature", &name];
    context.rpub(attach).arg("signature").success();
    Some((context, registry, name))
}

/// Every form takes an image whole, with what refers to it, and gives it back.
#[test]
fn images_go_into_files_and_back() {
    let Some((context, registry, name)) = world() else { return };
    let digest = registry.manifest("team/app", "1").expect("it was pushed").0;
    for (at, form) in ["oci:layout", "oci-archive:a.tar", "bundle:a.bundle"].iter().enumerate() {
        let stored = format!("{form}:{name}");
        context.rpub(["copy", &name, &stored]).success().expect_output(&digest);
        context.rpub(["validate", &stored]).success();
        let back = registry.reference(&format!("back/app:{at}"));
        let copied = context.rpub(["copy", &stored, &back]).success();
        copied.expect_error("with it: 1 referrers");
        assert_eq!(registry.manifest("back/app", &at.to_string()).expect("copied").0, digest);
        let referrers = context.rpub(["referrers", "--format", "json", &back]).success().json();
        assert_eq!(referrers["referrers"].as_array().map(Vec::len), Some(1));
    }
    if has_tools(&["skopeo"]) {
        let layout = context.path("layout");
        let layout = format!("oci:{}:1", layout.display());
        let raw = context.tool("skopeo").args(["inspect", "--raw", &layout]).success();
        assert_eq!(digest_of(raw.stdout.as_bytes()), digest);
    }
}

/// `save` and `load` speak docker's form, in a file or through a pipe; other tools read it.
#[test]
fn images_are_saved_and_loaded() {
    let Some((context, registry, name)) = world() else { return };
    context.rpub(["copy", &name, "store:app:1"]).success();
    context.rpub(["tag", "app:1", "app:2"]).success();
    context.rpub(["save", "-o", "app.tar", "app:1", "app:2"]).success();
    let load =
        |store: &str, args: &[&str]| context.rpub(args).env("RPUB_STORE", context.path(store));
    let loaded = load("fresh", &["load", "-i", "app.tar"]).success();
    assert_eq!(loaded.stdout, "Loaded image: app:1\nLoaded image: app:2\n");
    load("fresh", &["validate", "--local"]).success();
    if has_tools(&["skopeo"]) {
        let saved = format!("docker-archive:{}:app:2", context.path("app.tar").display());
        let to = format!("docker://{}", registry.reference("skopeo/app:2"));
        let copy = context.tool("skopeo").args(["copy", "--dest-tls-verify=false", &saved, &to]);
        copy.success();
        let pulled = registry.reference("skopeo/app:2");
        context.rpub(["validate", &pulled]).success();
        // What skopeo writes is in docker's older form, of uncompressed layers.
        let old = format!("docker-archive:{}:old/app:1", context.path("old.tar").display());
        let from = format!("docker://{pulled}");
        let copy = context.tool("skopeo").args(["copy", "--src-tls-verify=false", &from, &old]);
        copy.success();
        let loaded = load("old", &["load", "-i", "old.tar"]).success();
        assert_eq!(loaded.stdout, "Loaded image: old/app:1\n");
        load("old", &["validate", "--local"]).success();
    }
    let saved = context.rpub(["save", "--format", "oci-archive", "app:1"]).run();
    saved.expect_code(0);
    let whole = registry.manifest("team/app", "1").expect("it was pushed").0;
    context.rpub(["save", "--format=oci", "-o", "out", "app:1"]).success();
    let loaded = load("third", &["load", "-i", "out"]).success();
    assert_eq!(loaded.stdout, "Loaded image: app:1\n");
    let inspected = load("third", &["images", "--digests", "--format", "json"]).success();
    inspected.expect_output(&whole);
}

/// Files that are no images, cut or altered are named, and leave the store as it was.
#[test]
fn bad_files_are_named() {
    let Some((context, _registry, name)) = world() else { return };
    context.rpub(["copy", &name, "oci-archive:whole.tar"]).success();
    let whole = fs_err::read(context.path("whole.tar")).expect("the archive");
    context.write("cut.tar", &whole[..whole.len() / 3]);
    context.write("none.tar", "no tar at all");
    for file in ["cut.tar", "none.tar", "missing.tar"] {
        let load = context.rpub(["load", "-i", file]).env("RPUB_STORE", context.path("fresh"));
        let failed = load.run();
        assert!(!failed.status.success(), "{file}");
        failed.expect_error(file);
    }
    let images = context.rpub(["images", "-q"]).env("RPUB_STORE", context.path("fresh"));
    assert_eq!(images.success().stdout, "");
    context.rpub(["save", "-o", "x.tar", "no/such:image"]).code(3).expect_error("no/such");
    assert!(!context.path("x.tar").exists(), "nothing half-written");
}
