//! What a push sends, as the registry's side sees it: limits of proxies, cuts, round trips.

use std::time::Duration;

use crate::context::{
    Cut, Manners, Passed, Proxy, Registry, Role, Side, TestContext, verify_image,
};

/// A context with a registry, and an image of one layer under the name `team/app:1` there; the
/// layer has a little more than `size` bytes.
fn image_of(size: usize) -> Option<(TestContext, Registry)> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let registry = Registry::plain(&context)?;
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", noise(size));
    context.rpub(["build", "-t", "image", "app"]).success();
    Some((context, registry))
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

/// Gives the image another name, and returns it.
fn tag(context: &TestContext, name: &str) -> String {
    context.rpub(["tag", "image", name]).success();
    name.to_owned()
}

fn cut(method: &'static str, side: Side, after: u64) -> Manners {
    let cut = Cut { method, path: "/blobs/".to_owned(), side, after, times: 1 };
    Manners { cuts: vec![cut], ..Manners::default() }
}

#[test]
fn a_transfer_that_breaks_is_taken_up_again() {
    let Some((context, registry)) = image_of(3 << 20) else { return };
    let proxy = Proxy::start(&registry.name(), cut("PUT", Side::Client, 1 << 20));
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    verify_image(&registry, "team/app", "1");
    assert!(proxy.blob_bytes() > 4 << 20, "{:#?}", proxy.passed());

    proxy.forget();
    proxy.behave(cut("GET", Side::Registry, 2 << 20));
    let store = context.path("fresh");
    context.rpub(["pull", &name]).env("RPUB_STORE", store).success();
    let received: u64 = proxy.passed().iter().map(|passed| passed.received).sum();
    assert!(received < 4 << 20, "{:#?}", proxy.passed());
}

#[test]
fn a_push_of_what_is_there_takes_few_round_trips() {
    let Some((context, registry)) = image_of(1 << 10) else { return };
    let latency = Duration::from_millis(100);
    let proxy = Proxy::start(&registry.name(), Manners { latency, ..Manners::default() });
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    proxy.forget();
    context.rpub(["push", &name]).success();
    assert!(proxy.round_trips() <= 5, "{:#?}", proxy.passed());
}

#[test]
fn a_refusal_of_large_bodies_is_said() {
    let Some((context, registry)) = image_of(3 << 20) else { return };
    let max_body = Some(64 << 10);
    let proxy = Proxy::start(&registry.name(), Manners { max_body, ..Manners::default() });
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).code(1).expect_error("413");
    let refused = |passed: &Passed| passed.method == "PUT" && passed.status == 413;
    assert!(proxy.passed().iter().any(refused));
}
