//! What a stage knows at one point of its walk: configuration, environment, history, steps.

use std::collections::{BTreeMap, HashMap};

use crate::dockerfile::{
    ExpandError, Heredoc, Instruction, Span, Word, expand_heredoc, expand_shown, expand_word,
    expand_words,
};
use crate::image::{ImageConfig, Platform, RuntimeConfig};

use super::arguments::Arguments;
use super::{
    Copy, CopySource, Environment, Error, Origin, PlanOptions, StartingPoint, Unpack, Work,
};
use crate::build::assemble::HistoryItem;

/// The search path of an image that sets none (BuildKit, `system.DefaultPathEnvUnix`).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage in the making.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The configuration so far; its history is the starting image's.
    pub(super) config: ImageConfig,
    /// Environment and arguments together, the last set winning: what words expand to.
    variables: HashMap<String, String>,
    /// The same as `RUN` sees it.
    environment: Environment,
    /// Where variables stand in the configuration's list.
    config_places: HashMap<String, usize>,
    /// The `ARG`s so far.
    arguments: Arguments,
    /// Whether this very stage has set `CMD` (BuildKit clears an inherited one at `ENTRYPOINT`).
    pub(super) cmd_is_own: bool,
    /// The history that this stage added.
    pub(super) history: Vec<HistoryItem>,
    /// The steps.
    pub(super) steps: Vec<Planned>,
    /// Whether what is walked now is a trigger of the base.
    pub(super) is_in_trigger: bool,
    /// What the stage is built for.
    pub(super) platform: Platform,
    /// What it starts from.
    pub(super) base: StartingPoint,
    /// The escape character of the Dockerfile.
    pub(super) escape: char,
}

/// A step that has no number yet.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) span: Span,
    /// The instruction as it is shown.
    pub(super) title: String,
    pub(super) work: Work,
    /// Whether it has a number in its stage: not what `FROM` itself does.
    pub(super) is_counted: bool,
    pub(super) is_trigger: bool,
    /// What `TARGETPLATFORM` and its like say at this point.
    pub(super) target: Option<Platform>,
}

