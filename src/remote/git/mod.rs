//! Commits of git repositories, by the machine's `git`.
//!
//! A reference is first resolved to a commit (`ls-remote`), whose files may be in the store already.
//! If not, the commit comes into a bare repository of the store, as shallow as the other side allows,
//! and is checked out from there. `git` runs without any configuration of the user or the machine,
//! without hooks, prompts, credential helpers or local transports; credentials reach it only through
//! its environment.

mod address;
mod checkout;
mod fetch;
mod program;
mod references;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dockerfile::{GitReference, GitTimes};
use crate::image::Digest;
use crate::store::{RemoteKind, RemoteLock};

use super::{Error, Fetcher, Result, Tree};
use address::Address;
use program::Program;
use references::{Resolved, is_commit};

/// How often a lock that another process has is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// How `git` is run: what it may know of the user's environment.
#[derive(Debug, Clone, Default)]
pub struct GitSettings {
    /// Where programs are looked for.
    pub search_path: Option<OsString>,
    /// Variables that are passed on, such as those that name proxies.
    pub environment: Vec<(String, OsString)>,
    /// PEM files with authorities to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// The socket of the agent for ssh. Without one, no key is used.
    pub agent: Option<PathBuf>,
}

/// What of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitTree<'a> {
    /// The repository and the reference.
    pub reference: &'a GitReference,
    /// The commit that it must be, or how its name begins; besides the address's own.
    pub checksum: Option<&'a str>,
    /// Whether `.git` stays, unless the address says so or not.
    pub keep_git_dir: bool,
}

impl GitTree<'_> {
    fn keeps_git_dir(&self) -> bool {
        self.reference.keep_git_dir.unwrap_or(self.keep_git_dir)
    }

    /// Returns whether it can be one commit only: no branch or tag has a say.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        pinned(self).is_some()
    }

    /// Returns whether it may be `commit`, as far as its checksum says.
    #[must_use]
    pub fn can_be(&self, commit: &str) -> bool {
        self.checksum().is_none_or(|checksum| commit.starts_with(checksum))
    }

    fn checksum(&self) -> Option<&str> {
        self.checksum.or(self.reference.checksum.as_deref())
    }

    /// Returns the directory without `.` and slashes it does not need; empty for the whole.
    fn directory(&self) -> Result<String> {
        let text = self.reference.directory.as_deref().unwrap_or_default();
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err(Error::NoDirectory {
                remote: Address::of(self.reference)?.shown,
                directory: text.to_owned(),
                reason: ": it leads outside",
            });
        }
        Ok(parts.join("/"))
    }

    /// Returns the name of the checked out files: everything that they depend on.
    fn id(&self, commit: &str, directory: &str) -> String {
        let keeps = self.keeps_git_dir();
        // The branch or tag is in a kept `.git`.
        let reference = keeps.then_some(self.reference.reference.as_deref()).flatten();
        let has_commit_times = self.reference.times == GitTimes::Commit;
        let submodules = self.reference.submodules != Some(false);
        let all = (commit, directory, keeps, reference, has_commit_times, submodules);
        Digest::of(format!("{all:?}").as_bytes()).hex().to_owned()
    }

    /// Returns the key of the cache (BuildKit, `source/git`, `shaToCacheKey`).
    fn identity(&self, commit: &str, directory: &str) -> String {
        let mut identity = commit.to_owned();
        if self.keeps_git_dir() {
            identity.push_str(".git");
        }
        if !directory.is_empty() {
            identity.push(':');
            identity.push_str(directory);
        }
        if self.reference.submodules == Some(false) {
            identity.push_str("(no-submodules)");
        }
        if self.reference.times == GitTimes::Commit {
            identity.push_str("(mtime-commit)");
        }
        identity
    }
}

