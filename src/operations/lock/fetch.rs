//! `fetch`: all that a build starts from and adds into the store, for when there is no network.

use std::collections::BTreeSet;

use crate::build::{Base, BaseImage};
use crate::dockerfile::Span;
use crate::image::{Descriptor, Digest, Platform, Reference};
use crate::operations::build::{BuildRequest, Interrupt, Project};
use crate::operations::pull::fetch_missing;
use crate::operations::resolve::{Found, resolve_base};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, PullPolicy, Session};
use crate::store::Store;

/// What to bring into the store.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// A Dockerfile, all that its stages start from and add.
    pub build: Option<BuildRequest>,
    /// Images by name.
    pub images: Vec<Reference>,
    /// For which platforms; without any, those of the lock file, else this machine's.
    pub platforms: Vec<Platform>,
}

/// What was brought into the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// The images, by name and platform.
    pub images: Vec<FetchedImage>,
    /// How many files and repositories.
    pub others: usize,
}

/// An image that is whole in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedImage {
    /// Its name, with the digest of its manifest where that is locked.
    pub name: Reference,
    /// What it is for.
    pub platform: Platform,
    /// Its manifest.
    pub digest: Digest,
    /// Layers that were fetched.
    pub fetched: usize,
    /// Layers that the store had.
    pub already_there: usize,
}

/// Brings images, files and repositories into the store, side by side. What has come is kept though the
/// rest fails, and the next try goes on from there.
///
/// # Errors
///
/// The Dockerfile's faults with their place, and whatever registries, servers and the store say.
pub async fn fetch(
    session: &Session,
    request: FetchRequest,
    interrupt: &Interrupt,
) -> Result<FetchReport, Error> {
    let FetchRequest { build, images, platforms } = request;
    let mut found = Vec::new();
    let mut report = FetchReport::default();
    let mut wanted = platforms.clone();
    if let Some(mut build) = build {
        (build.pull, build.platforms) = (PullPolicy::Always, platforms);
        let mut project = Project::open(session, build, interrupt).await?;
        if wanted.is_empty() {
            wanted = project.use_locked_platforms()?;
        }
        let survey = project.survey().await?;
        let elsewhere = survey.elsewhere.iter().map(|one| project.bring(one));
        report.others = futures_util::future::try_join_all(elsewhere).await?.len();
        found.extend(survey.images);
    }
    if wanted.is_empty() {
        wanted.push(Platform::host());
    }
    let named = images.iter().flat_map(|name| wanted.iter().map(move |platform| (name, platform)));
    let named = named.map(|(name, platform)| by_name(session, name, platform));
    found.extend(futures_util::future::try_join_all(named).await?);
    let fetched = found.iter().map(|found| complete(session, found));
    report.images = futures_util::future::try_join_all(fetched).await?;
    keep(session, &found).await?;
    report.images.sort_by_key(|image| (image.name.familiar(), image.platform.clone()));
    report.images.dedup();
    Ok(report)
}

async fn by_name(session: &Session, name: &Reference, platform: &Platform) -> Result<Found, Error> {
    let image = BaseImage {
        reference: name.clone().or_latest(),
        platform: platform.clone(),
        span: Span::default(),
        context: None,
    };
    let found = resolve_base(session, &image, PullPolicy::Always).await;
    let what = format!("failed to fetch `{}`", name.familiar());
    let absent = || Error::new(Kind::NotFound, "it is not here, and rpub is offline");
    found.and_then(|found| found.ok_or_else(absent)).map_err(|error| error.about(what))
}

/// Fetches the layers of an image that the store lacks.
async fn complete(session: &Session, found: &Found) -> Result<FetchedImage, Error> {
    let base = &found.base;
    let layers: Vec<Descriptor> =
        base.layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let (name, platform) = (base.reference.clone(), base.config.platform());
    let fetched = fetch_missing(session, &name.repository, &layers).await.map_err(|error| {
        error.about(format!("failed to fetch `{}` for {platform}", name.familiar()))
    })?;
    Ok(FetchedImage {
        digest: base.manifest.digest.clone(),
        name,
        platform,
        fetched,
        already_there: layers.len() - fetched,
    })
}

/// Names the images so that nothing takes them away. Each is kept by its digest. A tag that was asked
/// for names one of its images as well: this machine's, if there is one; one that is locked stays what
/// it was here.
async fn keep(session: &Session, found: &[Found]) -> Result<(), Error> {
    let (store, found) = (session.store.clone(), found.to_vec());
    blocking(move || {
        let here = Platform::host();
        let (own, foreign): (Vec<&Found>, Vec<&Found>) =
            found.iter().partition(|found| found.base.config.platform() == here);
        let mut images = Vec::new();
        let mut tagged = BTreeSet::new();
        for Found { base, named } in own.into_iter().chain(foreign) {
            let (name, digest) = (&base.reference, base.manifest.digest.clone());
            let exact = Reference::by_digest(name.repository.clone(), digest);
            let index = index(&store, base, named);
            images.push((exact, base.manifest.clone(), index.clone()));
            if name.digest.is_none() && tagged.insert(name) {
                images.push((name.clone(), base.manifest.clone(), index));
            }
        }
        store.keep(images)
    })
    .await
}

/// Returns the index that an image was chosen from, when the store has it.
fn index(store: &Store, base: &Base, named: &Digest) -> Option<Digest> {
    (*named != base.manifest.digest && store.has_blob(named)).then(|| named.clone())
}
