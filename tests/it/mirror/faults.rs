//! What goes wrong with one image harms no other, and the next run finishes the job.

use super::{Pair, map};
use crate::context::{Manners, Proxy};

#[test]
fn a_vanished_tag_and_a_lying_source_are_named_and_harm_no_other() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["team/app:1"]);
    pair.image("two", &["team/app:2"]);
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/app\"\n\
         tags = [\"1\", \"2\", \"3\"]\n",
    );
    let (_, manifest) = pair.source.manifest("team/app", "2").unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let path = pair.source.blob_path(layer);
    let truth = fs_err::read(&path).unwrap();
    let mut lie = truth.clone();
    lie[20] ^= 1;
    fs_err::write(&path, lie).unwrap();

    let failed = pair.mirror(&["mirror.toml"]).code(6);
    let said = &failed.stderr;
    assert!(said.contains("2 of 3 images failed"), "{said}");
    assert!(said.contains("team/app:3") && said.contains("404"), "{said}");
    assert!(said.contains(&layer[7..19]), "the blob that lies is named: {said}");
    assert_eq!(pair.destination.tags("app"), ["1"]);

    fs_err::write(&path, truth).unwrap();
    pair.image("three", &["team/app:3"]);
    let outcomes = pair.outcomes(&["mirror.toml"], 0);
    let expected = map(&[("app:1", "unchanged"), ("app:2", "copied"), ("app:3", "copied")]);
    assert_eq!(outcomes, expected);
}

#[test]
fn a_destination_that_refuses_one_platform_is_named_and_harms_no_other() {
    let Some(pair) = Pair::new() else { return };
    pair.index("app", "team/app:1", &["linux/amd64", "linux/arm64"]);
    let (arm, _) = pair.source.manifest("team/app", "part-linux-arm64").unwrap();
    let refused = vec![("PUT", format!("manifests/{arm}"))];
    let manners = Manners { refused, ..Manners::default() };
    let proxy = Proxy::start(&pair.destination.name(), manners);
    let to = proxy.reference("near/app");
    pair.file(
        "mirror.toml",
        &format!(
            "[[rules]]\nfrom = \"SOURCE/team/app\"\ntags = [\"1\", \"part-linux-amd64\"]\n\
             to = [\"{to}\", \"DESTINATION/far/app\"]\n"
        ),
    );
    let failed = pair.mirror(&["mirror.toml"]).code(6);
    let said = &failed.stderr;
    assert!(said.contains("1 of 4 images failed"), "{said}");
    assert!(said.contains(&to) && said.contains(&arm), "{said}");
    assert_eq!(pair.destination.tags("near/app"), ["part-linux-amd64"]);
    assert_eq!(pair.destination.tags("far/app"), ["1", "part-linux-amd64"]);
    proxy.behave(Manners::default());
    let outcomes = pair.outcomes(&["mirror.toml"], 0);
    assert_eq!(outcomes["near/app:1"], "copied");
    assert_eq!(outcomes["far/app:1"], "unchanged");
}

#[test]
fn two_rules_for_one_tag_are_refused_before_anything_is_done() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["team/a:1", "team/b:1"]);
    pair.file(
        "mirror.toml",
        "[[rules]]\nname = \"first\"\nfrom = \"SOURCE/team/a\"\nto = \"DESTINATION/app\"\n\n\
         [[rules]]\nname = \"second\"\nfrom = \"SOURCE/team/b\"\nto = \"DESTINATION/app\"\n",
    );
    let refused = pair.mirror(&["mirror.toml"]).code(2);
    let said = refused.stderr.replace(&pair.source.name(), "SOURCE");
    insta::assert_snapshot!(said.replace(&pair.destination.name(), "DESTINATION"), @r"
    error: two images would have the tag `DESTINATION/app:1`: `first` (line 1, of `SOURCE/team/a:1`) and `second` (line 6, of `SOURCE/team/b:1`)
     --> mirror.toml:6:1
      |
    6 | [[rules]]
      | ^^^^^^^^^
      hint: give one of the rules another `to`, or exclude the tag from it
    ");
    assert!(pair.destination.tags("app").is_empty());
    pair.mirror(&["plan", "mirror.toml"]).code(2);
}

#[test]
fn what_is_wrong_with_a_file_is_shown_in_it() {
    let context = crate::context::TestContext::new();
    context.write("typo.toml", "[[rules]]\nfrom = \"alpine\"\ntagz = [\"3\"]\n");
    let typo = context.rpub(["mirror", "typo.toml"]).code(2);
    insta::assert_snapshot!(typo.stderr, @r#"
    error: unknown key `tagz`
     --> typo.toml:3:1
      |
    3 | tagz = ["3"]
      | ^^^^
      hint: did you mean `tags`?
    "#);
    let gone = context.rpub(["mirror", "gone.toml"]).code(3);
    assert!(gone.stderr.contains("failed to read the mirror file `gone.toml`"), "{}", gone.stderr);
    let shard = context.rpub(["mirror", "typo.toml", "--shard", "4/3"]).code(2);
    assert!(shard.stderr.contains("there is no shard 4 of 3"), "{}", shard.stderr);
    context.write("text", [0xff, 0xfe]);
    context.rpub(["mirror", "text"]).code(2);
}
