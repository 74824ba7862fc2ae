//! Rules about `FROM` and the global arguments.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::{Dockerfile, Stage};
use crate::dockerfile::expand::expand_word_noting;
use crate::dockerfile::lint::{Linter, Rule, Warning};
use crate::dockerfile::source::{Span, Word};
use crate::dockerfile::survey::{Globals, Surroundings};
use crate::suggest::suggest;

pub(super) fn check(file: &Dockerfile, surroundings: &Surroundings<'_>, linter: &mut Linter) {
    let nothing = BTreeMap::new();
    let defaults = Globals::of(file, surroundings.predefined, &nothing);
    let globals = Globals::of(file, surroundings.predefined, surroundings.build_args);
    for stage in &file.stages {
        let mut rules = Rules { file, stage, globals: &globals, linter };
        rules.undefined(&stage.base);
        if let Some(platform) = &stage.platform {
            rules.undefined(platform);
            rules.platform(platform);
        }
        rules.default_base(&defaults, surroundings.is_reference);
    }
    for other in surroundings.other_platforms {
        let location = location_of(file, other.span);
        let message = format!(
            "Base image {} was pulled with platform {:?}, expected {:?} for current build",
            other.image, other.actual, other.expected
        );
        let rule = Rule::InvalidBaseImagePlatform;
        linter.add(None, Warning { rule, message, span: other.span, location });
    }
}

/// Returns the instruction that a span is in.
fn location_of(file: &Dockerfile, span: Span) -> Span {
    let instructions = file.stages.iter().flat_map(|stage| {
        std::iter::once(stage.span).chain(stage.instructions.iter().map(|it| it.span))
    });
    instructions.into_iter().find(|it| it.start <= span.start && span.end <= it.end).unwrap_or(span)
}

/// What a word asked for.
#[derive(Default)]
struct Asked {
    found: RefCell<BTreeSet<String>>,
    is_variable: Cell<bool>,
}

struct Rules<'a, 'b> {
    file: &'a Dockerfile,
    stage: &'a Stage,
    globals: &'a Globals,
    linter: &'b mut Linter,
}

impl Rules<'_, '_> {
    fn add(&mut self, rule: Rule, message: String, span: Span) {
        let warning = Warning { rule, message, span, location: self.stage.span };
        self.linter.add(self.stage.checks.as_ref(), warning);
    }

    fn undefined(&mut self, word: &Word) {
        let lookup = |name: &str| self.globals.get(name).map(str::to_owned);
        let Ok(expanded) = expand_word_noting(&word.text, self.file.escape, &lookup) else {
            return;
        };
        for name in expanded.undefined {
            if self.globals.declares(&name) {
                continue;
            }
            let near = suggest(&name, self.globals.names());
            let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            let message = format!("FROM argument '{name}' is not declared{hint}");
            self.add(Rule::UndefinedArgInFrom, message, word.span);
        }
    }

    fn platform(&mut self, word: &Word) {
        let asked = Asked::default();
        let lookup = |name: &str| {
            asked.is_variable.set(true);
            let value = self.globals.get(name)?;
            asked.found.borrow_mut().insert(name.to_owned());
            Some(value.to_owned())
        };
        let Ok(expanded) = expand_word_noting(&word.text, self.file.escape, &lookup) else {
            return;
        };
        let target = self.globals.get("TARGETPLATFORM");
        let is_target_alone =
            asked.found.borrow().iter().eq(["TARGETPLATFORM"]) && expanded.undefined.is_empty();
        if is_target_alone && target == Some(expanded.text.as_str()) {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default \
                 behavior",
                word.text
            );
            self.add(Rule::RedundantTargetPlatform, message, word.span);
        }
        let name = self.stage.name.as_ref().map_or("", |name| name.as_str());
        if !asked.is_variable.get() && self.is_named_otherwise(name, &expanded.text) {
            let message =
                format!("FROM --platform flag should not use constant value {:?}", expanded.text);
            self.add(Rule::FromPlatformFlagConstDisallowed, message, word.span);
        }
    }

    /// Whether a stage's name mentions neither the system nor the architecture of a platform.
    fn is_named_otherwise(&self, name: &str, platform: &str) -> bool {
        let build = |name: &str| self.globals.get(name).unwrap_or_default();
        let (system, architecture) = match platform.split('/').collect::<Vec<_>>().as_slice() {
            ["" | "local"] | [] => return false,
            [system @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                (*system, build("BUILDARCH"))
            }
            [architecture] => (build("BUILDOS"), *architecture),
            [system, architecture, ..] => (*system, *architecture),
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "armhf" | "armel" => "arm",
            "i386" => "386",
            other => other,
        };
        !name.contains(system) && !name.contains(architecture)
    }

    fn default_base(&mut self, defaults: &Globals, is_reference: &dyn Fn(&str) -> bool) {
        let lookup = |name: &str| defaults.get(name).map(str::to_owned);
        let base = &self.stage.base;
        let Ok(expanded) = expand_word_noting(&base.text, self.file.escape, &lookup) else {
            return;
        };
        if !is_reference(&expanded.text) {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                base.text
            );
            self.add(Rule::InvalidDefaultArgInFrom, message, base.span);
        }
    }
}
