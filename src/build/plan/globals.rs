//! What words of the global scope expand to: predefined platform arguments and the `ARG`s before
//! the first `FROM`.

use std::collections::HashMap;

use crate::dockerfile::{self, Dockerfile, Word, expand_word_noting};
use crate::image::Platform;

use super::{Error, PlanOptions};

/// The variables of the global scope.
#[derive(Debug, Clone)]
pub(super) struct Globals {
    values: HashMap<String, String>,
    escape: char,
}

impl Globals {
    /// Evaluates the global arguments of a Dockerfile in order.
    pub(super) fn new(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Self, Error> {
        let values = options.predefined(dockerfile).into_iter().collect();
        let mut globals = Self { values, escape: dockerfile.escape };
        for arg in &dockerfile.global_args {
            let name = &arg.name.text;
            let value = match (options.build_args.get(name), &arg.default) {
                (Some(value), _) => value.clone(),
                (None, Some(word)) => globals.expand(word)?.0,
                (None, None) => continue,
            };
            globals.values.insert(name.clone(), value);
        }
        Ok(globals)
    }

    /// Returns the value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }

    /// Expands a word, and returns the known variable that an undefined one in it resembles.
    pub(super) fn expand(&self, word: &Word) -> Result<(String, Option<String>), Error> {
        let expanded =
            expand_word_noting(&word.text, self.escape, &|name| self.values.get(name).cloned())
                .map_err(|error| Error::refused(error.message, word.span))?;
        let mut names: Vec<&str> = self.values.keys().map(String::as_str).collect();
        names.sort_unstable();
        let near = expanded
            .undefined
            .iter()
            .find_map(|unset| dockerfile::suggest(unset, names.iter().copied()));
        Ok((expanded.text, near.map(str::to_owned)))
    }
}

impl PlanOptions {
    /// Returns the predefined arguments of the global scope (Dockerfile reference, "Automatic platform
    /// ARGs in the global scope"); build arguments of these names change them.
    #[must_use]
    pub fn predefined(&self, dockerfile: &Dockerfile) -> Vec<(String, String)> {
        let mut values = Vec::with_capacity(11);
        for (prefix, platform) in [("TARGET", &self.platform), ("BUILD", &self.build_platform)] {
            let Platform { os, architecture, .. } = platform;
            for (name, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", os.clone()),
                ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
                ("ARCH", architecture.clone()),
                ("VARIANT", platform.variant.clone().unwrap_or_default()),
            ] {
                values.push((format!("{prefix}{name}"), value));
            }
        }
        let last = dockerfile.stages.last().and_then(|stage| stage.name.as_ref());
        let target = self.target.clone().or_else(|| last.map(ToString::to_string));
        values.push(("TARGETSTAGE".to_owned(), target.unwrap_or_else(|| "default".to_owned())));
        for (name, value) in &mut values {
            if let Some(given) = self.build_args.get(name) {
                value.clone_from(given);
            }
        }
        values
    }
}
