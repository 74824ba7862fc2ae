//! An image in the form that an output wants: one manifest, or an index of several.

use std::collections::BTreeMap;

use crate::build::{AnnotationPlace, Form, Image};
use crate::image::{Descriptor, Digest, Index, Manifest, media_type};

/// A finished image of one or several platforms.
#[derive(Debug, Clone)]
pub(in crate::operations::build) struct Product {
    /// One for each platform, in the order asked for.
    pub(in crate::operations::build) images: Vec<Image>,
    /// The index, when there are several.
    pub(in crate::operations::build) index: Option<Manifest>,
    /// What names it all: the index's descriptor, or the one manifest's.
    pub(in crate::operations::build) descriptor: Descriptor,
}

impl Product {
    /// Puts the images together.
    pub(in crate::operations::build) fn new(images: Vec<Image>, form: &Form) -> Self {
        let described: Vec<Descriptor> =
            images.iter().map(|image| descriptor_of(image, form)).collect();
        if let [descriptor] = described.as_slice() {
            let descriptor = descriptor.clone();
            return Self { images, index: None, descriptor };
        }
        // Docker's index names Docker's manifests only.
        let is_docker = |image: &Image| image.manifest.media_type == media_type::DOCKER_MANIFEST;
        let media_type = if images.iter().all(is_docker) {
            media_type::DOCKER_INDEX
        } else {
            media_type::OCI_INDEX
        };
        let index = Manifest::from_index(Index {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            artifact_type: None,
            manifests: described,
            subject: None,
            annotations: form.annotations.of(AnnotationPlace::Index, None),
        });
        let descriptor = Descriptor {
            annotations: form.annotations.of(AnnotationPlace::IndexDescriptor, None),
            ..index.descriptor()
        };
        Self { images, index: Some(index), descriptor }
    }

    /// Returns what a name stands for: the index, or the one manifest.
    pub(in crate::operations::build) fn top(&self) -> Option<&Manifest> {
        self.index.as_ref().or_else(|| self.images.first().map(|image| &image.manifest))
    }

    /// Returns every blob of it: layers, configs, manifests, the index.
    pub(in crate::operations::build) fn blobs(&self) -> BTreeMap<Digest, Descriptor> {
        let mut blobs = BTreeMap::new();
        let mut add = |descriptor: &Descriptor| {
            blobs.insert(descriptor.digest.clone(), descriptor.clone());
        };
        for image in &self.images {
            image.layers.iter().for_each(|layer| add(&layer.descriptor));
            add(&image.config_descriptor);
            add(&image.manifest.descriptor());
        }
        self.index.iter().for_each(|index| add(&index.descriptor()));
        blobs
    }
}

fn descriptor_of(image: &Image, form: &Form) -> Descriptor {
    let place = AnnotationPlace::ManifestDescriptor;
    let annotations = form.annotations.of(place, Some(&image.platform));
    Descriptor { annotations, ..image.descriptor() }
}
