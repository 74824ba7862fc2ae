//! One image, from where it is to where it should be.

use futures_util::future::{join_all, try_join};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::event::Event;
use crate::image::{Content, Descriptor, Digest, Manifest, Platform};
use crate::operations::place::{ImageSource, Place, Top};
use crate::operations::publish::Traffic;
use crate::operations::push::ForeignLayers;
use crate::operations::{Error, Kind};

use super::carrier::Carrier;
use super::companions::{self, Companion};
use super::delivery::{Arrival, CopyTarget, Delivered, Delivery};
use super::hold::Hold;
use super::tree::{self, IndexShape, Tree, Trimmed};

/// How many images are copied at once.
const IMAGES: usize = 16;
/// How many blobs of one image are looked after at once; how many move is the client's affair.
const BLOBS: usize = 32;
/// How many manifests are put at once.
const MANIFESTS: usize = 8;

/// Whether something is taken along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carry {
    /// It is.
    #[default]
    Yes,
    /// It is not.
    No,
}

/// What is copied of an image.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// The platforms; all of them when there is none.
    pub platforms: Vec<Platform>,
    /// What to do with an index of which not everything is wanted.
    pub shape: IndexShape,
    /// What to do with layers that say where else they are.
    pub foreign: ForeignLayers,
    /// What refers to the image.
    pub referrers: Carry,
    /// Only referrers of these types; all when there is none.
    pub artifact_types: Vec<String>,
    /// What cosign has stored under tags made of digests.
    pub digest_tags: Carry,
    /// Whether to look for those also where the image is already.
    pub companions_of_present: Carry,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            platforms: Vec::new(),
            shape: IndexShape::default(),
            foreign: ForeignLayers::Skip,
            referrers: Carry::Yes,
            artifact_types: Vec::new(),
            digest_tags: Carry::Yes,
            companions_of_present: Carry::No,
        }
    }
}

impl CopyOptions {
    fn wants_companions(&self) -> bool {
        self.referrers == Carry::Yes || self.digest_tags == Carry::Yes
    }

    /// Returns whether referrers of this artifact type are copied.
    pub(super) fn wants_type(&self, kind: Option<&str>) -> bool {
        let wanted = &self.artifact_types;
        wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.as_str()) == kind)
    }

    /// Returns whether an image that is there may still lack something.
    fn looks_again(&self) -> bool {
        self.companions_of_present == Carry::Yes && self.wants_companions()
    }
}

/// What a copy did.
#[derive(Debug)]
pub struct CopiedImage {
    /// What was copied, as at the destinations.
    pub manifest: Descriptor,
    /// The platforms of it, as far as an index says.
    pub platforms: Vec<Platform>,
    /// What became of an index of which not everything was wanted.
    pub trimmed: Option<Trimmed>,
    /// How many things that refer to the image were carried along.
    pub referrers: usize,
    /// How many of cosign's tags were.
    pub digest_tags: usize,
    /// What became of each destination, in the order in which they were given.
    pub deliveries: Vec<Delivered>,
}

impl CopiedImage {
    /// Returns what moved, to all destinations together.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.deliveries.iter().fold(Traffic::default(), |sum, one| sum.and(one.traffic))
    }

    /// Returns it when it is everywhere it should be, or else what keeps it from the first place.
    pub(in crate::operations) fn all_arrived(mut self) -> Result<Self, Error> {
        let failed = self.deliveries.iter().position(|it| it.outcome.is_err());
        match failed.map(|at| self.deliveries.swap_remove(at).outcome) {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(self),
        }
    }
}

