//! One cell: plays it, and checks what holds in all.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rpub::event::Event;
use rpub::registry;

use super::fault::Fault;
use super::kind::Kind;
use super::origin::{SECRET_WORD, basic};
use super::wire::Request;
use super::world::World;

/// Longer than any cell takes on a busy machine, and shorter than the client's own patience.
const LIMIT: Duration = Duration::from_secs(60);
/// Most that a client may take of what has no end: a manifest's limit, and what is on its way.
const MOST_TAKEN: u64 = 24 << 20;
/// The same of a list, which has a higher limit.
const MOST_TAKEN_OF_LIST: u64 = 48 << 20;

/// How a cell ended.
pub(super) struct Outcome {
    pub(super) row: usize,
    pub(super) fault: String,
    pub(super) kind: Kind,
    /// The word for the table.
    pub(super) word: &'static str,
    /// The error's text.
    pub(super) text: String,
    /// What should not be, whatever the table says.
    pub(super) complaints: Vec<String>,
}

/// Plays one cell.
pub(super) async fn play(row: usize, fault: Fault, kind: Kind) -> Outcome {
    let name = fault.name.clone();
    let played = AssertUnwindSafe(async move {
        let world = World::new(kind, &fault);
        let begun = Instant::now();
        let made = tokio::time::timeout(LIMIT, kind.make(&world)).await;
        let (word, text) = match &made {
            Err(_) => ("hangs", format!("nothing after {LIMIT:?}")),
            Ok(Ok(())) if world.played() == 0 => ("unplayed", String::new()),
            Ok(Ok(())) => ("ok", String::new()),
            Ok(Err(error)) => (word(error), text_of(error)),
        };
        let complaints = complaints(&world, kind, &text, begun.elapsed());
        (word, text, complaints)
    });
    // A panic is the outcome of this cell only.
    let (word, text, complaints) = played.catch_unwind().await.unwrap_or_else(|panic| {
        ("panics", format!("{:?}", panic.downcast_ref::<String>()), Vec::new())
    });
    let complain = |complaint| format!("{name} | {}: {complaint}", kind.name());
    let complaints = complaints.into_iter().map(complain).collect();
    Outcome { row, fault: name.clone(), kind, word, text, complaints }
}

fn word(error: &registry::Error) -> &'static str {
    match error.kind() {
        registry::Kind::Settings => "settings",
        registry::Kind::Denied => "denied",
        registry::Kind::NotFound => "not found",
        registry::Kind::RateLimited => "limited",
        registry::Kind::Network => "network",
        registry::Kind::Integrity => "integrity",
        registry::Kind::Protocol => "protocol",
        registry::Kind::Local => "local",
    }
}

/// The whole text of an error, as a user would see it.
fn text_of(error: &registry::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn complaints(world: &World, kind: Kind, text: &str, elapsed: Duration) -> Vec<String> {
    let mut found = Vec::new();
    if elapsed > LIMIT {
        found.push(format!("took {elapsed:?}"));
    }
    let most_taken = if kind.gets_list() { MOST_TAKEN_OF_LIST } else { MOST_TAKEN };
    if world.server.sent() > most_taken {
        found.push(format!("took {} bytes of what has no end", world.server.sent()));
    }
    let events = world.events.events();
    for said in [text.to_owned(), format!("{events:?}"), serde_json::to_string(&events).unwrap()] {
        if has_secret(&said) {
            found.push(format!("a secret is said: {said}"));
        }
    }
    if text.lines().count() > 1 || text.chars().any(char::is_control) || text.len() > 2000 {
        found.push(format!("not one line to read: {text}"));
    }
    for request in world.other.seen() {
        if carries_secret(&request) {
            found.push(format!("another origin is sent a secret: {request:?}"));
        }
    }
    for request in world.asking.seen() {
        let authorization = request.header("authorization");
        let is_its_own = authorization.is_empty() || world.asking.issued(authorization);
        if !is_its_own || carries_secret_beside(&request) {
            found.push(format!("another origin is sent a secret: {request:?}"));
        }
    }
    let begun = events.iter().filter(|event| matches!(event, Event::TransferStarted { .. }));
    let ended = events.iter().filter(|event| matches!(event, Event::TransferFinished { .. }));
    let (begun, ended) = (begun.count(), ended.count());
    if ended == 0 && begun > 0 {
        found.push(format!("{begun} transfers began and {ended} ended"));
    }
    found
}

/// Returns whether a request without a right to any credential has one.
fn carries_secret(request: &Request) -> bool {
    !request.header("authorization").is_empty() || carries_secret_beside(request)
}

/// Returns whether a secret is anywhere but in `Authorization`. A redirect's own query is not ours.
fn carries_secret_beside(request: &Request) -> bool {
    let headers = request.headers.iter().filter(|(name, _)| *name != "authorization");
    let mut texts: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
    texts.push(request.query.replace("signature=s3cr3t", ""));
    texts.push(String::from_utf8_lossy(&request.body).into_owned());
    texts.push(request.path.clone());
    texts.iter().any(|text| has_secret(text)) || request.headers.contains_key("cookie")
}

/// Returns whether a secret is in a text: plain, or as `Authorization` has it.
fn has_secret(text: &str) -> bool {
    text.contains(SECRET_WORD) || text.contains(basic().trim_start_matches("Basic "))
}

static TRACED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps every line of a trace in which a secret is.
struct Watch;

impl io::Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if has_secret(&line) {
            TRACED.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to look at all traces of this process, at the highest verbosity.
pub(super) fn watch_traces() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(|| Watch)
        .finish();
    // Another test may have begun to.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Returns the lines of traces in which a secret was.
pub(super) fn traced_secrets() -> Vec<String> {
    let lines = TRACED.lock().unwrap();
    lines.iter().map(|line| format!("a secret is traced: {line}")).collect()
}
