//! From a tree of nodes to rules.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::image::{Platform, Reference};

use super::Error;
use super::keys::{DEFAULTS, FILE, Fields, RULE, VERSION};
use super::node::{Node, Value};
use super::pattern::{self, Pattern};
use super::range::VersionRange;
use super::rule::{MirrorFile, Rule, RuleSource, TagChoice, Treatment};
use super::template::Template;

/// What a file may ask for from outside: the values of variables.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Most rules in one file.
const MAX_RULES: usize = 10_000;

/// Reads the rules of a file.
pub(super) fn read(root: &Node, variables: Variables<'_>) -> Result<MirrorFile, Error> {
    let file = Fields::new(root, "the file", FILE)?;
    check_version(&file)?;
    let nothing = Node::new(Value::Null, &(0..0));
    let defaults = file.get("defaults").unwrap_or(&nothing);
    let defaults = Fields::new(defaults, "defaults", DEFAULTS)?;
    let list = file.get("rules").map(|node| node.items("rules")).transpose()?.unwrap_or_default();
    if list.is_empty() {
        let at = file.span("rules").unwrap_or(&root.span);
        return Err(Error::new("the file has no rules", &(at.start..at.start))
            .hint("a rule says what is copied and where to: `from` and `to`"));
    }
    if list.len() > MAX_RULES {
        return Err(Error::new(format!("more than {MAX_RULES} rules"), &root.span));
    }
    let rules = list.iter().zip(1..).map(|(node, number)| {
        let fields = Fields::new(node, "a rule", RULE)?;
        RuleReader { fields, defaults: &defaults, variables, span: &node.span }.read(number)
    });
    Ok(MirrorFile { rules: rules.collect::<Result<_, _>>()? })
}

fn check_version(file: &Fields<'_>) -> Result<(), Error> {
    let Some(node) = file.get("version") else { return Ok(()) };
    match node.as_scalar().and_then(|text| text.parse::<u64>().ok()) {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => {
            let message = format!("the file is of version {newer}, rpub knows version {VERSION}");
            Err(Error::new(message, &node.span).hint("use a newer rpub"))
        }
        _ => Err(node.expected("version", &format!("the number {VERSION}"))),
    }
}

/// Reads one rule.
struct RuleReader<'a> {
    fields: Fields<'a>,
    defaults: &'a Fields<'a>,
    variables: Variables<'a>,
    span: &'a Range<usize>,
}

impl<'a> RuleReader<'a> {
    fn read(&self, number: usize) -> Result<Rule, Error> {
        let name = match self.text("name")? {
            Some((name, _)) => name,
            None => format!("rule {number}"),
        };
        let tags = self.tags()?;
        let source = self.source()?;
        if let (RuleSource::Image(_), Some(key)) = (&source, self.tag_key()) {
            let span = self.fields.span(key).unwrap_or(self.span);
            return Err(Error::new(format!("`{key}` beside an image that `from` names"), span)
                .hint("leave out the tag in `from`, or this key"));
        }
        let destinations = self.each("to", Template::parse)?;
        if destinations.is_empty() {
            return Err(Error::new("the rule has no `to`", self.span)
                .hint("say where the images go: in the rule, or in `defaults`"));
        }
        Ok(Rule {
            name,
            span: self.span.clone(),
            source,
            destinations,
            tags,
            treatment: self.treatment()?,
            immutable: self.each("immutable", Pattern::parse)?,
            removes_extra: self.removes_extra()?,
        })
    }

