//! HTTP/1.1 by hand, so that an answer can be broken at any of its bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// An endless answer ends here all the same, so that a client that reads on is found out.
pub(super) const ENDLESS_BYTES: u64 = 128 << 20;
/// What an endless answer is sent in.
const PIECE_BYTES: usize = 64 << 10;

/// A request that came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Returns a header's value, empty for none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns a parameter of the query, or of a form, decoded.
    pub(super) fn parameters(&self, name: &str) -> Vec<String> {
        let form = if self.query.is_empty() { &self.body[..] } else { self.query.as_bytes() };
        let pairs = url::form_urlencoded::parse(form);
        pairs.filter(|(have, _)| have == name).map(|(_, value)| value.into_owned()).collect()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether it says how long it is, unless a header does already.
    pub(super) says_length: bool,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), says_length: true }
    }

    /// Sets a header, instead of one of the same name.
    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Returns an error as the specification has it.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"a message"}}]}}"#);
        Self::new(status).json(body)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name))
    }

    fn head(&self, framing: Framing) -> String {
        let mut head = format!("HTTP/1.1 {} Played\r\n", self.status);
        let may_have_length =
            self.says_length && !self.has("content-length") && !matches!(self.status, 204 | 304);
        match framing {
            Framing::Length if may_have_length => {
                let _ = write!(head, "content-length: {}\r\n", self.body.len());
            }
            Framing::Length | Framing::None => {}
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head + "\r\n"
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunked,
    None,
}

/// A byte class of an answer: what has been sent when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Nothing,
    HalfTheHead,
    Head,
    FirstByte,
    HalfTheBody,
    AllButOneByte,
    AllThere,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Travel {
    Whole,
    /// The connection ends there.
    Cut(At),
    /// Nothing more comes, and the connection stays.
    Stall(At),
    /// Byte by byte, to the end.
    Drip,
    /// Byte by byte, without an end.
    DripForever,
    /// The body has no end.
    EndlessBody,
    /// The head has no end.
    EndlessHead,
    /// `100 Continue` without an end.
    EndlessInterim,
    /// `103 Early Hints` comes first.
    Interim,
    /// Not a word of HTTP.
    Garbage,
    /// The same answer again behind it, though nobody asked.
    Twice,
    /// The length is not said; the connection's end is the body's.
    Unframed,
    /// The length is not said; chunks.
    Chunked,
}

/// What answers requests.
pub(super) trait Service: Send + Sync + 'static {
    /// Whether the connection ends before the request's body is read.
    fn hangs_up(&self, head: &Request) -> bool;

    fn answer(&self, request: Request) -> (Reply, Travel);
}

/// A server on a free port of the loopback. It ends, with all its connections, when dropped.
pub(super) struct Server {
    address: SocketAddr,
    is_tls: bool,
    sent: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Server {
    /// Starts it in the runtime of the caller.
    pub(super) fn start(service: Arc<dyn Service>, tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (is_tls, sent) = (tls.is_some(), Arc::<AtomicU64>::default());
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (service, tls, sent) =
                    (Arc::clone(&service), tls.clone(), Arc::clone(&counter));
                // A connection that breaks is the client's business, and often the point.
                connections.spawn(async move { drop(serve(stream, tls, &*service, &sent).await) });
            }
        });
        Self { address, is_tls, sent, task: task.abort_handle() }
    }

    /// Returns host and port.
    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Returns scheme, host and port.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// Returns how many bytes of endless answers were taken.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: &dyn Service,
    sent: &AtomicU64,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream: Box<dyn Pipe> = match tls {
        Some(tls) => Box::new(tls.accept(stream).await?),
        None => Box::new(stream),
    };
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut stream).await? {
        if service.hangs_up(&request) {
            break;
        }
        if request.header("expect").eq_ignore_ascii_case("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        read_body(&mut stream, &mut request).await?;
        let is_head = request.method == "HEAD";
        let (mut reply, travel) = service.answer(request);
        if is_head {
            let length = reply.body.len().to_string();
            if reply.says_length && !reply.has("content-length") {
                reply = reply.header("content-length", length);
            }
            reply.body.clear();
        }
        if !send(&mut stream, &reply, travel, sent).await? {
            break;
        }
    }
    stream.shutdown().await
}

