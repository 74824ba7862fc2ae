//! Registries that count.

use super::Pair;
use crate::context::{Manners, Proxy};

/// Sends `docker.io` to a proxy that lets so many manifests be read.
fn hub(pair: &Pair, pulls: u32) -> Proxy {
    let manners = Manners { pulls: Some(pulls), ..Manners::default() };
    let proxy = Proxy::start(&pair.source.name(), manners);
    let location = proxy.reference("").trim_end_matches('/').to_owned();
    let text = format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{location}\"\ninsecure = true\n"
    );
    pair.context.write("home/settings/containers/registries.conf", text);
    proxy
}

#[test]
fn a_run_stops_at_the_quota_and_the_next_goes_on() {
    let Some(pair) = Pair::new() else { return };
    let names: Vec<String> = (0..6).map(|number| format!("library/app:{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        pair.image(&format!("content {number}"), &[name]);
    }
    let other = pair.image("other", &["team/other:1"]);
    let proxy = hub(&pair, 4);
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"app\"\nto = \"DESTINATION/{repository}\"\n\
         [[rules]]\nfrom = \"SOURCE/team/other\"\nto = \"DESTINATION/{repository}\"\n",
    );
    let stopped = pair.mirror(&["mirror.toml", "--report", "report.json"]).code(5);
    let said = &stopped.stderr;
    assert!(said.contains("stopped at the quota of `docker.io`"), "{said}");
    assert!(said.contains("5 of 7 images are done, 2 left"), "{said}");
    assert!(said.contains("it lifts at"), "{said}");
    assert!(said.contains("run the same command again then"), "{said}");
    assert_eq!(pair.destination.tags("library/app").len(), 4);
    assert_eq!(pair.there("team/other:1"), Some(other), "other registries are not harmed");
    let report = fs_err::read_to_string(pair.context.path("report.json")).unwrap();
    assert!(report.contains("\"left\": 2"), "{report}");

    // The quota is whole again; what is done is asked about by `HEAD` only.
    proxy.behave(Manners { pulls: Some(2), ..Manners::default() });
    let outcomes = pair.outcomes(&["mirror.toml"], 0);
    let count = |word: &str| outcomes.values().filter(|outcome| *outcome == word).count();
    assert_eq!([count("copied"), count("unchanged")], [2, 5]);
}

#[test]
fn a_plan_costs_no_quota_unless_it_is_to_be_exact_and_then_the_run_does_not() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["library/app:1", "library/app:2"]);
    pair.image("two", &["library/app:3"]);
    // Two manifests, one of which has two tags.
    let proxy = hub(&pair, 0);
    pair.file("mirror.toml", "[[rules]]\nfrom = \"app\"\nto = \"DESTINATION/app\"\n");
    let plan = pair.mirror(&["plan", "mirror.toml"]).success().stdout.clone();
    assert!(plan.contains("quota of docker.io: about 3 pulls"), "{plan}");
    assert!(plan.contains("those of 3 images that are not read yet"), "{plan}");

    proxy.behave(Manners { pulls: Some(2), ..Manners::default() });
    let plan = pair.mirror(&["plan", "mirror.toml", "--exact"]).success().stdout.clone();
    assert!(plan.contains("to move in 4 blobs, about"), "{plan}");
    assert!(plan.contains("quota of docker.io: 0 pulls"), "{plan}");
    // Nothing is left of it, and nothing is needed.
    pair.mirror(&["mirror.toml"]).success();
    assert_eq!(pair.destination.tags("app"), ["1", "2", "3"]);
}
