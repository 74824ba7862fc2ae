//! The kinds of requests, and what is done with the client so that each is made.

use std::sync::Arc;

use bytes::Bytes;
use rpub::blob::{BytesSource, Source};
use rpub::event::TransferId;
use rpub::image::{Descriptor, Digest, Reference, Repository};
use rpub::registry::{Error, Growing, Growth, Pages};

use super::fault::Fault;
use super::origin::{self, Route};
use super::wire::{At, Request, Travel};
use super::world::{World, blob, manifest};

/// A kind of request: a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ping,
    TokenGet,
    TokenPost,
    ManifestHead,
    ManifestByTag,
    ManifestByDigest,
    ManifestPut,
    ReadBack,
    BlobHead,
    BlobGet,
    BlobRange,
    UploadPost,
    Mount,
    UploadPut,
    UploadPatch,
    UploadDelete,
    UploadGet,
    RangedPatch,
    TagList,
    Referrers,
    Catalog,
    ManifestDelete,
}

pub(super) const KINDS: [Kind; 22] = [
    Kind::Ping,
    Kind::TokenGet,
    Kind::TokenPost,
    Kind::ManifestHead,
    Kind::ManifestByTag,
    Kind::ManifestByDigest,
    Kind::ManifestPut,
    Kind::ReadBack,
    Kind::BlobHead,
    Kind::BlobGet,
    Kind::BlobRange,
    Kind::UploadPost,
    Kind::Mount,
    Kind::UploadPut,
    Kind::UploadPatch,
    Kind::UploadDelete,
    Kind::UploadGet,
    Kind::RangedPatch,
    Kind::TagList,
    Kind::Referrers,
    Kind::Catalog,
    Kind::ManifestDelete,
];

