//! `build` and `build-push`: a Dockerfile to an image, its layers published while it is built.

mod checks;
mod contexts;
mod emulators;
mod job;
mod location;
mod online;
mod plan;
mod publishing;
mod request;
mod sources;

use std::sync::Arc;

use crate::build::Cancel;
use crate::remote::NoSecrets;

use super::session::blocking;
use super::{Error, Kind, Session};
use contexts::MainContext;
use job::Job;
use online::Online;
use publishing::Publishing;
use sources::Sources;

pub use location::{ContextLocation, LayoutImage};
pub use request::{BuildReport, BuildRequest, DockerfileSource};

/// Builds, names and, when asked, publishes an image.
///
/// # Errors
///
/// The Dockerfile's faults with their place, a failed step with its output, whatever registry and
/// store say. A failed build moves no name, here or in a registry.
pub async fn build(
    session: &Session,
    request: BuildRequest,
    interrupt: &Interrupt,
) -> Result<BuildReport, Error> {
    if request.push && request.names.is_empty() {
        return Err(Error::new(Kind::User, "nothing to push to: the image has no name")
            .hint("name it with `-t registry/repository:tag`"));
    }
    let online = Arc::new(Online {
        session: session.clone(),
        runtime: tokio::runtime::Handle::current(),
        cancel: Arc::clone(&interrupt.engine),
        secrets: Arc::new(NoSecrets),
        git: session.git.clone(),
    });
    let (context, sources) = {
        let (request, online) = (request.clone(), Arc::clone(&online));
        blocking(move || {
            let context = MainContext::open(&request, &online)?;
            let sources = Sources::read(&context, &request.dockerfile, &online)?;
            Ok::<_, Error>((context, sources))
        })
        .await?
    };
    let sources = Arc::new(sources);
    let plan = plan::plan(session, &request, &sources).await.map_err(|e| sources.explain(e))?;
    if plan.targets.len() > 1 {
        let message = "several platforms at once are not supported by this version of rpub";
        return Err(Error::new(Kind::Settings, message).hint("build one platform at a time"));
    }
    let plan = Arc::new(plan);
    let mut publishing = request.push.then(|| Publishing::start(session, &request.names, &plan));
    let job = Job {
        session,
        request: &request,
        sources: &sources,
        plan: &plan,
        context: &context,
        online: &online,
    };
    let image = match job.execute_or_fail_to_publish(publishing.as_mut(), interrupt).await {
        Ok(image) => image,
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
    tokio::select! {
        report = job.finish(image, publishing) => report,
        () = interrupt.requested.notified() => {
            Err(Error::new(Kind::Interrupted, "interrupted while publishing"))
        }
    }
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
