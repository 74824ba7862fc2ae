//! The arguments before the first `FROM`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::survey::Argument;

/// The arguments of the global scope with their values.
pub(crate) struct Globals {
    values: BTreeMap<String, String>,
    /// Those that the file declares, with or without a value.
    pub(super) declared: IndexMap<String, Declared>,
}

/// A declared global argument.
pub(super) struct Declared {
    pub(super) argument: Argument,
    /// The others that its default uses.
    pub(super) uses: BTreeSet<String>,
}

impl Globals {
    /// Evaluates the arguments one after another.
    pub(crate) fn of(
        file: &Dockerfile,
        predefined: &[(String, String)],
        build_args: &BTreeMap<String, String>,
    ) -> Self {
        let value = |(name, value): &(String, String)| {
            (name.clone(), build_args.get(name).unwrap_or(value).clone())
        };
        let values = predefined.iter().map(value).collect();
        let mut globals = Self { values, declared: IndexMap::new() };
        for pair in &file.global_args {
            let name = &pair.name.text;
            let mut uses = BTreeSet::new();
            let value = match (build_args.get(name), &pair.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(word)) => {
                    let asked = RefCell::new(BTreeSet::new());
                    let lookup = |name: &str| {
                        let value = globals.get(name)?;
                        asked.borrow_mut().insert(name.to_owned());
                        Some(value.to_owned())
                    };
                    let value = expand_word(&word.text, file.escape, &lookup).ok();
                    uses = asked.into_inner();
                    value
                }
                (None, None) => None,
            };
            if let Some(before) = globals.declared.get(name).filter(|_| uses.remove(name)) {
                uses.extend(before.uses.iter().cloned());
            }
            let argument = Argument {
                name: name.clone(),
                value: value.clone().unwrap_or_default(),
                description: pair.description.clone(),
                location: pair.instruction,
            };
            if let Some(value) = value {
                globals.values.insert(name.clone(), value);
            }
            globals.declared.insert(name.clone(), Declared { argument, uses });
        }
        globals
    }

    /// Returns an argument's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether an argument is declared, be it without a value.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.declared.contains_key(name)
    }

    /// Returns the names of all arguments.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().chain(self.values.keys()).map(String::as_str)
    }
}
