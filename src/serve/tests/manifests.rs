//! Manifests on their way in, and out again.

use super::*;

#[test]
fn manifests_are_kept_byte_by_byte_under_their_name() {
    let (_directory, server) = server();
    let (config, layer) = (server.push_blob(b"{}"), server.push_blob(b"layer"));
    let manifest = image(&config, &[layer]);
    let (pushed, answer) = server.push_manifest("/v2/team/app/manifests/1", &manifest);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("docker-content-digest"), pushed.digest.to_string());
    assert_eq!(server.store.resolve(&name("localhost/team/app:1")).unwrap(), Some(pushed.clone()));
    let tagged =
        Event::Tagged { reference: name("localhost/team/app:1"), digest: pushed.digest.clone() };
    assert_eq!(*server.events.0.lock().unwrap(), [tagged]);
    for key in ["1".to_owned(), pushed.digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{key}");
        let got = server.get(&path);
        assert_eq!((got.status, got.body), (200, manifest.to_string().into_bytes()));
        let head = server.send("HEAD", &path, &[], b"");
        assert_eq!(head.header("content-type"), media_type::OCI_MANIFEST);
        assert_eq!(head.header("content-length"), pushed.size.to_string());
        assert_eq!(head.header("docker-content-digest"), pushed.digest.to_string());
    }
    for path in ["team/app/manifests/2", "team/app/manifests/.x", "other/manifests/1"] {
        server.get(&format!("/v2/{path}")).assert_error(404, "MANIFEST_UNKNOWN");
    }
    let elsewhere = format!("/v2/other/manifests/{}", pushed.digest);
    server.get(&elsewhere).assert_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn who_has_the_content_is_not_sent_it_again() {
    let (_directory, server) = server();
    let blob = server.push_blob(b"{}");
    let (pushed, _) = server.push_manifest("/v2/a/manifests/1", &image(&blob, &[]));
    let paths = ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", blob.digest)];
    for (path, digest) in paths.iter().zip([pushed.digest, blob.digest]) {
        let etag = server.get(path).header("etag").to_owned();
        assert_eq!(etag, format!("\"{digest}\""));
        for (known, status) in
            [(etag.clone(), 304), (format!("\"x\", W/{etag}"), 304), ("\"x\"".to_owned(), 200)]
        {
            for method in ["GET", "HEAD"] {
                let answer = server.send(method, path, &[("if-none-match", &known)], b"");
                assert_eq!(answer.status, status, "{method} {path} {known}");
                assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            }
        }
    }
}

#[test]
fn wrong_manifests_are_refused() {
    let (_directory, server) = server();
    let config = server.push_blob(b"{}");
    let absent = Descriptor::of("x", b"absent");
    let put = |manifest: &Value| server.push_manifest("/v2/a/manifests/1", manifest).1;
    put(&image(&config, &[absent])).assert_error(400, "MANIFEST_BLOB_UNKNOWN");
    let longer = Descriptor { size: 3, ..config.clone() };
    put(&image(&longer, &[])).assert_error(400, "SIZE_INVALID");
    put(&json!({"mediaType": "text/plain"})).assert_error(400, "MANIFEST_INVALID");
    server.send("PUT", "/v2/a/manifests/1", &[], b"{").assert_error(400, "MANIFEST_INVALID");
    let path = format!("/v2/a/manifests/{}", Digest::of(b"other"));
    server.push_manifest(&path, &image(&config, &[])).1.assert_error(400, "DIGEST_INVALID");
    server
        .push_manifest("/v2/a/manifests/.x", &image(&config, &[]))
        .1
        .assert_error(400, "MANIFEST_INVALID");
    let large = vec![b' '; MAX_MANIFEST_BYTES + 1];
    server.send("PUT", "/v2/a/manifests/1", &[], &large).assert_error(413, "SIZE_INVALID");
    assert_eq!(server.store.images().unwrap(), []);
}

#[test]
fn an_index_takes_over_what_was_pushed_by_digest() {
    let (_directory, server) = server();
    let config = server.push_blob(b"{}");
    let child = image(&config, &[]);
    let digest = Digest::of(child.to_string().as_bytes());
    let path = format!("/v2/multi/manifests/{digest}");
    let (child, answer) = server.push_manifest(&path, &child);
    assert_eq!(answer.status, 201);
    let kept = server.store.images().unwrap();
    assert_eq!(kept[0].name, Some(name(&format!("localhost/multi@{digest}"))));
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child],
    });
    assert_eq!(server.push_manifest("/v2/multi/manifests/1", &index).1.status, 201);
    assert_eq!(server.store.images().unwrap().len(), 1);
    assert_eq!(server.get(&path).header("content-type"), media_type::OCI_MANIFEST);
    let lost = Descriptor::of(media_type::OCI_MANIFEST, b"absent");
    let sparse = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [lost],
    });
    let answer = server.push_manifest("/v2/multi/manifests/2", &sparse).1;
    answer.assert_error(400, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn a_push_by_digest_may_carry_tags() {
    let (_directory, server) = server();
    let manifest = image(&server.push_blob(b"{}"), &[]);
    let digest = Digest::of(manifest.to_string().as_bytes());
    let path = format!("/v2/a/manifests/{digest}?tag=1&tag=latest");
    let (pushed, answer) = server.push_manifest(&path, &manifest);
    let tags: Vec<_> = answer.headers.iter().filter(|(key, _)| key == "oci-tag").collect();
    assert_eq!((answer.status, tags.len()), (201, 2));
    for tag in ["localhost/a:1", "localhost/a"] {
        assert_eq!(server.store.resolve(&name(tag)).unwrap(), Some(pushed.clone()));
    }
}

#[test]
fn deleting_takes_tags_and_manifests_away() {
    let (_directory, server) = server();
    let config = server.push_blob(b"{}");
    let (pushed, _) = server.push_manifest("/v2/a/manifests/1", &image(&config, &[]));
    server.push_manifest("/v2/a/manifests/2", &image(&config, &[]));
    let delete = |key: &str| server.send("DELETE", &format!("/v2/a/manifests/{key}"), &[], b"");
    assert_eq!(delete("1").status, 202);
    server.get("/v2/a/manifests/1").assert_error(404, "MANIFEST_UNKNOWN");
    delete("1").assert_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/a/manifests/2").status, 200);
    assert_eq!(delete(&pushed.digest.to_string()).status, 202);
    let path = format!("/v2/a/manifests/{}", pushed.digest);
    server.get(&path).assert_error(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/tags/list").assert_error(404, "NAME_UNKNOWN");
}

#[test]
fn a_manifest_that_lost_its_tag_is_there_by_digest() {
    let (_directory, server) = server();
    let config = server.push_blob(b"{}");
    let (old, _) = server.push_manifest("/v2/a/manifests/1", &image(&config, &[]));
    let layer = server.push_blob(b"new");
    server.push_manifest("/v2/a/manifests/1", &image(&config, &[layer]));
    assert_eq!(server.get(&format!("/v2/a/manifests/{}", old.digest)).status, 200);
}
