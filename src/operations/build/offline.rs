//! Builds without a network: what cannot be asked for, and whether all that is needed is here.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::build::{BaseImage, Layer, Origin, Plan, RunMount, StartingPoint, Work};
use crate::image::Digest;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, PullPolicy, Session};
use crate::store::Store;

use super::cache::{CacheFrom, CacheTo};
use super::elsewhere::elsewhere_of;
use super::location::ContextLocation;
use super::online::Online;
use super::request::{BuildRequest, DockerfileSource};

/// Refuses what only a network gives, and leaves out caches that would be asked.
pub(super) fn prepare(session: &Session, request: &mut BuildRequest) -> Result<(), Error> {
    if !session.is_offline() {
        return Ok(());
    }
    let refused = |what: &str, hint: &str| {
        let message = format!("{what} and `--offline` contradict each other");
        Err(Error::new(Kind::Settings, message).hint(hint))
    };
    if request.pull == PullPolicy::Always {
        return refused("`--pull`", "bring the bases up to date by `rpub fetch`");
    }
    if request.cache_to.iter().any(|to| matches!(to, CacheTo::Registry { .. })) {
        return refused(
            "`--cache-to type=registry`",
            "keep the cache in a directory: `type=local`",
        );
    }
    let is_far = |from: &CacheFrom| !matches!(from, CacheFrom::Local(_));
    if request.cache_from.iter().any(is_far) {
        request.cache_from.retain(|from| !is_far(from));
        session.note("offline: only caches in directories are looked into");
    }
    Ok(())
}

/// Refuses to publish.
pub(super) fn refuse_to_publish(session: &Session, publishes: bool) -> Result<(), Error> {
    if !session.is_offline() || !publishes {
        return Ok(());
    }
    let message = "a push and `--offline` contradict each other";
    Err(Error::new(Kind::Settings, message)
        .hint("build into the store, and run `rpub push` where the registry can be reached"))
}

/// What a build without a network needs.
pub(super) struct Needs {
    /// Images that are not here at all.
    pub(super) missing: Vec<BaseImage>,
    /// As far as it could be planned without them.
    pub(super) plan: Arc<Plan>,
    /// Whether the layers themselves must be here, as for an archive of the image.
    pub(super) whole: bool,
}

impl Needs {
    /// Fails when something is not here, and says all that is not, and how to get it.
    pub(super) async fn require(
        self,
        request: &BuildRequest,
        online: &Arc<Online>,
        dockerfile: &str,
    ) -> Result<(), Error> {
        let elsewhere = elsewhere_of(&self.plan, request);
        let (online, wanted) = (Arc::clone(online), request.clone());
        let lacking = blocking(move || {
            let mut lacking: Vec<String> = self.missing.iter().map(image).collect();
            lacking.extend(layers(&online.session.store, &self.plan, self.whole)?);
            for one in &elsewhere {
                lacking.extend(online.lacks(one, &wanted)?);
            }
            Ok::<_, Error>(lacking)
        })
        .await?;
        if lacking.is_empty() { Ok(()) } else { Err(refusal(&lacking, request, dockerfile)) }
    }
}

/// Says which images are not here.
pub(super) fn refuse_missing(
    missing: &[BaseImage],
    request: &BuildRequest,
    dockerfile: &str,
) -> Result<(), Error> {
    let lacking: Vec<String> = missing.iter().map(image).collect();
    if lacking.is_empty() { Ok(()) } else { Err(refusal(&lacking, request, dockerfile)) }
}

fn image(image: &BaseImage) -> String {
    format!("the image `{}` for {}", image.reference.familiar(), image.platform)
}

fn refusal(lacking: &[String], request: &BuildRequest, dockerfile: &str) -> Error {
    let message = match lacking {
        [one] => format!("{one} is not here, and rpub is offline"),
        several => {
            let count = several.len();
            format!("rpub is offline, and {count} things are not here:\n  {}", several.join("\n  "))
        }
    };
    Error::new(Kind::NotFound, message)
        .hint(format!("where there is a network, run `{}`", fetch_command(request, dockerfile)))
        .hint("from another machine, carry them in a bundle: `rpub bundle load` brings them here")
}