impl Kind {
    /// Returns the column's heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::TokenGet => "token GET",
            Self::TokenPost => "token POST",
            Self::ManifestHead => "manifest HEAD",
            Self::ManifestByTag => "manifest GET, tag",
            Self::ManifestByDigest => "manifest GET, digest",
            Self::ManifestPut => "manifest PUT",
            Self::ReadBack => "manifest HEAD after PUT",
            Self::BlobHead => "blob HEAD",
            Self::BlobGet => "blob GET",
            Self::BlobRange => "blob GET, range",
            Self::UploadPost => "upload POST",
            Self::Mount => "mount POST",
            Self::UploadPut => "upload PUT",
            Self::UploadPatch => "upload PATCH",
            Self::UploadDelete => "upload DELETE",
            Self::UploadGet => "upload GET",
            Self::RangedPatch => "upload PATCH, range",
            Self::TagList => "tag list GET",
            Self::Referrers => "referrers GET",
            Self::Catalog => "catalog GET",
            Self::ManifestDelete => "manifest DELETE",
        }
    }

    /// Returns whether `request` is of this kind.
    pub(super) fn matches(self, request: &Request) -> bool {
        let route = origin::route(&request.path);
        let mounts = request.query.contains("mount=");
        let is_ranged = !request.header("content-range").is_empty();
        match (self, request.method.as_str(), route) {
            (Self::Ping, "GET", Route::Version)
            | (Self::TokenGet, "GET", Route::Token)
            | (Self::TokenPost, "POST", Route::Token)
            | (Self::ManifestHead | Self::ReadBack, "HEAD", Route::Manifest { .. })
            | (Self::ManifestByTag | Self::ManifestByDigest, "GET", Route::Manifest { .. })
            | (Self::ManifestPut, "PUT", Route::Manifest { .. })
            | (Self::BlobHead, "HEAD", Route::Blob { .. })
            | (Self::UploadPut, "PUT", Route::Upload { .. })
            | (Self::UploadDelete, "DELETE", Route::Upload { .. })
            | (Self::UploadGet, "GET", Route::Upload { .. })
            | (Self::TagList, "GET", Route::Tags { .. })
            | (Self::Referrers, "GET", Route::Referrers { .. })
            | (Self::Catalog, "GET", Route::Catalog)
            | (Self::ManifestDelete, "DELETE", Route::Manifest { .. }) => true,
            (Self::UploadPatch, "PATCH", Route::Upload { .. }) => !is_ranged,
            (Self::RangedPatch, "PATCH", Route::Upload { .. }) => is_ranged,
            (Self::BlobGet, "GET", Route::Blob { .. }) => request.header("range").is_empty(),
            (Self::BlobRange, "GET", Route::Blob { .. }) => !request.header("range").is_empty(),
            (Self::UploadPost, "POST", Route::Uploads { .. }) => !mounts,
            (Self::Mount, "POST", Route::Uploads { .. }) => mounts,
            _ => false,
        }
    }

    /// Returns what must go wrong first, so that there is a request of this kind.
    pub(super) fn before(self) -> Option<(Self, Fault)> {
        match self {
            Self::BlobRange => {
                Some((Self::BlobGet, Fault::travels("", Travel::Cut(At::HalfTheBody)).once()))
            }
            Self::UploadDelete => Some((Self::UploadPatch, Fault::says("", 500))),
            Self::UploadGet => Some((Self::UploadPut, Fault::says("", 503).once())),
            Self::RangedPatch => Some((Self::UploadPut, Fault::says("", 413).once())),
            _ => None,
        }
    }

    /// Whether the registry's answer has a body that is read.
    pub(super) fn is_answered_at_length(self) -> bool {
        self.gets_token() || self.gets_manifest() || self.gets_blob() || self.gets_list()
    }

    pub(super) fn gets_list(self) -> bool {
        matches!(self, Self::TagList | Self::Referrers | Self::Catalog)
    }

    pub(super) fn has_json(self) -> bool {
        self.is_answered_at_length() && !self.gets_blob()
    }

    pub(super) fn gets_token(self) -> bool {
        matches!(self, Self::TokenGet | Self::TokenPost)
    }

    pub(super) fn gets_manifest(self) -> bool {
        matches!(self, Self::ManifestByTag | Self::ManifestByDigest)
    }

    pub(super) fn gets_blob(self) -> bool {
        matches!(self, Self::BlobGet | Self::BlobRange)
    }

    pub(super) fn gets_range(self) -> bool {
        self == Self::BlobRange
    }

    pub(super) fn names_digest(self) -> bool {
        self.gets_manifest() || matches!(self, Self::ManifestHead | Self::ReadBack)
    }

    pub(super) fn asks_for_head(self) -> bool {
        matches!(self, Self::ManifestHead | Self::ReadBack | Self::BlobHead)
    }

    /// Whether the request has a body.
    pub(super) fn sends(self) -> bool {
        matches!(self, Self::TokenPost | Self::ManifestPut) || self.sends_blob()
    }

    fn sends_blob(self) -> bool {
        matches!(self, Self::UploadPut | Self::UploadPatch | Self::RangedPatch)
    }

    /// Whether the registry is changed by the request, which can be done though the answer denies it.
    pub(super) fn changes(self) -> bool {
        let is_upload = matches!(self, Self::UploadPost | Self::Mount | Self::UploadDelete);
        is_upload || self.sends_blob() || matches!(self, Self::ManifestPut | Self::ManifestDelete)
    }

    pub(super) fn puts_manifest(self) -> bool {
        self == Self::ManifestPut
    }

    /// Whether the answer says where the upload goes on.
    pub(super) fn is_told_location(self) -> bool {
        let is_told = matches!(self, Self::UploadPost | Self::UploadPatch);
        is_told || matches!(self, Self::UploadGet | Self::RangedPatch)
    }

    /// Whether the registry is asked for the challenge alone.
    pub(super) fn is_registrys(self) -> bool {
        !self.gets_token()
    }

    /// Makes a request of this kind, among others, and checks what a success has to bring.
    pub(super) async fn make(self, world: &World) -> Result<(), Error> {
        match self {
            Self::Ping => {
                let (registry, password) = world.login();
                world.client.check_login(&registry, origin::USERNAME, &password).await
            }
            Self::TokenGet | Self::TokenPost | Self::ManifestByTag => {
                // By a tag whatever comes is right, under its own digest.
                let found = world.client.manifest(&world.reference("team/app:1")).await?;
                assert_eq!(found.digest, Digest::of(&found.bytes));
                Ok(())
            }
            Self::ManifestByDigest => {
                let repository = world.reference("team/app:1").repository;
                let reference = Reference::by_digest(repository, manifest().digest);
                let found = world.client.manifest(&reference).await?;
                assert_eq!(found.bytes, manifest().bytes);
                Ok(())
            }
            Self::ManifestHead => {
                let found = world.client.resolve(&world.reference("team/app:1")).await?;
                let repository = world.reference("team/app:1").repository;
                let reference = Reference::by_digest(repository, found.digest);
                world.client.manifest(&reference).await.map(drop)
            }
            Self::ManifestPut | Self::ReadBack => put_manifest(world).await,
            Self::BlobGet | Self::BlobRange => fetch(world).await,
            Self::BlobHead
            | Self::UploadPost
            | Self::UploadPut
            | Self::UploadGet
            | Self::RangedPatch => push(world, &[]).await,
            Self::Mount => push(world, &["team/app"]).await,
            Self::UploadPatch | Self::UploadDelete => grow(world).await,
            Self::TagList => {
                let repository = world.reference("team/app:1").repository;
                all(world.client.tags(&repository, None)).await
            }
            Self::Catalog => {
                let (registry, _) = world.login();
                all(world.client.repositories(&registry, None)).await
            }
            Self::Referrers => {
                let repository = world.reference("team/app:1").repository;
                let subject = manifest().digest;
                world.client.referrers(&repository, &subject, None).await.map(drop)
            }
            Self::ManifestDelete => {
                let repository = world.reference("team/app:1").repository;
                world.client.delete_manifest(&repository, &manifest().digest).await
            }
        }
    }
}

