//! What is known of the kinds of registries, as data: where they differ from the specification, and
//! from each other, in ways that a client has to know beforehand.
//!
//! A registry is known by its host, or by a header of its answers. What no table can know, such as
//! the limit of a proxy in front of it, is learnt while it is used.

use http::HeaderMap;

use crate::image::RegistryName;

/// A kind of registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegistryKind {
    /// Docker Hub.
    DockerHub,
    /// GitHub's container registry.
    Ghcr,
    /// Google's Artifact Registry, and what answers under the names of its predecessor.
    Google,
    /// Amazon's private registries.
    Ecr,
    /// Amazon's public registry.
    EcrPublic,
    /// Quay.
    Quay,
    /// Harbor.
    Harbor,
    /// `JFrog` Artifactory.
    Artifactory,
    /// GitLab's container registry.
    GitLab,
    /// Azure's container registries.
    Acr,
    /// The distribution project's registry, and what keeps its upload protocol.
    Distribution,
    /// zot.
    Zot,
    /// Any other.
    Unknown,
}

/// What becomes of an upload in several `PATCH`es with `Content-Range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangedPatch {
    /// It works, and an upload that was cut goes on where it stopped.
    Resumable,
    /// It works, but a cut within a `PATCH` spoils the whole upload.
    Fragile,
    /// It is refused, or spoils the blob.
    Unusable,
}

/// How a registry takes a blob from another of its repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounting {
    /// By `mount` and `from`.
    From,
    /// Only once a manifest in the other repository refers to the blob; else an upload begins.
    AfterManifest,
    /// Never: it refuses, but then has a blob that a manifest elsewhere refers to.
    Shared,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It depends on version or settings: ask.
    Ask,
}

/// One kind of registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Which.
    pub kind: RegistryKind,
    /// Its hosts; `*` stands for anything.
    hosts: &'static [&'static str],
    /// Headers of its answers: a name, and what its value holds.
    marks: &'static [(&'static str, &'static str)],
    /// The largest body of a request, in bytes, when there is a limit that is met in practice.
    pub max_body: Option<u64>,
    /// The smallest chunk but the last, in bytes.
    pub min_chunk: u64,
    /// What becomes of ranged chunks.
    pub ranged_patch: RangedPatch,
    /// How blobs are mounted.
    pub mounting: Mounting,
    /// Whether a blob should go out by one `POST` with its digest: a session that breaks cannot be
    /// mended with the rights that its users have.
    pub single_post: Support,
    /// Whether `HEAD` of a manifest tells what `GET` would.
    pub head: Support,
    /// Whether a manifest is deleted by its tag.
    pub delete_by_tag: Support,
    /// Whether there is the referrers API.
    pub referrers: Support,
    /// Whether one `PUT` by digest sets several tags.
    pub tags_by_digest: Support,
    /// Whether a push makes the repository.
    pub makes_repositories: Support,
    /// The headers that tell what is left of a quota.
    pub rate_limit_headers: &'static [&'static str],
}

const MIB: u64 = 1 << 20;

/// A registry of which nothing is known follows the specification; what it need not have is asked
/// for (OCI distribution-spec 1.1).
const UNKNOWN: Quirks = Quirks {
    kind: RegistryKind::Unknown,
    hosts: &[],
    marks: &[],
    max_body: None,
    min_chunk: 0,
    ranged_patch: RangedPatch::Resumable,
    mounting: Mounting::From,
    single_post: Support::No,
    head: Support::Yes,
    delete_by_tag: Support::Ask,
    referrers: Support::Ask,
    tags_by_digest: Support::Ask,
    makes_repositories: Support::Yes,
    rate_limit_headers: &["ratelimit-limit", "ratelimit-remaining"],
};

/// Mounts need one token for both repositories (oci-client issue 235); a mount with the source's
/// registry is refused (go-containerregistry issue 1321); `HEAD` of a manifest may disagree with
/// `GET` (regclient's host settings); quota headers by Docker's documentation of pull limits.
/// Uploads are those of the distribution project.
const DOCKER_HUB: Quirks = Quirks {
    kind: RegistryKind::DockerHub,
    hosts: &["docker.io", "registry-1.docker.io", "index.docker.io"],
    ranged_patch: RangedPatch::Fragile,
    delete_by_tag: Support::No,
    tags_by_digest: Support::No,
    rate_limit_headers: &["ratelimit-limit", "ratelimit-remaining", "docker-ratelimit-source"],
    ..UNKNOWN
};