async fn read_head(stream: &mut BufReader<Box<dyn Pipe>>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { method, path, query, headers, body: Vec::new() }))
}

async fn read_body(stream: &mut BufReader<Box<dyn Pipe>>, request: &mut Request) -> io::Result<()> {
    if request.header("transfer-encoding") != "chunked" {
        let length = request.header("content-length").parse().unwrap_or(0);
        request.body.resize(length, 0);
        return stream.read_exact(&mut request.body).await.map(drop);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = request.body.len();
        request.body.resize(start + size, 0);
        stream.read_exact(&mut request.body[start..]).await?;
        // The end of the chunk's line; after the last chunk, that of no trailers.
        stream.read_line(&mut line).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Sends the answer; returns whether the connection goes on.
async fn send(
    stream: &mut BufReader<Box<dyn Pipe>>,
    reply: &Reply,
    travel: Travel,
    sent: &AtomicU64,
) -> io::Result<bool> {
    let head = reply.head(Framing::Length).into_bytes();
    let whole = [&head[..], &reply.body].concat();
    match travel {
        Travel::Whole => write(stream, &whole).await.map(|()| true),
        Travel::Twice => write(stream, &[&whole[..], &whole].concat()).await.map(|()| true),
        Travel::Interim => {
            write(stream, b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await?;
            write(stream, &whole).await.map(|()| true)
        }
        Travel::Cut(at) => write(stream, &whole[..end(at, &head, reply)]).await.map(|()| false),
        Travel::Stall(at) => {
            write(stream, &whole[..end(at, &head, reply)]).await?;
            // Until the client goes away.
            tokio::io::copy(stream, &mut tokio::io::sink()).await.map(|_| false)
        }
        Travel::Drip => {
            for byte in whole.chunks(1) {
                write(stream, byte).await?;
                tokio::task::yield_now().await;
            }
            Ok(true)
        }
        Travel::DripForever => {
            let head = reply.clone().without("content-length").head(Framing::None);
            write(stream, head.as_bytes()).await?;
            loop {
                write(stream, b" ").await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Travel::EndlessBody => {
            let head = reply.clone().without("content-length").head(Framing::None);
            endless(stream, head.as_bytes(), b" ", sent).await
        }
        Travel::EndlessHead => {
            endless(stream, b"HTTP/1.1 200 OK\r\n", b"x-more: y\r\n", sent).await
        }
        Travel::EndlessInterim => loop {
            write(stream, &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20)).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        },
        Travel::Garbage => write(stream, b"SSH-2.0-OpenSSH_9.9\r\n").await.map(|()| false),
        Travel::Unframed => {
            let head = reply.clone().without("content-length").head(Framing::None);
            write(stream, &[head.as_bytes(), &reply.body].concat()).await.map(|()| false)
        }
        Travel::Chunked => {
            let head = reply.clone().without("content-length").head(Framing::Chunked);
            let mut all = head.into_bytes();
            for chunk in reply.body.chunks(10_000) {
                all.extend(format!("{:x}\r\n", chunk.len()).bytes());
                all.extend_from_slice(chunk);
                all.extend_from_slice(b"\r\n");
            }
            all.extend_from_slice(b"0\r\n\r\n");
            write(stream, &all).await.map(|()| true)
        }
    }
}

fn end(at: At, head: &[u8], reply: &Reply) -> usize {
    match at {
        At::Nothing => 0,
        At::HalfTheHead => head.len() / 2,
        At::Head => head.len(),
        At::FirstByte => head.len() + reply.body.len().min(1),
        At::HalfTheBody => head.len() + reply.body.len() / 2,
        At::AllButOneByte => head.len() + reply.body.len().saturating_sub(1),
        At::AllThere => head.len() + reply.body.len(),
    }
}

async fn endless(
    stream: &mut BufReader<Box<dyn Pipe>>,
    first: &[u8],
    again: &[u8],
    sent: &AtomicU64,
) -> io::Result<bool> {
    write(stream, first).await?;
    let piece = again.repeat(PIECE_BYTES.div_ceil(again.len()));
    while sent.fetch_add(piece.len() as u64, Ordering::Relaxed) < ENDLESS_BYTES {
        write(stream, &piece).await?;
    }
    Ok(false)
}

async fn write(stream: &mut BufReader<Box<dyn Pipe>>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
