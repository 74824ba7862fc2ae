//! A scripted HTTP server that plays `fixtures/registry/*.toml`: what to answer to which request,
//! and how to fail while doing so. It needs nothing of the test context, so that the unit tests
//! of the registry client can include this file too.
//!
//! A script is a list of `[[rule]]`. A request is answered by the first rule that matches it and
//! is not used up:
//!
//! - `method`, `path` (without query): must be equal. `query`: texts that the query must hold.
//! - `headers`: values that must be equal; an empty one means that the header must be missing.
//! - `state`: only while the server is in that state (`""` at first). `times`: used so often.
//! - `status`, `reply_headers`, `body`: the answer. `HEAD` sends the body's length only, none
//!   for none, unless `reply_headers` has another `content-length`.
//! - `delay_ms`: waits first. `cut_after`: hangs up after so many bytes of the body.
//!   `hang_up`: `"before_body"` without reading the request's body, `"before_reply"` after it.
//! - `next_state`: the state from then on.
//!
//! In the text `{name}` stands for a variable, and `{origin}` for the server's own address. What
//! no rule matches is answered 501 and kept for [`Script::unmatched`]; only `GET /v2/` is 200.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Rules {
    rule: Vec<Rule>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    method: String,
    path: String,
    #[serde(default)]
    query: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    state: Option<String>,
    times: Option<u32>,
    status: u16,
    #[serde(default)]
    reply_headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    delay_ms: u64,
    cut_after: Option<usize>,
    hang_up: Option<HangUp>,
    next_state: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum HangUp {
    BeforeBody,
    BeforeReply,
}

#[derive(Default)]
struct Play {
    rules: Vec<Rule>,
    state: String,
    seen: Vec<Seen>,
    unmatched: Vec<String>,
}

/// A running server. It ends with the process.
pub(crate) struct Script {
    address: String,
    play: Arc<Mutex<Play>>,
}

impl Script {
    /// Starts a server that plays `text`, with `variables` put in.
    pub(crate) fn start(text: &str, variables: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut text = text.replace("{origin}", &format!("http://{address}"));
        for (name, value) in variables {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let rules: Rules = toml::from_str(&text).unwrap();
        let play = Arc::new(Mutex::new(Play { rules: rules.rule, ..Play::default() }));
        let shared = Arc::clone(&play);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let play = Arc::clone(&shared);
                // A connection that breaks is the client's business, and often the point.
                thread::spawn(move || drop(serve(&stream, &play)));
            }
        });
        Self { address, play }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The requests that came, without those for `/v2/`.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let play = self.play.lock().unwrap();
        play.seen.iter().filter(|seen| seen.path != "/v2/").cloned().collect()
    }

    /// The requests that came, as `METHOD path`, without those for `/v2/`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// The requests that no rule matched.
    pub(crate) fn unmatched(&self) -> Vec<String> {
        self.play.lock().unwrap().unmatched.clone()
    }
}

fn serve(stream: &TcpStream, play: &Mutex<Play>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(mut seen) = read_head(&mut reader)? {
        let rule = {
            let mut play = play.lock().unwrap();
            let rule = choose(&mut play, &seen);
            if let Some(next) = &rule.next_state {
                play.state.clone_from(next);
            }
            rule
        };
        if rule.hang_up != Some(HangUp::BeforeBody) {
            read_body(&mut reader, &mut seen)?;
        }
        let is_head = seen.method == "HEAD";
        play.lock().unwrap().seen.push(seen);
        thread::sleep(Duration::from_millis(rule.delay_ms));
        if rule.hang_up.is_some() || !reply(stream, &rule, is_head)? {
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Both)
}

fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Seen { method, path, query, headers, body: Vec::new() }))
}

fn read_body(reader: &mut BufReader<TcpStream>, seen: &mut Seen) -> io::Result<()> {
    if seen.headers.get("transfer-encoding").is_none_or(|coding| coding != "chunked") {
        let length = seen.headers.get("content-length").and_then(|text| text.parse().ok());
        reader.take(length.unwrap_or(0)).read_to_end(&mut seen.body)?;
        return Ok(());
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.by_ref().take(size).read_to_end(&mut seen.body)?;
        // The end of the chunk's line; after the last chunk, that of no trailers.
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn choose(play: &mut Play, seen: &Seen) -> Rule {
    let state = play.state.clone();
    let found = play.rules.iter_mut().find(|rule| {
        let header = |name: &String| seen.headers.get(name).map_or("", String::as_str);
        rule.method == seen.method
            && rule.path == seen.path
            && rule.query.iter().all(|part| seen.query.contains(part))
            && rule.headers.iter().all(|(name, value)| header(name) == value)
            && rule.state.as_ref().is_none_or(|wanted| *wanted == state)
            && rule.times != Some(0)
    });
    if let Some(rule) = found {
        rule.times = rule.times.map(|times| times - 1);
        return rule.clone();
    }
    let is_version_check = seen.method == "GET" && seen.path == "/v2/";
    if !is_version_check {
        play.unmatched.push(format!("{} {}?{}", seen.method, seen.path, seen.query));
    }
    let status = if is_version_check { 200 } else { 501 };
    let text = format!("method = ''\npath = ''\nstatus = {status}");
    toml::from_str(&text).unwrap()
}

/// Sends the answer; returns whether the connection goes on.
fn reply(mut stream: &TcpStream, rule: &Rule, is_head: bool) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", rule.status);
    let says_length = rule.status != 204 && !(is_head && rule.body.is_empty());
    if !rule.reply_headers.contains_key("content-length") && says_length {
        head += &format!("content-length: {}\r\n", rule.body.len());
    }
    for (name, value) in &rule.reply_headers {
        head += &format!("{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if !is_head {
        let body = rule.body.as_bytes();
        stream.write_all(&body[..rule.cut_after.unwrap_or(body.len()).min(body.len())])?;
    }
    Ok(rule.cut_after.is_none())
}
