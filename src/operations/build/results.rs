//! What becomes of a finished build: files, archives, names in the store and in registries.

use std::sync::Arc;

use crate::build::{Base, Engine, Image, Plan};
use crate::event::Event;
use crate::image::{Descriptor, Manifest, Platform, Reference};
use crate::operations::publish::{Parcel, Traffic, publish_manifest, repositories};
use crate::operations::pull::fetch_missing;
use crate::operations::push::BASE_NAME;
use crate::operations::session::blocking;
use crate::operations::{Error, Session};
use crate::store::Store;

use super::cache::{CacheSources, Exports};
use super::outputs::{
    Choice, ImageOutput, Keep, OutputKind, Outputs, PlatformFiles, Product, Publish, write_archive,
    write_files,
};
use super::plan::PlanError;
use super::publishing::Publishing;
use super::request::{BuildReport, BuildRequest, BuiltImage, ImageReport};

/// What a build gave for one output.
pub(super) enum Made {
    /// Files, which are written.
    Files,
    /// An image, whose layers are in the store as far as it has them.
    Image(Box<Product>),
}

/// Lets the image of a stage carry what later builds look up.
pub(super) type Carry<'a> = dyn Fn(usize, Image) -> Image + 'a;

/// Gives every output what it wants of the finished `images`, and writes files. Blocks.
pub(super) fn make(
    engine: &Engine<'_>,
    plan: &Plan,
    images: &[Image],
    outputs: &Outputs,
    request: &BuildRequest,
    carry: &Carry<'_>,
) -> Result<Vec<Made>, PlanError> {
    let made = outputs.0.iter().map(|choice| {
        if engine.cancel.is_requested() {
            return Err(crate::build::Error::Canceled.into());
        }
        if let Some(place) = choice.place() {
            engine.sink.emit(Event::Note { text: format!("exporting to {place}") });
        }
        if choice.is_image() {
            if !choice.publishes() {
                // What the steps made must be here; the base's layers are fetched side by side later.
                let new = |image: &Image| image.parts.layers[image.parts.base_layers()..].to_vec();
                let mut layers = images.iter().flat_map(new);
                layers.try_for_each(|layer| engine.bring(plan, &layer))?;
            }
            return Ok(Made::Image(Box::new(product(engine, plan, images, choice, carry)?)));
        }
        let mut platforms = Vec::with_capacity(images.len());
        for image in images {
            let files = engine.files(plan, &image.parts.layers)?;
            platforms.push(PlatformFiles { platform: image.platform.clone(), files });
        }
        for text in write_files(&platforms, choice, request.delivery.stdout.as_ref())? {
            engine.sink.emit(Event::Warning { text });
        }
        Ok(Made::Files)
    });
    made.collect()
}

fn product(
    engine: &Engine<'_>,
    plan: &Plan,
    images: &[Image],
    choice: &Choice,
    carry: &Carry<'_>,
) -> Result<Product, PlanError> {
    let shape = |image: &Image| {
        if choice.form == *engine.form {
            return Ok(image.clone());
        }
        engine.shape(plan, image.parts.clone(), &choice.form)
    };
    let shaped = images.iter().zip(&plan.targets);
    let shaped = shaped.map(|(image, target)| Ok(carry(*target, shape(image)?)));
    let shaped = shaped.collect::<Result<_, crate::build::Error>>()?;
    Ok(Product::new(shaped, &choice.form))
}

/// Delivers what was made.
pub(super) struct Results<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a BuildRequest,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) outputs: &'a Outputs,
    pub(super) caches: &'a CacheSources,
    pub(super) exports: &'a Exports,
}

