//! `save` and `load`.

use std::io::{self, IsTerminal as _};

use crate::image::Platform;
use crate::operations::{
    self, ArchiveForm, ArchiveName, ArchiveTarget, Carrier, Carry, CopyJob, CopyOptions,
    CopyTarget, Error, ImageSource, Kind, LoadSource,
};

use super::Context;
use super::args::{LoadArgs, SaveArgs, SavedForm};
use super::build::reference;
use super::copy::{all_or_partial, chosen_platforms};
use super::edit::interruptible;
use super::output::print;

/// Writes images of the store to one file, all or none.
pub(super) async fn save(context: &Context, args: SaveArgs) -> Result<(), Error> {
    let form = match args.format {
        SavedForm::DockerArchive => ArchiveForm::Docker,
        SavedForm::OciArchive => ArchiveForm::Oci,
        SavedForm::Oci => ArchiveForm::Layout,
        SavedForm::Bundle => ArchiveForm::Bundle,
    };
    let to_stdout = args.output.is_none();
    if to_stdout && (form == ArchiveForm::Layout || io::stdout().is_terminal()) {
        let error = Error::new(Kind::Settings, "images are not written to a terminal");
        return Err(error.hint("name a file by `-o FILE`, or write to a pipe"));
    }
    let mut platforms = chosen_platforms(&args.platforms)?;
    if form == ArchiveForm::Docker {
        match platforms.len() {
            0 => platforms.push(Platform::host()),
            1 => {}
            _ => {
                let message = "docker's form has no place for an index of several platforms";
                return Err(Error::new(Kind::Settings, message)
                    .hint("write `--format oci-archive`, or name one platform"));
            }
        }
    }
    let work = async {
        let archive = ArchiveTarget::open(form, args.output.as_deref(), false).await?;
        let jobs = args.images.iter().map(|image| job(&archive, image, &platforms));
        let jobs: Vec<CopyJob> = jobs.collect();
        let mut failures = Vec::new();
        operations::copy_images(&Carrier::new(&context.session), &jobs, |_, copied| match copied {
            Ok(copied) => {
                failures.extend(copied.deliveries.into_iter().filter_map(|it| it.outcome.err()));
            }
            Err(error) => failures.push(error),
        })
        .await;
        all_or_partial(failures, jobs.len(), "images")?;
        archive.finish().await
    };
    interruptible(Box::pin(work)).await
}

fn job(archive: &ArchiveTarget, image: &str, platforms: &[Platform]) -> CopyJob {
    // An id names an image, and no name of it: one that reads like a name is one.
    let is_id = image.len() >= 12 && image.chars().all(|it| it.is_ascii_hexdigit());
    let name = reference(image).ok().filter(|name| !is_id && name.digest.is_none());
    CopyJob {
        source: ImageSource::Store(image.to_owned()),
        targets: vec![CopyTarget::Archive(archive.clone(), name.map(ArchiveName::Whole))],
        options: CopyOptions {
            platforms: platforms.to_vec(),
            referrers: Carry::No,
            digest_tags: Carry::No,
            ..CopyOptions::default()
        },
    }
}

/// Reads the images of a file into the store.
pub(super) async fn load(context: &Context, args: LoadArgs) -> Result<(), Error> {
    let source = match &args.input {
        Some(path) => LoadSource::Path(path.clone()),
        None if io::stdin().is_terminal() => {
            let error = Error::new(Kind::Settings, "images are not read from a terminal");
            return Err(error.hint("name a file by `-i FILE`, or read from a pipe"));
        }
        None => LoadSource::Stdin,
    };
    let platforms = chosen_platforms(&args.platforms)?;
    let loaded = operations::load(&context.session, &source, &platforms);
    let loaded = interruptible(Box::pin(loaded)).await?;
    context.progress.finish();
    let total = loaded.len();
    let mut failures = Vec::new();
    for image in loaded {
        let whole = image.name.as_ref().and_then(ArchiveName::reference);
        match (image.outcome, whole) {
            (Ok(_), Some(name)) => print(&format!("Loaded image: {}", name.familiar()))?,
            (Ok(copied), None) => print(&format!("Loaded image ID: {}", copied.manifest.digest))?,
            (Err(error), _) => failures.push(error),
        }
    }
    all_or_partial(failures, total, "images")
}
