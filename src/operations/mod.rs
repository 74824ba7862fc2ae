//! One file for each thing a user asks for. Joins the other rooms; returns data, never text.
//!
//! This is the one place where asynchronous work (registries) and blocking work (store, layers,
//! builds) meet: blocking work always goes to a thread of its own. Settings come in as values,
//! results go out as values, progress goes to the [`Session`]'s sink. Nothing here prints, parses
//! flags or reads the environment.

mod build;
mod bundle;
mod clean;
mod convert;
mod copy;
mod edit;
mod error;
mod fetch;
mod images;
mod import;
mod last_seen;
mod layout;
mod lock;
mod login;
mod memory;
mod mirror;
mod objects;
mod place;
mod prune;
mod publish;
mod pull;
mod push;
mod resolve;
mod serve;
mod session;
mod stage;
mod stream;
mod transfer;
mod validate;

pub use build::{
    About, AgentSource, Answer, BuildReport, BuildRequest, BuiltImage, CacheFrom, CacheMode,
    CacheTo, ContextLocation, Delivery, Destination, Dialect, DockerfileSource, ImageOptions,
    ImageOutput, ImageReport, Interrupt, Keep, LayoutImage, Output, OutputKind, Publish, Question,
    SecretOrigin, SecretSource, Split, Target, Timestamps, annotations, build, call, compression,
};
pub use bundle::{
    BundleChange, BundleContent, BundleDifference, BundleReport, BundleRequest, BundleSource,
    BundledImage, Destination as BundleDestination, Inventory, InventorySource, LoadReport,
    LoadRequest, LoadTo, Loaded, NameMap, NameRule, Verified, compare_bundles, fill_bundle,
    list_bundle, load_bundle, take_inventory, verify_bundle,
};
pub use clean::{collect_garbage, remove_abandoned_steps};
pub use copy::{
    ArchiveTarget, Arrival, Carrier, Carry, CopiedImage, CopyJob, CopyOptions, CopyTarget,
    Delivered, IndexShape, LoadSource, LoadedImage, Trimmed, copy_image, copy_images, is_taken,
    load,
};
pub use edit::{
    AppendRequest, BaseCheck, Changes, CreateRequest, Difference, EditReport, EditTarget,
    EditedImage, IndexSource, Inspected, LayerSource, LeftBehind, Location, MediaFamily, Note,
    NotePlace, RebaseRequest, Removal, Selector, WithConfigs, add_to_index, annotate_index, append,
    check_base, create_index, differences, flatten, inspect_remote, mutate, notes, rebase,
    remove_from_index,
};
pub use error::{Error, Kind, Snippet};
pub use images::{ImageDetails, ListedImage, Removed, inspect, list, remove, tag};
pub use import::{ImportReport, ImportRequest, ImportSource, import};
pub use lock::{
    FetchReport, FetchRequest, FetchedImage, LOCK_FILE_NAME, LockChange, LockMode, LockReport,
    LockRequest, Refresh, fetch, lock,
};
pub use login::{
    Access, LoginPlace, LoginReport, Verify, authorization, explain_credential, login, logout,
    logout_all, whoami,
};
pub use mirror::{
    ExtraTags, MirrorInput, MirrorItem, MirrorOutcome, MirrorPlan, MirrorReport, MirrorStep, Quota,
    QuotaCost, Reading, Recheck, mirror, plan_mirror,
};
pub use objects::{
    ArtifactAnnotations, ArtifactFile, ArtifactNode, ArtifactToPull, ArtifactToPush, BlobSource,
    Existing, ListRequest, ManifestToPut, PulledArtifact, TagOrder, UntaggedBy, artifact_tree,
    blob_head, get_blob, get_manifest, head_manifest, list_referrers, list_repositories, list_tags,
    ping, pull_artifact, push_artifact, put_blob, put_manifest, remove_blob, remove_manifest,
    remove_tag,
};
pub use place::{ImageSource, transport};
pub use prune::{
    PruneMode, PruneRequest, PruneScope, Pruned, PrunedItem, bound_cache, disk_usage, prune,
};
pub use publish::Traffic;
pub use pull::{PullReport, pull};
pub use push::{ForeignLayers, PushReport, push};
pub use resolve::PullPolicy;
pub use serve::{CacheRequest, ServeRequest, WhatToServe, serve};
pub use session::{Session, SessionSettings};
pub use validate::{Fault, FaultKind, Thoroughness, Validation, validate};

pub use crate::archive::{Form as ArchiveForm, Name as ArchiveName};
pub use crate::build::{Allowed, Explain, Network, Shells, exposed_ports};
pub use crate::credentials::{
    Attempt, Keyring, Locations, Login, LoginFile, Outcome, Place, RegistryToken, Saved, Secret,
    TokenSource,
};
pub use crate::dockerfile::{Argument, Mounted, Parameters, Position, Span, Warning, suggest};
pub use crate::mirror::{Dialect as MirrorDialect, Shard};
pub use crate::registry::{
    Headers, HostSettings, Ping, Reachable, Referrers, ReferrersSource, RegistryKind, RetryPolicy,
    Transport, Wanted,
};
pub use crate::remote::GitSettings;
pub use crate::sandbox::{Limit, LimitedResource};
pub use crate::serve::TlsFiles;
pub use crate::store::{Amount, Usage};
