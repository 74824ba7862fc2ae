//! Layouts and archives, and TLS, to clients that are not ours.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{Upstream, noise, skopeo_copy};
use crate::context::{Authority, Serve, TestContext, digest_of, has_tools};

#[test]
fn layouts_and_archives_are_read_only_registries() {
    if !has_tools(&["skopeo"]) {
        return;
    }
    let Some(upstream) = Upstream::new() else { return };
    let (digest, layer) = upstream.push("library/app:1", 300_000);
    let context = &upstream.context;
    let source = format!("docker://{}", upstream.registry.reference("library/app:1"));
    let path = |name: &str| context.path(name).display().to_string();
    for (place, argument) in [
        (format!("oci:{}:1", path("app")), "app"),
        (format!("oci-archive:{}:docker.io/library/app:1", path("app.tar")), "app.tar"),
    ] {
        skopeo_copy(context, &source, &place);
        let serve = Serve::with(context, "none", &[argument]);
        let copied = format!("copied-{argument}");
        let served = format!("docker://{}", serve.reference("app:1"));
        skopeo_copy(context, &served, &format!("dir:{}", path(&copied)));
        let manifest = fs_err::read(context.path(copied).join("manifest.json")).unwrap();
        assert_eq!(digest_of(&manifest), digest, "{place}");
        let part = format!("/v2/app/blobs/{layer}");
        let part = serve.get_with(&part, &[("Range", "bytes=100-199")]);
        assert_eq!((part.status, part.body.len()), (206, 100));
        let push = context.rpub(["build-push", "-t", &serve.reference("other:1")]);
        push.arg(context.path("context-library-app-1")).run().expect_code(1);
    }
    // Docker's form has no manifest: it is made, and the layers are not compressed.
    let archive = format!("docker-archive:{}:library/app:1", path("docker.tar"));
    skopeo_copy(context, &source, &archive);
    let serve = Serve::with(context, "none", &["docker.tar"]);
    let served = format!("docker://{}", serve.reference("docker.io/library/app:1"));
    skopeo_copy(context, &served, &format!("dir:{}", path("from-docker")));
    assert_eq!(fs_err::read_dir(context.path("none/blobs/sha256")).unwrap().count(), 0);
}

