//! Rules about single values.

use std::path::Path;

use crate::dockerfile::lint::Rule;
use crate::ignore::{Patterns, clean};

/// Words that say that a variable holds a secret.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that say that it does not after all.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether a variable of this name looks like a secret: one of its words, with `_` between them, is
/// a word for secrets, and none says that it is something else.
pub(crate) fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

/// Returns what is to be said about a port of `EXPOSE`.
pub(crate) fn exposes(port: &str) -> Vec<(Rule, String)> {
    let mut found = Vec::new();
    let (host, container) = match port.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None => ("", port),
    };
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol != protocol.to_lowercase() {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        found.push((Rule::ExposeProtoCasing, message));
    }
    if host.contains(|c| c != ':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found \
             '{port}'"
        );
        found.push((Rule::ExposeInvalidFormat, message));
    }
    found
}

/// Returns what is to be said about a source of `COPY` or `ADD` from the build context.
///
/// With patterns that bring files back, nothing: whether some file below a directory comes back
/// cannot be told from the patterns.
pub(crate) fn takes_ignored(instruction: &str, source: &str, ignored: &Patterns) -> Option<String> {
    if ignored.is_empty() || ignored.brings_back() {
        return None;
    }
    let shown = clean(source);
    let is_root = shown == "." || shown == "/";
    if is_root && !ignored.leaves_nothing() {
        return None;
    }
    let path = Path::new(shown.trim_start_matches('/'));
    if !is_root && ignored.reason(path).is_none() {
        return None;
    }
    let verb = if instruction == "ADD" { "Add" } else { "Copy" };
    Some(format!("Attempting to {verb} file {shown:?} that is excluded by .dockerignore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_whole_words() {
        for name in ["api_key", "DATABASE_PASSWORD", "GITHUB_TOKEN", "secret_MESSAGE", "AUTH"] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "monkey",
            "PUBLIC_KEY",
            "token_file",
            "AUTHOR",
            "SECRET_VERSION",
            "apikeys",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn ports_are_plain() {
        let rules = |port| exposes(port).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
        assert_eq!(rules("80"), []);
        assert_eq!(rules("80-90/udp"), []);
        assert_eq!(rules(":80"), []);
        assert_eq!(rules("80/UDP"), [Rule::ExposeProtoCasing]);
        assert_eq!(rules("80:80"), [Rule::ExposeInvalidFormat]);
        assert_eq!(rules("[::1]:80:80/Tcp"), [Rule::ExposeProtoCasing, Rule::ExposeInvalidFormat]);
    }

    #[test]
    fn ignored_sources_are_told() {
        let told = |patterns: &str, source| {
            takes_ignored("COPY", source, &Patterns::parse(patterns).unwrap()).is_some()
        };
        assert!(told("secret", "secret"));
        assert!(told("secret", "./secret/deep/"));
        assert!(told("secret", "/secret"));
        assert!(told("*", "."));
        assert!(told("**", "/"));
        assert!(!told("secret", "."));
        assert!(!told("secret", "other"));
        assert!(!told("*\n!x", "y"));
        assert!(!told("", "y"));
    }
}
