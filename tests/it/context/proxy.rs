//! A proxy in front of a registry, as nginx or Cloudflare would be: it may refuse large bodies, know
//! no ranges, add latency, be slow and cut connections, and it counts what passes.
//!
//! One request a connection, on either side. The registry sees the proxy's name as its own, so the
//! locations that it gives lead through the proxy too.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Most of a refused body that is read, so that the client gets to see the refusal.
const LINGER_BYTES: u64 = 1 << 30;
/// How long the proxy lingers for a client that has stopped sending.
const LINGER: Duration = Duration::from_secs(2);
const PIECE_BYTES: usize = 64 << 10;
/// What Docker Hub says with status 429, headers included.
const USED_UP: &str = "Too Many Requests\r\nratelimit-limit: 100;w=21600\r\n\
                       ratelimit-remaining: 0;w=21600\r\nretry-after: 7200";

/// How a proxy behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Bodies over so many bytes are answered 413, with a page of HTML.
    pub(crate) max_body: Option<u64>,
    /// Requests with this method and this in the path are answered 405.
    pub(crate) refused: Vec<(&'static str, String)>,
    /// Passes every request on only after so long.
    pub(crate) latency: Duration,
    /// The most bytes a second that an answer's body is passed on with.
    pub(crate) bytes_per_second: Option<u32>,
    /// Passes no `Range` on.
    pub(crate) ignores_ranges: bool,
    /// Connections that break.
    pub(crate) cuts: Vec<Cut>,
    /// Lets only so many manifests be read, as Docker Hub does in six hours.
    pub(crate) pulls: Option<u32>,
}

/// A connection that breaks.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// Of requests with this method.
    pub(crate) method: &'static str,
    /// With this in the path.
    pub(crate) path: String,
    /// Whose body is cut.
    pub(crate) side: Side,
    /// After so many bytes of the body.
    pub(crate) after: u64,
    /// So often.
    pub(crate) times: u32,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Registry,
}

/// A request that passed, or was to.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    /// What was answered; 0 for nothing.
    pub(crate) status: u16,
    /// Bytes of the client's body that came.
    pub(crate) sent: u64,
    /// Bytes of the registry's answer, its head included.
    pub(crate) received: u64,
    /// Bytes of that head.
    head: u64,
    /// Ticks of a clock that counts beginnings and ends of requests. An `end` of 0 is to come.
    begin: u64,
    end: u64,
}

impl Passed {
    /// Returns how many bytes of the answer's body passed.
    pub(crate) fn body(&self) -> u64 {
        self.received - self.head
    }
}

#[derive(Default)]
struct State {
    manners: Manners,
    passed: Vec<Passed>,
    clock: u64,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// A running proxy. It ends with the process.
pub(crate) struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Starts a proxy in front of `registry`, which is host and port.
    pub(crate) fn start(registry: &str, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { manners, ..State::default() }));
        let (shared, registry) = (Arc::clone(&state), registry.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, registry) = (Arc::clone(&shared), registry.clone());
                thread::spawn(move || serve(&stream, &registry, &state));
            }
        });
        Self { address, state }
    }

    /// Returns a reference to a repository behind the proxy.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Behaves otherwise from now on.
    pub(crate) fn behave(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    /// Returns the requests so far, those under way included, in the order in which they came.
    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.state.lock().unwrap().passed.clone()
    }

    /// Waits until no request is under way: what a client that was killed has sent still passes.
    pub(crate) fn settle(&self) {
        while self.passed().iter().any(|one| one.end == 0) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().passed.clear();
    }

    /// Returns how many bytes of blobs clients have sent.
    pub(crate) fn blob_bytes(&self) -> u64 {
        let passed = self.passed();
        passed.iter().filter(|one| one.target.contains("/blobs/")).map(|one| one.sent).sum()
    }

    /// Returns the most of the requests that `is_meant` accepts that were under way at one time.
    pub(crate) fn most_at_once(&self, is_meant: impl Fn(&Passed) -> bool) -> usize {
        let passed: Vec<Passed> = self.passed().into_iter().filter(is_meant).collect();
        let at = |tick: u64| {
            passed
                .iter()
                .filter(|one| one.begin <= tick && (one.end == 0 || one.end > tick))
                .count()
        };
        passed.iter().map(|one| at(one.begin)).max().unwrap_or(0)
    }

    /// Returns the length of the longest chain of requests that waited for each other: each began
    /// after the one before had ended. It is how often the latency was paid.
    pub(crate) fn round_trips(&self) -> usize {
        let mut passed = self.passed();
        passed.retain(|one| one.end > 0);
        passed.sort_by_key(|one| one.end);
        let (mut count, mut last) = (0, 0);
        for one in passed {
            if one.begin > last {
                count += 1;
                last = one.end;
            }
        }
        count
    }
}

