//! A file as it was read, whatever wrote it.

use std::ops::Range;

use super::node::{MAX_BYTES, Node, Value};
use super::{Error, FileReader, MirrorFile, Variables};
use super::{digests, import, read, read_toml, read_yaml, write};

/// What a file is written in the words of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// rpub's own.
    Rpub,
    /// skopeo's `sync --src yaml`.
    Skopeo,
    /// regsync's.
    Regsync,
    /// Lines of a reference and its digest, as `--digest-file` writes them.
    Digests,
}

/// What a file says that a mirror cannot do as it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What, and what to do instead.
    pub message: String,
    /// The bytes of the file that say it.
    pub span: Range<usize>,
}

/// A mirror file, in rpub's words and with every part's place in the text.
#[derive(Debug)]
pub struct Document {
    root: Node,
    /// What could not be taken over from another tool's file.
    pub warnings: Vec<Warning>,
}

impl Document {
    /// Parses the text of a file of that name. The dialect is found out when none is given; `to` is
    /// where images go by a file that does not say it.
    ///
    /// # Errors
    ///
    /// When it is neither TOML nor YAML, or another tool's file says what no mirror can do.
    pub fn parse(
        name: &str,
        text: &str,
        dialect: Option<Dialect>,
        to: &[String],
        files: FileReader<'_>,
    ) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::new(format!("the file is larger than {MAX_BYTES} bytes"), &(0..0)));
        }
        if dialect.is_none_or(|dialect| dialect == Dialect::Digests)
            && let Some(root) = digests::read_lines(text, to)?
        {
            return Ok(Self { root, warnings: Vec::new() });
        }
        let root = tree(name, text)?;
        let dialect = dialect.unwrap_or_else(|| dialect_of(&root));
        let mut warnings = Vec::new();
        let root = match dialect {
            Dialect::Skopeo => import::skopeo(&root, to, &mut warnings)?,
            Dialect::Regsync => import::regsync(&root, files, &mut warnings)?,
            Dialect::Digests => digests::read_json(&root, to)?,
            Dialect::Rpub => root,
        };
        if !to.is_empty() && matches!(dialect, Dialect::Rpub | Dialect::Regsync) {
            return Err(Error::new("the file says itself where images go", &(0..0))
                .hint("leave out `--to`"));
        }
        Ok(Self { root, warnings })
    }

    /// Reads the rules.
    ///
    /// # Errors
    ///
    /// When a key is unknown, a value makes no sense, or a variable is not set.
    pub fn rules(&self, variables: Variables<'_>) -> Result<MirrorFile, Error> {
        read::read(&self.root, variables)
    }

    /// Returns the file as TOML in rpub's words, variables as they stand.
    ///
    /// # Errors
    ///
    /// Those of [`Document::rules`], but for variables that are not set.
    pub fn to_toml(&self, variables: Variables<'_>) -> Result<String, Error> {
        self.rules(&|name| Some(variables(name).unwrap_or_else(|| "unset".to_owned())))?;
        Ok(write::write(&self.root))
    }
}

/// Parses TOML or YAML, by the file's name or else by what the text looks like.
fn tree(name: &str, text: &str) -> Result<Node, Error> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let is_toml = match extension.as_deref() {
        Some("toml") => true,
        Some("yaml" | "yml" | "json") => false,
        _ => looks_like_toml(text),
    };
    if is_toml { read_toml::parse(text) } else { read_yaml::parse(text) }
}

/// Returns whether the first line that says something is of a kind that only TOML has.
fn looks_like_toml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let first = first.unwrap_or_default();
    let before = |sign: char| first.find(sign).unwrap_or(usize::MAX);
    before('=') < before(':') || (first.starts_with('[') && first.ends_with(']'))
}

fn dialect_of(root: &Node) -> Dialect {
    let entries = match &root.value {
        Value::Map(entries) => entries,
        Value::List(_) => return Dialect::Digests,
        Value::Null | Value::Plain(_) | Value::Text(_) => return Dialect::Rpub,
    };
    if root.get("rules").is_some() {
        return Dialect::Rpub;
    }
    if root.get("sync").is_some() {
        return Dialect::Regsync;
    }
    let is_skopeo = |node: &Node| import::SKOPEO_LISTS.iter().any(|key| node.get(key).is_some());
    if entries.iter().any(|entry| is_skopeo(&entry.node)) { Dialect::Skopeo } else { Dialect::Rpub }
}
