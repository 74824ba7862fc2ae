//! Where an image goes: a reference with places in it for what its source is called.

use std::fmt;

use crate::image::Reference;
use crate::suggest::suggest;

/// What can stand between braces, and what it stands for.
pub(super) const PLACES: [(&str, &str); 4] = [
    ("registry", "the source's registry, as in `docker.io`, with `-` for the `:` before a port"),
    ("repository", "the source's repository, as in `library/alpine`"),
    ("name", "the last part of the source's repository, as in `alpine`"),
    ("tag", "the source's tag"),
];

/// A destination such as `registry.example/mirror/{repository}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
    names_tag: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Registry,
    Repository,
    Name,
    Tag,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((place, after)) = after.split_once('}') else {
                return Err(format!("`{text}` has a `{{` without its `}}`"));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(part(place)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let mut template = Self { text: text.to_owned(), parts, names_tag: true };
        // Anything will do to see whether the rest of it is well, and whether it names the tag.
        let filled = template.fill("registry.example", "team/app", "1");
        if !filled.contains('/') {
            let host = filled.clone();
            return Err(format!(
                "`{text}` names no repository; to keep the names of the source, \
                                write `{host}/{{repository}}`"
            ));
        }
        let reference: Reference =
            filled.parse().map_err(|error: crate::image::Error| error.to_string())?;
        if reference.digest.is_some() {
            return Err(format!("`{text}` has a digest, which a copy cannot be given"));
        }
        template.names_tag = reference.tag.is_some();
        Ok(template)
    }

    /// Returns where `source` goes. It keeps its tag, or its digest when it has no tag, unless the
    /// template names one.
    ///
    /// # Errors
    ///
    /// A sentence when the result is no reference.
    pub fn expand(&self, source: &Reference) -> Result<Reference, String> {
        if self.names_tag && source.tag.is_none() && self.parts.contains(&Part::Tag) {
            return Err(format!("`{}` needs a tag, and `{source}` has none", self.text));
        }
        let tag = source.tag.as_ref().map_or("", |tag| tag.as_str());
        let filled = self.fill(source.registry().as_str(), source.repository.name.as_str(), tag);
        let filled: Reference = filled.parse().map_err(|error: crate::image::Error| {
            format!("`{}` of `{source}`: {error}", self.text)
        })?;
        if self.names_tag {
            return Ok(filled);
        }
        let digest = if source.tag.is_some() { None } else { source.digest.clone() };
        Ok(Reference { tag: source.tag.clone(), digest, ..filled })
    }

    fn fill(&self, registry: &str, repository: &str, tag: &str) -> String {
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Registry => registry.replace(':', "-"),
            Part::Repository => repository.to_owned(),
            Part::Name => repository.rsplit('/').next().unwrap_or(repository).to_owned(),
            Part::Tag => tag.to_owned(),
        };
        self.parts.iter().map(fill).collect()
    }
}

fn part(place: &str) -> Result<Part, String> {
    match place {
        "registry" => Ok(Part::Registry),
        "repository" => Ok(Part::Repository),
        "name" => Ok(Part::Name),
        "tag" => Ok(Part::Tag),
        other => {
            let names = PLACES.iter().map(|(name, _)| *name);
            let near = suggest(other, names.clone());
            let near = near.map(|near| format!(" (did you mean `{{{near}}}`?)"));
            let known: Vec<String> = names.map(|name| format!("`{{{name}}}`")).collect();
            let near = near.unwrap_or_else(|| format!("; there are {}", known.join(", ")));
            Err(format!("`{{{other}}}` stands for nothing{near}"))
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped() {
        for (template, source, expected) in [
            ("r.example/{repository}", "alpine:3", "r.example/library/alpine:3"),
            ("r.example/m/{name}", "quay.io/a/b:1", "r.example/m/b:1"),
            ("r.example/{registry}/{repository}", "h:5000/a:1", "r.example/h-5000/a:1"),
            ("r.example/a:{tag}-mirror", "alpine:3", "r.example/a:3-mirror"),
            ("r.example/a:stable", "alpine:3", "r.example/a:stable"),
            (
                "r.example/{name}",
                "alpine@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "r.example/alpine@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ),
        ] {
            let source: Reference = source.parse().expect("a reference");
            let template = Template::parse(template).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(template.expand(&source).map(|it| it.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_no_template_is_said() {
        for (template, expected) in [
            ("r.example/{repo}", "`{repo}` stands for nothing; there are"),
            ("r.example/{repositry}", "did you mean `{repository}`?"),
            ("r.example/{name", "without its `}`"),
            ("r.example:5000", "write `r.example:5000/{repository}`"),
            ("r.example/Upper", "lower case"),
            ("r.example/{name}@sha256:00", "invalid digest"),
        ] {
            let error = Template::parse(template).err().unwrap_or_default();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