/// Copies an image to all of `targets`: blobs, then manifests by their digests, then what belongs to
/// them, names last.
///
/// A target whose name stands for the image already costs one `HEAD`, and so does the source then.
///
/// # Errors
///
/// When the source cannot be read. What goes wrong at a target is in its [`Delivered`].
pub async fn copy_image(
    carrier: &Carrier,
    source: &ImageSource,
    targets: &[CopyTarget],
    options: &CopyOptions,
) -> Result<CopiedImage, Error> {
    let about = |error: Error| error.about(format!("failed to copy `{source}`"));
    let seen = look(carrier, source, targets, options).await.map_err(about)?;
    let top = match &seen.manifest {
        Some(there) if seen.is_all_there(there) && !options.looks_again() => {
            return Ok(nothing_to_do(there.clone(), targets));
        }
        _ => read_top(carrier, source, seen.manifest.as_ref()).await.map_err(about)?,
    };
    let copied = Box::pin(copy_top(carrier, &top, targets, &seen, options)).await;
    copied.map_err(about)
}

/// One image to copy.
#[derive(Debug, Clone)]
pub struct CopyJob {
    /// Where it is.
    pub source: ImageSource,
    /// Where it goes.
    pub targets: Vec<CopyTarget>,
    /// What of it.
    pub options: CopyOptions,
}

/// Copies images side by side; calls `done` with each job's number and result as it ends.
pub async fn copy_images(
    carrier: &Carrier,
    jobs: &[CopyJob],
    mut done: impl FnMut(usize, Result<CopiedImage, Error>),
) {
    let copies = jobs.iter().enumerate().map(async |(at, job)| {
        let copied = copy_image(carrier, &job.source, &job.targets, &job.options);
        (at, Box::pin(copied).await)
    });
    let mut copies = std::pin::pin!(stream::iter(copies).buffer_unordered(IMAGES));
    while let Some((at, copied)) = copies.next().await {
        done(at, copied);
    }
}

/// What `HEAD` requests have told.
struct Seen {
    /// What the source is, when it was asked for.
    manifest: Option<Descriptor>,
    /// What the names at the targets stand for.
    targets: Vec<Option<Digest>>,
}

impl Seen {
    fn is_all_there(&self, manifest: &Descriptor) -> bool {
        self.targets.iter().all(|there| there.as_ref() == Some(&manifest.digest))
    }
}

fn nothing_to_do(manifest: Descriptor, targets: &[CopyTarget]) -> CopiedImage {
    let deliveries = targets.iter().map(|target| present(target, &manifest.digest)).collect();
    CopiedImage {
        manifest,
        platforms: Vec::new(),
        trimmed: None,
        referrers: 0,
        digest_tags: 0,
        deliveries,
    }
}

fn present(target: &CopyTarget, digest: &Digest) -> Delivered {
    let (target, digest) = (target.clone(), digest.clone());
    let traffic = Traffic::default();
    Delivered { target, digest, outcome: Ok(Arrival::AlreadyThere), traffic }
}

/// Asks the source, unless all of it is needed anyway, and the targets what is there, side by side.
async fn look(
    carrier: &Carrier,
    source: &ImageSource,
    targets: &[CopyTarget],
    options: &CopyOptions,
) -> Result<Seen, Error> {
    let client = &carrier.session.client;
    let at_source = async {
        match source {
            ImageSource::Registry(name) if options.platforms.is_empty() => {
                client.resolve(name).await.map(Some).map_err(Error::from)
            }
            _ => Ok(None),
        }
    };
    let at_targets = async {
        let asked = targets.iter().map(async |target| match target {
            CopyTarget::Registry(name) => {
                let found = client.resolve_at_destination(name).await;
                // Why there is no answer shows when the copy goes there.
                found.ok().map(|found| found.digest)
            }
            CopyTarget::Store(_) | CopyTarget::Archive(..) => None,
        });
        Ok(join_all(asked).await)
    };
    let (manifest, targets) = try_join(at_source, at_targets).await?;
    Ok(Seen { manifest, targets })
}

