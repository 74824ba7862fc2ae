//! Who may use whom: reads the `crate::` paths of every source file and refuses one that the table
//! does not allow. Mend the code, not the table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

const ALL: &[&str] = &[
    "image",
    "event",
    "suggest",
    "ignore",
    "dockerfile",
    "blob",
    "credentials",
    "layer",
    "store",
    "archive",
    "sandbox",
    "registry",
    "remote",
    "serve",
    "build",
    "mirror",
];

/// Each room and the rooms that it may use, besides itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("image", &[]),
    ("event", &["image"]),
    ("suggest", &[]),
    ("ignore", &[]),
    ("dockerfile", &["suggest", "ignore"]),
    ("blob", &["image"]),
    ("credentials", &["image"]),
    ("layer", &["image", "blob", "ignore"]),
    ("store", &["image", "blob", "event"]),
    ("archive", &["image", "blob"]),
    ("sandbox", &["image", "event", "layer"]),
    ("registry", &["image", "blob", "event", "credentials"]),
    ("remote", &["image", "blob", "credentials", "dockerfile", "layer", "store"]),
    ("serve", &["image", "blob", "store", "event"]),
    ("build", &["image", "event", "ignore", "dockerfile", "blob", "layer", "store", "sandbox"]),
    ("mirror", &["image", "suggest"]),
    ("operations", ALL),
    ("cli", &["operations", "image", "event"]),
];

/// Crates that only some rooms may name, so that each can be replaced in one place.
const CRATES: &[(&str, &[&str])] = &[
    ("reqwest", &["registry"]),
    ("oci_client", &["image", "registry"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("keyring_core", &["credentials"]),
    ("linux_keyutils_keyring_store", &["credentials"]),
    ("zbus_secret_service_keyring_store", &["credentials"]),
];

/// The one file that may hold `unsafe` code.
const UNSAFE_FILE: &str = "sandbox/sys.rs";

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    file: PathBuf,
    line: usize,
    rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 20, "the source is elsewhere: {files:?}");
    let faults: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let text = fs_err::read_to_string(path).unwrap();
            faults(path.strip_prefix(&source).unwrap(), &text)
        })
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_directory_of_the_source_is_a_room() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs_err::read_dir(&source).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert!(allowed(&name).is_some(), "src/{name} has no row in the table");
            assert!(entry.path().join("mod.rs").is_file(), "src/{name}/mod.rs is missing");
        } else {
            assert!(["lib.rs", "main.rs"].contains(&name.as_str()), "src/{name} is in no room");
        }
    }
}

#[test]
fn the_table_has_no_circles() {
    let done = |name: &str| ROOMS.iter().position(|(room, _)| *room == name).unwrap();
    for (room, uses) in ROOMS {
        for used in *uses {
            assert!(done(used) < done(room), "{room} uses {used}, which comes after it");
        }
    }
}

/// A file's name, its text, and the faults in it.
type Case = (&'static str, &'static str, &'static [(usize, &'static str)]);

#[test]
fn faults_are_found() {
    let rules = |file: &str, text: &str| -> Vec<(usize, String)> {
        faults(Path::new(file), text).into_iter().map(|fault| (fault.line, fault.rule)).collect()
    };
    let cases: &[Case] = &[
        ("image/tag.rs", "use crate::store::Store;", &[(1, "`image` may not use `store`")]),
        (
            "layer/a.rs",
            "use crate::{\n    blob::{Source, hash},\n    store,\n    image::Digest,\n};",
            &[(3, "`layer` may not use `store`")],
        ),
        ("blob/a.rs", "fn f() { crate :: cli::run() }", &[(1, "`blob` may not use `cli`")]),
        ("image/a.rs", "use crate::image::{Digest, Tag};", &[]),
        (
            "operations/a.rs",
            "use crate::{cli::x, store::y};",
            &[(1, "`operations` may not use `cli`")],
        ),
        ("image/a.rs", "// crate::store\n/* crate::cli */\n/// [`crate::store`]", &[]),
        ("image/a.rs", "let s = \"crate::store \\\" crate::cli\"; let c = '\"';", &[]),
        (
            "image/a.rs",
            "let s = r#\"crate::store\"#;\nuse crate::cli::A;",
            &[(2, "`image` may not use `cli`")],
        ),
        (
            "image/a.rs",
            "fn f<'a>(x: &'a str) { crate::cli::g() }",
            &[(1, "`image` may not use `cli`")],
        ),
        (
            "image/a.rs",
            "use super::super::cli;",
            &[(1, "`super::super` hides which room is meant")],
        ),
        (
            "build/a.rs",
            "use reqwest::Client;",
            &[(1, "only `registry` may name the crate `reqwest`")],
        ),
        (
            "build/a.rs",
            "#[derive(clap::Args)]\nstruct A;",
            &[(1, "only `cli` may name the crate `clap`")],
        ),
        ("registry/a.rs", "use oci_client::manifest;", &[]),
        ("credentials/keyring/stores.rs", "use keyring_core::Entry;", &[]),
        (
            "store/a.rs",
            "fn f() { unsafe { g() } }",
            &[(1, "only `sandbox/sys.rs` may hold `unsafe`")],
        ),
        ("sandbox/sys.rs", "fn f() { unsafe { g() } }", &[]),
        ("helpers/a.rs", "", &[(1, "`helpers` has no row in the table")]),
    ];
    for (file, text, expected) in cases {
        let expected: Vec<(usize, String)> =
            expected.iter().map(|(line, rule)| (*line, (*rule).to_owned())).collect();
        assert_eq!(rules(file, text), expected, "{file}: {text}");
    }
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, uses)| *uses)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Returns what is wrong in one file, whose path is relative to `src/`.
fn faults(file: &Path, text: &str) -> Vec<Fault> {
    let room = match file.components().collect::<Vec<_>>().as_slice() {
        [room, _, ..] => room.as_os_str().to_string_lossy().into_owned(),
        // The program and the crate's page join rooms and hold no work.
        _ => return Vec::new(),
    };
    let tokens = tokens(text);
    let mut rules: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut add = |line: usize, rule: String| rules.entry(line).or_default().push(rule);
    match allowed(&room) {
        None => add(1, format!("`{room}` has no row in the table")),
        Some(uses) => {
            for (line, used) in rooms_used(&tokens) {
                let known = allowed(&used).is_some();
                if known && used != room && !uses.contains(&used.as_str()) {
                    add(line, format!("`{room}` may not use `{used}`"));
                }
            }
        }
    }
    for (line, rule) in words_refused(&tokens, &room, file) {
        add(line, rule);
    }
    let lines = rules.into_iter();
    lines
        .flat_map(|(line, rules)| rules.into_iter().map(move |rule| (line, rule)))
        .map(|(line, rule)| Fault { file: file.to_owned(), line, rule })
        .collect()
}

