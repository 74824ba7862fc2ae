//! Cache mounts: which directory a step gets, and for how long.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::build::Error;
use crate::build::engine::Build;
use crate::build::engine::content::chain_digest;
use crate::build::plan::{Origin, RunMount, Step, Work};
use crate::dockerfile::Sharing;
use crate::event::Event;
use crate::image::Digest;
use crate::sandbox::{CacheSeed, FileOwner, MakeCacheRequest};
use crate::store::{CacheFound, CacheLease, CacheSharing, NewCache};

/// The first and the longest pause between two looks at a cache that another one holds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// A cache mount of a step, and what tells its cache from others.
pub(super) struct Wanted<'a> {
    /// The mount's position in the step.
    pub(super) position: usize,
    about: Value,
    id: &'a str,
    sharing: Sharing,
    from: Option<Origin>,
    source: &'a str,
    owner: FileOwner,
}

/// Mode and ids of a cache that says nothing about them.
const PLAIN: FileOwner = FileOwner { mode: 0o755, uid: 0, gid: 0 };

impl Build<'_> {
    /// Empties the caches of the stages that are to be done anew, as BuildKit does for `--no-cache`;
    /// not those that another build uses.
    pub(in crate::build::engine) fn renew_caches(&self) -> Result<(), Error> {
        let stages = self.plan.stages.iter().filter(|stage| !stage.uses_cache);
        let runs = stages.flat_map(|stage| &stage.steps).filter_map(|step| match &step.work {
            Work::Run(run) => Some(run),
            Work::Copy(_) | Work::Directory(_) => None,
        });
        let ids: HashSet<&str> = runs
            .flat_map(|run| &run.mounts)
            .filter_map(|mount| match mount {
                RunMount::Cache { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let store = self.engine.store;
        let mut instances = store.cache_instances()?;
        instances.retain(|instance| ids.contains(instance.id.as_str()));
        if instances.is_empty() {
            return Ok(());
        }
        let worker = self.worker()?;
        let own = store.cache_mounts_directory(worker.mapping());
        let mut old = Vec::new();
        for instance in instances.iter().filter(|instance| instance.directory.starts_with(&own)) {
            old.extend(store.remove_cache(instance)?);
        }
        Ok(worker.remove(old)?)
    }

    /// Leases the caches of a step, and returns with each the position of its mount. Caches of one
    /// step that are the same are the same directory. They are taken in one order by all steps, so
    /// that none waits for another that waits for it.
    pub(super) fn lease_caches(
        &self,
        step: &Step,
        mounts: &[RunMount],
    ) -> Result<Vec<(usize, std::sync::Arc<CacheLease>)>, Error> {
        let wanted = mounts.iter().enumerate().filter_map(|(at, mount)| self.wanted(at, mount));
        let mut wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        wanted.sort_by_cached_key(|wanted| wanted.about.to_string());
        let mut leases: Vec<(usize, std::sync::Arc<CacheLease>)> = Vec::new();
        let mut last: Option<&Value> = None;
        for wanted in &wanted {
            let known = leases.last().filter(|_| last == Some(&wanted.about));
            let lease = match known {
                Some((_, lease)) => std::sync::Arc::clone(lease),
                None => std::sync::Arc::new(self.lease(step, wanted)?),
            };
            leases.push((wanted.position, lease));
            last = Some(&wanted.about);
        }
        Ok(leases)
    }

    fn wanted<'a>(
        &self,
        position: usize,
        mount: &'a RunMount,
    ) -> Option<Result<Wanted<'a>, Error>> {
        let RunMount::Cache { id, sharing, from, source, mode, uid, gid, .. } = mount else {
            return None;
        };
        let seed = match from {
            Some(from) => match self.seed_digest(*from, source) {
                Ok(digest) => Some(digest),
                Err(error) => return Some(Err(error)),
            },
            None if source != "/" => {
                let message = format!("\"{source}\": not found");
                let hint = "a cache without `from` begins empty: leave `source` out".to_owned();
                return Some(Err(Error::Refused { message, span: None, hint: Some(hint) }));
            }
            None => None,
        };
        // As in BuildKit, the first files, mode and ids tell caches of one id apart.
        let about = json!({
            "id": id,
            "seed": seed.map(|digest| json!([digest, source])),
            "mode": mode,
            "uid": uid,
            "gid": gid,
        });
        let owner = FileOwner { mode: *mode, uid: *uid, gid: *gid };
        let (sharing, from) = (*sharing, *from);
        Some(Ok(Wanted { position, about, id, sharing, from, source, owner }))
    }

    pub(super) fn seed_digest(&self, from: Origin, source: &str) -> Result<Digest, Error> {
        match from {
            Origin::Context(_) => self.content_of(from, source),
            Origin::Stage(_) | Origin::Image(_) => Ok(chain_digest(&self.source_layers(from)?)),
        }
    }

    fn lease(&self, step: &Step, wanted: &Wanted<'_>) -> Result<CacheLease, Error> {
        let worker = self.worker()?;
        let sharing = match wanted.sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Private => CacheSharing::Private,
            Sharing::Locked => CacheSharing::Locked,
        };
        let (mut pause, longest) = PAUSES;
        let mut is_told = false;
        loop {
            let choice = self.engine.store.choose_cache(worker.mapping(), &wanted.about)?;
            match choice.find(sharing)? {
                CacheFound::Lease(lease) => return Ok(lease),
                CacheFound::Absent(new) => return self.make(wanted, new),
                CacheFound::Busy => drop(choice),
            }
            if self.engine.cancel.is_requested() {
                return Err(Error::Canceled);
            }
            if !is_told {
                let (name, id) = (&step.name, wanted.id);
                let text = format!("{name} waits for the cache `{id}`, which another step uses");
                self.engine.sink.emit(Event::Note { text });
                is_told = true;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }

    fn make(&self, wanted: &Wanted<'_>, new: NewCache) -> Result<CacheLease, Error> {
        let seed = wanted.from.map(|from| self.seed(wanted, from)).transpose()?;
        let path = new.temporary().to_owned();
        self.worker()?.make_cache(MakeCacheRequest { path, owner: wanted.owner, seed })?;
        Ok(new.complete()?)
    }

    fn seed(&self, wanted: &Wanted<'_>, from: Origin) -> Result<CacheSeed, Error> {
        let tree = self.tree(from, wanted.source)?;
        Ok(CacheSeed {
            layers: tree.layers,
            indexes: tree.indexes,
            snapshots_directory: self.engine.store.snapshots_directory(self.worker()?.mapping()),
            path: tree.path,
            keeps_owner: wanted.owner == PLAIN,
        })
    }
}
