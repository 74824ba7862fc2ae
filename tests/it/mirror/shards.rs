//! One mirror done by several processes.

use std::collections::BTreeMap;

use super::Pair;

const FILE: &str = "[[rules]]\nfrom = \"SOURCE/team/*\"\nto = \"DESTINATION/m/{name}\"\n";

fn tags() -> Vec<String> {
    let versions = (0..8).flat_map(|minor| (0..2).map(move |patch| format!("1.{minor}.{patch}")));
    versions.chain(["latest".to_owned()]).collect()
}

/// What all of some shards do: every image once.
fn exact(pair: &Pair, runs: impl Iterator<Item = BTreeMap<String, String>>) {
    let mut all = BTreeMap::new();
    for run in runs {
        for (name, outcome) in run {
            assert_eq!(all.insert(name.clone(), outcome), None, "{name} is done twice");
        }
    }
    let expected: Vec<String> = ["a", "b"]
        .iter()
        .flat_map(|name| tags().into_iter().map(move |tag| format!("m/{name}:{tag}")))
        .collect();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    for name in ["a", "b"] {
        assert_eq!(
            pair.destination.tags(&format!("m/{name}")),
            pair.source.tags(&format!("team/{name}"))
        );
    }
}

fn pair() -> Option<Pair> {
    let pair = Pair::new()?;
    for name in ["a", "b"] {
        let names: Vec<String> = tags().iter().map(|tag| format!("team/{name}:{tag}")).collect();
        pair.image(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    pair.file("mirror.toml", FILE);
    Some(pair)
}

/// Must show 6 of the issue.
#[test]
fn shards_of_one_three_and_seven_processes_are_exact_and_disjoint() {
    let Some(pair) = pair() else { return };
    for count in [7, 3, 1] {
        let runs = (1..=count).map(|index| {
            pair.outcomes(&["mirror.toml", "--shard", &format!("{index}/{count}")], 0)
        });
        let runs: Vec<_> = runs.collect();
        let busy = runs.iter().filter(|run| !run.is_empty()).count();
        assert!(busy > count / 2, "{busy} of {count} shards have work");
        exact(&pair, runs.into_iter());
    }
}

/// The manifest in the README, run with the environment that Kubernetes would set.
#[test]
fn the_indexed_job_of_the_readme_does_every_image_once() {
    let Some(pair) = pair() else { return };
    let readme = fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, rest) = readme.split_once("kind: Job\n").expect("the README has a Job");
    let (job, _) = rest.split_once("```").unwrap();
    let value = |key: &str| {
        let line = job.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert_eq!(value("completionMode"), "Indexed");
    let completions: u32 = value("completions").parse().unwrap();
    let args: Vec<String> = serde_json::from_str(&value("args")).unwrap();
    assert_eq!(args[0], "mirror");
    let runs = (0..completions).map(|index| {
        let args = args[1..].iter().map(|arg| arg.replace("/etc/rpub/", ""));
        let command =
            pair.mirror(&args.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
        let command = command.env("JOB_COMPLETION_INDEX", index.to_string());
        let lines = command.args(["--format", "json"]).success().stdout.clone();
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = row["destination"].as_str().unwrap().split_once('/').unwrap().1.to_owned();
            (name, row["outcome"].as_str().unwrap().to_owned())
        };
        lines.lines().map(row).collect()
    });
    exact(&pair, runs);
    // GitLab's words for the same.
    let command = pair.mirror(&["mirror.toml", "--shard", "auto"]).env("CI_NODE_INDEX", "1");
    command.env("CI_NODE_TOTAL", "1").success();
    let nothing = pair.mirror(&["mirror.toml", "--shard", "auto/3"]).code(2);
    assert!(nothing.stderr.contains("JOB_COMPLETION_INDEX"), "{}", nothing.stderr);
}
