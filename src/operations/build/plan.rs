//! From sources to a plan: parse, select, resolve the bases, expand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::build::{self, Base, BaseImage, NamedContext, Outline, Plan, PlanOptions, context_key};
use crate::dockerfile;
use crate::image::{Descriptor, Digest, ImageConfig, Platform, Reference, media_type};
use crate::operations::layout::resolve_in_layout;
use crate::operations::resolve::{Found, resolve_base};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, PullPolicy, Session};

use super::checks;
use super::emulators::emulated;
use super::location::{ContextLocation, LayoutImage};
use super::locked::Locked;
use super::request::BuildRequest;
use super::sources::Sources;

/// The build argument that dates the image.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A plan, as far as all that it needs is known.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Images that are not here, of a build without a network.
    pub(super) missing: Vec<BaseImage>,
}

/// Reads, parses and plans; resolves the bases side by side.
pub(super) async fn plan(
    session: &Session,
    request: &BuildRequest,
    sources: &Sources,
) -> Result<Planned, PlanError> {
    checks::report_frontend(session, sources, &request.build_args);
    let dockerfile = dockerfile::parse(&sources.text)?;
    let options = options(request).await?;
    let outlines = options.iter().map(|options| Outline::new(&dockerfile, options));
    let mut outlines = outlines.collect::<Result<Vec<_>, _>>()?;
    let mut resolver = Resolver::new(session, request, sources);
    resolver.resolve(&mut outlines).await?;
    let missing = resolver.missing;
    if !missing.is_empty() {
        // Whatever else is wrong can be told when they are here.
        let plans = outlines.into_iter().map(Plan::new).collect::<Result<Vec<_>, _>>();
        return Ok(Planned { plan: Plan::merge(plans.unwrap_or_default()), missing });
    }
    let checked = match (options.first(), outlines.first()) {
        (Some(options), Some(outline)) => {
            Some(checks::check(&dockerfile, options, outline, sources)?)
        }
        _ => None,
    };
    if let Some(checked) = &checked {
        checks::report(session, sources, checked);
    }
    let plans = outlines.iter().cloned().map(Plan::new).collect::<Result<Vec<_>, _>>()?;
    if let Some(checked) = &checked {
        checks::refuse(checked)?;
    }
    let plan = Plan::merge(plans);
    Locked { session, request, sources }.compare(&dockerfile, &outlines, &plan)?;
    Ok(Planned { plan, missing })
}

/// Returns what was chosen for each platform that is built for.
pub(super) async fn options(request: &BuildRequest) -> Result<Vec<PlanOptions>, Error> {
    let here = Platform::host();
    let emulated = blocking(|| Ok::<_, Error>(emulated())).await?;
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in &request.platforms {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    let platform_is_given = !platforms.is_empty();
    if !platform_is_given {
        platforms.push(here.clone());
    }
    let names_platform = platforms.len() > 1;
    let contexts = named_contexts(request)?;
    let mut build_args = request.build_args.clone();
    // As in BuildKit, an empty date is none at all.
    if build_args.get(EPOCH).is_some_and(String::is_empty) {
        build_args.remove(EPOCH);
    }
    let options = platforms.into_iter().map(|platform| PlanOptions {
        build_args: build_args.clone(),
        target: request.target.clone(),
        platform_is_given,
        names_platform,
        emulated: emulated.clone(),
        contexts: contexts.clone(),
        labels: request.labels.clone(),
        network: request.network,
        hosts: request.hosts.clone(),
        allowed: request.allowed,
        no_cache: request.no_cache,
        no_cache_stages: request.no_cache_stages.clone(),
        ..PlanOptions::new(platform, here.clone())
    });
    Ok(options.collect())
}

/// Returns what the named contexts hold, by their keys; the last of a name counts.
fn named_contexts(request: &BuildRequest) -> Result<BTreeMap<String, NamedContext>, Error> {
    let contexts = request.named_contexts.iter().map(|(name, location)| {
        let key = context_key(name).map_err(|error| {
            Error::new(Kind::Settings, format!("invalid context name `{name}`")).because(error)
        })?;
        let context = match location {
            ContextLocation::Image(reference) => NamedContext::Image(reference.clone()),
            ContextLocation::Layout { .. } => NamedContext::Layout,
            ContextLocation::Scratch => NamedContext::Scratch,
            ContextLocation::Directory(_)
            | ContextLocation::Stdin
            | ContextLocation::Http(_)
            | ContextLocation::Git(_) => NamedContext::Files,
        };
        Ok((key, context))
    });
    contexts.collect()
}

/// Resolves the images that outlines need, each once.
pub(super) struct Resolver<'a> {
    session: &'a Session,
    request: &'a BuildRequest,
    sources: &'a Sources,
    known: Vec<(BaseImage, Found)>,
    /// What is not here, of a build without a network. Something empty stands in for it.
    pub(super) missing: Vec<BaseImage>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        session: &'a Session,
        request: &'a BuildRequest,
        sources: &'a Sources,
    ) -> Self {
        Self { session, request, sources, known: Vec::new(), missing: Vec::new() }
    }

    /// Resolves until nothing is missing: triggers of one image may need another.
    pub(super) async fn resolve(&mut self, outlines: &mut [Outline<'_>]) -> Result<(), PlanError> {
        loop {
            let mut wanted: Vec<&BaseImage> = Vec::new();
            for image in outlines.iter().flat_map(Outline::missing) {
                let is_wanted = wanted.iter().any(|other| other.is_same(image));
                if !is_wanted && self.find(image).is_none() {
                    wanted.push(image);
                }
            }
            let is_complete = outlines.iter().all(|outline| outline.missing().is_empty());
            if is_complete {
                return Ok(());
            }
            let Some(outline) = outlines.first() else { return Ok(()) };
            self.require_locked(&wanted)?;
            let resolved = wanted.iter().map(|image| self.base(image, outline));
            let resolved = futures_util::future::try_join_all(resolved).await?;
            let images: Vec<BaseImage> = wanted.into_iter().cloned().collect();
            for (image, found) in images.into_iter().zip(resolved) {
                let found = found.unwrap_or_else(|| {
                    self.missing.push(image.clone());
                    stand_in(&image)
                });
                self.known.push((image, found));
            }
            for outline in &mut *outlines {
                let bases = outline.missing().iter().filter_map(|image| self.find(image).cloned());
                outline.resolve(bases.collect())?;
            }
        }
    }

    fn find(&self, image: &BaseImage) -> Option<&Base> {
        self.known.iter().find(|(known, _)| known.is_same(image)).map(|(_, found)| &found.base)
    }

    /// Returns what was resolved by name. Images of layouts have no name to be found by.
    pub(super) fn found(&self) -> impl Iterator<Item = (&BaseImage, &Found)> {
        let named = self.known.iter().filter(|(image, _)| self.layout(image).is_none());
        named.map(|(image, found)| (image, found))
    }

    /// Returns the image layout that stands in for an image.
    fn layout(&self, image: &BaseImage) -> Option<(PathBuf, LayoutImage)> {
        match self.request.named_context(image.context.as_ref()?)? {
            ContextLocation::Layout { directory, image } => {
                Some((directory.clone(), image.clone()))
            }
            _ => None,
        }
    }

    async fn base(&self, image: &BaseImage, outline: &Outline<'_>) -> Result<Option<Found>, Error> {
        let base = match self.layout(image) {
            Some((directory, which)) => {
                let base = resolve_in_layout(self.session, directory, which, image).await;
                base.map(|base| Some(Found { named: base.manifest.digest.clone(), base }))
            }
            None => self.by_name(image).await,
        };
        base.map_err(|error| {
            let error = error.at(self.sources.snippet(image.span));
            match outline.resembling(image) {
                Some(stage) => error.hint(format!("did you mean the stage `{stage}`?")),
                None => error,
            }
        })
    }
}

