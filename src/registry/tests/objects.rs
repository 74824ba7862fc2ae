//! Tags, referrers and deletions.

use serde_json::{Value, json};

use super::*;
use crate::image::Tag;

async fn all(mut pages: Pages) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while let Some(page) = pages.next().await? {
        names.extend(page);
    }
    Ok(names)
}

/// Wire row P13: `null` tags; `Link` relative or absolute, its query kept, its host not; a page's size
/// that is refused.
#[tokio::test]
async fn lists_come_page_by_page() {
    let world = World::new("pages.toml");
    let tags = async |name: &str| all(world.client.tags(&world.repository(name), None)).await;
    assert_eq!(tags("a/paged").await.unwrap(), ["1", "2", "3"]);
    assert_eq!(tags("a/refuses").await.unwrap(), ["1"]);
    let registry = world.repository("a/paged").registry;
    let repositories = all(world.client.repositories(&registry, None)).await.unwrap();
    assert_eq!(repositories, ["a", "b/c"]);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row P13: lists that do not end, that are none, and that are not there.
#[tokio::test]
async fn lists_that_make_no_sense_are_errors() {
    let world = World::new("pages.toml");
    let failure =
        async |name: &str| all(world.client.tags(&world.repository(name), None)).await.unwrap_err();
    let error = failure("a/endless").await;
    assert!(error.to_string().ends_with("the pages of the list do not end"), "{error}");
    assert_eq!(world.script.seen().len(), 2);
    let error = failure("a/page").await;
    assert_eq!(error.kind(), Kind::Protocol, "{error}");
    assert_eq!(failure("a/none").await.kind(), Kind::NotFound);
}

fn referrer(name: &str, artifact_type: Option<&str>) -> (Digest, String) {
    let descriptor = Descriptor {
        artifact_type: artifact_type.map(ToOwned::to_owned),
        ..Descriptor::of(media_type::OCI_MANIFEST, name.as_bytes())
    };
    (descriptor.digest.clone(), serde_json::to_string(&descriptor).unwrap())
}

/// Wire row U20: pages, a registry that filters and one that does not, and the index under the
/// fallback tag where the API is missing in one way or another.
#[tokio::test]
async fn referrers_are_listed_whatever_the_registry_can() {
    let subject = Digest::of(CONTENT);
    let fallback = format!("sha256-{}", subject.hex());
    let (first, first_text) = referrer("1", Some("application/spdx"));
    let (second, second_text) = referrer("2", Some("application/spdx"));
    let (third, third_text) = referrer("3", Some("application/other"));
    let (untyped, untyped_text) = referrer("4", None);
    let variables = [
        ("fallback", fallback.as_str()),
        ("first", &first_text),
        ("second", &second_text),
        ("third", &third_text),
        ("untyped", &untyped_text),
    ];
    let world = World::with(play("referrers.toml", &variables), |_| {});
    let listed = async |name: &str, wanted: Option<&str>| {
        let found = world.client.referrers(&world.repository(name), &subject, wanted).await?;
        let digests: Vec<Digest> = found.manifests.into_iter().map(|it| it.digest).collect();
        Ok::<_, Error>((found.source, digests))
    };
    let (api, tag) = (ReferrersSource::Api, ReferrersSource::Tag);
    let spdx = Some("application/spdx");
    let everything = vec![first.clone(), third.clone(), second.clone()];
    assert_eq!(listed("a/api", None).await.unwrap(), (api, everything.clone()));
    let both = vec![first.clone(), second.clone()];
    assert_eq!(listed("a/api", spdx).await.unwrap(), (api, both.clone()));
    // What the registry has filtered is taken at its word.
    assert_eq!(listed("a/filters", spdx).await.unwrap(), (api, vec![first.clone(), untyped]));
    for name in ["a/400", "a/404", "a/405", "a/501", "a/page", "a/json"] {
        assert_eq!(listed(name, None).await.unwrap(), (tag, everything.clone()), "{name}");
        assert_eq!(listed(name, spdx).await.unwrap(), (tag, both.clone()), "{name}");
    }
    assert_eq!(listed("a/empty", None).await.unwrap(), (tag, vec![]));
    assert_eq!(listed("a/denied", None).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// A manifest that refers to another one, and a world in which `subject.toml` is played with it.
fn subject_world() -> (World, Manifest) {
    let subject = Descriptor::of(media_type::OCI_MANIFEST, CONTENT);
    let referrer = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/spdx",
        "config": Descriptor::of(media_type::OCI_EMPTY, b"{}"),
        "layers": [],
        "subject": subject,
        "annotations": {"who": "me"},
    });
    let referrer = Manifest::parse(referrer.to_string().into_bytes(), None).unwrap();
    let index = |entries: &[Value]| {
        let media_type = media_type::OCI_INDEX;
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries,
            "annotations": {"kept": "as it was"}});
        index.to_string()
    };
    // With a field that rpub does not know.
    let mut other = serde_json::to_value(Descriptor::of(media_type::OCI_MANIFEST, b"1")).unwrap();
    other["data"] = json!("MQ==");
    let third = serde_json::to_value(Descriptor::of(media_type::OCI_MANIFEST, b"2")).unwrap();
    let ours = serde_json::to_value(referrer.as_referrer()).unwrap();
    let (before, meanwhile) = (index(&[other.clone()]), index(&[other.clone(), third.clone()]));
    let after = index(&[other, third, ours]);
    let (digest, subject) = (referrer.digest.to_string(), subject.digest.to_string());
    let fallback = subject.replace(':', "-");
    let text = String::from_utf8(referrer.bytes.clone()).unwrap();
    let variables = [
        ("referrer_digest", digest.as_str()),
        ("referrer", &text),
        ("subject", &subject),
        ("fallback", &fallback),
        ("before", &before),
        ("meanwhile", &meanwhile),
        ("after", &after),
    ];
    (World::with(play("subject.toml", &variables), |_| {}), referrer)
}

