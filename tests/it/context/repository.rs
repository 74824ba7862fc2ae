//! Git repositories for tests, made by the machine's `git`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::TestContext;

/// A repository with a working tree, and the bare one that is served.
pub(crate) struct Repository {
    work: PathBuf,
    bare: PathBuf,
}

impl Repository {
    /// Makes the repository `git/<name>.git` of a context.
    pub(crate) fn new(context: &TestContext, name: &str) -> Self {
        let work = context.directory(format!("work/{name}"));
        let bare = context.directory("git").join(format!("{name}.git"));
        let repository = Self { work, bare };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// Runs git in the working tree and returns what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Tester", "-c", "user.email=tester@example.com"])
            .args(["-c", "protocol.file.allow=always", "-c", "safe.directory=*"])
            .args(args)
            .current_dir(&self.work)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
            .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, content: &str) -> &Self {
        let path = self.work.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
        self
    }

    /// Returns the working tree.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Commits everything and publishes it; returns the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.publish();
        self.git(&["rev-parse", "HEAD"])
    }

    /// Brings branches and tags into the bare repository.
    pub(crate) fn publish(&self) {
        let bare = self.bare.display().to_string();
        if !self.bare.exists() {
            self.git(&["clone", "--quiet", "--bare", ".", &bare]);
        }
        self.git(&["push", "--quiet", "--force", &bare, "--all"]);
        self.git(&["push", "--quiet", "--force", &bare, "--tags"]);
    }
}
