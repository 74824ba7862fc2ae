//! `RUN --mount` (Dockerfile reference, "RUN --mount").

mod values;

use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::expand::ExpandError;
use crate::dockerfile::mount::values::{bytes, csv};
use crate::dockerfile::source::{Span, Word};
use crate::suggest::suggest;

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// One `--mount` flag as written; values may hold variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The fields in order.
    pub fields: Vec<MountField>,
    /// The whole flag.
    pub span: Span,
}

/// One comma-separated field of a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key in lower case.
    pub key: String,
    /// The value, not expanded; none for a bare key.
    pub value: Option<String>,
}

/// A mount with its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountSpec {
    /// `type`.
    pub kind: MountKind,
    /// `from`: stage, image or named context.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`.
    pub target: Option<String>,
    /// Whether writing is refused: by default for all but `cache` and `tmpfs`.
    pub read_only: bool,
    /// `required`, of secrets and ssh.
    pub required: bool,
    /// `size` in bytes, of tmpfs.
    pub size: Option<u64>,
    /// `id`.
    pub id: Option<String>,
    /// `sharing`, of caches.
    pub sharing: Option<Sharing>,
    /// `mode`, of secrets, ssh and caches.
    pub mode: Option<u32>,
    /// `uid`, of secrets, ssh and caches.
    pub uid: Option<u32>,
    /// `gid`, of secrets, ssh and caches.
    pub gid: Option<u32>,
    /// `env`, of secrets.
    pub env: Option<String>,
}

/// The type of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory kept between builds.
    Cache,
    /// A file system in memory.
    Tmpfs,
    /// A secret as a file or variable.
    Secret,
    /// An ssh agent's socket.
    Ssh,
}

impl MountKind {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// Returns the type's name as written in a Dockerfile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// How builds share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Many at once.
    Shared,
    /// Each its own.
    Private,
    /// One after another.
    Locked,
}

