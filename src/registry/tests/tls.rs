//! Registries that speak TLS.

use std::sync::atomic::{AtomicBool, Ordering};

use h2::server::SendResponse;

use super::*;

/// Returns what a server needs to speak TLS, and the PEM text of its certificate.
fn identity() -> (rustls::ServerConfig, String) {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.unwrap());
    (config.unwrap(), signed.cert.pem())
}

/// Starts a server that speaks TLS only and answers everything with the content; returns its address
/// and the PEM text of its certificate.
fn start_tls() -> (String, String) {
    let (config, pem) = identity();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut buffer = [0; 4096];
            // Plain HTTP ends here: what arrives is not TLS.
            if std::io::Read::read(&mut stream, &mut buffer).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n";
                let _ = std::io::Write::write_all(&mut stream, answer);
                let _ = std::io::Write::write_all(&mut stream, CONTENT);
            }
        }
    });
    (address, pem)
}

#[tokio::test]
async fn tls_on_this_machine_is_found_and_its_certificate_verified() {
    let (address, pem) = start_tls();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs_err::write(&file, pem).unwrap();
    let repository = format!("{address}/x").parse::<Reference>().unwrap().repository;
    let fetch = async |change: &dyn Fn(&mut ClientOptions)| {
        let world = World::with(play("upstream.toml", &[]), change);
        let descriptor = Descriptor::of("x", CONTENT);
        let fetched = world.client.fetch_blob_bytes(&repository, &descriptor, 100).await;
        assert_eq!(world.events.retries(), 0);
        fetched
    };
    let error = fetch(&|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(text_of(&error).contains("invalid peer certificate"), "{}", text_of(&error));
    let trusted = fetch(&|options| options.ca_files.push(file.clone())).await;
    assert_eq!(trusted.unwrap(), CONTENT);
    let registry: crate::image::RegistryName = address.parse().unwrap();
    let insecure = fetch(&|options| options.hosts.allow_insecure(registry.clone())).await;
    assert_eq!(insecure.unwrap(), CONTENT);
    let missing = directory.path().join("missing.pem");
    let error = fetch(&|options| options.ca_files.push(missing.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Settings, "{error}");
}

/// Starts a server that speaks HTTP/2 and answers everything with the content, but the first request
/// for a blob with the advice to calm down; returns its address and the PEM text of its certificate.
async fn start_nervous() -> (String, String) {
    let (mut config, pem) = identity();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let is_calm = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, is_calm) = (acceptor.clone(), Arc::clone(&is_calm));
            tokio::spawn(async move {
                // Plain HTTP ends here: what arrives is not TLS.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, answer))) = connection.accept().await {
                    if request.uri().path() != "/v2/" && !is_calm.swap(true, Ordering::Relaxed) {
                        connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    } else {
                        give(answer);
                    }
                }
            });
        }
    });
    (address, pem)
}

fn give(mut answer: SendResponse<Bytes>) {
    let head = http::Response::builder().header("content-length", CONTENT.len());
    let mut body = answer.send_response(head.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(CONTENT), true).unwrap();
}

/// Wire row U23: HTTP/2's `ENHANCE_YOUR_CALM` halves what moves at once, and what it broke off is
/// repeated.
#[tokio::test]
async fn who_is_told_to_calm_down_asks_for_less_at_once() {
    let (address, pem) = start_nervous().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs_err::write(&file, pem).unwrap();
    let world = World::with(play("upstream.toml", &[]), |options| options.ca_files.push(file));
    let repository = format!("{address}/x").parse::<Reference>().unwrap().repository;
    let descriptor = Descriptor::of("x", CONTENT);
    let window = || world.client.origin(&repository).host.pace.window();
    assert_eq!(window(), 6);
    let fetch = || world.client.fetch_blob_bytes(&repository, &descriptor, 100);
    let all = join_all((0..3).map(|_| fetch())).await;
    assert!(all.iter().all(|fetched| fetched.as_ref().unwrap() == CONTENT));
    assert_eq!(window(), 3, "{:?}", world.events.events());
    assert!(world.events.retries() >= 1);
}