    /// Returns the key that chooses tags, if there is one.
    fn tag_key(&self) -> Option<&'static str> {
        ["tags", "semver", "latest"].into_iter().find(|key| self.fields.get(key).is_some())
    }

    fn source(&self) -> Result<RuleSource, Error> {
        let Some((text, span)) = self.text("from")? else {
            return Err(Error::new("the rule has no `from`", self.span)
                .hint("say what is copied: an image, a repository, or `registry.example/**`"));
        };
        if pattern::is_glob(&text) {
            return self.catalog(&text, span);
        }
        for key in ["repositories", "exclude-repositories"] {
            if let Some(span) = self.fields.span(key) {
                let message = format!("`{key}` beside a `from` that names one repository");
                return Err(
                    Error::new(message, span).hint("write the registry's name and `/**` in `from`")
                );
            }
        }
        let reference: Reference =
            text.parse().map_err(|error| Error::new(format!("{error}"), span))?;
        let names_one = reference.tag.is_some() || reference.digest.is_some();
        Ok(if names_one {
            RuleSource::Image(reference)
        } else {
            RuleSource::Repository(reference.repository)
        })
    }

    /// Reads a `from` with wildcards: the repositories of a registry.
    fn catalog(&self, text: &str, span: &Range<usize>) -> Result<RuleSource, Error> {
        let wrong = |message: String| Error::new(message, span);
        let (registry, glob) = text.split_once('/').unwrap_or((text, ""));
        let is_host = registry.contains(['.', ':']) || registry == "localhost";
        if !is_host || glob.is_empty() {
            return Err(wrong(format!("`{text}` does not begin with a registry"))
                .hint("write it in full, as in `registry.example/team/**`"));
        }
        let registry = registry.parse().map_err(|error| wrong(format!("{error}")))?;
        let mut wanted = vec![vec![Pattern::parse(glob).map_err(wrong)?]];
        if self.fields.get("repositories").is_some() {
            wanted.push(self.each("repositories", Pattern::parse)?);
        }
        let unwanted = self.each("exclude-repositories", Pattern::parse)?;
        Ok(RuleSource::Registry { registry, wanted, unwanted })
    }

    fn tags(&self) -> Result<TagChoice, Error> {
        let mut choice = TagChoice {
            exclude: self.each("exclude", Pattern::parse)?,
            semver: self.each("semver", VersionRange::parse)?.pop(),
            latest: self.count("latest")?,
            ..TagChoice::default()
        };
        let Some(node) = self.fields.get("tags") else { return Ok(choice) };
        let texts = node.texts("tags")?;
        if texts.is_empty() {
            return Err(Error::new("`tags` is empty", &node.span).hint("leave it out for all tags"));
        }
        for (text, span) in texts {
            let text = self.expanded(text, span)?;
            let wrong = |message: String| Error::new(message, span);
            if text.contains(':') && !text.starts_with('/') {
                choice.digests.push(text.parse().map_err(|error| wrong(format!("{error}")))?);
                continue;
            }
            let pattern = Pattern::parse(&text).map_err(wrong)?;
            match pattern.as_name() {
                Some(name) => {
                    let tag = name.parse().map_err(|error| wrong(format!("{error}")))?;
                    if !choice.names.contains(&tag) {
                        choice.names.push(tag);
                    }
                }
                None => choice.patterns.push(pattern),
            }
        }
        Ok(choice)
    }

    fn treatment(&self) -> Result<Treatment, Error> {
        let platform = |text: &str| text.parse::<Platform>().map_err(|error| error.to_string());
        Ok(Treatment {
            platforms: self.each("platforms", platform)?,
            referrers: self.flag("referrers")?,
            digest_tags: self.flag("digest-tags")?,
        })
    }

    fn removes_extra(&self) -> Result<bool, Error> {
        match self.text("delete")? {
            None => Ok(false),
            Some((word, _)) if word == "extra" => Ok(true),
            Some((_, span)) => Err(Error::new("`delete` must be \"extra\"", span)),
        }
    }

    /// Returns the rule's value of a key, or else the default.
    fn value(&self, key: &str) -> Option<&'a Node> {
        self.fields.get(key).or_else(|| self.defaults.get(key))
    }

    fn flag(&self, key: &str) -> Result<bool, Error> {
        let own = self.fields.flag(key)?;
        Ok(own.or(self.defaults.flag(key)?).unwrap_or(true))
    }

    fn count(&self, key: &str) -> Result<Option<NonZeroUsize>, Error> {
        let Some(node) = self.value(key) else { return Ok(None) };
        let count = node.as_scalar().and_then(|text| text.parse().ok());
        count.map(Some).ok_or_else(|| node.expected(key, "a number from 1"))
    }

    fn text(&self, key: &str) -> Result<Option<(String, &'a Range<usize>)>, Error> {
        let Some(node) = self.value(key) else { return Ok(None) };
        let text = node.as_scalar().ok_or_else(|| node.expected(key, "a text"))?;
        Ok(Some((self.expanded(text, &node.span)?, &node.span)))
    }

    /// Parses each text of a key.
    fn each<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Error> {
        let Some(node) = self.value(key) else { return Ok(Vec::new()) };
        let texts = node.texts(key)?.into_iter();
        let parsed = texts.map(|(text, span)| {
            let text = self.expanded(text, span)?;
            parse(&text).map_err(|message| Error::new(message, span))
        });
        parsed.collect()
    }

    /// Puts the values of variables in the place of each `${NAME}`.
    fn expanded(&self, text: &str, span: &Range<usize>) -> Result<String, Error> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(Error::new("`${` without its `}`", span));
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(Error::new(format!("`${{{name}}}` names no variable"), span));
            }
            let value = (self.variables)(name).ok_or_else(|| {
                Error::new(format!("the variable `{name}` is not set"), span)
                    .hint(format!("set it in the environment: `{name}=... rpub mirror ...`"))
            })?;
            done.push_str(before);
            done.push_str(&value);
            rest = after;
        }
        Ok(done + rest)
    }
}
