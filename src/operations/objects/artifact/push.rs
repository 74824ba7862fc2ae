//! `artifact push` and `artifact attach`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::blob::{BytesSource, FileSource, HeldFile, Source};
use crate::event::TransferId;
use crate::image::{
    Descriptor, ImageManifest, MAX_MANIFEST_BYTES, Manifest, Reference, Repository, Tag, media_type,
};
use crate::layer::{Compression, LayerTar, LayerWriter};
use crate::operations::objects::blobs::{hash, open};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};
use crate::store::Store;

use super::paths::below;
use super::{TAR_DIGEST, TITLE, UNPACK, directory};

/// The artifact type where none is given and there is no config that has one; oras' word.
const UNKNOWN_TYPE: &str = "application/vnd.unknown.artifact.v1";
/// The media type of a config of which none is given; oras' word.
const UNKNOWN_CONFIG: &str = "application/vnd.unknown.config.v1+json";

/// A file to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    /// Where it is. A directory becomes a tar.
    pub path: PathBuf,
    /// Its media type; `None` for that of a layer.
    pub media_type: Option<String>,
}

/// Free notes on an artifact and its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArtifactAnnotations {
    /// On the manifest.
    pub manifest: BTreeMap<String, String>,
    /// On the config.
    pub config: BTreeMap<String, String>,
    /// On files, by their titles.
    pub files: BTreeMap<String, BTreeMap<String, String>>,
}

/// An artifact to be pushed.
#[derive(Debug, Clone)]
pub struct ArtifactToPush {
    /// Where to.
    pub repository: Repository,
    /// Its tags; none to push by digest alone.
    pub tags: Vec<Tag>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// The config; `None` for the empty one.
    pub config: Option<ArtifactFile>,
    /// The files.
    pub files: Vec<ArtifactFile>,
    /// Free notes.
    pub annotations: ArtifactAnnotations,
    /// What it refers to.
    pub subject: Option<Descriptor>,
}

/// Pushes files, then the manifest that names them, then its tags. Returns the manifest's descriptor.
///
/// # Errors
///
/// [`Kind::User`] for files that cannot be pushed, or that have one name; else whatever the registry
/// says.
pub async fn push_artifact(
    session: &Session,
    request: ArtifactToPush,
) -> Result<Descriptor, Error> {
    let (repository, tags) = (request.repository.clone(), request.tags.clone());
    let store = session.store.clone();
    let Prepared { manifest, blobs } = blocking(move || prepare(&store, request)).await?;
    let mut tasks = JoinSet::new();
    let mut seen = BTreeSet::new();
    for (descriptor, source) in blobs {
        if seen.insert(descriptor.digest.clone()) {
            let (client, repository) = (session.client.clone(), repository.clone());
            tasks.spawn(async move {
                let transfer = TransferId::next();
                client.push_blob(&repository, &descriptor, source, &[], transfer).await
            });
        }
    }
    let what = || format!("failed to push to `{}`", repository.familiar());
    while let Some(done) = tasks.join_next().await {
        let done =
            done.map_err(|error| Error::new(Kind::Internal, "an upload failed").because(error))?;
        done.map_err(|error| Error::from(error).about(what()))?;
    }
    let pushed = session.client.push_manifest_tags(&repository, &manifest, &tags).await;
    pushed.map_err(|error| Error::from(error).about(what()))?;
    for tag in tags {
        let reference = Reference::tagged(repository.clone(), tag);
        let digest = manifest.digest.clone();
        session.sink.emit(crate::event::Event::Tagged { reference, digest });
    }
    Ok(manifest.descriptor())
}

/// A manifest and the bytes of all that it names.
struct Prepared {
    manifest: Manifest,
    blobs: Vec<(Descriptor, Arc<dyn Source>)>,
}

