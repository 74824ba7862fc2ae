//! The first phase: global arguments, needed stages, images to resolve.

use std::collections::{BTreeMap, HashMap};

use crate::dockerfile::{Dockerfile, Instruction, InstructionKind, Mount, Span, Word};
use crate::image::{Platform, Reference};

use super::contexts::{self, NamedContext};
use super::globals::Globals;
use super::names::StageNames;
use super::onbuild::Trigger;
use super::{Base, Error, PlanOptions};

/// What of a Dockerfile the target needs, as far as it is known.
///
/// The configuration of an image may hold triggers (`ONBUILD`), and these may need more stages and
/// images. So the images of [`missing`](Self::missing) are resolved and given to
/// [`resolve`](Self::resolve), again and again, until none is missing.
#[derive(Debug, Clone)]
pub struct Outline<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    pub(super) globals: Globals,
    /// The number of the stage that becomes the image.
    pub(super) target: usize,
    /// The needed stages by their number in the file.
    pub(super) needed: BTreeMap<usize, Needed>,
    /// The named contexts whose files are needed.
    pub(super) contexts: Vec<String>,
    /// The images that are resolved: the first ones of `images`.
    pub(super) bases: Vec<Base>,
    images: Vec<BaseImage>,
    /// What `--from` of `COPY` and `RUN --mount` means, by stage and text.
    sources: HashMap<(usize, String), StageBase>,
    pub(super) names: StageNames<'a>,
}

/// A stage that the target needs.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    /// What it starts from.
    pub(super) start: StageBase,
    /// Whether a named context stands in for it, so that none of its instructions count.
    pub(super) is_replaced: bool,
    /// What its base wants to be done first.
    pub(super) triggers: Vec<Trigger>,
}

/// What a stage starts from, or takes files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// An image: its position in [`Outline::images`].
    Image(usize),
    /// An earlier stage: its number in the file.
    Stage(usize),
    /// The files of a named context: its position among those that are needed.
    Context(usize),
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
    /// The key of the named context that it is, if it is one.
    pub context: Option<String>,
}

impl BaseImage {
    /// Returns whether both are the same image, wherever it is named.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.reference == other.reference
            && self.platform == other.platform
            && self.context == other.context
    }
}

impl<'a> Outline<'a> {
    /// Selects what the target of `dockerfile` needs.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: an unknown target, an argument that does not expand, a base that is no
    /// reference, a stage that copies from itself or a later one.
    pub fn new(dockerfile: &'a Dockerfile, options: &'a PlanOptions) -> Result<Self, Error> {
        let mut outline = Self {
            dockerfile,
            options,
            globals: Globals::new(dockerfile, options)?,
            target: 0,
            needed: BTreeMap::new(),
            contexts: Vec::new(),
            bases: Vec::new(),
            images: Vec::new(),
            sources: HashMap::new(),
            names: StageNames::new(&dockerfile.stages),
        };
        outline.target = outline.find_target()?;
        outline.check_sources()?;
        outline.need(outline.target)?;
        Ok(outline)
    }

    /// Returns the images that stages start from and copy from, each once.
    #[must_use]
    pub fn images(&self) -> &[BaseImage] {
        &self.images
    }