/// Ranged `PATCH`es over 4 MiB are refused (oci-client issue 35, ocx issue 237), and several
/// smaller ones spoil the blob (ocync's notes on its engine). It deletes nothing by this protocol
/// (GitHub's documentation of packages), and has no referrers API (community discussion 208530).
const GHCR: Quirks = Quirks {
    kind: RegistryKind::Ghcr,
    hosts: &["ghcr.io", "containers.pkg.github.com"],
    marks: &[("x-github-request-id", "")],
    ranged_patch: RangedPatch::Unusable,
    delete_by_tag: Support::No,
    referrers: Support::No,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Knows only uploads in one request (Google's documentation, quoted in dotnet/sdk-container-builds
/// issue 287 and kitops issue 780).
const GOOGLE: Quirks = Quirks {
    kind: RegistryKind::Google,
    hosts: &["gcr.io", "*.gcr.io", "*.pkg.dev"],
    ranged_patch: RangedPatch::Unusable,
    delete_by_tag: Support::Yes,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Chunks have 5 MiB at least; `PATCH` says 201; `Range` stands still after the second one and what
/// it held may be lost (aws/containers-roadmap issue 2831, crashappsec/chalk pull request 682,
/// dotnet/sdk-container-builds issue 424). Mounts want a manifest in the source and a setting of the
/// account (aws/containers-roadmap issue 2860). A repository has to be there before the push.
const ECR: Quirks = Quirks {
    kind: RegistryKind::Ecr,
    hosts: &["*.dkr.ecr.*.amazonaws.com", "*.dkr.ecr.*.amazonaws.com.cn", "*.dkr-ecr.*.on.aws"],
    min_chunk: 5 * MIB,
    ranged_patch: RangedPatch::Unusable,
    mounting: Mounting::AfterManifest,
    delete_by_tag: Support::No,
    tags_by_digest: Support::No,
    makes_repositories: Support::No,
    ..UNKNOWN
};

/// As Amazon's private registries (go-containerregistry issue 1091 for what its lists lack).
const ECR_PUBLIC: Quirks =
    Quirks { kind: RegistryKind::EcrPublic, hosts: &["public.ecr.aws"], ..ECR };

/// A mount without a source is an error (regclient issue 398); referrers by Red Hat's API reference.
const QUAY: Quirks = Quirks {
    kind: RegistryKind::Quay,
    hosts: &["quay.io"],
    delete_by_tag: Support::Yes,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Keeps the distribution project's registry behind its own API (goharbor/harbor, `src/server/
/// registry`), so uploads are those; known by the service that its challenge names.
const HARBOR: Quirks = Quirks {
    kind: RegistryKind::Harbor,
    marks: &[("www-authenticate", "service=\"harbor-registry\"")],
    ranged_patch: RangedPatch::Fragile,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Refuses mounts, but has a blob once a manifest anywhere refers to it (`rules_img`, registry
/// support). A broken session needs an administrator, a single `POST` does not (oci-client issue
/// 205). Referrers since 7.90 (`JFrog`'s documentation).
const ARTIFACTORY: Quirks = Quirks {
    kind: RegistryKind::Artifactory,
    hosts: &["*.jfrog.io"],
    marks: &[("x-jfrog-version", ""), ("x-artifactory-id", ""), ("x-artifactory-node-id", "")],
    ranged_patch: RangedPatch::Fragile,
    mounting: Mounting::Shared,
    single_post: Support::Yes,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// A fork of the distribution project's registry, so uploads are those; sessions get lost and are
/// begun anew (jib issue 4301); no referrers API (gitlab-org/container-registry issue 1205).
const GITLAB: Quirks = Quirks {
    kind: RegistryKind::GitLab,
    hosts: &["registry.gitlab.com"],
    marks: &[("gitlab-container-registry-version", "")],
    ranged_patch: RangedPatch::Fragile,
    referrers: Support::No,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Sessions get lost and are begun anew (Azure/azure-sdk-for-net issue 35322).
const ACR: Quirks = Quirks {
    kind: RegistryKind::Acr,
    hosts: &["*.azurecr.io", "*.azurecr.cn", "*.azurecr.us"],
    marks: &[("server", "AzureContainerRegistry")],
    ranged_patch: RangedPatch::Fragile,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Known by the state in its upload locations. It is signed and says how much has come, so a cut
/// within a `PATCH` leaves a location that is refused for ever: seen with version 2.8.
const DISTRIBUTION: Quirks = Quirks {
    kind: RegistryKind::Distribution,
    marks: &[("location", "_state=")],
    ranged_patch: RangedPatch::Fragile,
    referrers: Support::No,
    tags_by_digest: Support::No,
    ..UNKNOWN
};

/// Follows the specification closely (zot's conformance results). It answers without a mark, so
/// that in practice it is served as unknown, which comes to the same.
const ZOT: Quirks = Quirks {
    kind: RegistryKind::Zot,
    hosts: &["zothub.io", "*.zothub.io"],
    referrers: Support::Yes,
    delete_by_tag: Support::Yes,
    ..UNKNOWN
};

/// All kinds. When headers fit several, the first one counts.
const KINDS: [Quirks; 13] = [
    DOCKER_HUB,
    GHCR,
    GOOGLE,
    ECR,
    ECR_PUBLIC,
    QUAY,
    HARBOR,
    ARTIFACTORY,
    GITLAB,
    ACR,
    DISTRIBUTION,
    ZOT,
    UNKNOWN,
];

impl Quirks {
    /// Returns what is known of the registry of that name.
    #[must_use]
    pub fn of_host(name: &RegistryName) -> &'static Self {
        let host = name.host().to_ascii_lowercase();
        let fits = |kind: &&Self| kind.hosts.iter().any(|pattern| matches(pattern, &host));
        KINDS.iter().find(fits).unwrap_or(&UNKNOWN)
    }

    /// Returns the kind that an answer with these headers gives away, if it does.
    #[must_use]
    pub fn of_answer(headers: &HeaderMap) -> Option<&'static Self> {
        let shows = |(name, part): &(&str, &str)| {
            let mut values = headers.get_all(*name).iter();
            values.any(|value| value.to_str().is_ok_and(|text| text.contains(part)))
        };
        KINDS.iter().find(|kind| kind.marks.iter().any(shows))
    }
}

/// Returns whether `host` fits `pattern`, in which `*` stands for one character or more.
fn matches(pattern: &str, host: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == host };
    let Some(left) = host.strip_prefix(start) else { return false };
    left.char_indices().skip(1).any(|(at, _)| matches(rest, &left[at..]))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_tells_the_kind() {
        let cases = [
            ("docker.io", RegistryKind::DockerHub),
            ("ghcr.io", RegistryKind::Ghcr),
            ("eu.gcr.io", RegistryKind::Google),
            ("europe-west1-docker.pkg.dev", RegistryKind::Google),
            ("1234.dkr.ecr.eu-west-1.amazonaws.com", RegistryKind::Ecr),
            ("1234.dkr.ecr.cn-north-1.amazonaws.com.cn", RegistryKind::Ecr),
            ("public.ecr.aws", RegistryKind::EcrPublic),
            ("quay.io", RegistryKind::Quay),
            ("company.jfrog.io", RegistryKind::Artifactory),
            ("registry.gitlab.com", RegistryKind::GitLab),
            ("company.azurecr.io", RegistryKind::Acr),
            ("zothub.io:443", RegistryKind::Zot),
            ("registry.example:5000", RegistryKind::Unknown),
            ("evilghcr.io", RegistryKind::Unknown),
            ("ghcr.io.example", RegistryKind::Unknown),
        ];
        for (host, kind) in cases {
            assert_eq!(Quirks::of_host(&host.parse().unwrap()).kind, kind, "{host}");
        }
    }

    #[test]
    fn an_answer_tells_the_kind() {
        let of = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            Quirks::of_answer(&headers).map(|quirks| quirks.kind)
        };
        assert_eq!(of("server", "AzureContainerRegistry"), Some(RegistryKind::Acr));
        assert_eq!(of("x-jfrog-version", "Artifactory/7.1"), Some(RegistryKind::Artifactory));
        let challenge = "Bearer realm=\"https://h/service/token\",service=\"harbor-registry\"";
        assert_eq!(of("www-authenticate", challenge), Some(RegistryKind::Harbor));
        let location = "http://r/v2/a/blobs/uploads/1?_state=x";
        assert_eq!(of("location", location), Some(RegistryKind::Distribution));
        assert_eq!(of("server", "nginx"), None);
    }

    #[test]
    fn every_kind_has_one_row() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|other| other.kind != kind.kind), "{:?}", kind.kind);
        }
        assert_eq!(KINDS.last().unwrap().kind, RegistryKind::Unknown);
    }
}
