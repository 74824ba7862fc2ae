//! Whether a Dockerfile and its lock file name the same.

use std::collections::BTreeSet;

use crate::build::{BaseImage, Outline, Plan, PlanOptions};
use crate::dockerfile::Dockerfile;
use crate::image::Reference;
use crate::operations::{Error, Kind, Session};

use super::elsewhere::{Elsewhere, elsewhere_of, lacking, moving};
use super::location::ContextLocation;
use super::request::BuildRequest;
use super::sources::Sources;

/// The lock file of a build, held against what the build needs.
#[derive(Clone, Copy)]
pub(super) struct Locked<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a BuildRequest,
    pub(super) sources: &'a Sources,
}

impl Locked<'_> {
    /// Refuses a build that must be locked and has no lock file, or whose lock file lacks some of
    /// `images`.
    pub(super) fn require(&self, images: &[&BaseImage]) -> Result<(), Error> {
        let pins = &self.sources.pins;
        if !self.request.locked {
            return Ok(());
        }
        if !pins.is_there() {
            let message = format!("there is no `{}`, which `--locked` asks for", pins.name());
            return Err(Error::new(Kind::Settings, message).hint("run `rpub lock`"));
        }
        let lacking = |image: &&&BaseImage| pins.image(&image.reference, &image.platform).is_none();
        let lacking: Vec<_> = images.iter().filter(lacking).collect();
        let Some(first) = lacking.first() else { return Ok(()) };
        let names: Vec<String> = lacking.iter().map(|image| image.reference.familiar()).collect();
        Err(self.drift(&names).at(self.sources.snippet(first.span)))
    }

    /// Says, or refuses, what the lock file lacks or has too much.
    pub(super) fn compare(
        &self,
        dockerfile: &Dockerfile,
        outlines: &[Outline<'_>],
        plan: &Plan,
    ) -> Result<(), Error> {
        let pins = &self.sources.pins;
        if !pins.is_there() {
            return Ok(());
        }
        let images = outlines.iter().flat_map(Outline::images);
        let images: Vec<&BaseImage> = images.filter(|image| !self.is_layout(image)).collect();
        let addresses = moving(&elsewhere_of(plan, self.request), self.request)?;
        let lacking = lacking(pins, &addresses);
        let unnamed = images
            .iter()
            .filter(|image| pins.image(&image.reference, &image.platform).is_none())
            .map(|image| image.reference.familiar());
        let lacking: BTreeSet<String> = lacking.chain(unnamed).collect();
        if !lacking.is_empty() {
            let error = self.drift(&lacking.into_iter().collect::<Vec<_>>());
            if self.request.locked {
                return Err(error);
            }
            let advice = "each is what its name means now; run `rpub lock`";
            self.session.warn(format!("{}: {advice}", error.message));
        }
        let options: Vec<&PlanOptions> = outlines.iter().map(Outline::options).collect();
        let mut named = named_by_all_stages(dockerfile, &options);
        named.extend(images.iter().map(|image| image.reference.clone()));
        let is_whole =
            outlines.iter().all(|outline| outline.stages().count() == dockerfile.stages.len());
        let unused = pins.unused(&named, is_whole.then_some(&addresses));
        if !unused.is_empty() {
            let (lock, names) = (pins.name(), list(&unused));
            self.session
                .warn(format!("`{lock}` names {names}, which nothing uses: run `rpub lock`"));
        }
        Ok(())
    }

    /// Refuses what the lock file lacks of `elsewhere`, when it must have all.
    pub(super) fn require_elsewhere(&self, elsewhere: &BTreeSet<Elsewhere>) -> Result<(), Error> {
        if !self.request.locked {
            return Ok(());
        }
        let addresses = moving(elsewhere, self.request)?;
        let lacking: Vec<String> = lacking(&self.sources.pins, &addresses).collect();
        if lacking.is_empty() { Ok(()) } else { Err(self.drift(&lacking)) }
    }

    fn is_layout(&self, image: &BaseImage) -> bool {
        let key = image.context.as_ref();
        let location = key.and_then(|key| self.request.named_context(key));
        matches!(location, Some(ContextLocation::Layout { .. }))
    }

    fn drift(&self, names: &[String]) -> Error {
        let message = format!("`{}` does not name {}", self.sources.pins.name(), list(names));
        Error::new(Kind::User, message).hint("run `rpub lock`, which adds what is missing")
    }
}

/// Returns the images that any stage names, whatever is built.
fn named_by_all_stages(dockerfile: &Dockerfile, options: &[&PlanOptions]) -> BTreeSet<Reference> {
    let mut names = BTreeSet::new();
    for options in options {
        for number in 0..dockerfile.stages.len() {
            let target = Some(number.to_string());
            let options = PlanOptions { target, ..(*options).clone() };
            // A stage that cannot be built is not this build's business.
            let Ok(outline) = Outline::new(dockerfile, &options) else { continue };
            names.extend(outline.images().iter().map(|image| image.reference.clone()));
        }
    }
    names
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
