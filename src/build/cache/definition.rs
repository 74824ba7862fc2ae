//! What a step's definition key is made of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::build::plan::{
    Access, Copy, CopySource, MountedFile, Network, Origin, Remote, Run, RunMount, Security,
    Unpack, Work,
};
use crate::image::{ChainId, Digest, Platform};

use super::VERSION;

/// Everything that a step's result depends on, by definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::build) struct Definition {
    version: u32,
    /// What the step does, with every variable expanded.
    pub(in crate::build) work: Value,
    /// What it is built for.
    pub(in crate::build) platform: Platform,
    /// What it stands on.
    pub(in crate::build) below: Below,
    /// What it reads beside, in order.
    pub(in crate::build) inputs: Vec<Input>,
}

/// What a step stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::build) enum Below {
    /// Nothing.
    Scratch,
    /// The layers of an image, by their chainID; `None` for an image without layers.
    Image(Option<ChainId>),
    /// The step with this chain key.
    Step(Digest),
    /// It does not matter: the step's layer is independent (`COPY --link`).
    Anything,
}

impl Below {
    /// Returns the key of a stage that has no steps of its own.
    pub(in crate::build) fn key(&self) -> Digest {
        match self {
            Self::Step(key) => key.clone(),
            Self::Scratch | Self::Image(_) | Self::Anything => digest_of(&json!({ "below": self })),
        }
    }
}

/// Something that a step reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build) struct Input {
    /// What people call it, as in ``stage `build` ``. Not part of the key.
    pub(in crate::build) name: String,
    /// Its key: of a context's files and of what a URL names the content, of a stage its key, of an
    /// image its chainID.
    pub(in crate::build) digest: Digest,
}

impl Definition {
    pub(in crate::build) fn new(
        work: Value,
        platform: Platform,
        below: Below,
        inputs: Vec<Input>,
    ) -> Self {
        Self { version: VERSION, work, platform, below, inputs }
    }

    /// Returns the definition key.
    pub(in crate::build) fn key(&self) -> Digest {
        let inputs: Vec<&Digest> = self.inputs.iter().map(|input| &input.digest).collect();
        digest_of(&json!([self.version, self.work, self.platform, self.below, inputs]))
    }

    /// Returns the key of what is known before the inputs are: where nothing is recorded under it,
    /// nothing is recorded under the definition key either.
    pub(in crate::build) fn key_without_inputs(&self) -> Digest {
        digest_of(&json!(["any", self.version, self.work, self.platform, self.below]))
    }

    /// Returns the key that the next step stands on; `own` is the definition key.
    pub(in crate::build) fn chain_key(&self, own: &Digest, below: &Below) -> Digest {
        match self.below {
            Below::Anything => digest_of(&json!(["chain", below, own])),
            Below::Scratch | Below::Image(_) | Below::Step(_) => own.clone(),
        }
    }
}

fn digest_of(value: &Value) -> Digest {
    Digest::of(value.to_string().as_bytes())
}

/// What a step reads beside the layers below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::build) enum Reads<'a> {
    /// The files of a `COPY` or `ADD`.
    Copied(&'a Copy),
    /// A path of a mount.
    Mounted {
        /// Where it is.
        from: Origin,
        /// The absolute path in there.
        path: &'a str,
    },
    /// What a URL names.
    Remote(&'a Remote),
}

impl Reads<'_> {
    /// Returns the stage, image or context that the files are in.
    pub(in crate::build) fn origin(&self) -> Option<Origin> {
        match self {
            Self::Copied(copy) => Some(copy.from),
            Self::Mounted { from, .. } => Some(*from),
            Self::Remote(_) => None,
        }
    }
}

