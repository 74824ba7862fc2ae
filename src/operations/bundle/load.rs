//! `bundle load`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::archive::{Archive, Form, Name, Stored};
use crate::image::{Descriptor, Digest, Reference};
use crate::operations::copy::{
    Carrier, Carry, CopiedImage, CopyJob, CopyOptions, CopyTarget, copy_images,
};
use crate::operations::place::ImageSource;
use crate::operations::publish::Traffic;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::closure::Closure;
use super::list::open;
use super::names::NameMap;

/// Most missing blobs that are named.
const MAX_NAMED: usize = 10;

/// Where images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadTo {
    /// The store. No network.
    Store,
    /// Registries, by the names that the images get.
    Registries,
}

/// What is loaded.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The bundle, or another archive.
    pub path: PathBuf,
    /// Names, tags or digests of images; all images when there is none.
    pub images: Vec<String>,
    /// Where to.
    pub to: LoadTo,
    /// Which names they get there.
    pub names: NameMap,
}

/// One image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Its name in the bundle.
    pub from: Reference,
    /// Its name now.
    pub to: Reference,
    /// What was done.
    pub copied: CopiedImage,
}

/// What was done.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// The images.
    pub images: Vec<Loaded>,
    /// What failed.
    pub failures: Vec<Error>,
    /// What moved.
    pub traffic: Traffic,
}

/// Loads images. Each is there whole or not at all; a run after a failure goes on with what is there.
///
/// # Errors
///
/// When the bundle cannot be read, or leaves out what the store lacks.
pub async fn load_bundle(session: &Session, request: LoadRequest) -> Result<LoadReport, Error> {
    let path = request.path.clone();
    let archive = blocking(move || open(&path)).await?;
    if archive.is_interrupted() {
        session.warn(format!(
            "something was being added to `{}` when its writer died: it is read as it was before",
            request.path.display()
        ));
    }
    let wanted = wanted(&archive, &request)?;
    if request.to == LoadTo::Store {
        let (archive, store) = (archive.clone(), session.store.clone());
        let tops = wanted.iter().map(|(_, _, descriptor)| descriptor.clone()).collect();
        blocking(move || {
            let closure = Closure::of(&archive, tops)?;
            expect_there(&archive, &closure, |digest| store.has_blob(digest))
        })
        .await?;
    }
    let jobs: Vec<CopyJob> = wanted.iter().map(|(_, to, it)| job(&request, to, it)).collect();
    let mut report = LoadReport::default();
    copy_images(&Carrier::new(session), &jobs, |at, copied| {
        let (from, to, _) = &wanted[at];
        report.take(from, to, copied);
    })
    .await;
    report.images.sort_by_key(|image| image.to.to_string());
    Ok(report)
}

impl LoadReport {
    fn take(&mut self, from: &Reference, to: &Reference, copied: Result<CopiedImage, Error>) {
        let moved = copied.as_ref().map_or_else(|_| Traffic::default(), CopiedImage::traffic);
        self.traffic = self.traffic.and(moved);
        match copied.and_then(CopiedImage::all_arrived) {
            Ok(copied) => self.images.push(Loaded { from: from.clone(), to: to.clone(), copied }),
            Err(error) => self.failures.push(error),
        }
    }
}

fn job(request: &LoadRequest, to: &Reference, descriptor: &Descriptor) -> CopyJob {
    let image = Some(descriptor.digest.to_string());
    let source = ImageSource::Archive { form: Form::Bundle, path: request.path.clone(), image };
    let target = match request.to {
        LoadTo::Store => CopyTarget::Store(Some(to.clone())),
        LoadTo::Registries => CopyTarget::Registry(to.clone()),
    };
    // Digest tags are names of the bundle, and come as such.
    let options = CopyOptions {
        digest_tags: Carry::No,
        companions_of_present: Carry::Yes,
        ..CopyOptions::default()
    };
    CopyJob { source, targets: vec![target], options }
}

/// Returns the images that are asked for, with the names that they have and get.
fn wanted(
    archive: &Archive,
    request: &LoadRequest,
) -> Result<Vec<(Reference, Reference, Descriptor)>, Error> {
    let images: Vec<&Stored> = if request.images.is_empty() {
        archive.images().iter().filter(|image| image.subject.is_none()).collect()
    } else {
        let found = request.images.iter().map(|image| archive.find(Some(image)));
        found.collect::<Result<_, _>>()?
    };
    let mut taken: BTreeMap<Reference, Digest> = BTreeMap::new();
    let mut wanted = Vec::new();
    for image in images {
        let digest = &image.descriptor.digest;
        let Some(name) = image.name.as_ref().and_then(Name::reference) else {
            let shown = image.name.as_ref().map_or_else(|| digest.to_string(), Name::to_string);
            let message = format!("`{shown}` has no whole name to be loaded under");
            return Err(Error::new(Kind::User, message)
                .hint("copy it with the name that it shall have, by `rpub copy`"));
        };
        let to = request.names.apply(name)?;
        if let Some(other) = taken.insert(to.clone(), digest.clone())
            && other != *digest
        {
            let message = format!("two images would become `{}`", to.familiar());
            return Err(Error::new(Kind::User, message)
                .hint("tell their repositories apart by `--map OLD=NEW`"));
        }
        wanted.push((name.clone(), to, image.descriptor.clone()));
    }
    Ok(wanted)
}

/// Refuses to begin when something is missing; says exactly what.
fn expect_there(
    archive: &Archive,
    closure: &Closure,
    is_there: impl Fn(&Digest) -> bool,
) -> Result<(), Error> {
    if let Some(digest) = closure.missing.keys().find(|digest| !is_there(digest)) {
        return Err(archive.lack(digest).into());
    }
    let absent: BTreeSet<&Digest> =
        closure.left_out.keys().filter(|digest| !is_there(digest)).collect();
    let Some(delta) = archive.delta().filter(|_| !absent.is_empty()) else { return Ok(()) };
    let bytes: u64 =
        absent.iter().filter_map(|it| closure.left_out.get(*it)).map(|it| it.size).sum();
    let named: Vec<String> = absent.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = absent.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "the store lacks {} blobs ({bytes} bytes) that the bundle leaves out, as it was made for \
         {}: {}{more}",
        absent.len(),
        delta.against,
        named.join(", ")
    );
    Err(Error::new(Kind::NotFound, message)
        .hint("load the bundle before it first, or make one by `rpub bundle create` without `--delta-from`"))
}
