//! What the user gives to `RUN` steps beside the Dockerfile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use crate::sandbox::Limit;

use super::Error;
use super::plan::{Plan, RunMount, Step, Work};

/// What `RUN` steps may use of the user's, and within which bounds.
#[derive(Debug, Clone, Default)]
pub struct Provisions {
    /// `--secret`.
    pub secrets: Secrets,
    /// `--ssh`: the sockets of agents, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// `--shm-size`.
    pub shm_bytes: Option<u64>,
    /// `--ulimit`.
    pub limits: Vec<Limit>,
}

/// The values of secrets, by id. They are zeroised when the last clone goes, and print as `****`.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, Arc<SecretSlice<u8>>>);

impl Secrets {
    /// Adds a secret; one of the same id is replaced.
    pub fn insert(&mut self, id: String, value: &[u8]) {
        self.0.insert(id, Arc::new(SecretSlice::from(value.to_vec())));
    }

    /// Returns the value of a secret, for the one place that passes it on.
    #[must_use]
    pub fn expose(&self, id: &str) -> Option<&[u8]> {
        self.0.get(id).map(|value| value.expose_secret())
    }

    fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

impl Provisions {
    /// Refuses a plan that requires a secret or an agent that is not given.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), Error> {
        let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        steps.into_iter().try_for_each(|step| self.check_step(step))
    }

    fn check_step(&self, step: &Step) -> Result<(), Error> {
        let Work::Run(run) = &step.work else { return Ok(()) };
        for mount in &run.mounts {
            match mount {
                RunMount::Secret { id, required: true, .. } if !self.secrets.has(id) => {
                    let hint =
                        format!("give it with `--secret id={id},src=<file>` or `,env=<name>`");
                    return Err(Error::refused(format!("secret {id}: not found"), step.span)
                        .with_hint(hint));
                }
                RunMount::Secret { id, env: Some(name), .. } => {
                    self.check_variable(id, name, step)?;
                }
                RunMount::Ssh { id, required: true, .. } if !self.agents.contains_key(id) => {
                    let message = format!("no SSH key {id:?} forwarded from the client");
                    let hint = match id.as_str() {
                        "default" => {
                            "pass `--ssh default` to forward the agent of SSH_AUTH_SOCK".to_owned()
                        }
                        id => format!("pass `--ssh {id}=<socket or key file>`"),
                    };
                    return Err(Error::refused(message, step.span).with_hint(hint));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses what no environment can hold.
    fn check_variable(&self, id: &str, name: &str, step: &Step) -> Result<(), Error> {
        let Some(value) = self.secrets.expose(id) else { return Ok(()) };
        let reason = match std::str::from_utf8(value) {
            Err(_) => "is not valid UTF-8",
            Ok(text) if text.contains('\0') => "holds a NUL byte",
            Ok(_) => return Ok(()),
        };
        let message = format!("secret {id} cannot be the variable `{name}`: it {reason}");
        Err(Error::refused(message, step.span).with_hint("mount it as a file: `target=<path>`"))
    }
}
