//! Blobs on their way in.

use super::*;

#[test]
fn uploads_in_one_piece_are_verified() {
    let (_directory, server) = server();
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"other"));
    server.send("POST", &path, &[], b"bytes").assert_error(400, "DIGEST_INVALID");
    server
        .send("POST", "/v2/a/blobs/uploads/?digest=x", &[], b"")
        .assert_error(400, "DIGEST_INVALID");
    let empty = server.push_blob(b"");
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", empty.digest)).body, b"");
    assert_eq!(fs_err::read_dir(server.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn mounts_when_the_blob_is_there_else_opens_a_session() {
    let (_directory, server) = server();
    let blob = server.push_blob(b"layer");
    let mount = |digest| format!("/v2/b/blobs/uploads/?mount={digest}&from=any");
    let mounted = server.send("POST", &mount(&blob.digest), &[], b"");
    assert_eq!(mounted.status, 201);
    assert_eq!(mounted.header("location"), format!("/v2/b/blobs/{}", blob.digest));
    let opened = server.send("POST", &mount(&Digest::of(b"absent")), &[], b"");
    assert_eq!(opened.status, 202);
    assert!(opened.header("location").starts_with("/v2/b/blobs/uploads/"));
}

#[test]
fn sessions_take_chunks_in_order() {
    let (_directory, server) = server();
    let opened = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let session = opened.header("location").to_owned();
    let patch = |range: &str, body: &[u8]| {
        server.send("PATCH", &session, &[("content-range", range)], body)
    };
    let first = patch("0-4", b"hello");
    assert_eq!((first.status, first.header("range")), (202, "0-4"));
    let again = patch("0-4", b"hello");
    again.assert_error(416, "RANGE_INVALID");
    assert_eq!(again.header("range"), "0-4");
    patch("5-11", b", world!").assert_error(400, "SIZE_INVALID");
    patch("x", b"").assert_error(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(server.send("PATCH", &session, &[], b", ").header("range"), "0-6");
    let status = server.get(&session);
    assert_eq!((status.status, status.header("range")), (204, "0-6"));
    server.send("PUT", &session, &[], b"").assert_error(400, "DIGEST_INVALID");
    let digest = Digest::of(b"hello, world");
    let done = server.send("PUT", &format!("{session}?digest={digest}"), &[], b"world");
    assert_eq!((done.status, done.header("docker-content-digest")), (201, &*digest.to_string()));
    assert_eq!(server.get(done.header("location")).body, b"hello, world");
    server.get(&session).assert_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_wrong_digest_or_a_cancel_ends_the_session() {
    let (_directory, server) = server();
    for end in ["PUT", "DELETE"] {
        let opened = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
        let session = opened.header("location").to_owned();
        assert_eq!(server.send("PATCH", &session, &[], b"some").status, 202);
        let path = format!("{session}?digest={}", Digest::of(b"other"));
        let ended = server.send(end, &path, &[], b"");
        if end == "PUT" {
            ended.assert_error(400, "DIGEST_INVALID");
        } else {
            assert_eq!(ended.status, 204);
        }
        server.get(&session).assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    server.get("/v2/a/blobs/uploads/..%2f..%2findex.json").assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(fs_err::read_dir(server.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn an_upload_survives_a_cut_connection_and_a_new_server() {
    let (_directory, server) = server();
    let store = server.store.clone();
    let opened = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let session = opened.header("location").to_owned();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhello");
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    // The server may see the question before the cut chunk.
    let start = Instant::now();
    while server.get(&session).header("range") != "0-4" {
        assert!(start.elapsed() < Duration::from_secs(20), "the cut chunk was lost");
        std::thread::yield_now();
    }
    drop(server);

    let server = Server::start(&store, false);
    assert_eq!(server.get(&session).header("range"), "0-4");
    let chunk = [("content-range", "5-11")];
    assert_eq!(server.send("PATCH", &session, &chunk, b", world").header("range"), "0-11");
    let path = format!("{session}?digest={}", Digest::of(b"hello, world"));
    assert_eq!(server.send("PUT", &path, &[], b"").status, 201);
}
