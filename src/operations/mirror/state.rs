//! What a mirror remembers of the repositories that it fills, in the store.
//!
//! A line of JSON for each tag that was brought there, if what registries say does not tell that it is
//! still right: one that never changes, or an index of which some platforms were taken. The last line
//! of a tag counts. Losing lines only costs asking again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Reference, Repository};
use crate::mirror::{Job, Treatment};
use crate::operations::session::blocking;
use crate::operations::{Error, Session};
use crate::store::Journal;

/// How many lines a journal may have more than tags.
const SLACK: usize = 1000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The tag or digest that it is about.
    key: String,
    /// What it was copied from; nothing when it was removed.
    source: Option<Reference>,
    /// What the source was.
    read: Option<Digest>,
    /// What it became.
    held: Option<Digest>,
    /// How it was copied.
    treatment: String,
}

/// What is remembered.
pub(super) struct State {
    known: Mutex<HashMap<Reference, Record>>,
    session: Session,
}

impl State {
    /// Reads what is remembered of the repositories that jobs are about.
    pub(super) async fn load(session: &Session, jobs: &[Job]) -> Result<Self, Error> {
        let to = jobs.iter().flat_map(|job| &job.destinations);
        let repositories: BTreeSet<Repository> = to.map(|to| to.repository.clone()).collect();
        let store = session.store.clone();
        let known = blocking(move || {
            let mut known = HashMap::new();
            for repository in repositories {
                let journal = store.mirror_journal(&key_of(&repository));
                known.extend(read(&journal, &repository)?);
            }
            Ok::<_, Error>(known)
        });
        Ok(Self { known: Mutex::new(known.await?), session: session.clone() })
    }

    /// Returns what a destination holds when it was filled from `source` in that way.
    pub(super) fn held(
        &self,
        destination: &Reference,
        source: &Reference,
        treatment: &Treatment,
    ) -> Option<Digest> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let record = known.get(destination)?;
        let is_same = record.source.as_ref() == Some(source) && record.treatment == word(treatment);
        record.held.clone().filter(|_| is_same)
    }

    /// Returns what an image becomes at the destination, when it was `read` then as well.
    pub(super) fn became(
        &self,
        destination: &Reference,
        source: &Reference,
        treatment: &Treatment,
        read: &Digest,
    ) -> Option<Digest> {
        let held = self.held(destination, source, treatment)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.get(destination)?.read.as_ref() == Some(read)).then_some(held)
    }

    /// Remembers what a destination holds.
    pub(super) async fn note(
        &self,
        destination: &Reference,
        source: &Reference,
        treatment: &Treatment,
        [read, held]: [&Digest; 2],
    ) -> Result<(), Error> {
        let record = Record {
            key: destination.manifest_key(),
            source: Some(source.clone()),
            read: Some(read.clone()),
            held: Some(held.clone()),
            treatment: word(treatment),
        };
        let is_known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(destination.clone(), record.clone()).as_ref() == Some(&record)
        };
        if is_known { Ok(()) } else { self.write(&destination.repository, record).await }
    }

    /// Forgets a destination, which was removed.
    pub(super) async fn forget(&self, destination: &Reference) -> Result<(), Error> {
        let was_known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(destination).is_some()
        };
        if !was_known {
            return Ok(());
        }
        let key = destination.manifest_key();
        let record = Record { key, source: None, read: None, held: None, treatment: String::new() };
        self.write(&destination.repository, record).await
    }

    async fn write(&self, repository: &Repository, record: Record) -> Result<(), Error> {
        let journal = self.session.store.mirror_journal(&key_of(repository));
        let line = serde_json::to_vec(&record).unwrap_or_default();
        blocking(move || journal.append(&line)).await
    }
}

/// Returns how an image is copied in a word: another way makes another image.
fn word(treatment: &Treatment) -> String {
    let platforms: Vec<String> = treatment.platforms.iter().map(ToString::to_string).collect();
    let Treatment { referrers, digest_tags, .. } = treatment;
    format!("{} {referrers} {digest_tags}", platforms.join(","))
}

fn key_of(repository: &Repository) -> Digest {
    Digest::of(repository.to_string().as_bytes())
}

/// Reads a journal; makes it shorter when it is mostly about the past.
fn read(journal: &Journal, repository: &Repository) -> Result<HashMap<Reference, Record>, Error> {
    let bytes = journal.read()?;
    let mut lines = 0;
    let mut records: HashMap<String, Record> = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines += 1;
        // What cannot be read is of a process that was killed, or of a newer rpub.
        if let Ok(record) = serde_json::from_slice::<Record>(line) {
            records.insert(record.key.clone(), record);
        }
    }
    if lines > 2 * records.len() + SLACK {
        let lines: Vec<Vec<u8>> = records.values().flat_map(serde_json::to_vec).collect();
        journal.replace(&lines.join(&b'\n'))?;
    }
    let named = records.into_values().filter_map(|record| {
        let digest = record.key.parse::<Digest>().ok();
        let tag = record.key.parse().ok().filter(|_| digest.is_none());
        let is_name = digest.is_some() || tag.is_some();
        let name = Reference { repository: repository.clone(), tag, digest };
        is_name.then_some((name, record))
    });
    Ok(named.collect())
}
