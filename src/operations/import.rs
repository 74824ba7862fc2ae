//! `import`: a root file system as an image of one layer.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::build::{Form, HistoryItem, Layer, Outline, Parts, Plan, PlanOptions, assemble};
use crate::dockerfile;
use crate::image::{Descriptor, Platform, Reference};
use crate::layer::{
    Compression, CopyInput, CopyRequest, LayerTar, LayerWriter, Metadata, SealedLayer, SourceTree,
    View, decompress, select,
};
use crate::store::Store;

use super::session::blocking;
use super::{Error, Kind, Session};

/// What to import.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Where the files are.
    pub source: ImportSource,
    /// The image's name.
    pub name: Option<Reference>,
    /// Dockerfile instructions for the config.
    pub changes: Vec<String>,
    /// A note in the history.
    pub message: Option<String>,
    /// What the files are for.
    pub platform: Platform,
}

/// Where a root file system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSource {
    /// A directory, or a tar of any compression.
    Path(PathBuf),
    /// A tar on standard input.
    Stdin,
}

/// What an import made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The manifest.
    pub manifest: Descriptor,
    /// The config, whose digest is the image id.
    pub config: Descriptor,
}

/// Makes an image of a root file system and keeps it in the store.
///
/// # Errors
///
/// When the files cannot be read as a root file system, or a change is no instruction.
pub async fn import(session: &Session, request: ImportRequest) -> Result<ImportReport, Error> {
    let store = session.store.clone();
    blocking(move || import_blocking(&store, &request)).await
}

fn import_blocking(store: &Store, request: &ImportRequest) -> Result<ImportReport, Error> {
    let stage = config_stage(&request.changes, &request.platform)?;
    let sealed = match &request.source {
        ImportSource::Path(path) if path.is_dir() => seal_directory(store, path)?,
        ImportSource::Path(path) => {
            let what = || Error::new(Kind::User, "failed to open the root file system");
            seal_tar(store, fs_err::File::open(path).map_err(|error| what().because(error))?)?
        }
        ImportSource::Stdin => seal_tar(store, std::io::stdin())?,
    };
    let now = jiff::Timestamp::now().to_string();
    let layer = Layer {
        descriptor: Descriptor::new(sealed.media_type, sealed.digest, sealed.size),
        diff_id: sealed.diff_id,
        created: Some(now.clone()),
    };
    let note = request.message.clone().unwrap_or_else(|| "rpub import".to_owned());
    let mut items = vec![HistoryItem { created_by: note, makes_layer: true }];
    items.extend(stage.history);
    let parts = Parts { config: stage.config, items, layers: vec![layer.clone()] };
    let image = assemble(parts, &[layer], &Form::default(), &now);
    store.put_blob(&image.config)?;
    store.put_manifest(&image.manifest)?;
    store.tag_all(&[(request.name.clone(), image.descriptor())])?;
    Ok(ImportReport { manifest: image.descriptor(), config: image.config_descriptor })
}

/// Applies the changes as a Dockerfile would, on top of nothing.
fn config_stage(changes: &[String], platform: &Platform) -> Result<crate::build::Stage, Error> {
    let text = format!("FROM scratch\n{}\n", changes.join("\n"));
    let invalid = |message: String| {
        Error::new(Kind::User, format!("invalid `--change`: {message}"))
            .hint("give an instruction that only sets the config, such as `CMD [\"/bin/sh\"]`")
    };
    let parsed = dockerfile::parse(&text).map_err(|error| invalid(error.to_string()))?;
    let options = PlanOptions::new(platform.clone(), Platform::host());
    let outline = Outline::new(&parsed, &options).map_err(|error| invalid(error.to_string()))?;
    let plan = Plan::new(outline).map_err(|error| invalid(error.to_string()))?;
    let stage = plan.stages.into_iter().next_back().filter(|stage| stage.steps.is_empty());
    stage.ok_or_else(|| invalid("it would make a layer".to_owned()))
}

fn seal_tar(store: &Store, source: impl Read + Send) -> Result<SealedLayer, Error> {
    let unreadable = |error: std::io::Error| {
        Error::new(Kind::User, "failed to read the root file system tar").because(error)
    };
    let mut tar = decompress(source).map_err(unreadable)?;
    let mut first = [0; 512];
    let mut filled = 0;
    while filled < first.len() {
        match tar.read(&mut first[filled..]).map_err(unreadable)? {
            0 => break,
            count => filled += count,
        }
    }
    if filled < first.len() || &first[257..262] != b"ustar" {
        return Err(Error::new(Kind::User, "the root file system is not a tar archive"));
    }
    let ingest = store.ingest_file()?;
    let mut writer = LayerWriter::new(duplicate(ingest.file())?, Compression::default());
    let unwritable = |error| Error::new(Kind::Internal, "failed to write the layer").because(error);
    writer.write_all(&first).map_err(unwritable)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = tar.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        writer.write_all(&buffer[..count]).map_err(unwritable)?;
    }
    let sealed = writer.finish().map_err(unwritable)?;
    store.adopt(ingest, &sealed.digest, sealed.size)?;
    Ok(sealed)
}

fn seal_directory(store: &Store, root: &Path) -> Result<SealedLayer, Error> {
    let request = CopyRequest {
        sources: vec![CopyInput::Exact(".".to_owned())],
        destination: "/".to_owned(),
        keep_ownership: true,
        ..CopyRequest::default()
    };
    let selection = select(
        Some(&SourceTree { root, ignored: None, owners: None, metadata: Metadata::All }),
        &request,
    )?;
    let ingest = store.ingest_file()?;
    let output = duplicate(ingest.file())?;
    let mut tar = LayerTar::new(LayerWriter::new(output, Compression::default()));
    selection.write(&View::default(), &request, &mut tar)?;
    let (writer, index) = tar.finish()?;
    let sealed = writer
        .finish()
        .map_err(|error| Error::new(Kind::Internal, "failed to write the layer").because(error))?;
    store.adopt(ingest, &sealed.digest, sealed.size)?;
    index.save(&store.paths_index_path(&sealed.diff_id))?;
    Ok(sealed)
}

fn duplicate(file: &std::fs::File) -> Result<std::fs::File, Error> {
    file.try_clone().map_err(|error| {
        Error::new(Kind::Internal, "failed to open the layer's temporary file").because(error)
    })
}
