//! The first phase: global arguments, needed stages, images to resolve.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;

use crate::dockerfile::{
    self, Dockerfile, Instruction, InstructionKind, Mount, Span, Word, expand_word, find_base,
    find_stage,
};
use crate::image::{Platform, Reference};

use super::{Error, PlanOptions};

/// What planning needs before it can go on.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The needed stages by their number in the file, ascending; the last is the target.
    pub stages: Vec<usize>,
    /// What each of `stages` starts from.
    pub starts: Vec<StageBase>,
    /// The images to resolve, each once.
    pub images: Vec<BaseImage>,
    /// What `--from` of `COPY` and `RUN --mount` means, by stage and text.
    sources: HashMap<(usize, String), StageBase>,
    /// The global arguments with their values.
    pub(super) global_args: IndexMap<String, String>,
}

/// What a stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// An image: its position in [`Outline::images`].
    Image(usize),
    /// An earlier stage: its number in the file.
    Stage(usize),
}

/// An image that a stage starts from or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// Its name.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Where the Dockerfile names it.
    pub span: Span,
    /// The stage whose name it resembles: what was perhaps meant, if there is no such image.
    pub resembles: Option<String>,
}

impl Outline {
    /// Selects what the target of `dockerfile` needs.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: an unknown target, an argument that does not expand, a base that is no
    /// reference, a stage that copies from itself or a later one.
    pub fn new(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Self, Error> {
        let global_args = global_args(dockerfile, options)?;
        let target = target(dockerfile, options)?;
        let mut outline = Self {
            stages: Vec::new(),
            starts: Vec::new(),
            images: Vec::new(),
            sources: HashMap::new(),
            global_args,
        };
        let mut needed = BTreeSet::from([target]);
        let mut starts = IndexMap::new();
        while let Some(number) = next_unvisited(&needed, &starts) {
            let start = outline.start_of(dockerfile, options, number)?;
            starts.insert(number, start);
            if let StageBase::Stage(below) = start {
                needed.insert(below);
            }
            for word in dockerfile.stages[number].instructions.iter().flat_map(sources) {
                let found = outline.find_source(dockerfile, options, number, &word)?;
                if let StageBase::Stage(other) = found {
                    needed.insert(other);
                }
                outline.sources.insert((number, word.text), found);
            }
        }
        outline.starts = needed.iter().map(|number| starts[number]).collect();
        outline.stages = needed.into_iter().collect();
        Ok(outline)
    }

    fn start_of(
        &mut self,
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        number: usize,
    ) -> Result<StageBase, Error> {
        let stage = &dockerfile.stages[number];
        let base = self.expand(dockerfile, options, &stage.base)?;
        if base.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.text);
            return Err(Error::refused(message, stage.base.span));
        }
        if base == "scratch" {
            return Ok(StageBase::Scratch);
        }
        if let Some(found) = find_base(&dockerfile.stages[..number], &base) {
            return Ok(StageBase::Stage(found));
        }
        let platform = self.stage_platform(dockerfile, options, number)?;
        self.image(dockerfile, &base, platform, stage.base.span)
    }

    /// Returns what a stage is built for: its `--platform`, or what the whole build is for.
    pub(super) fn stage_platform(
        &self,
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        number: usize,
    ) -> Result<Platform, Error> {
        let Some(word) = &dockerfile.stages[number].platform else {
            return Ok(options.platform.clone());
        };
        let text = self.expand(dockerfile, options, word)?;
        text.parse().map_err(|error: crate::image::Error| {
            Error::refused(format!("failed to parse platform {text}: {error}"), word.span)
        })
    }

    /// Returns what `--from` with this text means in stage `number`.
    pub(super) fn source(&self, number: usize, text: &str) -> Option<StageBase> {
        self.sources.get(&(number, text.to_owned())).copied()
    }

    /// Finds what `--from` means in stage `number`.
    fn find_source(
        &mut self,
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        number: usize,
        word: &Word,
    ) -> Result<StageBase, Error> {
        let text = word.text.as_str();
        if text.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage \
                           with FROM using ARG from global scope as a workaround";
            return Err(Error::refused(message, word.span));
        }
        if text == "scratch" {
            return Ok(StageBase::Scratch);
        }
        if let Some(found) = find_stage(&dockerfile.stages[..number], text) {
            return Ok(StageBase::Stage(found));
        }
        if let Some(found) = find_stage(&dockerfile.stages, text) {
            let message = if found == number {
                format!("circular dependency detected on stage: {text}")
            } else {
                format!(
                    "the stage {text} comes later in the file; a stage can copy only from \
                         earlier ones"
                )
            };
            return Err(Error::refused(message, word.span));
        }
        if text.parse::<usize>().is_ok() {
            let message = format!("invalid stage index {text}: the stage has {number} before it");
            return Err(Error::refused(message, word.span));
        }
        self.image(dockerfile, text, options.platform.clone(), word.span)
    }

    fn image(
        &mut self,
        dockerfile: &Dockerfile,
        text: &str,
        platform: Platform,
        span: Span,
    ) -> Result<StageBase, Error> {
        let reference: Reference = text.parse().map_err(|error: crate::image::Error| {
            let refusal =
                Error::refused(format!("failed to parse stage name {text:?}: {error}"), span);
            match nearest_stage(dockerfile, text) {
                Some(name) => refusal.with_hint(format!("did you mean the stage `{name}`?")),
                None => refusal,
            }
        })?;
        let resembles = nearest_stage(dockerfile, text).map(str::to_owned);
        let image = BaseImage { reference: reference.or_latest(), platform, span, resembles };
        let same = |other: &BaseImage| {
            other.reference == image.reference && other.platform == image.platform
        };
        let position = self.images.iter().position(same).unwrap_or_else(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        });
        Ok(StageBase::Image(position))
    }

    fn expand(
        &self,
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        word: &Word,
    ) -> Result<String, Error> {
        let lookup = |name: &str| {
            self.global_args.get(name).cloned().or_else(|| platform_arg(name, options))
        };
        expand_word(&word.text, dockerfile.escape, &lookup)
            .map_err(|error| Error::refused(error.message, word.span))
    }
}