impl State {
    /// Returns the state of a stage that starts from nothing.
    pub(super) fn scratch(platform: &Platform, escape: char) -> Self {
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: RuntimeConfig { working_dir: "/".to_owned(), ..RuntimeConfig::default() },
            ..ImageConfig::default()
        };
        Self::new(config, StartingPoint::Scratch, escape)
    }

    /// Returns the state of a stage that starts from the image at `position`.
    pub(super) fn from_image(config: &ImageConfig, position: usize, escape: char) -> Self {
        let mut config = config.clone();
        config.created = None;
        config.config.on_build.clear();
        Self::new(config, StartingPoint::Image(position), escape)
    }

    /// Returns the state of a stage that starts from the finished stage `below`, which is at
    /// `position` of the plan. Arguments are inherited; what `CMD` was set there is not its own.
    pub(super) fn from_stage(below: &Self, position: usize) -> Self {
        let mut config = below.config.clone();
        config.config.on_build.clear();
        Self {
            cmd_is_own: false,
            history: Vec::new(),
            steps: Vec::new(),
            base: StartingPoint::Stage(position),
            config,
            arguments: below.arguments.clone(),
            variables: below.variables.clone(),
            environment: below.environment.clone(),
            config_places: below.config_places.clone(),
            is_in_trigger: false,
            platform: below.platform.clone(),
            escape: below.escape,
        }
    }

    fn new(mut config: ImageConfig, base: StartingPoint, escape: char) -> Self {
        if !config.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let pairs =
            config.config.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
        let environment = pairs.clone().collect();
        let variables = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config_places = places(&config.config.env);
        let platform = config.platform();
        Self {
            config,
            variables,
            environment,
            config_places,
            arguments: Arguments::default(),
            cmd_is_own: false,
            history: Vec::new(),
            steps: Vec::new(),
            is_in_trigger: false,
            platform,
            base,
            escape,
        }
    }

    /// Returns the value of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// Expands a text as a word with the current environment.
    pub(super) fn expand_text(&self, text: &str) -> Result<String, ExpandError> {
        expand_word(text, self.escape, &|name| self.variable(name))
    }

    /// Expands a word with the current environment.
    pub(super) fn expand(&self, word: &Word) -> Result<String, Error> {
        self.expand_text(&word.text).map_err(|error| Error::refused(error.message, word.span))
    }

    /// Expands a word that may be missing.
    pub(super) fn expand_some(&self, word: Option<&Word>) -> Result<Option<String>, Error> {
        word.map(|word| self.expand(word)).transpose()
    }

    /// Expands a word that may become several.
    pub(super) fn expand_several(&self, word: &Word) -> Result<Vec<String>, Error> {
        expand_words(&word.text, self.escape, &|name| self.variable(name))
            .map_err(|error| Error::refused(error.message, word.span))
    }

    /// Expands the body of a here-document, unless its word was quoted.
    pub(super) fn expand_heredoc(&self, heredoc: &Heredoc) -> Result<String, Error> {
        let body = heredoc.body();
        if !heredoc.expand {
            return Ok(body.into_owned());
        }
        expand_heredoc(&body, &|name| self.variable(name))
            .map_err(|error| Error::refused(error.message, heredoc.body_span))
    }

    /// Returns how an instruction is shown: its name in capitals, variables with their values.
    pub(super) fn title(
        &self,
        instruction: &Instruction,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let (name, written) = (instruction.name(), &instruction.original);
        let rest = written.get(name.len()..).unwrap_or_default();
        format!("{name}{}", expand_shown(rest, self.escape, lookup))
    }

    /// Sets a variable for expansion and `RUN`; the last set comes last.
    pub(super) fn set_env(&mut self, key: &str, value: &str) {
        self.variables.insert(key.to_owned(), value.to_owned());
        self.environment.set(key, value);
        self.arguments.change(key, value);
    }

    /// Sets a variable of the configuration; one that is there keeps its place.
    pub(super) fn set_config_env(&mut self, key: &str, value: &str) {
        let entry = format!("{key}={value}");
        let env = &mut self.config.config.env;
        if let Some(place) = self.config_places.get(key).and_then(|place| env.get_mut(*place)) {
            *place = entry;
            return;
        }
        self.config_places.insert(key.to_owned(), env.len());
        env.push(entry);
    }

    /// Returns the shell of shell forms.
    pub(super) fn shell(&self) -> Vec<String> {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        let shell = self.config.config.shell.clone().filter(|shell| !shell.is_empty());
        shell.unwrap_or_else(default)
    }

    /// Returns the working directory: absolute, `/` when none is set.
    pub(super) fn working_directory(&self) -> String {
        clean(&format!("/{}", self.config.config.working_dir))
    }

    /// Adds a history entry without a layer.
    pub(super) fn note(&mut self, created_by: String) {
        self.history.push(HistoryItem { created_by, makes_layer: false });
    }

    /// Adds a step and the history entry of its layer.
    pub(super) fn step(&mut self, span: Span, title: String, created_by: String, work: Work) {
        self.history.push(HistoryItem { created_by, makes_layer: true });
        let (is_trigger, target) = (self.is_in_trigger, self.target_platform());
        self.steps.push(Planned { span, title, work, is_counted: true, is_trigger, target });
    }

    /// Adds what `FROM` of a named context does: take all of its files. The history has no entry for
    /// it, as it has none for the layers of a base.
    pub(super) fn take_all(&mut self, from: Origin, name: &str, span: Span) {
        let work = Work::Copy(Copy {
            instruction: "FROM",
            from,
            sources: vec![CopySource::Path("/".to_owned())],
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: Unpack::Never,
        });
        let title = format!("[context {name}] FROM {name}");
        let (is_counted, is_trigger) = (false, false);
        self.steps.push(Planned { span, title, work, is_counted, is_trigger, target: None });
    }

    /// Completes the configuration of the stage that becomes the image.
    pub(super) fn finish(&mut self, options: &PlanOptions) {
        let labels = options.labels.iter().cloned();
        self.config.config.labels.extend(labels);
        if options.platform_is_given {
            // Whatever the base says: the image is for what was asked for (BuildKit,
            // `finalizeResultImage`).
            let Platform { os, architecture, os_version, variant, .. } = &options.platform;
            let config = &mut self.config;
            let is_same = config.os == *os && config.architecture == *architecture;
            config.os.clone_from(os);
            config.architecture.clone_from(architecture);
            if variant.is_some() || !is_same {
                config.variant.clone_from(variant);
            }
            if os_version.is_some() || !is_same {
                config.os_version.clone_from(os_version);
            }
        }
    }

    /// Returns what the variables say that is compiled for.
    fn target_platform(&self) -> Option<Platform> {
        if let Some(text) = self.variables.get("TARGETPLATFORM") {
            return text.parse().ok();
        }
        let word = |name: &str| self.variables.get(name).map(String::as_str);
        let (os, architecture) = (word("TARGETOS"), word("TARGETARCH"));
        if os.is_none() && architecture.is_none() {
            return None;
        }
        let os = os.unwrap_or(&self.platform.os);
        let architecture = architecture.unwrap_or(&self.platform.architecture);
        Some(Platform::new(os, architecture, word("TARGETVARIANT")))
    }

    /// Returns the environment of `RUN`.
    pub(super) fn environment(&self) -> Environment {
        self.environment.clone()
    }

    /// Declares an argument, whose value may have been set as a variable.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        let present = self.variables.get(name).map(String::as_str).or(value);
        self.arguments.declare(name, present.unwrap_or_default());
    }

    /// Returns the history entry of a `RUN` of these arguments.
    pub(super) fn run_history(&mut self, args: &[String]) -> String {
        format!("RUN {}{} # buildkit", self.arguments.shown(), args.join(" "))
    }

    /// Returns the proxies among the build arguments under both names that programs look for, but for
    /// what the environment has anyway (BuildKit, `proxyEnvFromBuildArgs`).
    pub(super) fn proxy_env(&self, build_args: &BTreeMap<String, String>) -> Vec<String> {
        const NAMES: [&str; 5] =
            ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
        let mut proxies = Vec::new();
        for name in NAMES {
            let given = build_args.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name));
            let Some((_, value)) = given else { continue };
            for name in [name.to_owned(), name.to_ascii_lowercase()] {
                if !self.variables.contains_key(&name) {
                    proxies.push(format!("{name}={value}"));
                }
            }
        }
        proxies
    }
}