/// Returns the command that brings what the build needs. Values of build arguments may be secret.
fn fetch_command(request: &BuildRequest, dockerfile: &str) -> String {
    let mut words = vec!["rpub fetch".to_owned()];
    let path = match (&request.dockerfile, &request.context) {
        (DockerfileSource::File(path), _) => Some(path.clone()),
        (DockerfileSource::Default, ContextLocation::Directory(directory)) => {
            Some(directory.join(dockerfile)).filter(|_| *directory != Path::new("."))
        }
        _ => None,
    };
    words.extend(path.map(|path| format!("-f {}", path.display())));
    if let Some(lock) = &request.lock_file {
        words.push(format!("--lock-file {}", lock.display()));
    }
    if !request.platforms.is_empty() {
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        words.push(format!("--platform {}", platforms.join(",")));
    }
    words.extend(request.target.iter().map(|target| format!("--target {target}")));
    let is_image = |location: &ContextLocation| !matches!(location, ContextLocation::Directory(_));
    if request.named_contexts.iter().any(|(_, location)| is_image(location)) {
        words.push("--build-context ...".to_owned());
    }
    words.extend(request.build_args.keys().map(|name| format!("--build-arg {name}=...")));
    words.join(" ")
}

/// What of a base a build may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Nothing but its configuration.
    Config,
    /// Which files it has.
    Paths,
    /// Its files.
    Files,
    /// Its layers, byte by byte.
    Blobs,
}

/// Says which layers are not here that a step may need. A step whose result is in the cache needs
/// none, but nobody knows that before it is its turn.
fn layers(store: &Store, plan: &Plan, whole: bool) -> Result<Vec<String>, Error> {
    let mut uses = vec![Use::Config; plan.bases.len()];
    let raise = |uses: &mut Vec<Use>, at: usize, to: Use| uses[at] = uses[at].max(to);
    let bottom_of = |at| plan.chain(at).first().map(|bottom| plan.stages[*bottom].base);
    for (at, stage) in plan.stages.iter().enumerate() {
        let bottom = bottom_of(at);
        for step in &stage.steps {
            if let Some(StartingPoint::Image(base)) = bottom {
                raise(&mut uses, base, use_below(&step.work));
            }
            for origin in read_by(&step.work) {
                let base = match origin {
                    Origin::Image(base) => Some(StartingPoint::Image(base)),
                    Origin::Stage(other) => bottom_of(other),
                    Origin::Context(_) => None,
                };
                if let Some(StartingPoint::Image(base)) = base {
                    raise(&mut uses, base, Use::Files);
                }
            }
        }
        if let (true, Some(StartingPoint::Image(base))) =
            (whole && plan.targets.contains(&at), bottom)
        {
            raise(&mut uses, base, Use::Blobs);
        }
    }
    let snapshots: HashSet<Digest> =
        store.snapshots()?.into_iter().map(|(_, diff_id, _)| diff_id).collect();
    let is_here = |layer: &Layer, wanted: Use| {
        store.has_blob(&layer.descriptor.digest)
            || wanted <= Use::Files && snapshots.contains(&layer.diff_id.0)
            || wanted <= Use::Paths && store.paths_index_path(&layer.diff_id).exists()
            || wanted == Use::Config
    };
    let lacking = plan.bases.iter().zip(uses).filter_map(|(base, wanted)| {
        let lacking = base.layers.iter().filter(|layer| !is_here(layer, wanted)).count();
        let (name, platform) = (base.reference.familiar(), base.config.platform());
        let all = base.layers.len();
        (lacking > 0).then(|| format!("{lacking} of {all} layers of `{name}` for {platform}"))
    });
    Ok(lacking.collect())
}

/// Returns what of the files below a step may read.
fn use_below(work: &Work) -> Use {
    match work {
        Work::Run(_) => Use::Files,
        Work::Copy(copy) if copy.link => Use::Config,
        Work::Copy(_) | Work::Directory(_) => Use::Paths,
    }
}

/// Returns what a step takes files from.
fn read_by(work: &Work) -> Vec<Origin> {
    match work {
        Work::Copy(copy) => vec![copy.from],
        Work::Run(run) => {
            let from = run.mounts.iter().filter_map(|mount| match mount {
                RunMount::Bind { from, .. } => Some(*from),
                RunMount::Cache { from, .. } => *from,
                RunMount::Tmpfs { .. } | RunMount::Secret { .. } | RunMount::Ssh { .. } => None,
            });
            from.collect()
        }
        Work::Directory(_) => Vec::new(),
    }
}
