//! `build` and `build-push`: a Dockerfile to an image, its layers published while it is built.

mod agents;
mod cache;
mod call;
mod checks;
mod contexts;
mod elsewhere;
mod emulators;
mod job;
mod location;
mod locked;
mod offline;
mod online;
mod outputs;
mod plan;
mod project;
mod publishing;
mod request;
mod results;
mod secrets;
mod sources;

use std::sync::Arc;

use crate::build::{Cancel, Provisions};
use crate::remote::GitSettings;

use super::session::blocking;
use super::{Error, Kind, Session};
use agents::Agents;
use cache::{CacheSources, Exports};
use contexts::MainContext;
use job::Job;
use offline::Needs;
use online::Online;
use outputs::{Choice, Outputs, epoch};
use publishing::Publishing;
use results::Results;
use secrets::Given;
use sources::Sources;

pub use agents::AgentSource;
pub use cache::{CacheFrom, CacheMode, CacheTo};
pub use call::{About, Answer, Question, Target};
pub use location::{ContextLocation, LayoutImage};
pub use outputs::{
    Destination, Dialect, ImageOptions, ImageOutput, Keep, Output, OutputKind, Publish, Split,
    Timestamps, annotations, compression,
};
pub(super) use project::Project;
pub use request::{BuildReport, BuildRequest, BuiltImage, Delivery, DockerfileSource, ImageReport};
pub use secrets::{SecretOrigin, SecretSource};

/// The agent of `--ssh` that git gets (BuildKit, `llb.Git`).
const DEFAULT_AGENT: &str = "default";

/// Builds, names and, when asked, publishes an image.
///
/// # Errors
///
/// The Dockerfile's faults with their place, a failed step with its output, whatever registry and
/// store say. A failed build moves no name, here or in a registry.
pub async fn build(
    session: &Session,
    mut request: BuildRequest,
    interrupt: &Interrupt,
) -> Result<BuildReport, Error> {
    offline::prepare(session, &mut request)?;
    let mut outputs = Outputs::of(&request)?;
    offline::refuse_to_publish(session, outputs.0.iter().any(Choice::publishes))?;
    let (provisions, _agents) = {
        let request = request.clone();
        blocking(move || provide(&request)).await?
    };
    let online = Arc::new(online(session, interrupt, &provisions));
    let (context, sources) = read(&request, &online).await?;
    let _ = online.pins.set(Arc::new(sources.pins.clone()));
    let date = epoch(&mut request, &context, &sources, &online).await?;
    let planned = plan::plan(session, &request, &sources).await.map_err(|e| sources.explain(e))?;
    let plan = Arc::new(planned.plan);
    if session.is_offline() {
        let whole = outputs.0.iter().any(|choice| choice.is_image() && choice.image().is_none());
        let needs = Needs { missing: planned.missing, plan: Arc::clone(&plan), whole };
        needs.require(&request, &online, &sources.name).await?;
    }
    outputs.suit(plan.targets.len())?;
    outputs.date(date, &request)?;
    if outputs.0.iter().any(|choice| choice.wants_date() && choice.form.epoch.is_none()) {
        session.warn("rewrite-timestamp has no effect without SOURCE_DATE_EPOCH");
    }
    let publishing = outputs.primary().filter(|choice| choice.publishes());
    let mut publishing =
        publishing.map(|choice| Publishing::start(session, &choice.names, &plan, &choice.form));
    let caches = CacheSources::new(session, &request.cache_from, &plan);
    let exports = Exports::default();
    let job = Job {
        session,
        request: &request,
        sources: &sources,
        plan: &plan,
        outputs: &outputs,
        context: &context,
        online: &online,
        provisions: &provisions,
        caches: &caches,
        exports: &exports,
    };
    let made = match job.execute_or_fail_to_publish(publishing.as_mut(), interrupt).await {
        Ok(made) => made,
        Err(error) => {
            // Uploads of a failed build have no further use. Sessions of layers that were still
            // growing are cancelled; what else was sent, the registry keeps until its own clean-up,
            // and no tag names it.
            if let Some(publishing) = publishing {
                publishing.abort().await;
            }
            return Err(error);
        }
    };
    let (request, plan, outputs) = (&request, &plan, &outputs);
    let (caches, exports) = (&caches, &exports);
    let results = Results { session, request, plan, outputs, caches, exports };
    tokio::select! {
        report = results.deliver(made, publishing) => report,
        () = interrupt.requested.notified() => {
            Err(Error::new(Kind::Interrupted, "interrupted while publishing"))
        }
    }
}

/// Answers a question about a Dockerfile instead of building it.
///
/// # Errors
///
/// What keeps the question from being answered; what would fail the build is part of the answer of
/// a check.
pub async fn call(
    session: &Session,
    request: BuildRequest,
    question: Question,
    interrupt: &Interrupt,
) -> Result<Answer, Error> {
    let (provisions, _agents) = {
        let request = request.clone();
        blocking(move || provide(&request)).await?
    };
    let online = Arc::new(online(session, interrupt, &provisions));
    // The context is kept until the end.
    let (_context, sources) = read(&request, &online).await?;
    let _ = online.pins.set(Arc::new(sources.pins.clone()));
    tokio::select! {
        answer = call::answer(session, &request, &sources, question) => answer,
        () = interrupt.requested.notified() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

/// Gets the build context and reads the Dockerfile and the ignore file.
async fn read(
    request: &BuildRequest,
    online: &Arc<Online>,
) -> Result<(MainContext, Arc<Sources>), Error> {
    let (request, online) = (request.clone(), Arc::clone(online));
    blocking(move || {
        let context = MainContext::open(&request, &online)?;
        let sources = Sources::read(&context, &request, &online)?;
        Ok::<_, Error>((context, Arc::new(sources)))
    })
    .await
}

fn online(session: &Session, interrupt: &Interrupt, provisions: &Provisions) -> Online {
    Online {
        session: session.clone(),
        runtime: tokio::runtime::Handle::current(),
        cancel: Arc::clone(&interrupt.engine),
        secrets: Arc::new(Given(provisions.secrets.clone())),
        git: GitSettings {
            agent: provisions.agents.get(DEFAULT_AGENT).cloned(),
            ..session.git.clone()
        },
        fetched: std::sync::Mutex::default(),
        pins: std::sync::OnceLock::new(),
    }
}

/// Reads the secrets and starts the agents. Blocks.
fn provide(request: &BuildRequest) -> Result<(Provisions, Agents), Error> {
    let secrets = secrets::read(&request.secrets)?;
    let agents = Agents::start(&request.agents)?;
    let provisions = Provisions {
        secrets,
        agents: agents.sockets(),
        shm_bytes: request.shm_bytes,
        limits: request.limits.clone(),
    };
    Ok((provisions, agents))
}

/// Stops a build from outside: running commands are killed, uploads broken off, no tag moves.
#[derive(Debug, Default)]
pub struct Interrupt {
    engine: Arc<Cancel>,
    requested: tokio::sync::Notify,
}

impl Interrupt {
    /// Asks the build to stop. It cleans up and returns [`Kind::Interrupted`].
    pub fn request(&self) {
        self.engine.cancel();
        self.requested.notify_one();
    }
}