async fn read_top(
    carrier: &Carrier,
    source: &ImageSource,
    seen: Option<&Descriptor>,
) -> Result<Top, Error> {
    let (ImageSource::Registry(name), Some(seen)) = (source, seen) else {
        return Top::read(&carrier.session, source).await;
    };
    // What the tag stood for when it was looked at, even if it has moved since.
    let place = Place::Repository(name.repository.clone());
    let manifest = place.manifest(&carrier.session, &seen.digest, Some(&seen.media_type)).await?;
    Ok(Top { name: name.familiar(), place, manifest })
}

async fn copy_top(
    carrier: &Carrier,
    top: &Top,
    targets: &[CopyTarget],
    seen: &Seen,
    options: &CopyOptions,
) -> Result<CopiedImage, Error> {
    let session = &carrier.session;
    let (manifest, trimmed) = tree::choose(session, top, &options.platforms, options.shape).await?;
    let digest = manifest.digest.clone();
    let is_there = |at: usize| seen.targets[at].as_ref() == Some(&digest);
    let is_open = |at: &usize| options.looks_again() || !is_there(*at);
    let open: Vec<usize> = (0..targets.len()).filter(is_open).collect();
    let sparse = match options.shape {
        IndexShape::Sparse => &options.platforms[..],
        IndexShape::Trimmed => &[],
    };
    let mut copied = CopiedImage {
        manifest: manifest.descriptor(),
        platforms: platforms_of(&manifest),
        trimmed,
        referrers: 0,
        digest_tags: 0,
        deliveries: Vec::new(),
    };
    let mut done = Vec::new();
    if !open.is_empty() {
        let tree = Tree::load(session, &top.place, manifest, sparse, options.foreign).await?;
        tree.check()?;
        let wanted: Vec<CopyTarget> = open.iter().map(|at| targets[*at].clone()).collect();
        let shipment = Shipment { carrier, place: &top.place, tree, options };
        let (companions, deliveries) = shipment.ship(wanted).await?;
        copied.digest_tags = companions.iter().filter(|it| it.is_tagged()).count();
        copied.referrers = companions.len() - copied.digest_tags;
        done = deliveries;
    }
    let mut done = done.into_iter();
    copied.deliveries = (0..targets.len())
        .map(|at| match open.contains(&at).then(|| done.next()).flatten() {
            Some(delivered) if is_there(at) && delivered.outcome.is_ok() => {
                Delivered { outcome: Ok(Arrival::AlreadyThere), ..delivered }
            }
            Some(delivered) => delivered,
            None => present(&targets[at], &digest),
        })
        .collect();
    Ok(copied)
}

/// Copies what was read already to one target.
///
/// # Errors
///
/// Whatever keeps it from being there.
pub(super) async fn copy_top_to(
    carrier: &Carrier,
    top: &Top,
    target: CopyTarget,
    options: &CopyOptions,
) -> Result<CopiedImage, Error> {
    let seen = Seen { manifest: None, targets: vec![None] };
    Box::pin(copy_top(carrier, top, &[target], &seen, options)).await?.all_arrived()
}

fn platforms_of(manifest: &Manifest) -> Vec<Platform> {
    let Content::Index(index) = &manifest.content else { return Vec::new() };
    index.platforms().filter(|platform| platform.os != "unknown").cloned().collect()
}

/// An image on its way.
struct Shipment<'a> {
    carrier: &'a Carrier,
    place: &'a Place,
    tree: Tree,
    options: &'a CopyOptions,
}