    /// Returns what was chosen beside the Dockerfile.
    #[must_use]
    pub fn options(&self) -> &'a PlanOptions {
        self.options
    }

    /// Returns the resolved ones of [`images`](Self::images): the first of them.
    #[must_use]
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Returns the named context of this key.
    #[must_use]
    pub fn context(&self, key: &str) -> Option<&NamedContext> {
        self.options.contexts.get(key)
    }

    /// Returns the needed stages by their number in the file, ascending, and what they start from.
    pub fn stages(&self) -> impl Iterator<Item = (usize, StageBase)> {
        self.needed.iter().map(|(number, needed)| (*number, needed.start))
    }

    /// Returns the images that must be resolved next.
    #[must_use]
    pub fn missing(&self) -> &[BaseImage] {
        self.images.get(self.bases.len()..).unwrap_or_default()
    }

    /// Takes the resolved images of [`missing`](Self::missing), in their order, and looks at their
    /// triggers.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] at the `FROM` of a base whose trigger is at fault.
    pub fn resolve(&mut self, bases: Vec<Base>) -> Result<(), Error> {
        let first = self.bases.len();
        self.bases.extend(bases);
        let known = first..self.bases.len().min(self.images.len());
        let starts = self.needed.iter().filter_map(|(number, needed)| match needed.start {
            StageBase::Image(image) if known.contains(&image) => Some(*number),
            _ => None,
        });
        for number in starts.collect::<Vec<_>>() {
            self.need_of_triggers(number)?;
        }
        Ok(())
    }

    /// Returns the name of the stage that an image's name resembles: what was perhaps meant, if
    /// there is no such image.
    #[must_use]
    pub fn resembling(&self, image: &BaseImage) -> Option<&'a str> {
        let written = image.reference.familiar();
        self.names.nearest(written.strip_suffix(":latest").unwrap_or(&written))
    }

    /// Returns what `--from` with this text means in stage `number`.
    pub(super) fn source(&self, number: usize, text: &str) -> Option<StageBase> {
        self.sources.get(&(number, text.to_owned())).copied()
    }

    /// Returns what a stage is built for: its `--platform`, or what the whole build is for.
    pub(super) fn stage_platform(&self, number: usize) -> Result<Platform, Error> {
        let Some(word) = &self.dockerfile.stages[number].platform else {
            return Ok(self.options.platform.clone());
        };
        let (text, near) = self.globals.expand(word)?;
        let refused = |message| hinted(Error::refused(message, word.span), near.as_deref());
        if text.is_empty() {
            return Err(refused(format!("empty platform value from expression {}", word.text)));
        }
        text.parse().map_err(|error: crate::image::Error| {
            refused(format!("failed to parse platform {text}: {error}"))
        })
    }

    fn find_target(&self) -> Result<usize, Error> {
        let last = self.dockerfile.stages.len().saturating_sub(1);
        let Some(name) = &self.options.target else { return Ok(last) };
        self.names.anywhere(name).ok_or_else(|| {
            let names: Vec<String> = self.names.all().map(|name| format!("`{name}`")).collect();
            let hint = match (self.names.nearest(&name.to_lowercase()), names.is_empty()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, true) => "no stage of this Dockerfile has a name".to_owned(),
                (None, false) => format!("the stages are {}", names.join(", ")),
            };
            let message = format!("target stage \"{name}\" could not be found");
            Error::Refused { message, span: None, hint: Some(hint) }
        })
    }

    /// Notes that a stage is needed, and all that it needs.
    fn need(&mut self, number: usize) -> Result<(), Error> {
        let mut pending = vec![number];
        while let Some(number) = pending.pop() {
            if self.needed.contains_key(&number) {
                continue;
            }
            let stage = &self.dockerfile.stages[number];
            let replaced = self.replacement(number)?;
            let start = replaced.map_or_else(|| self.start_of(number), Ok)?;
            let is_replaced = replaced.is_some();
            self.needed.insert(number, Needed { start, is_replaced, triggers: Vec::new() });
            if is_replaced {
                continue;
            }
            if let StageBase::Stage(below) = start {
                pending.push(below);
            }
            pending.extend(self.sources_of(number, &stage.instructions, None)?);
            pending.extend(self.triggers_of(number)?);
        }
        Ok(())
    }

    fn need_of_triggers(&mut self, number: usize) -> Result<(), Error> {
        self.triggers_of(number)?.into_iter().try_for_each(|stage| self.need(stage))
    }

    /// Reads the triggers of what a stage starts from, as far as that is known, and returns the
    /// stages that they need.
    fn triggers_of(&mut self, number: usize) -> Result<Vec<usize>, Error> {
        let stage = &self.dockerfile.stages[number];
        let texts: Vec<String> = match self.needed.get(&number) {
            Some(Needed { start: StageBase::Image(image), is_replaced: false, .. }) => {
                match self.bases.get(*image) {
                    Some(base) => base.config.config.on_build.clone(),
                    None => Vec::new(),
                }
            }
            Some(Needed { start: StageBase::Stage(below), .. }) => {
                let instructions = &self.dockerfile.stages[*below].instructions;
                let triggers =
                    instructions.iter().filter_map(|instruction| match &instruction.kind {
                        InstructionKind::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                        _ => None,
                    });
                triggers.collect()
            }
            _ => Vec::new(),
        };
        let mut needed = Vec::new();
        let mut triggers = Vec::with_capacity(texts.len());
        for text in texts {
            let trigger = Trigger::parse(text, stage)?;
            let instructions = std::slice::from_ref(&trigger.instruction);
            let found = self.sources_of(number, instructions, Some(stage.base.span));
            needed.extend(found.map_err(|error| trigger.explain(error, stage))?);
            triggers.push(trigger);
        }
        if let Some(entry) = self.needed.get_mut(&number) {
            entry.triggers = triggers;
        }
        Ok(needed)
    }

    /// Looks up what instructions of a stage take files from, and returns the stages among it. `place`
    /// is where they stand when they are not in the Dockerfile.
    fn sources_of(
        &mut self,
        number: usize,
        instructions: &[Instruction],
        place: Option<Span>,
    ) -> Result<Vec<usize>, Error> {
        let mut stages = Vec::new();
        for mut word in instructions.iter().flat_map(sources) {
            word.span = place.unwrap_or(word.span);
            let found = self.find_source(number, &word)?;
            if let StageBase::Stage(other) = found {
                stages.push(other);
            }
            self.sources.insert((number, word.text), found);
        }
        Ok(stages)
    }

    fn start_of(&mut self, number: usize) -> Result<StageBase, Error> {
        let word = &self.dockerfile.stages[number].base;
        let (base, near) = self.globals.expand(word)?;
        if base.is_empty() {
            let message = format!("base name ({}) should not be blank", word.text);
            return Err(hinted(Error::refused(message, word.span), near.as_deref()));
        }
        if base == "scratch" {
            return Ok(StageBase::Scratch);
        }
        if let Some(found) = self.names.base(number, &base) {
            return self.stage(found);
        }
        let platform = self.stage_platform(number)?;
        self.image(&base, &platform, word.span)
    }

    /// Finds what `--from` means in stage `number`.
    fn find_source(&mut self, number: usize, word: &Word) -> Result<StageBase, Error> {
        let text = word.text.as_str();
        if text == "scratch" {
            return Ok(StageBase::Scratch);
        }
        if let Some(found) = self.names.before(number, text) {
            return self.stage(found);
        }
        if let Some(later) = self.names.anywhere(text) {
            let name = self.names.of(number);
            let message = format!(
                "cannot copy from stage {text:?}, it needs to be defined before current stage \
                 {name:?}"
            );
            let hint = format!("move the stage {:?} up", self.names.of(later));
            return Err(Error::refused(message, word.span).with_hint(hint));
        }
        let platform = self.options.platform.clone();
        self.image(text, &platform, word.span)
    }

    /// Refuses what no stage may take files from, in the whole file, as BuildKit does: a number that
    /// no stage has, and stages that need each other.
    fn check_sources(&self) -> Result<(), Error> {
        for (number, stage) in self.dockerfile.stages.iter().enumerate() {
            for word in stage.instructions.iter().flat_map(sources) {
                let text = word.text.as_str();
                let all = self.dockerfile.stages.len();
                if text.parse::<usize>().is_ok_and(|index| index >= all) {
                    let message = format!("invalid stage index {text}");
                    let hint = format!("the stages have the numbers 0 to {}", all - 1);
                    return Err(Error::refused(message, word.span).with_hint(hint));
                }
                let later = match self.names.before(number, text) {
                    Some(_) => None,
                    None => self.names.anywhere(text),
                };
                if later.is_some_and(|later| self.depends_on(later, number)) {
                    let name = self.names.of(number);
                    let message = format!("circular dependency detected on stage: {name}");
                    return Err(Error::refused(message, word.span));
                }
            }
        }
        Ok(())
    }

    /// Returns whether the stage `from` is the stage `to`, or needs it.
    fn depends_on(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.dockerfile.stages.len()];
        let mut pending = vec![from];
        while let Some(number) = pending.pop() {
            if number == to {
                return true;
            }
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            let stage = &self.dockerfile.stages[number];
            // A base that does not expand is refused when it is needed.
            let base = self.globals.expand(&stage.base).ok();
            pending.extend(base.and_then(|(base, _)| self.names.base(number, &base)));
            for word in stage.instructions.iter().flat_map(sources) {
                let found = self.names.before(number, &word.text);
                pending.extend(found.or_else(|| self.names.anywhere(&word.text)));
            }
        }
        false
    }

    /// Returns the image of this name, or what stands in for it.
    fn image(&mut self, text: &str, platform: &Platform, span: Span) -> Result<StageBase, Error> {
        let reference: Reference = text.parse().map_err(|error: crate::image::Error| {
            let refusal =
                Error::refused(format!("failed to parse stage name {text:?}: {error}"), span);
            match self.names.nearest(text) {
                Some(name) => refusal.with_hint(format!("did you mean the stage `{name}`?")),
                None => refusal,
            }
        })?;
        let reference = reference.or_latest();
        if let Some((key, context)) = contexts::find(self.options, &reference, platform) {
            return Ok(self.use_context(key, context, reference, platform, span));
        }
        let platform = platform.clone();
        Ok(self.note_image(BaseImage { reference, platform, span, context: None }))
    }

    /// Returns what stands in for the stage `number`, if something does.
    fn replacement(&mut self, number: usize) -> Result<Option<StageBase>, Error> {
        let stage = &self.dockerfile.stages[number];
        let Some(name) = stage.name.as_ref().filter(|_| !self.options.contexts.is_empty()) else {
            return Ok(None);
        };
        let Ok(reference) = name.as_str().parse::<Reference>() else { return Ok(None) };
        let platform = self.stage_platform(number)?;
        let found = contexts::find(self.options, &reference, &platform);
        let span = stage.name_span.unwrap_or(stage.span);
        Ok(found.map(|(key, context)| self.use_context(key, context, reference, &platform, span)))
    }

    /// Returns a stage, or what stands in for it.
    fn stage(&mut self, number: usize) -> Result<StageBase, Error> {
        Ok(self.replacement(number)?.unwrap_or(StageBase::Stage(number)))
    }

    fn use_context(
        &mut self,
        key: &str,
        context: &NamedContext,
        reference: Reference,
        platform: &Platform,
        span: Span,
    ) -> StageBase {
        let platform = platform.clone();
        let context_key = Some(key.to_owned());
        match context {
            NamedContext::Scratch => StageBase::Scratch,
            NamedContext::Image(other) => {
                let reference = other.clone().or_latest();
                self.note_image(BaseImage { reference, platform, span, context: context_key })
            }
            NamedContext::Layout => {
                self.note_image(BaseImage { reference, platform, span, context: context_key })
            }
            NamedContext::Files => {
                let position = self.contexts.iter().position(|other| other == key);
                StageBase::Context(position.unwrap_or_else(|| {
                    self.contexts.push(key.to_owned());
                    self.contexts.len() - 1
                }))
            }
        }
    }

    fn note_image(&mut self, image: BaseImage) -> StageBase {
        let known = self.images.iter().position(|other| other.is_same(&image));
        StageBase::Image(known.unwrap_or_else(|| {
            self.images.push(image);
            self.images.len() - 1
        }))
    }
}

fn hinted(error: Error, near: Option<&str>) -> Error {
    match near {
        Some(near) => error.with_hint(format!("did you mean `${near}`?")),
        None => error,
    }
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