/// Reads a list to its end. What it says is the registry's word, which nothing can be held against.
async fn all(mut pages: Pages) -> Result<(), Error> {
    while pages.next().await?.is_some() {}
    Ok(())
}

async fn put_manifest(world: &World) -> Result<(), Error> {
    let reference = world.reference("new/app:1");
    world.client.push_manifest(&reference, &manifest()).await?;
    let key = ("new/app".to_owned(), "1".to_owned());
    let stored = world.content.lock().unwrap().manifests.get(&key).cloned();
    assert_eq!(stored.map(|(_, bytes)| bytes), Some(manifest().bytes), "the tag is not there");
    Ok(())
}

async fn fetch(world: &World) -> Result<(), Error> {
    let (repository, transfer) = (world.reference("team/app:1").repository, TransferId::next());
    let descriptor = Descriptor::of("x", blob());
    let mut stream = world.client.fetch_blob(&repository, &descriptor, transfer).await?;
    let mut content = Vec::new();
    while let Some(chunk) = stream.next().await? {
        content.extend_from_slice(&chunk);
        assert!(content.len() <= blob().len(), "more is given out than the blob has");
    }
    assert_eq!(content, blob());
    Ok(())
}

async fn push(world: &World, mount_from: &[&str]) -> Result<(), Error> {
    let source: Arc<dyn Source> = Arc::new(BytesSource(Bytes::from_static(blob())));
    let mount_from: Vec<_> = mount_from.iter().map(|name| name.parse().unwrap()).collect();
    let (repository, transfer) = (new_repository(world), TransferId::next());
    let descriptor = Descriptor::of("x", blob());
    world.client.push_blob(&repository, &descriptor, source, &mount_from, transfer).await?;
    assert_stored(world);
    Ok(())
}

/// Sends the blob while it grows, and whole when that fails, as a build does.
async fn grow(world: &World) -> Result<(), Error> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, blob()).unwrap();
    let sealed = Growth::Sealed(Box::new(Descriptor::of("x", blob())));
    let (_writer, growth) = tokio::sync::watch::channel(sealed);
    let growing = Growing { file: Arc::new(file), growth };
    let (repository, transfer) = (new_repository(world), TransferId::next());
    match world.client.push_growing(&repository, growing, "layer".to_owned(), transfer).await {
        Ok(_) => assert_stored(world),
        Err(_) => push(world, &[]).await?,
    }
    Ok(())
}

fn new_repository(world: &World) -> Repository {
    world.reference("new/app:1").repository
}

fn assert_stored(world: &World) {
    let key = ("new/app".to_owned(), Descriptor::of("x", blob()).digest.to_string());
    let content = world.content.lock().unwrap();
    assert_eq!(content.blobs.get(&key).map(Vec::as_slice), Some(blob()), "the blob is not there");
}
