//! A Dockerfile that is looked at, and not built: what it starts from and adds, for each platform and
//! target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::build::{Allowed, Outline, Plan, PlanOptions};
use crate::dockerfile::{self, Dockerfile};
use crate::image::{Platform, Reference};
use crate::operations::lock::{LockFile, LockedImage, Pins};
use crate::operations::resolve::Found;
use crate::operations::session::blocking;
use crate::operations::{Error, Session};

use super::agents::Agents;
use super::contexts::MainContext;
use super::elsewhere::{Elsewhere, Pin, elsewhere_of};
use super::locked::Locked;
use super::offline::refuse_missing;
use super::online::Online;
use super::plan::{PlanError, Resolver, options};
use super::sources::Sources;
use super::{BuildRequest, Interrupt, online, provide, read};

/// A Dockerfile with all that decides about what it needs.
pub(in crate::operations) struct Project<'a> {
    session: &'a Session,
    request: BuildRequest,
    online: Arc<Online>,
    sources: Sources,
    _context: MainContext,
    _agents: Agents,
}

/// What a Dockerfile needs.
#[derive(Debug, Default)]
pub(in crate::operations) struct Survey {
    /// The images, once for each platform.
    pub(in crate::operations) images: Vec<Found>,
    /// What `ADD` and named contexts get from elsewhere.
    pub(in crate::operations) elsewhere: BTreeSet<Elsewhere>,
    /// The images, by digest.
    locked: LockFile,
}

impl<'a> Project<'a> {
    /// Reads the Dockerfile and its lock file.
    pub(in crate::operations) async fn open(
        session: &'a Session,
        request: BuildRequest,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (provisions, agents) = {
            let request = request.clone();
            blocking(move || provide(&request)).await?
        };
        let online = Arc::new(online(session, interrupt, &provisions));
        let (context, sources) = read(&request, &online).await?;
        let sources = Arc::unwrap_or_clone(sources);
        Ok(Self { session, request, online, sources, _context: context, _agents: agents })
    }

    /// Returns its lock file.
    pub(in crate::operations) fn pins(&self) -> &Pins {
        &self.sources.pins
    }

    /// Takes what `pins` name by digest from now on, and nothing else.
    pub(in crate::operations) fn use_pins(&mut self, pins: Pins) {
        self.sources.pins = pins;
    }

    /// Looks at it for the platforms of its lock file from now on, when there are any; returns them.
    pub(in crate::operations) fn use_locked_platforms(&mut self) -> Result<Vec<Platform>, Error> {
        let platforms = self.sources.pins.platforms()?;
        self.request.platforms.clone_from(&platforms);
        Ok(platforms)
    }

    /// Finds what the target needs, or without one every stage, on every platform.
    pub(in crate::operations) async fn survey(&self) -> Result<Survey, Error> {
        // Set once: a project is surveyed with the pins that it then has.
        let _ = self.online.pins.set(Arc::new(self.sources.pins.clone()));
        self.look().await.map_err(|error| self.sources.explain(error))
    }

    /// Returns the lock file of what was found.
    pub(in crate::operations) async fn lock(&self, survey: Survey) -> Result<LockFile, Error> {
        let mut lock = survey.locked;
        let found = survey.elsewhere.iter().map(|one| async {
            let Some(source) = one.source(&self.request)? else { return Ok(None) };
            let online = Arc::clone(&self.online);
            blocking(move || online.pin(&source)).await
        });
        for found in futures_util::future::try_join_all(found).await? {
            match found {
                Some(Pin::File(address, digest)) => drop(lock.files.insert(address, digest)),
                Some(Pin::Commit(address, commit)) => {
                    lock.repositories.insert(address, commit);
                }
                None => {}
            }
        }
        Ok(lock)
    }

    /// Brings something from elsewhere into the store.
    pub(in crate::operations) async fn bring(&self, one: &Elsewhere) -> Result<(), Error> {
        let (online, one, request) = (Arc::clone(&self.online), one.clone(), self.request.clone());
        blocking(move || online.bring(&one, &request)).await
    }

    async fn look(&self) -> Result<Survey, PlanError> {
        let dockerfile = dockerfile::parse(&self.sources.text)?;
        let (platforms, options) = self.options(&dockerfile).await?;
        let outlines = options.iter().map(|options| Outline::new(&dockerfile, options));
        let mut outlines = outlines.collect::<Result<Vec<_>, _>>()?;
        let named: BTreeSet<Reference> = outlines
            .iter()
            .flat_map(Outline::images)
            .map(|image| image.reference.clone())
            .collect();
        let mut resolver = Resolver::new(self.session, &self.request, &self.sources);
        resolver.resolve(&mut outlines).await?;
        refuse_missing(&resolver.missing, &self.request, &self.sources.name)?;
        let mut survey = Survey::default();
        survey.locked.platforms = platforms.iter().map(ToString::to_string).collect();
        for (image, found) in resolver.found() {
            let (name, platform) = (image.reference.clone(), image.platform.to_string());
            let is_of_trigger = !named.contains(&name);
            let entry = survey.locked.images.entry(name).or_insert_with(|| LockedImage {
                digest: found.named.clone(),
                manifests: BTreeMap::new(),
                is_of_trigger,
            });
            entry.manifests.insert(platform, found.base.manifest.digest.clone());
            survey.images.push(found.clone());
        }
        for outline in outlines {
            survey.elsewhere.extend(elsewhere_of(&Plan::new(outline)?, &self.request));
        }
        Locked { session: self.session, request: &self.request, sources: &self.sources }
            .require_elsewhere(&survey.elsewhere)?;
        Ok(survey)
    }

    /// Returns the platforms, and the options of every plan that has to be looked at.
    async fn options(
        &self,
        dockerfile: &Dockerfile,
    ) -> Result<(Vec<Platform>, Vec<PlanOptions>), PlanError> {
        let mut platforms = Vec::new();
        let mut all = Vec::new();
        for mut options in options(&self.request).await? {
            platforms.push(options.platform.clone());
            // Nothing runs: it does not matter what this machine can run, or may.
            options.emulated.push(options.platform.clone());
            let stages = dockerfile.stages.iter().filter_map(|stage| stage.platform.as_ref());
            options.emulated.extend(stages.filter_map(|word| word.text.parse().ok()));
            options.allowed = Allowed { network_host: true, security_insecure: true };
            if options.target.is_some() {
                all.push(options);
                continue;
            }
            let mut seen = BTreeSet::new();
            for number in (0..dockerfile.stages.len()).rev() {
                if seen.contains(&number) {
                    continue;
                }
                let target = Some(number.to_string());
                let options = PlanOptions { target, ..options.clone() };
                let outline = Outline::new(dockerfile, &options)?;
                seen.extend(outline.stages().map(|(number, _)| number));
                drop(outline);
                all.push(options);
            }
        }
        Ok((platforms, all))
    }
}
