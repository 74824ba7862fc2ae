//! The rooms' errors as an operation's: which kind each is, and what to do about it.

use crate::blob::Mismatch;
use crate::{archive, build, credentials, image, layer, registry, remote, sandbox, serve, store};

use super::{Error, Kind};

impl Error {
    /// Says what was attempted, with the error itself as the cause.
    #[must_use]
    pub fn about(self, what: impl Into<String>) -> Self {
        let (kind, hints) = (self.kind, self.hints.clone());
        let (snippet, output) = (self.snippet.clone(), self.output.clone());
        let mut outer = Self::new(kind, what).because(self);
        outer.hints = hints;
        outer.snippet = snippet;
        outer.output = output;
        outer
    }

    /// Returns an error whose whole message is that of `source`.
    fn of<E: std::error::Error + Send + Sync + 'static>(kind: Kind, source: E) -> Self {
        let mut error = Self::new(kind, source.to_string());
        error.source = Some(Box::new(Transparent(source)));
        error
    }
}

/// Passes on only the causes of an error whose own text has been said.
#[derive(Debug)]
struct Transparent<E>(E);

impl<E: std::error::Error> std::fmt::Display for Transparent<E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, formatter)
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Transparent<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        let kind = match error.kind() {
            registry::Kind::Settings => Kind::Settings,
            registry::Kind::Denied => Kind::Denied,
            registry::Kind::NotFound => Kind::NotFound,
            registry::Kind::RateLimited => Kind::RateLimited,
            registry::Kind::Network | registry::Kind::Protocol => Kind::Network,
            registry::Kind::Integrity => Kind::Integrity,
            registry::Kind::Local => Kind::Internal,
        };
        let hints = registry_hints(&error);
        let mut error = Self::of(kind, error);
        error.hints.extend(hints);
        error
    }
}

/// What to do when rpub is offline.
const ONLINE: &str = "run it without `--offline`, and without RPUB_OFFLINE";

/// Returns what helps against a registry's refusal.
fn registry_hints(error: &registry::Error) -> Vec<String> {
    if matches!(error, registry::Error::Status(status) if status.is_immutable_tag()) {
        let hint = "the registry lets no tag move: push under a tag that is not taken";
        return vec![hint.to_owned()];
    }
    if let registry::Error::Credentials { source, .. } = error {
        return source.remedy().into_iter().collect();
    }
    if matches!(error, registry::Error::Offline { .. }) {
        return vec![ONLINE.to_owned()];
    }
    let Some(limited) = error.limited() else { return Vec::new() };
    let mut hints = Vec::new();
    if limited.limit == registry::Limit::Quota {
        let host = limited.registry();
        hints.push(format!("accounts may pull more than addresses: run `rpub login {host}`"));
        hints.push("a mirror of it may be named in registries.conf".to_owned());
    }
    if let Some(wait) = limited.retry_after {
        hints.push(format!("to wait that long: `--max-wait {}s`", wait.as_secs() + 1));
    }
    hints
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let kind = if has_mismatch(&error) { Kind::Integrity } else { Kind::Internal };
        Self::of(kind, error)
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        Self::of(Kind::User, error)
    }
}

impl From<credentials::Error> for Error {
    fn from(error: credentials::Error) -> Self {
        let remedy = error.remedy();
        let mut error = Self::of(Kind::Settings, error);
        error.hints.extend(remedy);
        error
    }
}

impl From<layer::Error> for Error {
    fn from(error: layer::Error) -> Self {
        Self::of(Kind::Build, error)
    }
}

impl From<layer::CopyError> for Error {
    fn from(error: layer::CopyError) -> Self {
        Self::of(Kind::Build, error)
    }
}

