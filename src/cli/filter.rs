//! Which images `images` lists: a name or `--filter`, with docker's meaning.

use crate::image::Reference;
use crate::operations::{Error, Kind};

/// Conditions that a listed image meets, all of them.
#[derive(Debug, Default)]
pub(super) struct Filter {
    dangling: Option<bool>,
    /// The name argument; several `reference` filters add up, as in docker.
    name: Option<String>,
    references: Vec<String>,
}

impl Filter {
    /// Takes the name argument and the values of `--filter`.
    pub(super) fn new(name: Option<&str>, filters: &[String]) -> Result<Self, Error> {
        let mut filter = Self { name: name.map(ToOwned::to_owned), ..Self::default() };
        for text in filters {
            match text.split_once('=') {
                Some(("dangling", "true" | "1")) => filter.dangling = Some(true),
                Some(("dangling", "false" | "0")) => filter.dangling = Some(false),
                Some(("reference", pattern)) => filter.references.push(pattern.to_owned()),
                _ => {
                    let error = Error::new(Kind::Settings, format!("invalid `--filter {text}`"));
                    return Err(
                        error.hint("use `dangling=true`, `dangling=false` or `reference=PATTERN`")
                    );
                }
            }
        }
        Ok(filter)
    }

    /// Returns whether an image of this name is listed.
    pub(super) fn has(&self, name: Option<&Reference>) -> bool {
        let matched = |pattern: &String| name.is_some_and(|name| is_named(name, pattern));
        self.dangling.is_none_or(|dangling| dangling == name.is_none())
            && self.name.as_ref().is_none_or(matched)
            && (self.references.is_empty() || self.references.iter().any(matched))
    }
}

/// Returns whether `pattern` is the name or its repository, as they are listed or in full.
fn is_named(name: &Reference, pattern: &str) -> bool {
    if let Ok(wanted) = pattern.parse::<Reference>() {
        return name.repository == wanted.repository
            && (wanted.tag.is_none() || name.tag == wanted.tag);
    }
    [name.familiar(), name.repository.familiar()].iter().any(|text| glob(pattern, text))
}

/// Matches `*` and `?`, neither of which spans a slash (Go, `path.Match`).
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern.chars(), text.chars());
    match pattern_rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern_rest.as_str();
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let limit = text.find('/').unwrap_or(text.len());
            ends.take_while(|at| *at <= limit).any(|at| glob(rest, &text[at..]))
        }
        Some('?') => {
            text_rest.next().is_some_and(|c| c != '/')
                && glob(pattern_rest.as_str(), text_rest.as_str())
        }
        Some(expected) => {
            text_rest.next() == Some(expected) && glob(pattern_rest.as_str(), text_rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_listed(name: &str, argument: Option<&str>, filters: &[&str]) -> bool {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let filter = Filter::new(argument, &filters).expect("a filter");
        let name = (!name.is_empty()).then(|| name.parse::<Reference>().expect("a name"));
        filter.has(name.as_ref())
    }

    #[test]
    fn filters_mean_what_docker_means() {
        for (name, argument, filters, expected) in [
            ("app:1", None, &[][..], true),
            ("", None, &[], true),
            ("app:1", Some("app"), &[], true),
            ("app:1", Some("docker.io/library/app"), &[], true),
            ("app:1", Some("app:2"), &[], false),
            ("app:1", Some("a*"), &[], true),
            ("app:1", Some("*:1"), &[], true),
            ("team/app:1", Some("*"), &[], false),
            ("team/app:1", Some("team/*"), &[], true),
            ("team/app:1", Some("team/ap?"), &[], true),
            ("", Some("*"), &[], false),
            ("", None, &["dangling=true"], true),
            ("app:1", None, &["dangling=true"], false),
            ("", None, &["dangling=false"], false),
            ("app:1", None, &["reference=x", "reference=app"], true),
            ("app:1", None, &["reference=app", "dangling=true"], false),
        ] {
            assert_eq!(
                is_listed(name, argument, filters),
                expected,
                "{name} {argument:?} {filters:?}"
            );
        }
    }

    #[test]
    fn unknown_filters_are_refused() {
        for filter in ["dangling", "dangling=maybe", "colour=red"] {
            assert!(Filter::new(None, &[filter.to_owned()]).is_err(), "{filter}");
        }
    }
}