fn prepare(store: &Store, request: ArtifactToPush) -> Result<Prepared, Error> {
    let mut blobs: Vec<(Descriptor, Arc<dyn Source>)> = Vec::new();
    let mut annotations = request.annotations;
    let mut titles = BTreeSet::new();
    for file in &request.files {
        let title = title_of(&file.path)?;
        let name = title.to_str().ok_or_else(|| {
            let message = format!("the name of `{}` is not UTF-8", file.path.display());
            Error::new(Kind::User, message)
        })?;
        let name = if name.is_empty() { "." } else { name };
        if !titles.insert(name.to_owned()) {
            return Err(Error::new(Kind::User, format!("two files are called `{name}`")));
        }
        let (mut descriptor, source) = pack(store, file, &title)?;
        descriptor.annotations.insert(TITLE.to_owned(), name.to_owned());
        descriptor.annotations.extend(annotations.files.remove(name).unwrap_or_default());
        blobs.push((descriptor, source));
    }
    if let Some(name) = annotations.files.keys().next() {
        let message = format!("there are annotations for `{name}`, which is not pushed");
        return Err(Error::new(Kind::User, message));
    }
    let mut layers: Vec<Descriptor> =
        blobs.iter().map(|(descriptor, _)| descriptor.clone()).collect();
    let has_config = request.config.is_some();
    let (mut config, source) = match &request.config {
        Some(file) => plain(file, UNKNOWN_CONFIG)?,
        None => empty(),
    };
    config.annotations.extend(annotations.config);
    blobs.push((config.clone(), source));
    if layers.is_empty() {
        // "Guidance for an Empty Descriptor": not every registry takes a manifest without layers.
        let (descriptor, source) = empty();
        layers.push(descriptor.clone());
        blobs.push((descriptor, source));
    }
    let unknown = || (!has_config).then(|| UNKNOWN_TYPE.to_owned());
    let manifest = Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: request.artifact_type.or_else(unknown),
        config,
        layers,
        subject: request.subject,
        annotations: annotations.manifest,
    });
    if manifest.bytes.len() > MAX_MANIFEST_BYTES {
        let message = format!("the artifact's manifest has more than {MAX_MANIFEST_BYTES} bytes");
        return Err(Error::new(Kind::User, message).hint("push fewer files, or one directory"));
    }
    Ok(Prepared { manifest, blobs })
}

/// Returns the name that a file has in the artifact: the path as given, or the last part of one that
/// leads out of the current directory.
fn title_of(path: &Path) -> Result<PathBuf, Error> {
    if let Some(title) = below(path) {
        return Ok(title);
    }
    let name = path.file_name().map(PathBuf::from);
    name.ok_or_else(|| {
        let message = format!("`{}` has no name to push it under", path.display());
        Error::new(Kind::User, message).hint("give it by its name, as in `../name`")
    })
}

fn empty() -> (Descriptor, Arc<dyn Source>) {
    let bytes = Bytes::from_static(b"{}");
    (Descriptor::of(media_type::OCI_EMPTY, &bytes), Arc::new(BytesSource(bytes)))
}

fn pack(
    store: &Store,
    file: &ArtifactFile,
    title: &Path,
) -> Result<(Descriptor, Arc<dyn Source>), Error> {
    if !file.path.is_dir() {
        return plain(file, media_type::OCI_LAYER_TAR);
    }
    let broken = |error| Error::new(Kind::Internal, "failed to write an archive").because(error);
    let ingest = store.ingest_file()?;
    let output = ingest.file().try_clone().map_err(broken)?;
    let mut tar = LayerTar::new(LayerWriter::new(output, Compression::default()));
    directory::pack(&file.path, title, &mut tar).map_err(|error| {
        error.about(format!("failed to pack the directory `{}`", file.path.display()))
    })?;
    let (writer, _) = tar.finish()?;
    let sealed = writer.finish().map_err(broken)?;
    let media_type = file.media_type.clone().unwrap_or(sealed.media_type);
    let mut descriptor = Descriptor::new(media_type, sealed.digest, sealed.size);
    descriptor.annotations.insert(UNPACK.to_owned(), "true".to_owned());
    descriptor.annotations.insert(TAR_DIGEST.to_owned(), sealed.diff_id.to_string());
    // Its name in the store goes with `ingest`; its content stays for as long as it is open.
    let held = HeldFile::new(ingest.file().try_clone().map_err(broken)?).map_err(broken)?;
    Ok((descriptor, Arc::new(held)))
}

fn plain(file: &ArtifactFile, usual: &str) -> Result<(Descriptor, Arc<dyn Source>), Error> {
    let unreadable = |error| {
        Error::new(Kind::User, format!("failed to read `{}`", file.path.display())).because(error)
    };
    let held = HeldFile::new(open(&file.path)?).map_err(unreadable)?;
    let (digest, size) = hash(&held, None).map_err(unreadable)?;
    let media_type = file.media_type.clone().unwrap_or_else(|| usual.to_owned());
    // Opened again for its upload: an artifact may have more files than a process may have open.
    let source = FileSource::new(file.path.clone(), size);
    Ok((Descriptor::new(media_type, digest, size), Arc::new(source)))
}
