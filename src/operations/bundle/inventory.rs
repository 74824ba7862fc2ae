//! What a side has already: made there, carried here, and left out of a delta bundle.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::image::{Content, Digest, Manifest, Reference, Repository};
use crate::operations::objects::{ListRequest, list_tags};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

/// The newest format that is read, and the one that is written.
const VERSION: u64 = 1;
/// Most of an inventory that is read: half a million blobs.
const MAX_BYTES: u64 = 64 << 20;

/// The blobs that one side has, in a file of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The version of the format.
    pub rpub_inventory: u64,
    /// Whose it is, in words.
    pub of: String,
    /// The blobs, manifests too.
    pub blobs: BTreeSet<Digest>,
}

/// What an inventory is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventorySource {
    /// An inventory that was taken before, or a bundle, an archive or a layout.
    Path(PathBuf),
    /// The store.
    Store,
    /// All tags of a repository.
    Repository(Repository),
}

/// What every version has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    rpub_inventory: u64,
}

impl Inventory {
    fn new(of: String, blobs: BTreeSet<Digest>) -> Self {
        Self { rpub_inventory: VERSION, of, blobs }
    }

    /// Returns the text of the file.
    ///
    /// # Panics
    ///
    /// Never: strings serialise to JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings serialise to JSON")
    }
}

/// Finds out what a side has.
///
/// # Errors
///
/// When it cannot be read, or is an inventory of a later version.
pub async fn take_inventory(
    session: &Session,
    source: &InventorySource,
) -> Result<Inventory, Error> {
    match source {
        InventorySource::Path(path) => {
            let path = path.clone();
            blocking(move || {
                let about = |error: Error| {
                    error.about(format!("failed to read the inventory `{}`", path.display()))
                };
                read(&path).map_err(about)
            })
            .await
        }
        InventorySource::Store => {
            let store = session.store.clone();
            blocking(move || {
                let of = format!("the store `{}`", store.root().display());
                Ok::<_, Error>(Inventory::new(of, store.blob_digests()?.into_iter().collect()))
            })
            .await
        }
        InventorySource::Repository(repository) => of_repository(session, repository).await,
    }
}

fn read(path: &Path) -> Result<Inventory, Error> {
    if let Some(inventory) = read_file(path)? {
        return Ok(inventory);
    }
    let archive = Archive::open(path)?;
    let of = format!("`{}`", path.display());
    Ok(Inventory::new(of, archive.blobs()?.into_keys().collect()))
}

/// Reads the file of an inventory; `None` when it is something else.
fn read_file(path: &Path) -> Result<Option<Inventory>, Error> {
    let unreadable = |error: std::io::Error| Error::from(crate::archive::Error::Io(error));
    if fs_err::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(None);
    }
    let mut start = Vec::new();
    let mut file = fs_err::File::open(path).map_err(unreadable)?;
    file.by_ref().take(1).read_to_end(&mut start).map_err(unreadable)?;
    if start != b"{" {
        return Ok(None);
    }
    file.take(MAX_BYTES).read_to_end(&mut start).map_err(unreadable)?;
    let invalid =
        |error: serde_json::Error| Error::new(Kind::User, "it is no inventory").because(error);
    let version: Version = serde_json::from_slice(&start).map_err(invalid)?;
    if version.rpub_inventory > VERSION {
        let message = format!(
            "it is an inventory of version {}; this rpub knows version {VERSION}",
            version.rpub_inventory
        );
        return Err(Error::new(Kind::User, message).hint("use a newer rpub"));
    }
    serde_json::from_slice(&start).map(Some).map_err(invalid)
}

async fn of_repository(session: &Session, repository: &Repository) -> Result<Inventory, Error> {
    let mut tags = Vec::new();
    let all = ListRequest::default();
    list_tags(session, repository, &all, |tag| {
        tags.extend(tag.parse().ok());
        Ok(())
    })
    .await?;
    let mut blobs = BTreeSet::new();
    let mut waiting: Vec<Reference> =
        tags.into_iter().map(|tag| Reference::tagged(repository.clone(), tag)).collect();
    while let Some(name) = waiting.pop() {
        let manifest = session.client.manifest(&name).await?;
        if !blobs.insert(manifest.digest.clone()) {
            continue;
        }
        let below = below(&manifest);
        let manifests = below.iter().filter(|it| it.is_manifest() && !blobs.contains(&it.digest));
        waiting.extend(
            manifests.map(|it| Reference::by_digest(repository.clone(), it.digest.clone())),
        );
        blobs.extend(below.into_iter().filter(|it| !it.is_manifest()).map(|it| it.digest));
    }
    Ok(Inventory::new(format!("`{}`", repository.familiar()), blobs))
}

fn below(manifest: &Manifest) -> Vec<crate::image::Descriptor> {
    match &manifest.content {
        Content::Image(_) => manifest.parts().cloned().collect(),
        Content::Index(index) => index.manifests.clone(),
    }
}
