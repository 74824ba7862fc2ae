//! `ping`.

use serde_json::json;

use crate::operations::{self, Error, RegistryKind, Transport, Wanted};

use super::Context;
use super::args::PingArgs;
use super::login::registry;

/// Says who answers at a registry's address, and how.
pub(super) async fn ping(context: &Context, args: PingArgs) -> Result<(), Error> {
    let registry = registry(&args.registry)?;
    let found = operations::ping(&context.session, &registry).await?;
    let kind = kind(found.kind);
    let (transport, word) = match found.transport {
        Transport::VerifiedTls => ("TLS", "verified"),
        Transport::UnverifiedTls => ("TLS, not verified", "unverified"),
        Transport::Plain => ("plain HTTP", "none"),
    };
    let (wanted, method, realm) = match &found.wanted {
        Wanted::Nothing => ("none".to_owned(), "none", None),
        Wanted::Basic => ("user and password".to_owned(), "basic", None),
        Wanted::Token(realm) => (format!("token from {realm}"), "bearer", Some(realm)),
    };
    let milliseconds = found.latency.as_secs_f64() * 1000.0;
    let text = format!(
        "{registry} is a registry\n  kind:           {kind}\n  address:        {}\n  connection:     \
         {transport}, {}\n  authentication: {wanted}\n  answers in:     {milliseconds:.1} ms",
        found.url, found.http
    );
    let value = json!({
        "registry": registry,
        "kind": kind,
        "url": found.url,
        "tls": word,
        "http": found.http,
        "authentication": method,
        "realm": realm,
        "latencyMs": (milliseconds * 1000.0).round() / 1000.0,
    });
    args.format.print(&text, &value)
}

fn kind(kind: RegistryKind) -> &'static str {
    match kind {
        RegistryKind::DockerHub => "Docker Hub",
        RegistryKind::Ghcr => "GitHub",
        RegistryKind::Google => "Google Artifact Registry",
        RegistryKind::Ecr => "Amazon ECR",
        RegistryKind::EcrPublic => "Amazon ECR Public",
        RegistryKind::Quay => "Quay",
        RegistryKind::Harbor => "Harbor",
        RegistryKind::Artifactory => "Artifactory",
        RegistryKind::GitLab => "GitLab",
        RegistryKind::Acr => "Azure",
        RegistryKind::Distribution => "distribution",
        RegistryKind::Zot => "zot",
        RegistryKind::Unknown => "not known",
    }
}
