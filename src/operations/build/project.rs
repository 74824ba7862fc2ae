//! A Dockerfile that is looked at, and not built: what it starts from and adds, for each platform and
//! target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::build::{
    Allowed, Base, ContextName, CopySource, Outline, Plan, PlanOptions, Remote, Work,
};
use crate::dockerfile::{self, Dockerfile, GitReference};
use crate::image::{Digest, Platform, Reference};
use crate::operations::lock::{Address, LockFile, LockedImage, Pins};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};
use crate::remote::{FileName, GitTree};

use super::agents::Agents;
use super::contexts::{MainContext, SINGLE_FILE};
use super::location::ContextLocation;
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
    /// All of it, by digest.
    pub(in crate::operations) lock: LockFile,
    /// The images, once for each platform.
    pub(in crate::operations) images: Vec<Base>,
    /// What `ADD` and named contexts get from elsewhere.
    pub(in crate::operations) elsewhere: Vec<Elsewhere>,
}

/// Something that is got by http or git.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operations) enum Elsewhere {
    /// What `ADD` names.
    Added(Remote),
    /// The named context of this key.
    Context(String),
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

    /// Looks at it for these platforms from now on, when there are any.
    pub(in crate::operations) fn use_platforms(
        &mut self,
        platforms: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let platforms = platforms.iter().map(|platform| platform.parse());
        self.request.platforms = platforms.collect::<Result<_, crate::image::Error>>()?;
        Ok(())
    }

    /// Finds what the target needs, or without one every stage, on every platform.
    pub(in crate::operations) async fn survey(&self) -> Result<Survey, Error> {
        let pins = Arc::new(self.sources.pins.clone());
        // Set once: a project is surveyed with the pins that it then has.
        let _ = self.online.pins.set(Arc::clone(&pins));
        let (mut survey, elsewhere) =
            self.look().await.map_err(|error| self.sources.explain(error))?;
        let found = elsewhere.iter().map(|one| self.pin(one));
        for found in futures_util::future::try_join_all(found).await? {
            match found {
                Some(Pin::File(address, digest)) => drop(survey.lock.files.insert(address, digest)),
                Some(Pin::Commit(address, commit)) => {
                    survey.lock.repositories.insert(address, commit);
                }
                None => {}
            }
        }
        survey.elsewhere = elsewhere.into_iter().collect();
        Ok(survey)
    }

    async fn look(&self) -> Result<(Survey, BTreeSet<Elsewhere>), PlanError> {
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
        let mut survey = Survey::default();
        survey.lock.platforms = platforms.iter().map(ToString::to_string).collect();
        for (image, digest, base) in resolver.found() {
            let (name, platform) = (image.reference.clone(), image.platform.to_string());
            let is_of_trigger = !named.contains(&name);
            let entry = survey.lock.images.entry(name).or_insert_with(|| LockedImage {
                digest: digest.clone(),
                manifests: BTreeMap::new(),
                is_of_trigger,
            });
            entry.manifests.insert(platform, base.manifest.digest.clone());
            survey.images.push(base.clone());
        }
        let mut elsewhere = BTreeSet::new();
        for outline in outlines {
            elsewhere.extend(elsewhere_of(&Plan::new(outline)?, &self.request));
        }
        Ok((survey, elsewhere))
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

    /// Finds what is meant now by something from elsewhere; `None` for what the Dockerfile itself says
    /// exactly.
    async fn pin(&self, one: &Elsewhere) -> Result<Option<Pin>, Error> {
        let (online, one) = (Arc::clone(&self.online), one.clone());
        let location = match &one {
            Elsewhere::Context(name) => self.request.named_context(name).cloned(),
            Elsewhere::Added(_) => None,
        };
        blocking(move || match (one, location) {
            (Elsewhere::Added(Remote::Http { url, checksum: None }), _) => {
                online.pin_file(&url, FileName::OfUrl).map(Some)
            }
            (Elsewhere::Added(Remote::Git { url, checksum, keep_git_dir }), _) => {
                let Some(reference) = parse_git(&url)? else { return Ok(None) };
                let checksum = checksum.as_deref();
                online.pin_commit(&GitTree { reference: &reference, checksum, keep_git_dir })
            }
            (_, Some(ContextLocation::Http(url))) => {
                online.pin_file(&url, FileName::Given(SINGLE_FILE)).map(Some)
            }
            (_, Some(ContextLocation::Git(reference))) => {
                let wanted = GitTree { reference: &reference, checksum: None, keep_git_dir: false };
                online.pin_commit(&wanted)
            }
            _ => Ok(None),
        })
        .await
    }
}

/// What something from elsewhere is.
enum Pin {
    File(Address, Digest),
    Commit(Address, String),
}

impl Online {
    fn pin_file(&self, url: &str, name: FileName<'_>) -> Result<Pin, Error> {
        let address = Address::of_url(url);
        let known = self.pins.get().and_then(|pins| pins.file(&address).cloned());
        let digest = match known {
            Some(digest) => digest,
            None => self.file(url, name, None)?.digest,
        };
        Ok(Pin::File(address, digest))
    }

    fn pin_commit(&self, wanted: &GitTree<'_>) -> Result<Option<Pin>, Error> {
        if wanted.is_pinned() {
            return Ok(None);
        }
        let address = Address::of_repository(wanted.reference);
        let known = self.pins.get().and_then(|pins| pins.commit(&address).map(str::to_owned));
        let commit = match known {
            Some(commit) => commit,
            None => self.commit(wanted)?,
        };
        Ok(Some(Pin::Commit(address, commit)))
    }
}

/// Reads the address of a repository that `ADD` names.
pub(super) fn parse_git(url: &str) -> Result<Option<GitReference>, Error> {
    GitReference::parse_known(url).map_err(|error| Error::new(Kind::User, error.to_string()))
}

/// Returns what the steps of a plan get by http or git.
pub(super) fn elsewhere_of(plan: &Plan, request: &BuildRequest) -> BTreeSet<Elsewhere> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let sources = steps.filter_map(|step| match &step.work {
        Work::Copy(copy) => Some(&copy.sources),
        Work::Run(_) | Work::Directory(_) => None,
    });
    let added = sources.flatten().filter_map(|source| match source {
        CopySource::Remote(remote) => Some(Elsewhere::Added(remote.clone())),
        CopySource::Path(_) | CopySource::Inline { .. } => None,
    });
    let contexts = plan.contexts.iter().filter_map(|context| match context {
        ContextName::Named(name) => match request.named_context(name)? {
            ContextLocation::Http(_) | ContextLocation::Git(_) => {
                Some(Elsewhere::Context(name.clone()))
            }
            _ => None,
        },
        ContextName::Main => None,
    });
    added.chain(contexts).collect()
}