/// A store is a layout with whole names.
#[test]
fn names_of_several_registries_are_told_apart() {
    let Some(upstream) = Upstream::new() else { return };
    let (first, _) = upstream.push("library/app:1", 1000);
    let (second, _) = upstream.push("team/app:1", 1000);
    let context = &upstream.context;
    let text = ["docker.io", "a.example", "b.example"].map(|name| {
        let origin = upstream.registry.name();
        format!("[[registry]]\nprefix = \"{name}\"\nlocation = \"{origin}\"\ninsecure = true\n")
    });
    context.write("home/settings/containers/registries.conf", text.concat());
    for name in ["library/app:1", "a.example/library/app:1", "b.example/team/app:1"] {
        context.rpub(["pull", name]).env("RPUB_STORE", context.path("named")).success();
    }
    let serve = Serve::with(context, "none", &["named"]);
    for (path, digest) in [
        ("library/app/manifests/1", &first),
        ("app/manifests/1", &first),
        ("docker.io/library/app/manifests/1", &first),
        ("library/app/manifests/1?ns=docker.io", &first),
        ("a.example/library/app/manifests/1", &first),
        ("library/app/manifests/1?ns=a.example", &first),
        ("team/app/manifests/1", &second),
        ("team/app/manifests/1?ns=b.example", &second),
    ] {
        let answer = serve.get(&format!("/v2/{path}"));
        assert_eq!(digest_of(&answer.body), *digest, "{path}");
    }
    assert_eq!(serve.get("/v2/team/app/manifests/1?ns=docker.io").status, 404);
    let catalog: Value = serde_json::from_slice(&serve.get("/v2/_catalog?n=2").body).unwrap();
    assert_eq!(catalog["repositories"], json!(["a.example/library/app", "library/app"]));
    let page = serve.get("/v2/_catalog?n=2");
    let link = page.header("link").unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let rest: Value = serde_json::from_slice(&serve.get(next).body).unwrap();
    assert_eq!(rest["repositories"], json!(["team/app"]));
    for (argument, words) in [("Cargo.toml", "No such file"), ("home", "is no image layout")] {
        let refused = context.rpub(["serve", "--listen", "127.0.0.1:0", argument]).run();
        assert!(!refused.status.success());
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

/// What was pushed to a store, and what refers to it, is found when the store is served as a layout.
#[test]
fn what_refers_to_an_image_is_listed_from_a_layout() {
    let context = TestContext::new();
    let pushed = Serve::start(&context, "pushed");
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    context.write("sbom.json", "{}");
    let name = pushed.reference("team/app:1");
    context.rpub(["build-push", "-t", &name]).arg(context.path("app")).success();
    let kind = "application/sbom";
    context.rpub(["artifact", "attach", "--artifact-type", kind, &name, "sbom.json"]).success();
    let digest = digest_of(&pushed.get("/v2/team/app/manifests/1").body);
    let referrers = |serve: &Serve| {
        let answer = serve.get(&format!("/v2/team/app/referrers/{digest}"));
        serde_json::from_slice::<Value>(&answer.body).unwrap()["manifests"].clone()
    };
    let before = referrers(&pushed);
    assert_eq!(before[0]["artifactType"], kind);
    pushed.kill();
    let serve = Serve::with(&context, "none", &["pushed"]);
    assert_eq!(referrers(&serve), before);
    let referrer = before[0]["digest"].as_str().unwrap();
    let manifest = serve.get(&format!("/v2/team/app/manifests/{referrer}"));
    assert_eq!(digest_of(&manifest.body), referrer);
}

/// A client that reads nothing holds a little memory and no thread.
#[test]
fn slow_clients_keep_nobody_waiting() {
    let context = TestContext::new();
    let bytes = noise("slow", 8 << 20);
    let digest = digest_of(&bytes);
    context.rpub(["images"]).success();
    let blob = context.store().join(format!("blobs/{}", digest.replace(':', "/")));
    fs_err::write(blob, &bytes).unwrap();
    let store = context.store().display().to_string();
    let serve = Serve::with(&context, &store, &["--read-only"]);
    let path = format!("/v2/app/blobs/{digest}");
    let idle = serve.memory();
    let ask = |_| {
        let mut client = TcpStream::connect(serve.name()).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        client
    };
    let slow: Vec<TcpStream> = (0..200).map(ask).collect();
    for _ in 0..3 {
        assert_eq!(digest_of(&serve.get(&path).body), digest);
    }
    let used = serve.memory() - idle;
    assert!(used < 120 << 20, "{used} bytes for 200 slow clients");
    drop(slow);
}

#[test]
fn clients_are_served_by_tls_and_known_by_certificates() {
    if !has_tools(&["skopeo"]) {
        return;
    }
    let Some(upstream) = Upstream::new() else { return };
    let (digest, _) = upstream.push("library/app:1", 1000);
    let context = &upstream.context;
    let (authority, server, client) = {
        let authority = Authority::new();
        let (server, client) = (authority.issue(), authority.issue());
        (authority, server, client)
    };
    context.write("server.pem", &server.certificate_pem);
    context.write("server.key", server.key.serialize_pem());
    context.write("ca.pem", &authority.pem);
    context.write("known/ca.crt", &authority.pem);
    context.write("known/client.cert", &client.certificate_pem);
    context.write("known/client.key", client.key.serialize_pem());
    context.write("unknown/ca.crt", &authority.pem);
    let tls = ["--tls-cert", "server.pem", "--tls-key", "server.key"];
    let cache = upstream.cache(&[&tls[..], &["--tls-client-ca", "ca.pem"]].concat());
    let source = format!("docker://{}", cache.reference("library/app:1"));
    let inspect = |directory: &str| {
        let directory = context.path(directory).display().to_string();
        let arguments = ["inspect", "--raw", "--cert-dir", &directory, &source];
        context.tool("skopeo").args(arguments).run()
    };
    let known = inspect("known");
    known.expect_code(0);
    assert_eq!(digest_of(known.stdout.as_bytes()), digest);
    inspect("unknown").expect_code(1);
    let name = cache.reference("library/app:1");
    context.rpub(["pull", "--cert-dir", "known", &name]).success();
    let swapped = ["serve", "--tls-cert", "server.key", "--tls-key", "server.pem"];
    let refused = context.rpub(swapped).run();
    refused.expect_code(2);
    assert!(refused.stderr.contains("no certificate in `server.key`"), "{}", refused.stderr);
}