impl Sharing {
    const ALL: [(&'static str, Self); 3] =
        [("shared", Self::Shared), ("private", Self::Private), ("locked", Self::Locked)];
}

impl Mount {
    /// Reads the flag's value and checks what does not depend on variables.
    pub(crate) fn parse(flag: &Word) -> Result<Self, Error> {
        let fault = |message: String| Error::new(ErrorKind::BadFlag, message, flag.span);
        let fields = csv(&flag.text).map_err(fault)?.into_iter().map(|field| {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            MountField { key: key.to_lowercase(), value }
        });
        let mount = Self { fields: fields.collect(), span: flag.span };
        let has_variable =
            |field: &MountField| field.value.as_deref().is_some_and(|value| value.contains('$'));
        if mount.fields.iter().any(|field| field.key == "from" && has_variable(field)) {
            return Err(fault(
                "'from' doesn't support variable expansion, define alias stage instead".to_owned(),
            ));
        }
        if mount.fields.iter().any(has_variable) {
            for field in &mount.fields {
                mount.check_key(field)?;
            }
        } else {
            mount.resolve(&|value| Ok(value.to_owned()))?;
        }
        Ok(mount)
    }

    /// Expands the values and gives them their types.
    ///
    /// # Errors
    ///
    /// For a variable that cannot be expanded, an unknown key or type, and fields that do not go
    /// together.
    pub fn resolve(
        &self,
        expand: &dyn Fn(&str) -> Result<String, ExpandError>,
    ) -> Result<MountSpec, Error> {
        let mut spec = MountSpec::default();
        let mut read_only = None;
        for field in &self.fields {
            self.check_key(field)?;
            let value = field
                .value
                .as_deref()
                .map(|value| expand(value).map_err(|error| self.fault(error.to_string())))
                .transpose()?;
            match (field.key.as_str(), value) {
                ("readonly" | "ro", value) => {
                    read_only = Some(self.switch(field, value.as_deref())?);
                }
                ("readwrite" | "rw", value) => {
                    read_only = Some(!self.switch(field, value.as_deref())?);
                }
                ("required", value) => {
                    if !matches!(spec.kind, MountKind::Secret | MountKind::Ssh) {
                        return Err(self.misplaced(field, spec.kind));
                    }
                    spec.required = self.switch(field, value.as_deref())?;
                }
                (key, None) => {
                    return Err(
                        self.fault(format!("invalid field '{key}' must be a key=value pair"))
                    );
                }
                (_, Some(value)) => self.set(&mut spec, field, value)?,
            }
        }
        let writable = matches!(spec.kind, MountKind::Cache | MountKind::Tmpfs);
        spec.read_only = read_only.unwrap_or(!writable);
        self.check(&spec)?;
        Ok(spec)
    }

    fn set(&self, spec: &mut MountSpec, field: &MountField, value: String) -> Result<(), Error> {
        let key = field.key.as_str();
        match key {
            "type" => spec.kind = self.choice(&MountKind::ALL, &value, "mount type")?,
            "sharing" => {
                spec.sharing = Some(self.choice(&Sharing::ALL, &value, "sharing value")?);
            }
            "size" if spec.kind != MountKind::Tmpfs => {
                return Err(self.misplaced(field, spec.kind));
            }
            "size" => {
                let size = bytes(&value);
                let fault = || self.fault(format!("invalid value for {key}: {value}"));
                spec.size = Some(size.ok_or_else(fault)?);
            }
            "mode" | "uid" | "gid" => {
                let base = if key == "mode" { 8 } else { 10 };
                let fault = |_| self.fault(format!("invalid value {value} for {key}"));
                let number = Some(u32::from_str_radix(&value, base).map_err(fault)?);
                match key {
                    "mode" => spec.mode = number,
                    "uid" => spec.uid = number,
                    _ => spec.gid = number,
                }
            }
            _ => {
                let value = Some(value).filter(|value| !value.is_empty());
                match key {
                    "from" => spec.from = value,
                    "source" | "src" => spec.source = value,
                    "id" => spec.id = value,
                    "env" => spec.env = value,
                    _ => spec.target = value,
                }
            }
        }
        Ok(())
    }

    fn check(&self, spec: &MountSpec) -> Result<(), Error> {
        let kind = spec.kind.name();
        if matches!(spec.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, value) in [("mode", spec.mode), ("uid", spec.uid), ("gid", spec.gid)] {
                if value.is_some() {
                    return Err(self.fault(format!("{key} not allowed for {kind:?} type mounts")));
                }
            }
        }
        if spec.kind == MountKind::Secret {
            if spec.from.is_some() {
                return Err(self.fault("secret mount should not have a from".to_owned()));
            }
            if spec.source.is_none() && spec.target.is_none() && spec.id.is_none() {
                let message = "invalid secret mount. one of source, target required";
                return Err(self.fault(message.to_owned()));
            }
            if spec.source.is_some() && spec.id.is_some() {
                return Err(self.fault("both source and id can't be set".to_owned()));
            }
        }
        if spec.sharing.is_some() && spec.kind != MountKind::Cache {
            return Err(self.fault(format!("invalid cache sharing set for {kind} mount")));
        }
        Ok(())
    }

    fn fault(&self, message: String) -> Error {
        Error::new(ErrorKind::BadFlag, message, self.span)
    }

    fn misplaced(&self, field: &MountField, kind: MountKind) -> Error {
        self.fault(format!("unexpected key '{}' for mount type '{}'", field.key, kind.name()))
    }

    fn check_key(&self, field: &MountField) -> Result<(), Error> {
        let key = field.key.as_str();
        if KEYS.contains(&key) {
            return Ok(());
        }
        let written = match &field.value {
            Some(value) => format!("{key}={value}"),
            None => key.to_owned(),
        };
        let near = suggest(key, KEYS.iter().copied());
        Err(self.fault(format!("unexpected key '{key}' in '{written}'")).suggesting(near))
    }

    fn switch(&self, field: &MountField, value: Option<&str>) -> Result<bool, Error> {
        match value {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(self.fault(format!("invalid value for {}: {other}", field.key))),
        }
    }

    fn choice<T: Copy>(
        &self,
        all: &[(&'static str, T)],
        value: &str,
        what: &str,
    ) -> Result<T, Error> {
        let lower = value.to_lowercase();
        if let Some((_, choice)) = all.iter().find(|(name, _)| *name == lower) {
            return Ok(*choice);
        }
        let near = suggest(&lower, all.iter().map(|(name, _)| *name));
        Err(self.fault(format!("unsupported {what} {value:?}")).suggesting(near))
    }
}

#[cfg(test)]
mod tests;
