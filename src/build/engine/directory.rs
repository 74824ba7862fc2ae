//! `WORKDIR` steps: a layer that holds the directories that were missing.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::event::StepOutcome;
use crate::layer::{Entry, EntryKind, View};

use super::{Build, Stack};
use crate::build::Error;
use crate::build::cache;
use crate::build::layer::Layer;
use crate::build::owner;
use crate::build::plan::{Directory, Stage};

impl Build<'_> {
    pub(super) fn directory(
        &self,
        stage: &Stage,
        directory: &Directory,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        let definition = json!({ "directory": directory.path, "user": directory.user });
        let preimage = Self::preimage(definition, layers, &stage.platform, Vec::new());
        if let Some(layer) = self.cached(stage, &preimage)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let view = self.view(layers)?;
        let entries = missing_directories(directory, &view)?;
        let layer = self
            .seal(None, |tar| entries.iter().try_for_each(|entry| Ok(tar.append(entry, None)?)))?;
        cache::record(self.engine.store, &preimage, &layer)?;
        Ok((layer, StepOutcome::Done))
    }
}

/// Returns what the layer must hold: the directories that are there, down to the first missing one,
/// with their metadata, and the missing ones, owned by the user. Nothing when none is missing.
fn missing_directories(directory: &Directory, view: &View) -> Result<Vec<Entry>, Error> {
    let refused = |message| Error::Refused { message, span: None, hint: None };
    // A user that the image does not know is root here, and an error where a command shall run
    // (BuildKit, `dispatchWorkdir` and `readUser`).
    let (uid, gid) = owner::ids(&directory.user, view).unwrap_or_default();
    let target = view.resolve(Path::new(&directory.path), true)?;
    let mut entries = Vec::new();
    let mut is_missing = false;
    let mut path = PathBuf::new();
    for part in &target {
        path.push(part);
        match view.lookup(&path) {
            Some(entry) if entry.is_directory() => entries.push(entry),
            Some(entry) => {
                let (path, kind) = (path.display(), entry.kind.name());
                return Err(refused(format!("cannot make the directory: /{path} is a {kind}")));
            }
            None => {
                is_missing = true;
                let mut entry = Entry::new(path.clone(), EntryKind::Directory, 0o755);
                (entry.uid, entry.gid) = (uid, gid);
                entry.mtime = jiff::Timestamp::now().as_second();
                entries.push(entry);
            }
        }
    }
    Ok(if is_missing { entries } else { Vec::new() })
}
