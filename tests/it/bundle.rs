//! Bundles and other archives: listed, verified, compared.

use crate::context::{Role, TestContext};

#[test]
fn archives_are_listed_verified_and_compared() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", "content");
    let build = |name: &str, output: &str, label: &str| {
        let args = ["build", "-q", "-t", name, "-o", output, "--label", label, "app"];
        context.rpub(args).success();
    };
    build("example.com/app:1", "type=oci,dest=before.tar", "a=1");
    build("example.com/app:1", "type=docker,dest=after.tar", "a=2");
    let bundle = |args: &[&str]| context.rpub(["bundle"]).args(args);
    bundle(&["verify", "before.tar"]).success().expect_output("before.tar is whole: 1 images");
    let listed = bundle(&["ls", "--format", "json", "after.tar"]).success().json();
    assert_eq!(listed["images"][0]["name"], "example.com/app:1");
    bundle(&["ls", "--format", "{{.name}}", "after.tar"]).success().expect_output("example.com");
    let compared = bundle(&["diff", "before.tar", "after.tar"]).success();
    compared.expect_output("~ example.com/app:1 ");
    compared.expect_output("2 more");
    let inventory = bundle(&["ls", "--inventory", "before.tar"]).success().json();
    assert_eq!(inventory["blobs"].as_array().map(Vec::len), Some(3), "{inventory}");

    let mut bytes = fs_err::read(context.path("after.tar")).unwrap();
    let middle = bytes.windows(7).position(|window| window == b"\"a\":\"2\"").unwrap();
    bytes[middle + 5] = b'3';
    context.write("altered.tar", &bytes);
    let found = bundle(&["verify", "--format", "json", "altered.tar"]).code(7);
    assert!(found.stdout.contains("does not match its digest"), "{found}");
    context.write("cut.tar", &bytes[..1000]);
    bundle(&["ls", "cut.tar"]).code(7).expect_error("is cut short");
    bundle(&["ls", "nowhere"]).code(3).expect_error("failed to read `nowhere`");
    context.write("newer", r#"{"rpubInventory":2,"of":"x","blobs":[],"more":1}"#);
    let newer = bundle(&["ls", "--inventory", "newer"]).code(1);
    newer.expect_error("an inventory of version 2");
}
