//! `blob`.

use std::path::Path;

use serde_json::json;

use crate::image::{Digest, Reference};
use crate::operations::{self, BlobSource, Error, Kind};

use super::Context;
use super::args::{BlobCommand, BlobGetArgs, BlobHeadArgs, BlobPutArgs, BlobRmArgs};
use super::build::interrupted;
use super::manifest::shown;
use super::names::{each_of, name};
use super::output::Staged;

/// `blob` and what is below it.
pub(super) async fn blob(context: &Context, command: BlobCommand) -> Result<(), Error> {
    let work = async {
        match command {
            BlobCommand::Get(args) => get(context, args).await,
            BlobCommand::Head(args) => head(context, args).await,
            BlobCommand::Put(args) => put(context, args).await,
            BlobCommand::Rm(args) => remove(context, args).await,
        }
    };
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

/// Takes a repository and a digest apart.
fn parse(text: &str) -> Result<(Reference, Digest), Error> {
    let name = name(text)?;
    let digest = name.digest.clone().ok_or_else(|| {
        Error::new(Kind::Settings, format!("`{text}` names no blob"))
            .hint("give the digest, as in `registry.example/app@sha256:...`")
    })?;
    Ok((name, digest))
}

/// Writes a blob to standard output, or whole and verified to a file.
async fn get(context: &Context, args: BlobGetArgs) -> Result<(), Error> {
    let (name, digest) = parse(&args.blob)?;
    let (session, repository) = (&context.session, &name.repository);
    match args.output.as_deref() {
        None => operations::get_blob(session, repository, &digest, std::io::stdout()).await,
        Some(path) if path == Path::new("-") => {
            operations::get_blob(session, repository, &digest, std::io::stdout()).await
        }
        Some(path) => {
            let staged = Staged::new(path)?;
            operations::get_blob(session, repository, &digest, staged.writer()?).await?;
            staged.commit()
        }
    }
}

/// Prints what the registry tells of a blob.
async fn head(context: &Context, args: BlobHeadArgs) -> Result<(), Error> {
    let (name, digest) = parse(&args.blob)?;
    let found = operations::blob_head(&context.session, &name.repository, &digest).await?;
    args.format.print(&format!("{} {}", found.digest, found.size), &shown(&name, &found))
}

/// Pushes a blob, and prints its digest.
async fn put(context: &Context, args: BlobPutArgs) -> Result<(), Error> {
    let name = name(&args.repository)?;
    let source =
        if args.file == Path::new("-") { BlobSource::Stdin } else { BlobSource::Path(args.file) };
    let pushed = operations::put_blob(&context.session, &name, source, &args.media_type).await?;
    context.progress.finish();
    args.format.print(&pushed.digest.to_string(), &shown(&name, &pushed))
}

/// Removes blobs; goes on after a failure, and says each.
async fn remove(context: &Context, args: BlobRmArgs) -> Result<(), Error> {
    let blobs = args.blobs.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    each_of(&blobs, "blobs were not removed", async |(name, digest)| {
        operations::remove_blob(&context.session, &name.repository, digest).await?;
        let name = format!("{}@{digest}", name.repository.familiar());
        args.format.print(&format!("Deleted: {name}"), &json!({"reference": name}))
    })
    .await
}