impl Results<'_> {
    /// Writes archives, then publishes and names images, in the order of the outputs. `publishing`
    /// is what the first output that publishes has under way.
    pub(super) async fn deliver(
        &self,
        made: Vec<Made>,
        mut publishing: Option<Publishing>,
    ) -> Result<BuildReport, Error> {
        let outputs = || self.outputs.0.iter().zip(&made);
        let mut report = BuildReport::default();
        for (choice, made) in outputs() {
            let Made::Image(product) = made else { continue };
            self.keep_documents(product).await?;
            if choice.image().is_none() {
                self.archive(product, choice).await?;
                report.image.get_or_insert_with(|| image_report(product, choice));
            }
        }
        for (choice, made) in outputs() {
            let (Made::Image(product), Some(image)) = (made, choice.image()) else { continue };
            if image.publish == Publish::No {
                self.complete(product).await?;
            } else {
                let publishing = publishing.take().unwrap_or_else(|| self.publish_late(choice));
                let (traffic, published) = self.publish(product, choice, publishing).await?;
                report.traffic = Some(report.traffic.unwrap_or_default().and(traffic));
                report.published.extend(published);
            }
            self.name(product, choice, image).await?;
            report.image = Some(image_report(product, choice));
        }
        let (to, published) = (&self.request.cache_to, repositories(&report.published));
        self.exports.write(self.session, self.caches, to, &published).await?;
        Ok(report)
    }

    fn publish_late(&self, choice: &Choice) -> Publishing {
        Publishing::start(self.session, &choice.names, self.plan, &choice.form)
    }

    /// Puts configs, manifests and the index into the store.
    async fn keep_documents(&self, product: &Product) -> Result<(), Error> {
        let (store, product) = (self.session.store.clone(), product.clone());
        blocking(move || {
            for image in &product.images {
                store.put_blob(&image.config)?;
                store.put_manifest(&image.manifest)?;
            }
            product.index.iter().try_for_each(|index| store.put_manifest(index))
        })
        .await
    }

    /// Fetches the base layers that the build did not need.
    async fn complete(&self, product: &Product) -> Result<(), Error> {
        for (image, target) in product.images.iter().zip(&self.plan.targets) {
            let Some(base) = self.plan.base_of(*target) else { continue };
            let layers: Vec<Descriptor> =
                image.layers.iter().map(|layer| layer.descriptor.clone()).collect();
            fetch_missing(self.session, &base.reference.repository, &layers).await?;
        }
        Ok(())
    }

    async fn archive(&self, product: &Product, choice: &Choice) -> Result<(), Error> {
        self.complete(product).await?;
        let store = self.session.store.clone();
        let (product, choice) = (product.clone(), choice.clone());
        let stdout = self.request.delivery.stdout.clone();
        blocking(move || write_archive(&store, &product, &choice, stdout.as_ref())).await
    }

    /// Sends what is still missing, then the manifests by digest, then the index, tags last.
    async fn publish(
        &self,
        product: &Product,
        choice: &Choice,
        publishing: Publishing,
    ) -> Result<(Traffic, Vec<Reference>), Error> {
        for (image, target) in product.images.iter().zip(&self.plan.targets) {
            let base = self.plan.base_of(*target);
            let origin = base.map(|base| base.reference.repository.clone());
            publishing.send(Parcel::new(image.config_descriptor.clone(), None));
            for layer in &image.layers {
                let cached = self.caches.origin(&layer.descriptor.digest);
                let origin = cached.or_else(|| origin.clone());
                publishing.send(Parcel::new(layer.descriptor.clone(), origin));
            }
        }
        let traffic = publishing.finish().await?;
        let Some(top) = product.top() else { return Ok((traffic, Vec::new())) };
        if product.index.is_some() {
            for image in &product.images {
                self.push_by_digest(&choice.names, &image.manifest).await?;
            }
        }
        let by_digest = choice.image().is_some_and(|image| image.publish == Publish::ByDigest);
        if by_digest {
            return Ok((traffic, self.push_by_digest(&choice.names, top).await?));
        }
        publish_manifest(self.session, &choice.names, top).await?;
        Ok((traffic, choice.names.clone()))
    }

    /// Puts a manifest into every repository under no name.
    async fn push_by_digest(
        &self,
        names: &[Reference],
        manifest: &Manifest,
    ) -> Result<Vec<Reference>, Error> {
        let mut references = Vec::new();
        for repository in repositories(names) {
            let name = Reference::by_digest(repository, manifest.digest.clone());
            let pushed = self.session.client.push_manifest(&name, manifest).await;
            pushed.map_err(|error| {
                Error::from(error).about(format!("failed to push `{}`", name.familiar()))
            })?;
            references.push(name);
        }
        Ok(references)
    }

    /// Names the image in the store, and those of its bases that have come there whole.
    async fn name(
        &self,
        product: &Product,
        choice: &Choice,
        image: ImageOutput,
    ) -> Result<(), Error> {
        if image.keep == Keep::No {
            return Ok(());
        }
        let mut names = match image.publish {
            Publish::No | Publish::ByName => choice.names.clone(),
            Publish::ByDigest => Vec::new(),
        };
        if image.keep == Keep::NamedAndCanonical || image.publish == Publish::ByDigest {
            let digest = &product.descriptor.digest;
            let canonical = repositories(&choice.names).into_iter();
            names.extend(canonical.map(|name| Reference::by_digest(name, digest.clone())));
        }
        let mut named = product.descriptor.clone();
        if let Some(base) = self.base_name() {
            named.annotations.insert(BASE_NAME.to_owned(), base);
        }
        let (store, plan) = (self.session.store.clone(), Arc::clone(self.plan));
        blocking(move || name_in_store(&store, &plan, &names, &named)).await
    }

    /// Returns the name of the base, when all platforms have the same.
    fn base_name(&self) -> Option<String> {
        let mut names = self
            .plan
            .targets
            .iter()
            .map(|target| Some(self.plan.base_of(*target)?.reference.to_string()));
        let first = names.next()??;
        names.all(|name| name.as_ref() == Some(&first)).then_some(first)
    }
}

fn image_report(product: &Product, choice: &Choice) -> ImageReport {
    let image = |image: &Image| BuiltImage {
        platform: image.platform.clone(),
        manifest: image.manifest.descriptor(),
        config: image.config_descriptor.clone(),
    };
    ImageReport {
        descriptor: product.descriptor.clone(),
        images: product.images.iter().map(image).collect(),
        names: choice.names.clone(),
        is_stored: matches!(choice.kind, OutputKind::Image(image) if image.keep != Keep::No),
    }
}

/// Names the image, and those of its bases that have come into the store whole. Blocks.
fn name_in_store(
    store: &Store,
    plan: &Plan,
    names: &[Reference],
    image: &Descriptor,
) -> Result<(), Error> {
    let mut entries: Vec<(Option<Reference>, Descriptor)> = Vec::new();
    let here = Platform::host();
    for base in &plan.bases {
        // Of one name's images for several platforms, this machine's is the one that is used here.
        let is_other =
            |other: &Base| other.reference == base.reference && other.config.platform() == here;
        if base.config.platform() != here && plan.bases.iter().any(is_other) {
            continue;
        }
        let is_whole = base.layers.iter().all(|layer| store.has_blob(&layer.descriptor.digest));
        let is_known = base.reference.tag.is_none() || {
            let known = store.resolve(&base.reference)?;
            known.is_some_and(|known| known.digest == base.manifest.digest)
        };
        if is_whole && !is_known {
            entries.push((Some(base.reference.clone()), base.manifest.clone()));
        }
    }
    if names.is_empty() {
        entries.push((None, image.clone()));
    } else {
        entries.extend(names.iter().map(|name| (Some(name.clone()), image.clone())));
    }
    Ok(store.tag_all(&entries)?)
}