/// Returns the value of a predefined platform argument of the global scope
/// (Dockerfile reference, "Automatic platform ARGs in the global scope").
pub(super) fn platform_arg(name: &str, options: &PlanOptions) -> Option<String> {
    let (platform, rest) = match (name.strip_prefix("TARGET"), name.strip_prefix("BUILD")) {
        (Some("STAGE"), _) => {
            return Some(options.target.clone().unwrap_or_else(|| "default".to_owned()));
        }
        (Some(rest), _) => (&options.platform, rest),
        (_, Some(rest)) => (&options.build_platform, rest),
        (None, None) => return None,
    };
    match rest {
        "PLATFORM" => Some(platform.to_string()),
        "OS" => Some(platform.os.clone()),
        "OSVERSION" => Some(platform.os_version.clone().unwrap_or_default()),
        "ARCH" => Some(platform.architecture.clone()),
        "VARIANT" => Some(platform.variant.clone().unwrap_or_default()),
        _ => None,
    }
}

impl PlanOptions {
    /// Returns the predefined arguments of the global scope.
    #[must_use]
    pub fn predefined(&self) -> Vec<(String, String)> {
        let parts = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];
        let names = ["TARGET", "BUILD"]
            .into_iter()
            .flat_map(|side| parts.iter().map(move |part| format!("{side}{part}")));
        names
            .chain(["TARGETSTAGE".to_owned()])
            .filter_map(|name| platform_arg(&name, self).map(|value| (name, value)))
            .collect()
    }
}

fn global_args(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> Result<IndexMap<String, String>, Error> {
    let mut values: IndexMap<String, String> = IndexMap::new();
    for arg in &dockerfile.global_args {
        let given = options.build_args.get(&arg.name.text).cloned();
        let value = match (&given, &arg.default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(word)) => {
                let lookup =
                    |name: &str| values.get(name).cloned().or_else(|| platform_arg(name, options));
                let text = expand_word(&word.text, dockerfile.escape, &lookup)
                    .map_err(|error| Error::refused(error.message, word.span))?;
                Some(text)
            }
            (None, None) => platform_arg(&arg.name.text, options),
        };
        if let Some(value) = value {
            values.insert(arg.name.text.clone(), value);
        }
    }
    Ok(values)
}

fn target(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<usize, Error> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let Some(name) = &options.target else { return Ok(last) };
    find_stage(&dockerfile.stages, name).ok_or_else(|| {
        let names: Vec<String> = dockerfile
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_ref().map(|name| format!("`{name}`")))
            .collect();
        let hint = if names.is_empty() {
            "no stage of this Dockerfile has a name".to_owned()
        } else {
            format!("the stages are {}", names.join(", "))
        };
        let message = format!("target stage \"{name}\" could not be found");
        Error::Refused { message, span: None, hint: Some(hint) }
    })
}

fn next_unvisited(needed: &BTreeSet<usize>, visited: &IndexMap<usize, StageBase>) -> Option<usize> {
    needed.iter().rev().find(|number| !visited.contains_key(*number)).copied()
}

/// Returns the `--from` values of an instruction.
fn sources(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        InstructionKind::Copy(copy) => copy.from.iter().cloned().collect(),
        InstructionKind::Run(run) => {
            let from = |mount: &Mount| {
                let field = mount.fields.iter().rfind(|field| field.key == "from")?;
                let text = field.value.clone().filter(|value| !value.is_empty())?;
                Some(Word { text, span: mount.span })
            };
            run.mounts.iter().filter_map(from).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the name of the stage that `text` resembles.
fn nearest_stage<'a>(dockerfile: &'a Dockerfile, text: &str) -> Option<&'a str> {
    let names = dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref());
    dockerfile::suggest(text, names.map(dockerfile::StageName::as_str))
}
