//! `bundle create` and `bundle add`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::{ArchiveWriter, Form, Name};
use crate::image::{Digest, Reference};
use crate::operations::copy::{
    ArchiveTarget, Carrier, CopiedImage, CopyJob, CopyOptions, CopyTarget, copy_images,
};
use crate::operations::images::find;
use crate::operations::lock::LockFile;
use crate::operations::place::{ImageSource, transport};
use crate::operations::publish::Traffic;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::inventory::Inventory;

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// One image, or all of an archive that is named without an image. It gets another name when
    /// one is given.
    Image {
        /// Where it is.
        source: ImageSource,
        /// The name that it gets.
        name: Option<Reference>,
    },
    /// The images of a lock file, by digest.
    Lock(PathBuf),
}

/// What becomes of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// It is made; one that was begun is gone on with.
    New(PathBuf),
    /// It is there, and gets more.
    Existing(PathBuf),
}

/// What goes into a bundle.
#[derive(Debug, Clone)]
pub struct BundleRequest {
    /// The file.
    pub destination: Destination,
    /// The images.
    pub sources: Vec<BundleSource>,
    /// What of each image.
    pub options: CopyOptions,
    /// What the other side has.
    pub inventory: Option<Inventory>,
}

/// What was done.
#[derive(Debug)]
pub struct BundleReport {
    /// The names, and what they stand for.
    pub images: Vec<(Reference, CopiedImage)>,
    /// What failed.
    pub failures: Vec<Error>,
    /// What moved.
    pub traffic: Traffic,
}

/// Fills a bundle. When an image fails, the others are brought all the same, but nothing is
/// finished: the next run goes on with what is there.
///
/// # Errors
///
/// When the sources cannot be found, or the file cannot be written.
pub async fn fill_bundle(session: &Session, request: BundleRequest) -> Result<BundleReport, Error> {
    let mut wanted: BTreeMap<Reference, ImageSource> = BTreeMap::new();
    for source in request.sources {
        for (name, source) in expand(session, source).await? {
            if let Some(other) = wanted.insert(name.clone(), source.clone())
                && other != source
            {
                let message =
                    format!("`{}` would be both `{other}` and `{source}`", name.familiar());
                return Err(Error::new(Kind::User, message)
                    .hint("give one of them another name, as NAME=SOURCE"));
            }
        }
    }
    if wanted.is_empty() {
        return Err(
            Error::new(Kind::Settings, "no image is named").hint("name images, or `--file LIST`")
        );
    }
    let bundle = open_target(request.destination, request.inventory).await?;
    let (names, jobs): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .map(|(name, source)| {
            let targets =
                vec![CopyTarget::Archive(bundle.clone(), Some(Name::Whole(name.clone())))];
            (name, CopyJob { source, targets, options: request.options.clone() })
        })
        .unzip();
    let mut report =
        BundleReport { images: Vec::new(), failures: Vec::new(), traffic: Traffic::default() };
    copy_images(&Carrier::new(session), &jobs, |at, copied| {
        report.take(names[at].clone(), copied);
    })
    .await;
    if report.failures.is_empty() {
        bundle.finish().await?;
    }
    report.images.sort_by_key(|(name, _)| name.to_string());
    Ok(report)
}

impl BundleReport {
    fn take(&mut self, name: Reference, copied: Result<CopiedImage, Error>) {
        let moved = copied.as_ref().map_or_else(|_| Traffic::default(), CopiedImage::traffic);
        self.traffic = self.traffic.and(moved);
        match copied.and_then(CopiedImage::all_arrived) {
            Ok(copied) => self.images.push((name, copied)),
            Err(error) => self.failures.push(error),
        }
    }
}