impl Fetcher<'_> {
    /// Gets the files of a commit. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::NoReference`], [`Error::Checksum`], [`Error::NoDirectory`], and whatever `git`
    /// says.
    pub fn repository(&self, wanted: &GitTree<'_>) -> Result<Tree> {
        let directory = wanted.directory()?;
        let (address, entry) = self.entry(wanted)?;
        let pinned = pinned(wanted);
        let kept = |commit: &str| entry.join("trees").join(wanted.id(commit, &directory));
        if let Some(commit) = pinned.filter(|commit| kept(commit).exists()) {
            let identity = wanted.identity(commit, &directory);
            return Ok(Tree { root: kept(commit), identity, owners: None });
        }
        let program = self.program(&address, &entry)?;
        let resolved = resolve(wanted, &program)?;
        if let Some(commit) = resolved.known_commit().filter(|commit| kept(commit).exists()) {
            check(wanted, &address, &resolved, commit)?;
            let identity = wanted.identity(commit, &directory);
            return Ok(Tree { root: kept(commit), identity, owners: None });
        }
        let _lock = self.lock(&entry)?;
        let repository = entry.join("repository");
        let commit = fetch::fetch(&program, &repository, &resolved)?;
        check(wanted, &address, &resolved, &commit)?;
        let root = kept(&commit);
        if !root.exists() {
            let job = checkout::Checkout {
                program: &program,
                repository: &repository,
                wanted,
                resolved: &resolved,
                commit: &commit,
                directory: &directory,
            };
            job.run(self.store, &root)?;
        }
        Ok(Tree { root, identity: wanted.identity(&commit, &directory), owners: None })
    }

    /// Returns whether the files of a commit are here and nobody has to be asked for them. Blocks.
    ///
    /// # Errors
    ///
    /// When it is no address that can be used.
    pub fn has_repository(&self, wanted: &GitTree<'_>) -> Result<bool> {
        let directory = wanted.directory()?;
        let (_, entry) = self.entry(wanted)?;
        let kept = |commit| entry.join("trees").join(wanted.id(commit, &directory));
        Ok(pinned(wanted).is_some_and(|commit| kept(commit).exists()))
    }

    /// Returns the commit that is meant; brings it here only where the other side does not say which
    /// it is. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Fetcher::repository`].
    pub fn commit(&self, wanted: &GitTree<'_>) -> Result<String> {
        let (address, entry) = self.entry(wanted)?;
        let program = self.program(&address, &entry)?;
        let resolved = resolve(wanted, &program)?;
        let commit = if let Some(commit) = resolved.known_commit() {
            commit.to_owned()
        } else {
            let _lock = self.lock(&entry)?;
            fetch::fetch(&program, &entry.join("repository"), &resolved)?
        };
        check(wanted, &address, &resolved, &commit)?;
        Ok(commit)
    }

    /// Returns when a commit was made, in seconds since 1970: the committer's date. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Fetcher::repository`].
    pub fn commit_time(&self, wanted: &GitTree<'_>) -> Result<i64> {
        let (address, entry) = self.entry(wanted)?;
        let program = self.program(&address, &entry)?;
        let resolved = resolve(wanted, &program)?;
        let _lock = self.lock(&entry)?;
        let repository = entry.join("repository");
        let commit = fetch::fetch(&program, &repository, &resolved)?;
        check(wanted, &address, &resolved, &commit)?;
        checkout::committed(&program, &repository, &commit)
    }

    /// Returns the address of what is wanted, and the directory of its repository in the store.
    fn entry(&self, wanted: &GitTree<'_>) -> Result<(Address, PathBuf)> {
        let address = Address::of(wanted.reference)?;
        if let Some(reference) = &wanted.reference.reference {
            references::check(reference, &address)?;
        }
        let key = Digest::of(address.remote.as_bytes());
        let entry = self.store.remote_entry(RemoteKind::Git, &key)?;
        Ok((address, entry))
    }

    /// Waits until no other process changes the entry.
    fn lock(&self, entry: &Path) -> Result<RemoteLock> {
        loop {
            if let Some(lock) = self.store.try_lock_remote(entry)? {
                return Ok(lock);
            }
            if (self.is_canceled)() {
                return Err(Error::Canceled);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

/// Finds what the reference means; asks the other side unless that can be only one thing.
fn resolve(wanted: &GitTree<'_>, program: &Program<'_>) -> Result<Resolved> {
    let checksum = wanted.checksum().filter(|checksum| is_commit(checksum));
    match (&wanted.reference.reference, checksum) {
        (Some(reference), _) if is_commit(reference) => Ok(Resolved::commit(reference)),
        (_, Some(commit)) if wanted.reference.fetch_by_commit => Ok(Resolved::commit(commit)),
        (reference, _) => references::ask(program, reference.as_deref()),
    }
}

/// Returns the commit that can be nothing else: no branch or tag has a say.
fn pinned<'a>(wanted: &'a GitTree<'_>) -> Option<&'a str> {
    let checksum = wanted.checksum();
    let by_reference = wanted.reference.reference.as_deref().filter(|name| is_commit(name));
    match (checksum, by_reference) {
        (Some(checksum), Some(commit)) => commit.starts_with(checksum).then_some(commit),
        (checksum, commit) => commit.or(checksum.filter(|checksum| is_commit(checksum))),
    }
}

/// Compares with the checksum: the commit's, or that of the tag that names it.
fn check(wanted: &GitTree<'_>, address: &Address, resolved: &Resolved, commit: &str) -> Result<()> {
    let Some(checksum) = wanted.checksum() else { return Ok(()) };
    let fits = |id: &str| !checksum.is_empty() && id.starts_with(checksum);
    if fits(commit) || fits(&resolved.object) {
        return Ok(());
    }
    Err(Error::Checksum {
        what: address.shown.clone(),
        expected: checksum.to_owned(),
        actual: commit.to_owned(),
    })
}
