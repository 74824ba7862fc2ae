//! The frontend that a Dockerfile asks for with `# syntax=`. None is ever fetched: rpub reads the
//! language of `docker/dockerfile` itself.

use std::collections::BTreeMap;

use crate::dockerfile::lines::detect_syntax;
use crate::dockerfile::source::Span;

/// The build argument that stands in for the directive.
const ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// The frontend that a Dockerfile, or a build argument in its place, asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// Its image reference.
    pub name: String,
    /// Where the Dockerfile names it; none when `BUILDKIT_SYNTAX` does.
    pub span: Option<Span>,
}

impl Frontend {
    /// Finds the frontend, in any of the forms that BuildKit knows: `# syntax=`, also after a `#!`
    /// line, `// syntax=`, and a JSON object with `syntax`.
    ///
    /// ```
    /// use rpub::dockerfile::Frontend;
    /// let none = std::collections::BTreeMap::new();
    /// let frontend = Frontend::of("# syntax=docker/dockerfile:1\nFROM scratch\n", &none).unwrap();
    /// assert_eq!(frontend.name, "docker/dockerfile:1");
    /// assert!(frontend.is_known());
    /// ```
    #[must_use]
    pub fn of(text: &str, build_args: &BTreeMap<String, String>) -> Option<Self> {
        let first = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
        let given = build_args.get(ARGUMENT).map(|value| first(value));
        if let Some(name) = given.filter(|name| !name.is_empty()) {
            return Some(Self { name, span: None });
        }
        if let Some(word) = detect_syntax(text) {
            return Some(Self { name: first(&word.text), span: Some(word.span) });
        }
        let object: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .ok()
            .filter(serde_json::Value::is_object)?;
        let name = object.get("syntax")?.as_str()?.to_owned();
        let start = text.find(&name)?;
        let span = Span::new(start, start + name.len());
        Some(Self { name, span: Some(span) })
    }

    /// Whether it is one of `docker/dockerfile`, whatever its registry, tag and digest, whose
    /// language rpub reads.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let name = self.name.split('@').next().unwrap_or_default();
        let mut parts = name.rsplit('/');
        let last = parts.next().unwrap_or_default();
        let last = last.split(':').next().unwrap_or_default();
        match parts.next() {
            Some("docker") => matches!(last, "dockerfile" | "dockerfile-upstream"),
            None => last == "dockerfile.v0",
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<String> {
        Frontend::of(text, &BTreeMap::new()).map(|frontend| frontend.name)
    }

    #[test]
    fn all_forms_are_found() {
        for (text, expected) in [
            ("# syntax=a/b:1\nFROM x", Some("a/b:1")),
            ("#syntax = a/b extra words \nFROM x", Some("a/b")),
            ("#!/usr/bin/env x\n# syntax=a/b", Some("a/b")),
            ("\u{feff}# syntax=a/b", Some("a/b")),
            ("# escape=`\n# SYNTAX=a/b", Some("a/b")),
            ("// syntax=a/b\nx", Some("a/b")),
            ("#!x\n// syntax=a/b\nx", Some("a/b")),
            ("{\"syntax\": \"a/b\", \"x\": 1}", Some("a/b")),
            ("{\"syntax\": 1}", None),
            ("# a comment\n# syntax=a/b", None),
            ("FROM x\n# syntax=a/b", None),
            ("\n# syntax=a/b", None),
            ("", None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_argument_stands_in_for_the_directive() {
        let given = BTreeMap::from([(ARGUMENT.to_owned(), "c/d:2".to_owned())]);
        let frontend = Frontend::of("# syntax=a/b\nFROM x", &given).unwrap();
        assert_eq!((frontend.name.as_str(), frontend.span), ("c/d:2", None));
        let empty = BTreeMap::from([(ARGUMENT.to_owned(), String::new())]);
        assert_eq!(Frontend::of("# syntax=a/b\nFROM x", &empty).unwrap().name, "a/b");
    }

    #[test]
    fn dockers_own_are_known() {
        for (name, expected) in [
            ("docker/dockerfile", true),
            ("docker/dockerfile:1.7-labs", true),
            ("docker.io/docker/dockerfile:1@sha256:0123", true),
            ("registry.example:5000/mirror/docker/dockerfile:1", true),
            ("docker/dockerfile-upstream:master", true),
            ("dockerfile.v0", true),
            ("docker/dockerfile-other", false),
            ("docker/buildfile", false),
            ("example/dockerfile", false),
            ("dockerfile", false),
            ("example.org/mock:1", false),
        ] {
            let frontend = Frontend { name: name.to_owned(), span: None };
            assert_eq!(frontend.is_known(), expected, "{name}");
        }
    }
}