async fn open_target(
    destination: Destination,
    inventory: Option<Inventory>,
) -> Result<ArchiveTarget, Error> {
    blocking(move || {
        let (path, opened) = match &destination {
            Destination::New(path) => (path, ArchiveWriter::create(path, Form::Bundle, 0)),
            Destination::Existing(path) => (path, ArchiveWriter::append(path)),
        };
        let label = format!("{}:{}", transport(Form::Bundle), path.display());
        let writer = opened.map_err(|error| {
            Error::from(error).about(format!("failed to write `{}`", path.display()))
        })?;
        let writer = match inventory {
            Some(inventory) => writer.leave_out(inventory.of, inventory.blobs),
            None => writer,
        };
        Ok::<_, Error>(ArchiveTarget::new(writer, label))
    })
    .await
}

/// Returns the images that a source stands for, under their names.
async fn expand(
    session: &Session,
    source: BundleSource,
) -> Result<Vec<(Reference, ImageSource)>, Error> {
    match source {
        BundleSource::Lock(path) => blocking(move || locked_images(&path)).await,
        BundleSource::Image { source, name: Some(name) } => Ok(vec![(name.or_latest(), source)]),
        BundleSource::Image { source: ImageSource::Registry(name), name: None } => {
            // The tag is what the image is found by; the digest says what it has to be.
            let mut shown = name.clone().or_latest();
            shown.digest = shown.digest.filter(|_| shown.tag.is_none());
            Ok(vec![(shown, ImageSource::Registry(name))])
        }
        BundleSource::Image { source: ImageSource::Store(text), name: None } => {
            let store = session.store.clone();
            blocking(move || {
                let entry = find(&store, &text)?;
                let name = entry.name.ok_or_else(|| nameless(&text))?;
                Ok::<_, Error>(vec![(name, ImageSource::Store(text))])
            })
            .await
        }
        BundleSource::Image { source: ImageSource::Archive { form, path, image }, name: None } => {
            blocking(move || of_archive(form, &path, image.as_deref())).await
        }
    }
}

fn locked_images(path: &Path) -> Result<Vec<(Reference, ImageSource)>, Error> {
    let about = || format!("failed to read the lock file `{}`", path.display());
    let lock = LockFile::open(path)
        .map_err(|error| Error::new(Kind::User, about()).because(error))?
        .ok_or_else(|| Error::new(Kind::NotFound, about()).hint("make one by `rpub lock`"))?;
    let images = lock.images.into_iter().map(|(name, image)| {
        let name = name.or_latest();
        let pinned = Reference { digest: Some(image.digest), ..name.clone() };
        (
            Reference { digest: name.digest.clone().filter(|_| name.tag.is_none()), ..name },
            ImageSource::Registry(pinned),
        )
    });
    Ok(images.collect())
}

/// Returns one image of an archive, or all that have a name.
fn of_archive(
    form: Form,
    path: &Path,
    image: Option<&str>,
) -> Result<Vec<(Reference, ImageSource)>, Error> {
    let archive = super::list::open(path)?;
    let one = |digest: &Digest| {
        let image = Some(digest.to_string());
        ImageSource::Archive { form, path: path.to_owned(), image }
    };
    if let Some(image) = image {
        let found = archive.find(Some(image))?;
        let name = found.name.as_ref().and_then(Name::reference).ok_or_else(|| nameless(image))?;
        return Ok(vec![(name.clone(), one(&found.descriptor.digest))]);
    }
    let images = archive.images().iter().filter(|image| image.subject.is_none());
    images
        .map(|image| {
            let name = image.name.as_ref().and_then(Name::reference);
            let shown = || {
                nameless(
                    &image
                        .name
                        .as_ref()
                        .map_or_else(|| image.descriptor.digest.to_string(), ToString::to_string),
                )
            };
            Ok((name.ok_or_else(shown)?.clone(), one(&image.descriptor.digest)))
        })
        .collect()
}

fn nameless(image: &str) -> Error {
    Error::new(Kind::User, format!("`{image}` has no whole name"))
        .hint("give it one, as NAME=SOURCE")
}