impl Resolver<'_> {
    /// Refuses images that the lock file lacks, when it must have all.
    fn require_locked(&self, images: &[&BaseImage]) -> Result<(), Error> {
        let Self { session, request, sources, .. } = *self;
        let images = images.iter().copied().filter(|image| self.layout(image).is_none());
        Locked { session, request, sources }.require(&images.collect::<Vec<_>>())
    }

    /// Resolves a base by the digest that the lock file names, else by its name.
    async fn by_name(&self, image: &BaseImage) -> Result<Option<Found>, Error> {
        let pins = &self.sources.pins;
        let Some(pinned) = pins.image(&image.reference, &image.platform) else {
            return resolve_base(self.session, image, self.request.pull).await;
        };
        let digest = pinned.manifest.unwrap_or_else(|| pinned.digest.clone());
        let reference = Reference { digest: Some(digest.clone()), ..image.reference.clone() };
        let exact = BaseImage { reference, ..image.clone() };
        // What a digest stands for does not move.
        let policy = match self.request.pull {
            PullPolicy::Never => PullPolicy::Never,
            PullPolicy::Always | PullPolicy::Missing => PullPolicy::Missing,
        };
        let found = resolve_base(self.session, &exact, policy).await;
        let found = found.map_err(|error| {
            if error.kind != Kind::NotFound || policy == PullPolicy::Never {
                return error;
            }
            let (name, lock) = (image.reference.familiar(), pins.name());
            let registry = image.reference.registry();
            let what = format!(
                "the base image `{name}` is {digest} by `{lock}`, and `{registry}` does not have that"
            );
            error.about(what).hint(format!("run `rpub lock --update {name}`"))
        })?;
        Ok(found.map(|found| Found { named: pinned.digest, ..found }))
    }
}

/// Returns what stands in for an image that is not here, so that the rest can be planned.
fn stand_in(image: &BaseImage) -> Found {
    let (os, architecture) = (image.platform.os.clone(), image.platform.architecture.clone());
    let digest = Digest::of(b"");
    let base = Base {
        reference: image.reference.clone(),
        manifest: Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), 0),
        config: ImageConfig { architecture, os, ..ImageConfig::default() },
        layers: Vec::new(),
    };
    Found { base, named: digest }
}

/// What can go wrong before the first step.
#[derive(Debug)]
pub(super) enum PlanError {
    Dockerfile(dockerfile::Error),
    Build(build::Error),
    Operation(Error),
}

impl From<dockerfile::Error> for PlanError {
    fn from(error: dockerfile::Error) -> Self {
        Self::Dockerfile(error)
    }
}

impl From<build::Error> for PlanError {
    fn from(error: build::Error) -> Self {
        Self::Build(error)
    }
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        Self::Operation(error)
    }
}