impl From<sandbox::Error> for Error {
    fn from(error: sandbox::Error) -> Self {
        let hint = match &error {
            sandbox::Error::Isolation(isolation) => Some(isolation.remedy()),
            _ => None,
        };
        let kind = match &error {
            sandbox::Error::Corrupt { .. } => Kind::Integrity,
            _ => Kind::Build,
        };
        let mut error = Self::of(kind, error);
        error.hints.extend(hint);
        error
    }
}

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        let hint = remote_hint(&error);
        let mut error = match error {
            remote::Error::Get { url, source } => {
                let message = format!("failed to get `{url}`");
                match source.downcast::<Self>() {
                    Ok(error) => error.about(message),
                    Err(source) => Self::new(Kind::Network, message).because(source),
                }
            }
            error => Self::of(remote_kind(&error), error),
        };
        error.hints.extend(hint);
        error
    }
}

fn remote_kind(error: &remote::Error) -> Kind {
    match error.kind() {
        remote::Kind::NotFound => Kind::NotFound,
        remote::Kind::Denied => Kind::Denied,
        remote::Kind::Network => Kind::Network,
        remote::Kind::Integrity => Kind::Integrity,
        remote::Kind::Local => Kind::Internal,
        remote::Kind::Canceled => Kind::Interrupted,
        remote::Kind::Offline => Kind::Settings,
        _ => Kind::User,
    }
}

fn remote_hint(error: &remote::Error) -> Option<String> {
    match error {
        remote::Error::Offline { .. } => Some(ONLINE.to_owned()),
        remote::Error::NoGit(_) => Some("install it, as with `apt-get install git`".to_owned()),
        remote::Error::Git { message, .. } if message.contains("certificate") => {
            Some("trust its authority by `--ca-file FILE`".to_owned())
        }
        remote::Error::Git { kind: remote::Kind::Denied, remote, .. } => {
            Some(if remote.starts_with("http") {
                "give a token by `--secret id=GIT_AUTH_TOKEN,env=NAME`".to_owned()
            } else {
                "give the agent that has the key by `--ssh default`".to_owned()
            })
        }
        remote::Error::Get { url, source } => {
            let denied = source.downcast_ref::<Error>().is_some_and(|e| e.kind == Kind::Denied);
            let host = url.split('/').nth(2)?.split(':').next()?;
            denied.then(|| format!("give a token by `--secret id=HTTP_AUTH_TOKEN_{host},env=NAME`"))
        }
        _ => None,
    }
}

impl From<archive::Error> for Error {
    fn from(error: archive::Error) -> Self {
        let (kind, hint) = about_archive(&error);
        let mut error = Self::of(kind, error);
        error.hints.extend(hint);
        error
    }
}

/// Returns the kind of an archive's error, and what helps.
fn about_archive(error: &archive::Error) -> (Kind, Option<String>) {
    use archive::Error as Fault;
    let known = |has: &[String]| Some(format!("it has {}", has.join(", ")));
    match error {
        Fault::NoImage { has, .. } if has.is_empty() => {
            let hint = "no image of it has a name: give a digest, as in `PATH@sha256:...`";
            (Kind::NotFound, Some(hint.to_owned()))
        }
        Fault::NoImage { has, .. } => (Kind::NotFound, known(has)),
        Fault::Several { has, .. } => {
            let hint = format!("give a tag or a digest; it has {}", has.join(", "));
            (Kind::User, Some(hint))
        }
        Fault::LeftOut { .. } => {
            let hint = "load it where the blob is, or make a bundle without `--delta-from`";
            (Kind::NotFound, Some(hint.to_owned()))
        }
        Fault::Cut { .. } => (Kind::Integrity, Some("copy it again from where it is whole".into())),
        Fault::Damaged { .. } | Fault::Mismatch(_) => (Kind::Integrity, None),
        Fault::NewerVersion { .. } => (Kind::User, Some("use a newer rpub".to_owned())),
        Fault::Busy(_) => (Kind::User, Some("wait until it is done".to_owned())),
        Fault::Missing { .. } | Fault::MissingFile { .. } => (Kind::NotFound, None),
        Fault::Io(error) if error.kind() == std::io::ErrorKind::NotFound => (Kind::NotFound, None),
        // Its source is what its own cause has.
        Fault::Io(error) if has_mismatch(error) => (Kind::Integrity, None),
        _ => (Kind::User, None),
    }
}