impl Shipment<'_> {
    async fn ship(
        &self,
        targets: Vec<CopyTarget>,
    ) -> Result<(Vec<Companion>, Vec<Delivered>), Error> {
        let deliveries = self.claim(targets, &self.tree.blobs);
        for delivery in &deliveries {
            delivery.expect_digest(&self.tree.top.digest);
        }
        let found = async {
            let has_place = deliveries.iter().any(|it| it.hold.keeps_companions());
            if !has_place || !self.options.wants_companions() {
                return Ok(Vec::new());
            }
            companions::find(self.carrier, self.place, &self.tree, self.options).await
        };
        let all: Vec<&Delivery> = deliveries.iter().collect();
        let (companions, ()) = try_join(found, self.bring(&self.tree.blobs, &all)).await?;
        let keep: Vec<&Delivery> =
            deliveries.iter().filter(|it| it.hold.keeps_companions()).collect();
        // What belongs to an image is rarely shared with others: it is not claimed.
        for companion in &companions {
            self.bring(&companion.tree.blobs, &keep).await?;
        }
        join_all(deliveries.iter().map(|delivery| self.put(delivery, &companions))).await;
        let digest = &self.tree.top.digest;
        let delivered = deliveries.into_iter().map(|delivery| delivery.finish(digest)).collect();
        Ok((companions, delivered))
    }

    fn claim(&self, targets: Vec<CopyTarget>, blobs: &[Descriptor]) -> Vec<Delivery> {
        let holds: Vec<Hold> = targets.iter().map(CopyTarget::hold).collect();
        let shares = self.carrier.claim(&holds, blobs);
        let pairs = targets.into_iter().zip(shares);
        pairs.map(|(target, share)| Delivery::new(target, share)).collect()
    }

    async fn bring(&self, blobs: &[Descriptor], deliveries: &[&Delivery]) -> Result<(), Error> {
        let brought = blobs.iter().map(|blob| self.carrier.bring(self.place, blob, deliveries));
        stream::iter(brought).buffer_unordered(BLOBS).try_collect().await
    }

    /// Puts all manifests to one destination, its name last.
    async fn put(&self, delivery: &Delivery, companions: &[Companion]) {
        if delivery.has_failed() {
            return;
        }
        if let Err(error) = self.try_put(delivery, companions).await {
            delivery.fail(error);
        }
    }

    async fn try_put(&self, delivery: &Delivery, companions: &[Companion]) -> Result<(), Error> {
        let (session, hold) = (&self.carrier.session, &delivery.hold);
        put_below(self.carrier, hold, &self.tree).await?;
        let name = delivery.target.name();
        for Companion { tree, found_by } in companions.iter().filter(|_| hold.keeps_companions()) {
            put_below(self.carrier, hold, tree).await?;
            hold.put_companion(session, &tree.top, found_by, name).await?;
        }
        delivery.name(session, &self.tree.top).await?;
        if let Some(reference) = name.cloned() {
            let digest = self.tree.top.digest.clone();
            session.sink.emit(Event::Tagged { reference, digest });
        }
        Ok(())
    }
}

/// Puts the manifests below a top one: images side by side, then indexes in their order.
async fn put_below(carrier: &Carrier, hold: &Hold, tree: &Tree) -> Result<(), Error> {
    let is_image = |manifest: &&Manifest| manifest.as_image().is_some();
    let (images, indexes): (Vec<_>, Vec<_>) = tree.below.iter().partition(is_image);
    let put = |manifest: &'_ Manifest| {
        let (manifest, hold, session) = (manifest.clone(), hold.clone(), carrier.session.clone());
        async move {
            hold.put(&session, &manifest).await.map_err(|error| {
                error.about(format!("failed to put the manifest {}", manifest.digest))
            })
        }
    };
    let images = stream::iter(images.into_iter().map(put)).buffer_unordered(MANIFESTS);
    images.try_collect::<()>().await?;
    for index in indexes {
        put(index).await?;
    }
    Ok(())
}

impl Delivery {
    /// Refuses a target that is named by a digest that the copy does not have.
    fn expect_digest(&self, digest: &Digest) {
        let wanted = self.target.name().and_then(|name| name.digest.as_ref());
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            let message = format!("the copy is {digest}, not {wanted}");
            self.fail(Error::new(Kind::User, message).hint("name it by a tag"));
        }
    }
}

impl Tree {
    /// Refuses what registries would refuse anyway, before anything is moved.
    fn check(&self) -> Result<(), Error> {
        self.manifests().try_for_each(|manifest| Ok(manifest.check_media_types()?))
    }
}
