//! rpub builds container images from Dockerfiles in its own rootless executor, sends to a registry
//! only what the registry lacks, and pulls, copies, mirrors, bundles and serves images. One binary, no
//! daemon, no external runtime.
//!
//! This page is the map of the code. One package: this library, and a thin program around it.
//!
//! # Two processes, one wall between them
//!
//! **rpub** itself runs as the invoking user in the host's namespaces. It owns the network, the
//! credentials, the terminal and the store's metadata. **The worker** is the same program executed
//! again, started when a command first needs a file system ([`sandbox`]). It enters a user namespace
//! and a mount namespace and does what must happen under mapped ids: unpack layers, mount stacks of
//! them, run commands, turn change sets into layers, delete trees. Credentials never enter it:
//! nothing that parses an untrusted archive or runs a Dockerfile's commands can see a password.
//!
//! # Rooms
//!
//! Each directory is a room with one job; `tests/it/architecture.rs` holds the table of who may use
//! whom and fails when a file breaks it. From the bottom up:
//!
//! | room | job |
//! | --- | --- |
//! | [`image`] | OCI data types and their text forms; raw bytes kept beside the parsed view |
//! | [`event`] | how work tells what it is doing |
//! | [`suggest`] | "did you mean": the known word nearest to an unknown one |
//! | [`ignore`] | patterns of paths: `.dockerignore`, `--exclude`, `--parents` |
//! | [`dockerfile`] | text in, typed instructions with source spans out; expansion, lint rules |
//! | [`blob`] | re-openable sources, readers and writers that hash |
//! | [`credentials`] | find, store and erase registry secrets |
//! | [`layer`] | directory tree to tar and back, compression, path indexes, `COPY` |
//! | [`store`] | content-addressed store on disk: an OCI image layout and what goes beside it |
//! | [`archive`] | images in files that other tools read and write: OCI layouts, docker archives, bundles |
//! | [`sandbox`] | the worker and the executor |
//! | [`registry`] | the distribution protocol's client side |
//! | [`remote`] | files by http(s) and git, kept for the next time |
//! | [`serve`] | its server side: a registry over the store or other content, a pull-through cache |
//! | [`build`] | plan (pure) and engine, cache keys, config and manifest |
//! | [`mirror`] | mirror files: what to copy where, and which part of it is whose |
//! | [`operations`] | one file for each thing a user asks for; async and blocking meet here |
//! | [`cli`] | flags, environment, rendering, exit codes |
//!
//! # The way of the data in `rpub build-push`
//!
//! 1. [`cli`] turns flags and environment into an `operations::BuildRequest`.
//! 2. The Dockerfile is parsed; `build::Outline` evaluates the global arguments and selects the
//!    stages the target needs; their base images are resolved side by side, manifest and config
//!    only; `build::Plan` then has every step, fully expanded.
//! 3. `build::Engine` looks each step up by what it depends on. On a miss, `RUN` gets a root file
//!    system: the base's layers are fetched and unpacked now, at the same time and side by side, one
//!    directory a layer, stacked by overlayfs; the upper directory is the change set. `COPY` makes
//!    its layer's tar straight from the files.
//! 4. A layer is hashed, compressed once, in the same bytes whatever the number of threads, hashed
//!    again and renamed into the store. If it belongs to the final image, its upload starts while
//!    later steps run: there already, mounted from another repository, or sent.
//! 5. Config and manifest follow when all blobs are there, tags last. A failed build moves no tag.
//!
//! # The way of the data in a copy
//!
//! `copy`, `mirror`, `bundle`, `save` and `load` are one engine, `operations::copy`: a walk over a graph
//! of descriptors from a registry, the store or an [`archive`] to any number of others. `HEAD` on both
//! sides says whether there is anything to do; manifests are read from the top, blobs are brought, then
//! manifests from the bottom, names last. All images of a run share a `Carrier`: the first that needs a
//! blob in a registry brings it, the others wait and have it mounted. Between registries bytes pass
//! through a small window of memory, or through a file without a name.
//!
//! # What makes it fast
//!
//! Uploads overlap the build; nothing is fetched before it is needed; layers are unpacked in
//! parallel into directories that all images share; a layer is compressed once and has the same
//! digest in the store and in every registry; a cached build costs round trips, not bytes; hashing a
//! build context remembers what it has seen.
//!
//! # What keeps it safe
//!
//! Every byte from a registry is verified against its digest while it streams. Archives are unpacked
//! with directory handles and never leave their root. Files get their final name only when they are
//! complete ([`store`]), so a crash at any instant leaves a store that the next command accepts.
//! Secrets print as `****`, and credentials are never sent to another origin.

pub mod archive;
pub mod blob;
pub mod build;
pub mod cli;
pub mod credentials;
pub mod dockerfile;
pub mod event;
pub mod ignore;
pub mod image;
pub mod layer;
pub mod mirror;
pub mod operations;
pub mod registry;
pub mod remote;
pub mod sandbox;
pub mod serve;
pub mod store;
pub mod suggest;