impl From<serve::Error> for Error {
    fn from(error: serve::Error) -> Self {
        let kind = match error {
            serve::Error::Tls(_) => Kind::Settings,
            _ => Kind::Internal,
        };
        Self::of(kind, error)
    }
}

impl From<build::Error> for Error {
    fn from(error: build::Error) -> Self {
        match error {
            build::Error::Store(error) => error.into(),
            build::Error::Layer(error) => error.into(),
            build::Error::Copy(error) => error.into(),
            build::Error::Sandbox(error) => error.into(),
            build::Error::Canceled => Self::new(Kind::Interrupted, "canceled"),
            build::Error::Base { image, digest, source } => {
                let message = format!("failed to get layer {digest} of the base image `{image}`");
                not_fetched(message, source)
            }
            build::Error::Cached { digest, source } => {
                not_fetched(format!("failed to get layer {digest}, which a cache names"), source)
            }
            build::Error::Remote { source } => match source.downcast::<Self>() {
                Ok(error) => *error,
                Err(source) => {
                    Self::new(Kind::Network, "failed to get what the step adds").because(source)
                }
            },
            error => Self::of(kind_within(&error), error),
        }
    }
}

/// Returns the error of a layer that could not be had.
fn not_fetched(message: String, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => error.about(message),
        Err(source) => Error::new(Kind::Network, message).because(source),
    }
}

/// Returns the kind of what made a step fail: content that is not what its digest says, or a layer
/// that could not be had, is no fault of the Dockerfile.
fn kind_within(error: &build::Error) -> Kind {
    match error {
        build::Error::Step { source, .. } => kind_within(source),
        build::Error::Base { source, .. }
        | build::Error::Cached { source, .. }
        | build::Error::Remote { source } => {
            source.downcast_ref::<Error>().map_or(Kind::Network, |error| error.kind)
        }
        build::Error::Sandbox(sandbox::Error::Corrupt { .. }) => Kind::Integrity,
        error if has_mismatch(error) => Kind::Integrity,
        _ => Kind::Build,
    }
}

fn has_mismatch(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<Mismatch>()
            || within.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Mismatch>)
        {
            return true;
        }
        current = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immutable_tag_is_no_riddle() {
        let refusal = |message: &str| {
            Error::from(registry::Error::Status(Box::new(registry::StatusError {
                method: http::Method::PUT,
                url: "https://registry.example/v2/app/manifests/1".to_owned(),
                status: http::StatusCode::BAD_REQUEST,
                errors: vec![("TAG_INVALID".to_owned(), message.to_owned())],
                request_id: None,
                limit: registry::Limit::None,
                retry_after: None,
                answered: jiff::Timestamp::UNIX_EPOCH,
            })))
        };
        let ecr = "The image tag '1' already exists in the 'app' repository and cannot be \
                   overwritten because the tag is immutable.";
        assert_eq!(
            refusal(ecr).hints,
            ["the registry lets no tag move: push under a tag that is not taken"]
        );
        assert_eq!(refusal("manifest invalid").hints, [""; 0]);
    }

    #[test]
    fn a_step_keeps_the_kind_of_its_cause() {
        let step = |source: sandbox::Error| build::Error::Step {
            step: "RUN true".into(),
            span: crate::dockerfile::Span::default(),
            source: Box::new(source.into()),
        };
        let (what, reason) = ("unpack".to_owned(), "another diffID".to_owned());
        let corrupt = sandbox::Error::Corrupt { what: what.clone(), reason: reason.clone() };
        assert_eq!(Error::from(step(corrupt)).kind, Kind::Integrity);
        let failed = sandbox::Error::Failed { what, reason };
        assert_eq!(Error::from(step(failed)).kind, Kind::Build);
    }
}