/// Returns what a step reads, in the order of its instruction.
pub(in crate::build) fn reads(work: &Work) -> Vec<Reads<'_>> {
    match work {
        Work::Directory(_) => Vec::new(),
        Work::Copy(copy) => {
            let has_paths = copy.sources.iter().any(|source| matches!(source, CopySource::Path(_)));
            let remotes = copy.sources.iter().filter_map(|source| match source {
                CopySource::Remote(remote) => Some(Reads::Remote(remote)),
                CopySource::Path(_) | CopySource::Inline { .. } => None,
            });
            has_paths.then_some(Reads::Copied(copy)).into_iter().chain(remotes).collect()
        }
        Work::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match mount {
                RunMount::Bind { from, source, .. }
                | RunMount::Cache { from: Some(from), source, .. } => {
                    Some(Reads::Mounted { from: *from, path: source })
                }
                RunMount::Cache { .. }
                | RunMount::Tmpfs { .. }
                | RunMount::Secret { .. }
                | RunMount::Ssh { .. } => None,
            })
            .collect(),
    }
}

/// Returns whether the step's layer is independent of those below.
pub(in crate::build) fn is_linked(work: &Work) -> bool {
    matches!(work, Work::Copy(copy) if copy.link)
}

/// Returns what the key says of the instruction (reference, "Cache-key rules"): not the proxy
/// arguments, the addresses of extra hosts, the values of secrets, nor which cache is mounted; where
/// files come from counts by what is there.
pub(in crate::build) fn work_of(work: &Work) -> Value {
    match work {
        Work::Run(run) => run_value(run),
        Work::Copy(copy) => copy_value(copy),
        Work::Directory(directory) => {
            json!({ "directory": directory.path, "user": directory.user })
        }
    }
}

fn run_value(run: &Run) -> Value {
    let hosts: Vec<&String> = run.hosts.iter().map(|(name, _)| name).collect();
    let mut value = json!({
        "run": run.args,
        "env": run.env.list(),
        "cwd": run.cwd,
        "user": run.user,
        "hostname": run.hostname,
        "network": match run.network { Network::Host => "host", Network::None => "none" },
        "security": match run.security {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        },
        "mounts": run.mounts.iter().map(mount_value).collect::<Vec<_>>(),
        "hosts": hosts,
    });
    if let Some(script) = &run.script {
        value["script"] = json!({ "path": script.path, "content": script.content });
    }
    value
}

fn mount_value(mount: &RunMount) -> Value {
    match mount {
        RunMount::Bind { target, source, access, .. } => {
            json!({ "type": "bind", "target": target, "source": source, "access": access_word(*access) })
        }
        RunMount::Cache { target, source, mode, uid, gid, access, from, .. } => json!({
            "type": "cache",
            "target": target,
            "source": from.is_some().then_some(source),
            "mode": mode,
            "uid": uid,
            "gid": gid,
            "access": access_word(*access),
        }),
        RunMount::Tmpfs { target, size_bytes } => {
            json!({ "type": "tmpfs", "target": target, "size": size_bytes })
        }
        RunMount::Secret { id, file, env, required } => json!({
            "type": "secret",
            "id": id,
            "file": file.as_ref().map(file_value),
            "env": env,
            "required": required,
        }),
        RunMount::Ssh { id, socket, required } => json!({
            "type": "ssh",
            "id": id,
            "file": file_value(socket),
            "required": required,
        }),
    }
}

fn file_value(file: &MountedFile) -> Value {
    json!({ "target": file.target, "mode": file.mode, "uid": file.uid, "gid": file.gid })
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    }
}

fn copy_value(copy: &Copy) -> Value {
    let sources: Vec<Value> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path(path) => json!(path),
            CopySource::Inline { name, content } => json!({ "name": name, "content": content }),
            CopySource::Remote(Remote::Http { url, .. }) => json!({ "url": url }),
            CopySource::Remote(Remote::Git { url, keep_git_dir, .. }) => {
                json!({ "url": url, "keep_git_dir": keep_git_dir })
            }
        })
        .collect();
    json!({
        "copy": copy.instruction,
        "sources": sources,
        "destination": copy.destination,
        "chown": copy.chown,
        "chmod": copy.chmod,
        "link": copy.link,
        "parents": copy.parents,
        "exclude": copy.exclude,
        "unpack": match copy.unpack {
            Unpack::Never => "never",
            Unpack::Local => "local",
            Unpack::Always => "always",
        },
    })
}
