//! What no run of the program may say: the secrets of the tests, in every form they travel in.
//!
//! Every run is made at the highest verbosity of the log. All that it says is searched, and the
//! log's lines are taken out before the test sees the rest.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use url::form_urlencoded::byte_serialize;

use super::registry::{PASSWORD, USERNAME};

/// The secrets that tests make up for themselves hold one of these; the last is how the tokens of
/// the tests' token server begin.
const WORDS: [&str; 4] = ["s3cr3t", "s3cret", "hunter2", "eyJ0eXAi"];

/// Returns the first secret in `text`, as it stands there.
pub(super) fn found_in(text: &str) -> Option<String> {
    let words = WORDS.map(str::to_owned);
    words.into_iter().chain(forms()).find(|form| text.contains(form.as_str()))
}

/// Returns the password as itself, in URLs, and in base64 wherever it begins there.
fn forms() -> Vec<String> {
    let percent = byte_serialize(PASSWORD.as_bytes()).collect::<String>();
    let login = format!("{USERNAME}:{PASSWORD}");
    let mut forms = vec![PASSWORD.to_owned(), percent.replace('+', "%20"), percent];
    forms.extend([STANDARD.encode(&login), URL_SAFE.encode(&login)]);
    for before in ["", "x", "xx"] {
        // What the neighbours decide is cut off: a character before, and the last group.
        let encoded = STANDARD.encode(format!("{before}{PASSWORD}"));
        let first = (before.len() * 8).div_ceil(6);
        forms.push(encoded[first..encoded.len() - 4].to_owned());
    }
    forms
}

/// Returns what a program said without the lines of its log.
pub(super) fn without_log(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !is_log(line)).collect()
}

/// Returns whether a line is one of the log's: time, level, words.
fn is_log(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (time, level) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_time = time.len() > 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T';
    is_time && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level)
}

#[test]
fn every_form_is_found() {
    let login = STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    let other = STANDARD.encode(format!("somebody:{PASSWORD}!"));
    for said in [
        format!("password={PASSWORD}"),
        "?password=p%3Aa+ss%2Fw%25rd%2B%C3%A9&a=b".to_owned(),
        "http://alice:p%3Aa%20ss%2Fw%25rd%2B%C3%A9@r.example".to_owned(),
        format!("Authorization: Basic {login}"),
        format!("{{\"auth\":\"{other}\"}}"),
        "Bearer eyJ0eXAiOiJKV1QifQ.e30.x".to_owned(),
    ] {
        assert!(found_in(&said).is_some(), "{said}");
    }
    for said in [USERNAME, "****", "p:a", "sha256:0000", ""] {
        assert_eq!(found_in(said), None, "{said}");
    }
}

#[test]
fn the_logs_lines_are_told_from_others() {
    let said = "pulling\n2026-11-25T00:38:00.123456Z TRACE rpub::registry: a=b\n\
                2026-11-25T00:38:00Z is a date\nerror: x";
    let rest = "pulling\n2026-11-25T00:38:00Z is a date\nerror: x";
    assert_eq!(without_log(said), rest);
}

/// The search can fail: an error repeats what it was given.
#[test]
#[should_panic(expected = "a secret is said")]
fn a_run_that_says_a_secret_fails() {
    let context = super::TestContext::new();
    let _ = context.rpub(["pull", "not/a reference s3cr3t"]).run();
}
