//! One case: a directory of `fixtures/dockerfile` that is built.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::image::CONTEXT_TIME;
use crate::context::{TestContext, fixtures};

/// The files that say what comes of a case.
const GOLDENS: [&str; 2] = ["image", "build-error"];

/// A directory of `fixtures/dockerfile`.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    directory: PathBuf,
}

/// Returns all directories of `fixtures/dockerfile`.
pub(super) fn directories() -> Vec<Case> {
    let entries = fs_err::read_dir(fixtures().join("dockerfile")).unwrap();
    let mut cases: Vec<Case> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|directory| Case {
            name: directory.file_name().unwrap().to_str().unwrap().to_owned(),
            directory,
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// Returns whether it is built; the others are only parsed, by a test beside the parser.
    pub(super) fn is_built(&self) -> bool {
        let has = |name: &&str| self.directory.join(name).exists();
        GOLDENS.iter().any(has) || !["expected", "error"].iter().any(has)
    }

    /// Returns the text of one of its files; empty when there is none.
    pub(super) fn text(&self, name: &str) -> String {
        let path = self.directory.join(name);
        if path.exists() { fs_err::read_to_string(path).unwrap() } else { String::new() }
    }

    /// Returns the lines of one of its files without comments and blank lines.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    /// Returns whether this golden is there.
    pub(super) fn has(&self, golden: &str) -> bool {
        self.directory.join(golden).exists()
    }

    /// Replaces the goldens by one.
    pub(super) fn update(&self, golden: &str, text: &str) {
        for other in GOLDENS.iter().filter(|other| **other != golden) {
            if self.has(other) {
                fs_err::remove_file(self.directory.join(other)).unwrap();
            }
        }
        self.write(golden, text);
    }

    /// Writes one of its files, or removes it when nothing is to be in it.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        if text.is_empty() {
            let _ = fs_err::remove_file(path);
        } else {
            fs_err::write(path, text).unwrap();
        }
    }

    /// Copies the case into the world, runs its `setup` there, as the user, and dates its context;
    /// returns the directory.
    pub(super) fn prepare(&self, context: &TestContext) -> PathBuf {
        let relative = Path::new("cases").join(&self.name);
        let target = context.directory(&relative);
        context.directory(relative.join("context"));
        copy(context, &self.directory, &relative);
        let setup = self.text("setup");
        if !setup.is_empty() {
            let shell = context.command("sh").arg("-eu").current_dir(&target);
            shell.input(setup.into_bytes()).run().expect_code(0);
        }
        date(&target.join("context"));
        target
    }
}

/// Copies files with the modes that git can hold, whatever the checkout's are.
fn copy(context: &TestContext, from: &Path, to: &Path) {
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, relative) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let made = context.directory(&relative);
            fs_err::set_permissions(made, PermissionsExt::from_mode(0o755)).unwrap();
            copy(context, &source, &relative);
        } else if kind.is_symlink() {
            let link = fs_err::read_link(&source).unwrap();
            symlink(link, context.path(&relative)).unwrap();
        } else {
            let is_program = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            let path = context.write(&relative, fs_err::read(&source).unwrap());
            let mode = if is_program { 0o755 } else { 0o644 };
            fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
    }
}

/// Gives every file that `setup` has not dated the context's time, deepest first.
fn date(path: &Path) {
    let data = fs_err::symlink_metadata(path).unwrap();
    let is_new = data.modified().unwrap().elapsed().is_ok_and(|age| age.as_secs() < 3600);
    if data.is_dir() {
        // A directory that nobody may read keeps its files' times.
        for entry in fs_err::read_dir(path).into_iter().flatten() {
            date(&entry.unwrap().path());
        }
    }
    if is_new {
        let time = Timespec { tv_sec: i64::try_from(CONTEXT_TIME).unwrap(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}