/// One request on its way.
struct Passage<'a> {
    state: &'a Mutex<State>,
    index: usize,
    cut: Option<Cut>,
    max_body: Option<u64>,
    bytes_per_second: Option<u32>,
    ignores_ranges: bool,
    is_refused: bool,
    is_used_up: bool,
}

/// Why a request was not passed on to its end.
enum Stopped {
    Broken,
    /// The registry closed: it may have answered before it had everything.
    Early,
    TooLarge,
    NotAllowed,
    UsedUp,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

fn serve(client: &TcpStream, registry: &str, state: &Mutex<State>) {
    let mut reader = BufReader::with_capacity(PIECE_BYTES, client);
    let Ok(head) = read_head(&mut reader) else { return };
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (passage, latency) = begin(state, method, target);
    thread::sleep(latency);
    let outcome = passage.forward(&head, &mut reader, client, registry);
    let refusal = match outcome {
        Err(Stopped::TooLarge) => Some((413, "Request Entity Too Large")),
        Err(Stopped::NotAllowed) => Some((405, "Method Not Allowed")),
        Err(Stopped::UsedUp) => Some((429, USED_UP)),
        Ok(()) | Err(Stopped::Broken | Stopped::Early) => None,
    };
    if let Some((status, reason)) = refusal {
        // Whoever goes away has seen enough.
        let _ = refuse(client, &mut reader, &format!("{status} {reason}"));
        passage.note(|passed| passed.status = status);
    }
    passage.end();
    let _ = client.shutdown(Shutdown::Both);
}

fn begin<'a>(state: &'a Mutex<State>, method: &str, target: &str) -> (Passage<'a>, Duration) {
    let mut locked = state.lock().unwrap();
    let begin = locked.tick();
    let index = locked.passed.len();
    let (method, target) = (method.to_owned(), target.to_owned());
    let fits = |cut: &&Cut| cut.method == method && target.contains(&cut.path);
    let cut = locked.manners.cuts.iter().find(fits).cloned();
    let mut refused = locked.manners.refused.iter();
    let is_refused = refused.any(|(refused, part)| *refused == method && target.contains(part));
    // Not lists of referrers, which are mostly not there.
    let is_list = target.contains("/manifests/sha256-");
    let is_pull = method == "GET" && target.contains("/manifests/") && !is_list;
    let mut is_used_up = false;
    if let Some(left) = locked.manners.pulls.as_mut().filter(|_| is_pull) {
        is_used_up = *left == 0;
        *left = left.saturating_sub(1);
    }
    let (status, sent, received, head, end) = (0, 0, 0, 0, 0);
    locked.passed.push(Passed { method, target, status, sent, received, head, begin, end });
    let Manners { max_body, latency, bytes_per_second, ignores_ranges, .. } = locked.manners;
    let passage = Passage {
        state,
        index,
        cut,
        max_body,
        bytes_per_second,
        ignores_ranges,
        is_refused,
        is_used_up,
    };
    (passage, latency)
}

