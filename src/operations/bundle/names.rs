//! Under which names images arrive. Pure.

use std::str::FromStr;

use crate::image::Reference;
use crate::operations::{Error, Kind};

/// Replaces the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRule {
    from: String,
    to: String,
}

impl FromStr for NameRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let sides =
            text.split_once('=').map(|(from, to)| [from, to].map(|it| it.trim_matches('/')));
        match sides {
            Some([from, to]) if !from.is_empty() && !to.is_empty() => {
                Ok(Self { from: from.to_owned(), to: to.to_owned() })
            }
            _ => Err(Error::new(Kind::Settings, format!("invalid `--map {text}`"))
                .hint("write OLD=NEW, as in `docker.io/library=registry.local/base`")),
        }
    }
}

/// Which names images get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameMap {
    /// Rules; of those that fit, the longest counts.
    pub rules: Vec<NameRule>,
    /// The registry, and what comes before the repository's name in it, for all others.
    pub to: Option<String>,
}

impl NameMap {
    /// Returns the name that an image gets.
    ///
    /// # Errors
    ///
    /// When that is no valid name.
    pub fn apply(&self, name: &Reference) -> Result<Reference, Error> {
        let whole = name.repository.to_string();
        let rest = |rule: &NameRule| {
            let rest = whole.strip_prefix(&rule.from)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let fitting = self.rules.iter().filter_map(|rule| Some((rule, rest(rule)?)));
        let best = fitting.max_by_key(|(rule, _)| rule.from.len());
        let mapped = match (best, &self.to) {
            (Some((rule, rest)), _) => format!("{}{rest}", rule.to),
            (None, Some(to)) => format!("{}/{}", to.trim_matches('/'), name.repository.name),
            (None, None) => return Ok(name.clone()),
        };
        let parsed: Result<Reference, _> = mapped.parse();
        let Reference { repository, tag: None, digest: None } = parsed.map_err(|error| {
            Error::new(Kind::Settings, format!("`{}` cannot become `{mapped}`", name.familiar()))
                .because(error)
        })?
        else {
            let message = format!("`{mapped}` is no repository");
            return Err(Error::new(Kind::Settings, message));
        };
        Ok(Reference { repository, tag: name.tag.clone(), digest: name.digest.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_counts_and_the_rest_goes_to_one_registry() {
        let rules =
            ["docker.io=r.local/hub", "docker.io/library/=r.local/base", "quay.io/a=s.local"];
        let map = NameMap {
            rules: rules.iter().map(|text| text.parse().expect("a rule")).collect(),
            to: Some("t.local:5000/mirror/".to_owned()),
        };
        for (name, expected) in [
            ("alpine:3", "r.local/base/alpine:3"),
            ("team/app", "r.local/hub/team/app"),
            ("quay.io/a/b:1", "s.local/b:1"),
            ("quay.io/ab/c:1", "t.local:5000/mirror/ab/c:1"),
        ] {
            let name: Reference = name.parse().expect("a name");
            assert_eq!(map.apply(&name).expect("mapped").to_string(), expected);
        }
        let as_it_is: Reference = "alpine:3".parse().expect("a name");
        assert_eq!(NameMap::default().apply(&as_it_is).expect("kept"), as_it_is);
        for text in ["", "a", "=b", "a="] {
            assert!(text.parse::<NameRule>().is_err(), "{text}");
        }
    }
}
