//! A forward proxy, as `HTTPS_PROXY` and `HTTP_PROXY` name one: it leads every host to one registry,
//! and keeps what it was asked for.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A proxy that runs until the test's end.
pub(crate) struct ForwardProxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// Starts a proxy that leads to `target`, host and port.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (target, seen) = (target.to_owned(), Arc::clone(&asked));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, seen) = (target.clone(), Arc::clone(&seen));
                // A client that hangs up ends its own connection only.
                thread::spawn(move || drop(serve(&client, &target, &seen)));
            }
        });
        Self { address, asked }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the first words of what was asked: `CONNECT host:port` or `GET http://...`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: &TcpStream, target: &str, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    asked.lock().unwrap().push(format!("{method} {url}"));
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let mut server = TcpStream::connect(target)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    } else {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        // One request a connection: the next one has a line of its own to be seen.
        let head = head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        server.write_all(format!("{method} /{path} HTTP/1.1\r\n{head}").as_bytes())?;
    }
    let mut up = server.try_clone()?;
    let upwards = thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let mut downwards = server.take(u64::MAX);
    io::copy(&mut downwards, &mut client)?;
    client.shutdown(Shutdown::Both)?;
    let _ = upwards.join();
    Ok(())
}