/// Returns the first names after `crate::`, also in groups, with their lines.
fn rooms_used(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "crate" || tokens.get(at + 1).is_none_or(|next| next.text != "::") {
            continue;
        }
        match tokens.get(at + 2) {
            Some(next) if next.text == "{" => names_of_group(&tokens[at + 3..], &mut used),
            Some(next) => used.push((next.line, next.text.clone())),
            None => {}
        }
    }
    used
}

/// Adds the first name of each part of a group, up to its closing brace.
fn names_of_group(tokens: &[Token], used: &mut Vec<(usize, String)>) {
    let (mut depth, mut at_start) = (1, true);
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => at_start = true,
            _ if at_start => {
                used.push((token.line, token.text.clone()));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn words_refused(tokens: &[Token], room: &str, file: &Path) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |next| next.text.as_str());
        let follows = |word: &str| at > 0 && tokens[at - 1].text == word;
        if token.text == "super" && text(1) == "::" && text(2) == "super" {
            found.push((token.line, "`super::super` hides which room is meant".to_owned()));
        }
        if token.text == "unsafe" && file != Path::new(UNSAFE_FILE) {
            found.push((token.line, format!("only `{UNSAFE_FILE}` may hold `unsafe`")));
        }
        let Some((name, rooms)) = CRATES.iter().find(|(name, _)| *name == token.text) else {
            continue;
        };
        let is_crate = (text(1) == "::" && !follows("::")) || follows("use");
        if is_crate && !rooms.contains(&room) {
            let rooms = rooms.join("`, `");
            found.push((token.line, format!("only `{rooms}` may name the crate `{name}`")));
        }
    }
    found
}

/// A name, `::`, or one other character, outside comments and literals.
#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Splits source text as far as paths need it.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = skipped(rest).unwrap_or_else(|| {
            let length = token_length(rest);
            tokens.push(Token { text: rest[..length].to_owned(), line });
            length
        });
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// Returns the length of the white space, comment or literal at the start.
fn skipped(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let prefix = ["br", "cr", "b", "c", "r"].iter().find(|prefix| rest.starts_with(**prefix));
    let literal = &rest[prefix.map_or(0, |prefix| prefix.len())..];
    let skip = rest.len() - literal.len();
    let raw = prefix.is_some_and(|prefix| prefix.ends_with('r'));
    if raw && let Some(length) = raw_string(literal) {
        return Some(skip + length);
    }
    if literal.starts_with('"') {
        return Some(skip + quoted(literal, '"'));
    }
    if literal.starts_with('\'') && is_character(literal) {
        return Some(skip + quoted(literal, '\''));
    }
    None
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(literal: &str) -> bool {
    let mut characters = literal.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

fn raw_string(literal: &str) -> Option<usize> {
    let hashes = literal.bytes().take_while(|byte| *byte == b'#').count();
    let body = literal[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(literal.len(), |at| hashes + 1 + at + end.len()))
}

fn quoted(literal: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in literal.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    literal.len()
}

fn token_length(rest: &str) -> usize {
    if rest.starts_with("::") {
        return 2;
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name: usize = rest.chars().take_while(|c| is_name(*c)).map(char::len_utf8).sum();
    if name > 0 { name } else { rest.chars().next().map_or(1, char::len_utf8) }
}
