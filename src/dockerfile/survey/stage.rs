//! One stage's instructions with their variables.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::dockerfile::ast::{
    ArgPair, Command, Dockerfile, Instruction, InstructionKind, Pair, Run, Source, Stage,
};
use crate::dockerfile::expand::{Expanded, Lexer, Quotes, expand_word_noting};
use crate::dockerfile::git::GitReference;
use crate::dockerfile::lint::{Checks, Linter, Rule, Warning, exposes, is_secret, takes_ignored};
use crate::dockerfile::mount::{Mount, MountKind};
use crate::dockerfile::names::{find_base, find_stage};
use crate::dockerfile::parser::parse_trigger;
use crate::dockerfile::source::{Span, Word};
use crate::dockerfile::survey::{Argument, Globals, Mounted, Surroundings};
use crate::suggest::suggest;

/// What is known of a stage at its end, or so far.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    /// Environment and arguments together.
    env: BTreeMap<String, String>,
    /// Names of arguments, with or without a value.
    declared: BTreeSet<String>,
    has_shell: bool,
    has_workdir: bool,
    /// Triggers for stages that start from this one.
    on_build: Vec<String>,
    /// The stages it starts from and takes files from.
    pub(super) needs: BTreeSet<usize>,
    /// The arguments that it declares itself, unless a global one lies behind.
    pub(super) arguments: IndexMap<String, Argument>,
    /// The arguments that it uses.
    pub(super) used: BTreeSet<String>,
    pub(super) secrets: Vec<Mounted>,
    pub(super) ssh: Vec<Mounted>,
}

/// The walk through one stage.
pub(super) struct Walk<'a> {
    file: &'a Dockerfile,
    surroundings: &'a Surroundings<'a>,
    globals: &'a Globals,
    stage: &'a Stage,
    number: usize,
    facts: Facts,
    /// The last instruction of those that count once.
    last: BTreeMap<&'static str, (Span, Option<Checks>)>,
}

/// Where an instruction's warnings belong.
#[derive(Clone, Copy)]
struct Place<'a> {
    checks: Option<&'a Checks>,
    location: Span,
    /// A trigger's words have no place in the file.
    is_trigger: bool,
    /// The keyword as written.
    keyword: &'a str,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        surroundings: &'a Surroundings<'a>,
        globals: &'a Globals,
        number: usize,
        before: &[Facts],
    ) -> Self {
        let stage = &file.stages[number];
        let mut walk = Self {
            file,
            surroundings,
            globals,
            stage,
            number,
            facts: Facts::default(),
            last: BTreeMap::new(),
        };
        walk.start(before);
        walk
    }

    /// Takes over what the stage or image brings that it starts from.
    fn start(&mut self, before: &[Facts]) {
        let asked = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            self.globals.get(name).map(str::to_owned)
        };
        let words = [Some(&self.stage.base), self.stage.platform.as_ref()];
        let mut expanded = words.into_iter().flatten().map(|word| {
            expand_word_noting(&word.text, self.file.escape, &lookup).unwrap_or_default().text
        });
        let base = expanded.next().unwrap_or_default();
        // The platform is only looked at for what it uses.
        expanded.for_each(drop);
        self.facts.used = asked.into_inner();
        let base = find_base(&self.file.stages[..self.number], &base);
        if let Some(base) = base {
            let below = &before[base];
            self.facts.env.clone_from(&below.env);
            self.facts.declared.clone_from(&below.declared);
            self.facts.has_shell = below.has_shell;
            self.facts.has_workdir = below.has_workdir;
            self.facts.on_build.clone_from(&below.on_build);
            self.facts.needs.insert(base);
        } else {
            let image = self.surroundings.bases.get(&self.number).cloned().unwrap_or_default();
            self.facts.env.extend(image.env);
            self.facts.env.entry("PATH".to_owned()).or_default();
            self.facts.has_shell = image.has_shell;
            self.facts.on_build = image.on_build;
        }
    }

    /// Walks the triggers, then the stage's own instructions.
    pub(super) fn run(&mut self, linter: &mut Linter) -> Facts {
        for trigger in std::mem::take(&mut self.facts.on_build) {
            let Ok(instruction) = parse_trigger(&trigger) else { continue };
            let place = Place {
                checks: self.stage.checks.as_ref(),
                location: self.stage.span,
                is_trigger: true,
                keyword: instruction.name(),
            };
            self.instruction(&instruction, place, linter);
        }
        for instruction in &self.stage.instructions {
            let keyword = instruction.original.split_whitespace().next().unwrap_or_default();
            let place = Place {
                checks: instruction.checks.as_ref(),
                location: instruction.span,
                is_trigger: false,
                keyword,
            };
            self.instruction(instruction, place, linter);
        }
        std::mem::take(&mut self.facts)
    }

    fn instruction(&mut self, instruction: &Instruction, place: Place<'_>, linter: &mut Linter) {
        let mut at = At { walk: self, place, linter };
        match &instruction.kind {
            InstructionKind::Add(add) => {
                at.words([&add.chown, &add.chmod, &add.checksum].into_iter().flatten());
                at.words(&add.exclude);
                at.sources("ADD", &add.sources, true);
                at.words([&add.destination]);
            }
            InstructionKind::Copy(copy) => {
                at.words([&copy.chown, &copy.chmod].into_iter().flatten());
                at.words(&copy.exclude);
                at.sources("COPY", &copy.sources, copy.from.is_none());
                at.words([&copy.destination]);
                if let Some(from) = &copy.from {
                    at.needs(&from.text);
                }
            }
            InstructionKind::Arg(pairs) => pairs.iter().for_each(|pair| at.argument(pair)),
            InstructionKind::Cmd(command) => {
                at.only_last("CMD");
                at.shell_form(command);
            }
            InstructionKind::Entrypoint(command) => {
                at.only_last("ENTRYPOINT");
                at.shell_form(command);
            }
            InstructionKind::Healthcheck(_) => at.only_last("HEALTHCHECK"),
            InstructionKind::Env(pairs) => at.env(pairs),
            InstructionKind::Label(pairs) => {
                at.pairs(pairs);
            }
            InstructionKind::Expose(words) => words.iter().for_each(|word| at.expose(word)),
            InstructionKind::Onbuild(trigger) => {
                at.walk.facts.on_build.push(trigger.trigger.clone());
            }
            InstructionKind::Run(run) => at.run(run),
            InstructionKind::Shell(_) => at.walk.facts.has_shell = true,
            InstructionKind::Stopsignal(word) | InstructionKind::User(word) => at.words([word]),
            InstructionKind::Volume(words) => at.words(words),
            InstructionKind::Workdir(word) => at.workdir(word),
            InstructionKind::Maintainer(_) => {}
        }
    }
}