/// Returns where each variable stands in a configuration's list; the first counts.
fn places(env: &[String]) -> HashMap<String, usize> {
    let keys = env.iter().map(|entry| entry.split('=').next().unwrap_or(entry));
    let mut places = HashMap::new();
    for (place, key) in keys.enumerate() {
        places.entry(key.to_owned()).or_insert(place);
    }
    places
}

/// Joins `path` to the directory `base` unless it is absolute, and cleans the result
/// (Go's `path.Clean`): no `.`, no `..`, no doubled or trailing slash.
pub(super) fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{base}/{path}")) }
}

/// Cleans an absolute path.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns the absolute destination of a copy: a trailing slash, which means "a directory", is
/// kept, and `.` and an empty text mean the working directory.
pub(super) fn destination(base: &str, text: &str) -> String {
    let path = join(base, text);
    let is_directory =
        text.is_empty() || text == "." || text.ends_with('/') || text.ends_with("/.");
    if is_directory && path != "/" { format!("{path}/") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_and_clean() {
        for (base, path, expected) in [
            ("/app", "x", "/app/x"),
            ("/app", "/x//y/", "/x/y"),
            ("/", "..", "/"),
            ("/a/b", "../c/./d", "/a/c/d"),
        ] {
            assert_eq!(join(base, path), expected);
        }
    }

    #[test]
    fn destinations_keep_what_says_directory() {
        for (base, text, expected) in [
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "x/.", "/app/x/"),
            ("/app", "x", "/app/x"),
            ("/", ".", "/"),
            ("/app", "/y/", "/y/"),
        ] {
            assert_eq!(destination(base, text), expected, "{text}");
        }
    }
}