/// The bodies that were sent with `PUT` to a path that ends so.
fn bodies(world: &World, end: &str) -> Vec<Value> {
    let seen = world.script.seen().into_iter();
    let puts = seen.filter(|seen| seen.method == "PUT" && seen.path.ends_with(end));
    puts.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// Wire row U19: `OCI-Subject` means that the registry lists the referrer.
#[tokio::test]
async fn a_registry_that_lists_referrers_is_left_to_it() {
    let (world, referrer) = subject_world();
    world.client.push_manifest(&world.reference("a/lists:1"), &referrer).await.unwrap();
    assert_eq!(world.script.log(), ["PUT /v2/a/lists/manifests/1", "HEAD /v2/a/lists/manifests/1"]);
}

/// A push whose answer was lost is known by what is there, when its repetition is refused. One that
/// was refused at once is not looked for.
#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_looked_for() {
    let (world, referrer) = subject_world();
    world.client.push_manifest(&world.reference("a/silent:1"), &referrer).await.unwrap();
    let (put, head) = ("PUT /v2/a/silent/manifests/1", "HEAD /v2/a/silent/manifests/1");
    let referrers = format!("GET /v2/a/silent/referrers/{}", Digest::of(CONTENT));
    assert_eq!(world.script.log(), [put, put, head, &referrers]);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    let refused = world.client.push_manifest(&world.reference("a/refused:1"), &referrer).await;
    assert!(matches!(refused, Err(Error::Status(status)) if status.is_immutable_tag()));
    assert_eq!(world.script.log()[4..], ["PUT /v2/a/refused/manifests/1"]);
}

/// Wire row U19: else the index under the fallback tag gets it: once, with its annotations and its
/// artifact type, on the condition that nobody else has changed it, and again when somebody has.
#[tokio::test]
async fn a_referrer_is_added_to_the_index() {
    let (world, referrer) = subject_world();
    world.client.push_manifest(&world.reference("a/plain:1"), &referrer).await.unwrap();
    let end = format!("sha256-{}", Digest::of(CONTENT).hex());
    let sent = bodies(&world, &end);
    assert_eq!(sent.len(), 2, "{:?}", world.script.log());
    let last = &sent[1];
    assert_eq!(last["annotations"]["kept"], "as it was");
    let entries = last["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3, "{last}");
    assert_eq!(entries[0]["data"], "MQ==");
    assert_eq!(entries[2]["digest"], referrer.digest.to_string());
    assert_eq!(entries[2]["artifactType"], "application/spdx");
    assert_eq!(entries[2]["annotations"]["who"], "me");
    // What is listed is not listed twice.
    world.client.push_manifest(&world.reference("a/plain:1"), &referrer).await.unwrap();
    assert_eq!(bodies(&world, &end).len(), 2);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row U19: races that are lost again and again end.
#[tokio::test]
async fn a_race_that_is_always_lost_ends() {
    let (world, referrer) = subject_world();
    let error = world.client.push_manifest(&world.reference("a/lost:1"), &referrer).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Raced { .. }), "{error}");
    assert_eq!(bodies(&world, &format!("sha256-{}", Digest::of(CONTENT).hex())).len(), 10);
}

/// Wire row U19: a referrer that is deleted leaves the index.
#[tokio::test]
async fn a_referrer_is_taken_off_the_index() {
    let (world, referrer) = subject_world();
    let repository = world.repository("a/deletes");
    world.client.delete_manifest(&repository, &referrer.digest).await.unwrap();
    let sent = bodies(&world, &format!("sha256-{}", Digest::of(CONTENT).hex()));
    assert_eq!(sent.len(), 1, "{:?}", world.script.log());
    assert_eq!(sent[0]["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Wire row U18: tags that `OCI-Tag` confirms are not pushed again, others are.
/// Wire row U17: the exact bytes go out, with the media type that they have.
#[tokio::test]
async fn several_tags_go_out_at_once() {
    let world = World::new("tags.toml");
    let (repository, manifest) = (world.repository("a/some"), manifest());
    let three = tags(&["1", "2", "3"]);
    world.client.push_manifest_tags(&repository, &manifest, &three).await.unwrap();
    let puts: Vec<_> = world.script.seen().into_iter().filter(|it| it.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    for put in puts {
        assert_eq!(put.body, manifest.bytes);
        assert_eq!(put.headers["content-type"], media_type::OCI_MANIFEST);
    }
    let repository = world.repository("a/refuses");
    world.client.push_manifest_tags(&repository, &manifest, &tags(&["1", "2"])).await.unwrap();
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row U17: a tag that may not move is told from other refusals.
#[tokio::test]
async fn an_immutable_tag_is_recognised() {
    let world = World::new("tags.toml");
    let error = world.client.push_manifest(&world.reference("a/fixed:1"), &manifest()).await;
    let Err(Error::Status(status)) = error else { panic!("{error:?}") };
    assert!(status.is_immutable_tag());
    assert_eq!(world.script.seen().len(), 1, "a refusal is not repeated");
}