impl Passage<'_> {
    fn note(&self, change: impl FnOnce(&mut Passed)) {
        // Those that were under way when the test said to forget are gone.
        if let Some(passed) = self.state.lock().unwrap().passed.get_mut(self.index) {
            change(passed);
        }
    }

    /// Takes note that the request is over, unless that was noted. Before the client can see it: what it
    /// asks for next comes after.
    fn end(&self) {
        let mut locked = self.state.lock().unwrap();
        let end = locked.tick();
        if let Some(passed) = locked.passed.get_mut(self.index).filter(|passed| passed.end == 0) {
            passed.end = end;
        }
    }

    fn forward(
        &self,
        head: &str,
        reader: &mut BufReader<&TcpStream>,
        client: &TcpStream,
        registry: &str,
    ) -> Result<(), Stopped> {
        let length = header(head, "content-length").and_then(|text| text.parse::<u64>().ok());
        if length.zip(self.max_body).is_some_and(|(length, most)| length > most) {
            return Err(Stopped::TooLarge);
        }
        if self.is_refused {
            return Err(Stopped::NotAllowed);
        }
        if self.is_used_up {
            return Err(Stopped::UsedUp);
        }
        let mut upstream = TcpStream::connect(registry)?;
        let is_kept = |line: &&str| {
            let line = line.to_ascii_lowercase();
            let is_range = line.starts_with("range:") && self.ignores_ranges;
            !line.is_empty() && !line.starts_with("connection:") && !is_range
        };
        let kept: Vec<&str> = head.lines().filter(is_kept).collect();
        write!(upstream, "{}\r\nConnection: close\r\n\r\n", kept.join("\r\n"))?;
        let is_chunked = header(head, "transfer-encoding").is_some();
        let length = length.unwrap_or(0);
        let body = if is_chunked {
            chunked(reader, &upstream, self)
        } else {
            self.copy(reader.take(length), &upstream, Side::Client, None)
                .and_then(|copied| if copied < length { Err(Stopped::Broken) } else { Ok(()) })
        };
        match body {
            Ok(()) | Err(Stopped::Early) => {}
            Err(stopped) => return Err(stopped),
        }
        self.answer(upstream, client)
    }

    fn answer(&self, upstream: TcpStream, client: &TcpStream) -> Result<(), Stopped> {
        let mut upstream = BufReader::with_capacity(PIECE_BYTES, upstream);
        let head = read_head(&mut upstream)?;
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.note(|passed| {
            passed.status = status;
            passed.head = head.len() as u64;
            passed.received += passed.head;
        });
        let length = header(&head, "content-length").and_then(|text| text.parse().ok());
        if length == Some(0) || self.is_head() {
            self.end();
        }
        let mut to = client;
        to.write_all(head.as_bytes())?;
        self.copy(upstream, client, Side::Registry, length).map(drop)
    }

    fn is_head(&self) -> bool {
        let locked = self.state.lock().unwrap();
        locked.passed.get(self.index).is_some_and(|passed| passed.method == "HEAD")
    }

    /// Passes bytes on until their end, or until the connection is to break. `last` is where the answer
    /// ends for the client.
    fn copy(
        &self,
        mut from: impl Read,
        mut to: &TcpStream,
        side: Side,
        last: Option<u64>,
    ) -> Result<u64, Stopped> {
        let cut = self.cut.as_ref().filter(|cut| cut.side == side).map(|cut| cut.after);
        let mut piece = vec![0; PIECE_BYTES];
        let mut copied = 0;
        let begun = Instant::now();
        let rate = self.bytes_per_second.filter(|_| side == Side::Registry);
        loop {
            if let Some(rate) = rate {
                let due = Duration::from_secs(copied) / rate;
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            let so_far = match side {
                Side::Client => self.sent(),
                Side::Registry => copied,
            };
            let left = cut.map_or(u64::MAX, |after| after.saturating_sub(so_far));
            if left == 0 && self.may_cut() {
                return Err(Stopped::Broken);
            }
            let most = usize::try_from(left).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES);
            let count = from.read(&mut piece[..most])?;
            if count == 0 {
                return Ok(copied);
            }
            copied += count as u64;
            let note = || {
                self.note(|passed| match side {
                    Side::Client => passed.sent += count as u64,
                    Side::Registry => passed.received += count as u64,
                });
            };
            let is_last = last == Some(copied);
            if is_last {
                note();
                self.end();
            }
            if to.write_all(&piece[..count]).is_err() {
                return Err(if side == Side::Client { Stopped::Early } else { Stopped::Broken });
            }
            if !is_last {
                note();
            }
        }
    }

    /// Takes one of the cuts that are left.
    fn may_cut(&self) -> bool {
        let Some(cut) = &self.cut else { return false };
        let cuts = &mut self.state.lock().unwrap().manners.cuts;
        let found = cuts.iter_mut().find(|one| one.path == cut.path && one.times > 0);
        found.is_some_and(|cut| {
            cut.times -= 1;
            true
        })
    }

    fn sent(&self) -> u64 {
        self.state.lock().unwrap().passed.get(self.index).map_or(0, |passed| passed.sent)
    }
}

/// Passes a body of unknown length on.
fn chunked(
    reader: &mut BufReader<&TcpStream>,
    mut upstream: &TcpStream,
    passage: &Passage<'_>,
) -> Result<(), Stopped> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if passage.max_body.is_some_and(|most| passage.sent() + size > most) {
            return Err(Stopped::TooLarge);
        }
        upstream.write_all(line.as_bytes()).map_err(|_| Stopped::Early)?;
        if passage.copy(reader.by_ref().take(size), upstream, Side::Client, None)? < size {
            return Err(Stopped::Broken);
        }
        let mut end = String::new();
        reader.read_line(&mut end)?;
        upstream.write_all(end.as_bytes()).map_err(|_| Stopped::Early)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Says that the body is too large, as nginx does: at once, with HTML, and reading on for a while.
fn refuse(
    mut client: &TcpStream,
    reader: &mut BufReader<&TcpStream>,
    status: &str,
) -> io::Result<()> {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n\
         <body><center><h1>{status}</h1></center></body>\r\n</html>\r\n"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Type: text/html\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    client.set_read_timeout(Some(LINGER))?;
    io::copy(&mut reader.take(LINGER_BYTES), &mut io::sink()).map(drop)
}

/// Reads up to and including the empty line.
fn read_head(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Ok(head);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Returns the value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