/// One instruction.
struct At<'w, 'a, 'l> {
    walk: &'w mut Walk<'a>,
    place: Place<'l>,
    linter: &'l mut Linter,
}

impl At<'_, '_, '_> {
    fn add(&mut self, rule: Rule, message: String, span: Span) {
        let location = self.place.location;
        let span = if self.place.is_trigger { location } else { span };
        self.linter.add(self.place.checks, Warning { rule, message, span, location });
    }

    /// Expands a word and says which of its variables are not defined.
    fn word(&mut self, word: &Word) -> Option<String> {
        self.text(&word.text, word.span)
    }

    fn text(&mut self, text: &str, span: Span) -> Option<String> {
        let lookup = |name: &str| self.walk.facts.env.get(name).cloned();
        let expanded = expand_word_noting(text, self.walk.file.escape, &lookup).ok()?;
        Some(self.noted(expanded, span))
    }

    fn noted(&mut self, expanded: Expanded, span: Span) -> String {
        for name in expanded.undefined {
            if self.walk.facts.declared.contains(&name) {
                continue;
            }
            let near = suggest(&name, self.walk.facts.env.keys().map(String::as_str));
            let hint = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
            let message = format!("Usage of undefined variable '${name}'{hint}");
            self.add(Rule::UndefinedVar, message, span);
        }
        expanded.text
    }

    fn words<'x>(&mut self, words: impl IntoIterator<Item = &'x Word>) {
        for word in words {
            self.word(word);
        }
    }

    fn sources(&mut self, instruction: &str, sources: &[Source], is_context: bool) {
        for source in sources {
            match source {
                Source::Path(word) => {
                    let path = self.word(word).unwrap_or_default();
                    let is_local = instruction == "COPY" || !is_remote(&path);
                    if !is_context || !is_local {
                        continue;
                    }
                    let ignored = self.walk.surroundings.ignored;
                    if let Some(message) = takes_ignored(instruction, &path, ignored) {
                        self.add(Rule::CopyIgnoredFile, message, word.span);
                    }
                }
                Source::Heredoc(heredoc) if heredoc.expand => {
                    let lookup = |name: &str| self.walk.facts.env.get(name).cloned();
                    let lexer = Lexer::new('\\').quotes(Quotes::Ordinary);
                    if let Ok(lexed) = lexer.run(&heredoc.body(), &lookup) {
                        let expanded = Expanded { text: lexed.text, undefined: lexed.undefined };
                        self.noted(expanded, heredoc.span);
                    }
                }
                Source::Heredoc(_) => {}
            }
        }
    }

    fn argument(&mut self, pair: &ArgPair) {
        let name = pair.name.text.as_str();
        self.secret("ARG", name, pair.name.span);
        let given = self.walk.surroundings.build_args.get(name).cloned();
        let own = match (given, &pair.default) {
            (Some(given), _) => Some(given),
            (None, Some(word)) => self.word(word),
            (None, None) => None,
        };
        let global = self.walk.globals.get(name).map(str::to_owned);
        let is_global = own.is_none() && pair.default.is_none() && global.is_some();
        let value = if is_global { global } else { own };
        let facts = &mut self.walk.facts;
        if !is_global {
            let argument = Argument {
                name: name.to_owned(),
                value: value.clone().unwrap_or_default(),
                description: pair.description.clone(),
                location: self.place.location,
            };
            facts.arguments.insert(name.to_owned(), argument);
        }
        if let Some(value) = value {
            facts.env.insert(name.to_owned(), value);
        }
        facts.declared.insert(name.to_owned());
        facts.used.insert(name.to_owned());
    }

    fn secret(&mut self, instruction: &str, name: &str, span: Span) {
        if is_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
            );
            self.add(Rule::SecretsUsedInArgOrEnv, message, span);
        }
    }

    fn env(&mut self, pairs: &[Pair]) {
        for (name, value, span) in self.pairs(pairs) {
            self.secret("ENV", &name, span);
            self.walk.facts.env.insert(name, value);
        }
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Vec<(String, String, Span)> {
        let mut expanded = Vec::new();
        for pair in pairs {
            if pair.is_legacy {
                let keyword = self.place.keyword;
                let message = format!(
                    "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key \
                     value\" format"
                );
                let span = Span::new(pair.key.span.start, pair.value.span.end);
                self.add(Rule::LegacyKeyValueFormat, message, span);
            }
            let key = self.word(&pair.key);
            let value = self.word(&pair.value);
            if let (Some(key), Some(value)) = (key, value) {
                expanded.push((key, value, pair.key.span));
            }
        }
        expanded
    }

    /// Of some instructions only the last in a stage counts: the one before is told.
    fn only_last(&mut self, name: &'static str) {
        let checks = self.place.checks.cloned();
        let before = self.walk.last.insert(name, (self.place.location, checks));
        if let Some((location, checks)) = before {
            let keyword = self.place.keyword;
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because \
                 only the last one will be used"
            );
            let rule = Rule::MultipleInstructionsDisallowed;
            let is_skipped = |checks: &Checks| !checks.want(rule, None);
            if !checks.as_ref().is_some_and(is_skipped) {
                let warning = Warning { rule, message, span: location, location };
                self.linter.add(self.place.checks, warning);
            }
        }
    }

    fn shell_form(&mut self, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.walk.facts.has_shell {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS \
                 signals",
                self.place.keyword
            );
            self.add(Rule::JSONArgsRecommended, message, self.place.location);
        }
    }

    fn expose(&mut self, word: &Word) {
        let lookup = |name: &str| self.walk.facts.env.get(name).cloned();
        let lexed = Lexer::new(self.walk.file.escape).run(&word.text, &lookup);
        for port in lexed.map(|lexed| lexed.words).unwrap_or_default() {
            for (rule, message) in exposes(&port) {
                self.add(rule, message, word.span);
            }
        }
    }

    fn workdir(&mut self, word: &Word) {
        let Some(path) = self.word(word) else { return };
        if !self.walk.facts.has_workdir && !path.starts_with('/') {
            let message = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            self.add(Rule::WorkdirRelativePath, message, word.span);
        }
        self.walk.facts.has_workdir = true;
    }

    fn run(&mut self, run: &Run) {
        for mount in &run.mounts {
            for field in &mount.fields {
                if let Some(value) = &field.value {
                    self.text(value, mount.span);
                }
            }
            self.mount(mount);
        }
    }

    /// Notes what a mount asks of the user and of other stages.
    fn mount(&mut self, mount: &Mount) {
        let lookup = |name: &str| self.walk.facts.env.get(name).cloned();
        let escape = self.walk.file.escape;
        let expand = |text: &str| crate::dockerfile::expand_word(text, escape, &lookup);
        let Ok(spec) = mount.resolve(&expand) else { return };
        let base_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let name = match (spec.kind, spec.id, spec.source, spec.target) {
            (_, Some(id), ..) => id,
            (MountKind::Secret, None, Some(source), _) => source,
            (MountKind::Secret, None, None, Some(target)) => base_name(&target),
            _ => "default".to_owned(),
        };
        let location = self.place.location;
        let mounted = Mounted { name, is_required: spec.required, location };
        match spec.kind {
            MountKind::Secret => self.walk.facts.secrets.push(mounted),
            MountKind::Ssh => self.walk.facts.ssh.push(mounted),
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {}
        }
        if let Some(from) = spec.from {
            self.needs(&from);
        }
    }

    fn needs(&mut self, stage: &str) {
        if let Some(found) = find_stage(&self.walk.file.stages[..self.walk.number], stage) {
            self.walk.facts.needs.insert(found);
        }
    }
}

fn is_remote(source: &str) -> bool {
    let is_http = source.starts_with("http://") || source.starts_with("https://");
    is_http || !matches!(GitReference::parse(source), Ok(None))
}
