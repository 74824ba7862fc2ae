//! `RUN --mount` (Dockerfile reference, "RUN --mount"; BuildKit, `convert_runmount.go`).

use crate::build::plan::stage::{State, join};
use crate::build::plan::{Access, ContextName, Error, MountedFile, Origin, RunMount};
use crate::dockerfile::{Mount, MountKind, MountSpec, Sharing, Span};

use super::Walk;

/// The build argument that keeps the caches of builds apart.
const NAMESPACE_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Where secrets appear unless the mount says where.
const SECRETS: &str = "/run/secrets";

/// Where agents' sockets appear unless the mount says where; a number follows.
const AGENTS: &str = "/run/buildkit/ssh_agent.";

/// A mount with its variables expanded, and where it stands.
struct Expanded {
    spec: MountSpec,
    span: Span,
}

impl Expanded {
    fn refused(&self, message: impl Into<String>) -> Error {
        Error::refused(message, self.span)
    }

    fn access(&self) -> Access {
        if self.spec.read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// Returns the absolute path of `source` in its origin.
    fn source(&self) -> String {
        join("/", self.spec.source.as_deref().unwrap_or("/"))
    }

    /// Returns the absolute target; a relative one is in the working directory.
    fn target(&self, state: &State) -> Result<String, Error> {
        let Some(target) = &self.spec.target else {
            let message = format!("a {} mount needs a target", self.spec.kind.name());
            return Err(self.refused(message).with_hint("add `,target=<directory>`"));
        };
        match join(&state.working_directory(), target).as_str() {
            "/" => Err(self.refused("invalid mount target \"/\"")),
            path => Ok(path.to_owned()),
        }
    }

    /// Returns how a secret or socket appears at `target`.
    fn file(&self, target: String, mode: u32) -> MountedFile {
        let MountSpec { mode: given, uid, gid, .. } = &self.spec;
        let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
        MountedFile { target, mode: given.unwrap_or(mode), uid, gid }
    }
}

impl Walk<'_> {
    /// Expands the mounts of a `RUN` in stage `number`.
    pub(super) fn mounts(
        &mut self,
        state: &State,
        number: usize,
        mounts: &[Mount],
    ) -> Result<Vec<RunMount>, Error> {
        let mut agents = 0;
        let mut planned = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let spec = mount
                .resolve(&|value| state.expand_text(value))
                .map_err(|error| Error::refused(error.to_string(), error.span))?;
            let mount = Expanded { spec, span: mount.span };
            planned.push(match mount.spec.kind {
                MountKind::Bind => self.bind(state, number, &mount)?,
                MountKind::Cache => self.cache(state, number, &mount)?,
                MountKind::Tmpfs => {
                    RunMount::Tmpfs { target: mount.target(state)?, size_bytes: mount.spec.size }
                }
                MountKind::Secret => secret(&mount)?,
                MountKind::Ssh => {
                    agents += 1;
                    ssh(&mount, agents - 1)?
                }
            });
        }
        Ok(planned)
    }

    fn bind(&mut self, state: &State, number: usize, mount: &Expanded) -> Result<RunMount, Error> {
        let target = mount.target(state)?;
        let from = match &mount.spec.from {
            None => Some(Origin::Context(self.context(&ContextName::Main))),
            Some(text) => self.origin(number, text, mount.span)?,
        };
        Ok(match from {
            Some(from) => {
                RunMount::Bind { target, from, source: mount.source(), access: mount.access() }
            }
            // `from=scratch`: a directory with nothing in it, whose content is dropped.
            None => RunMount::Tmpfs { target, size_bytes: None },
        })
    }

    fn cache(&mut self, state: &State, number: usize, mount: &Expanded) -> Result<RunMount, Error> {
        let target = mount.target(state)?;
        let own = mount.spec.target.as_deref().map(clean_text).unwrap_or_default();
        let id = mount.spec.id.clone().unwrap_or(own);
        let namespace = self.options.build_args.get(NAMESPACE_ARG).filter(|name| !name.is_empty());
        let from = match &mount.spec.from {
            None => None,
            Some(text) => self.origin(number, text, mount.span)?,
        };
        Ok(RunMount::Cache {
            target,
            id: namespace.map_or_else(|| id.clone(), |namespace| format!("{namespace}/{id}")),
            sharing: mount.spec.sharing.unwrap_or(Sharing::Shared),
            from,
            source: mount.source(),
            mode: mount.spec.mode.unwrap_or(0o755),
            uid: mount.spec.uid.unwrap_or(0),
            gid: mount.spec.gid.unwrap_or(0),
            access: mount.access(),
        })
    }
}

/// Cleans a path and leaves it relative when it is (Go's `path.Clean`).
fn clean_text(path: &str) -> String {
    let clean = join("/", path);
    if path.starts_with('/') { clean } else { clean.trim_start_matches('/').to_owned() }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn secret(mount: &Expanded) -> Result<RunMount, Error> {
    let MountSpec { id, source, target, env, required, .. } = &mount.spec;
    let id = match (source.as_ref().or(id.as_ref()), target) {
        (Some(id), _) => id.clone(),
        (None, Some(target)) => base_name(target).to_owned(),
        (None, None) => return Err(mount.refused("one of source, target required")),
    };
    let target = match target {
        Some(target) => Some(join("/", target)),
        None if env.is_some() => None,
        None => Some(join(SECRETS, base_name(&id))),
    };
    if target.as_deref() == Some("/") {
        return Err(mount.refused("invalid mount target \"/\""));
    }
    let file = target.map(|target| mount.file(target, 0o400));
    Ok(RunMount::Secret { id, file, env: env.clone(), required: *required })
}

fn ssh(mount: &Expanded, position: usize) -> Result<RunMount, Error> {
    let MountSpec { id, source, target, required, .. } = &mount.spec;
    if source.is_some() {
        return Err(mount.refused("ssh does not support source"));
    }
    let target = match target.as_deref().map(|target| join("/", target)) {
        Some(target) if target == "/" => {
            return Err(mount.refused("invalid mount target \"/\""));
        }
        Some(target) => target,
        None => format!("{AGENTS}{position}"),
    };
    Ok(RunMount::Ssh {
        id: id.clone().unwrap_or_else(|| "default".to_owned()),
        socket: mount.file(target, 0o600),
        required: *required,
    })
}
