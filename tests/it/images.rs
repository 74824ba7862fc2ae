//! The store's images: `images`, `tag`, `rmi`, `inspect`, `history`, `import`.

use std::time::Duration;

use serde_json::json;

use crate::context::{Role, World, verify_store};

const SMALL: &str = "FROM busybox:latest\nLABEL who=me\nRUN echo hi > /hi\n";

#[test]
fn built_images_are_listed() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    let reference = world.registry.reference("team/app:1.0");
    world.context.rpub(["build", "-t", &reference, "-t", "app"]).arg(&directory).success();

    let output = world.context.rpub(["images"]).run();
    output.expect_code(0);
    let header = output.stdout.lines().next().unwrap_or_default();
    let columns: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(columns, ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"], "{output}");
    for (repository, tag) in
        [(world.registry.reference("team/app"), "1.0"), ("app".into(), "latest")]
    {
        let found = output.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = found.into_iter().find(|words| words.first() == Some(&repository.as_str()));
        let row = row.unwrap_or_else(|| panic!("no row of {repository}\n{output}"));
        assert_eq!(row[1], tag);
        assert_eq!(row[2].len(), 12, "a short id\n{output}");
        assert!(row.last().unwrap().ends_with('B'), "a size\n{output}");
    }
    let same = world.context.rpub(["image", "ls"]).run();
    assert_eq!(same.stdout, output.stdout);
    let names = verify_store(&world.context.store());
    assert!(names.contains(&"docker.io/library/app:latest".to_owned()), "{names:?}");
}

#[test]
fn an_image_without_a_name_is_listed_as_none() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "."]).current_dir(&directory).success();
    let output = world.context.rpub(["images"]).run();
    let row = output.stdout.lines().find(|line| line.starts_with("<none>"));
    let words: Vec<&str> = row.unwrap_or_else(|| panic!("{output}")).split_whitespace().collect();
    assert_eq!(words[1], "<none>", "{output}");
}

#[test]
fn a_tag_moved_away_leaves_the_old_image_without_a_name() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "-q", "-t", "app"]).arg(&directory).success();
    world.dockerfile("app", "FROM busybox\nLABEL who=you\n");
    world.context.rpub(["build", "-q", "-t", "app"]).arg(&directory).success();
    let output = world.context.rpub(["images"]).run();
    assert_eq!(output.stdout.matches("<none>").count(), 2, "{output}");
}

#[test]
fn quiet_prints_the_id_and_iidfile_holds_it() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    let file = world.context.path("id");
    let metadata = world.context.path("metadata.json");
    let output = world
        .context
        .rpub(["build", "-q", "-t", "app:1"])
        .arg("--iidfile")
        .arg(&file)
        .arg("--metadata-file")
        .arg(&metadata)
        .arg(&directory)
        .success();
    let id = fs_err::read_to_string(file).unwrap();
    assert_eq!(output.line(), id.trim());
    assert!(id.starts_with("sha256:"));
    assert!(output.stderr.is_empty(), "{output}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs_err::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], json!(id.trim()));
    assert!(metadata["containerimage.digest"].is_string(), "{metadata}");
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
}

#[test]
fn images_are_tagged_inspected_and_removed() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "-q", "-t", "app:1"]).arg(&directory).success();
    world.context.rpub(["tag", "app:1", "other/app:2"]).success();

    let inspected = world.context.rpub(["inspect", "other/app:2"]).success().json();
    assert_eq!(inspected[0]["Config"]["Labels"]["who"], "me");
    assert_eq!(inspected[0]["RepoTags"].as_array().unwrap().len(), 2);
    assert_eq!(inspected[0]["Os"], "linux");

    let history = world.context.rpub(["history", "app:1"]).success();
    history.expect_output("RUN /bin/sh -c echo hi > /hi");
    history.expect_output("LABEL who=me");

    world.context.rpub(["rmi", "app:1"]).success();
    world.context.rpub(["inspect", "app:1"]).code(3);
    world.context.rpub(["inspect", "other/app:2"]).success();
    world.context.rpub(["rmi", "other/app:2"]).success();
    world.context.rpub(["rmi", "other/app:2"]).code(3);
    verify_store(&world.context.store());
}

#[test]
fn a_removed_image_frees_its_space() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let tar = world.bases.tar("busybox");
    let blobs = || fs_err::read_dir(world.context.store().join("blobs/sha256")).unwrap().count();
    world.context.rpub(["import"]).arg(tar).arg("imported:1").success();
    assert_eq!(blobs(), 3, "a layer, a config and a manifest");
    let removed = world.context.rpub(["rmi", "imported:1"]).success();
    removed.expect_error("freed");
    assert_eq!(blobs(), 0);
    verify_store(&world.context.store());
}

#[test]
fn a_killed_build_leaves_nothing_after_the_next() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let text = "FROM busybox\nRUN echo be''gun; while :; do sleep 1; done\n";
    let directory = world.dockerfile("endless", text);
    let mut build = world.build_push("team/app:1", &directory).arg("--progress=plain").spawn();
    assert!(build.wait_for_error("begun", Duration::from_secs(30)), "the step never started");
    build.kill();
    let steps = || -> usize {
        let mappings = fs_err::read_dir(world.context.store().join("snapshots")).unwrap();
        let list = |mapping: std::io::Result<fs_err::DirEntry>| {
            fs_err::read_dir(mapping.unwrap().path().join("tmp")).unwrap().count()
        };
        mappings.map(list).sum()
    };
    assert_eq!(steps(), 1);
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "-q"]).arg(&directory).success();
    assert_eq!(steps(), 0);
}

#[test]
fn format_json_prints_json_and_nothing_else() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "-q", "-t", "app:1"]).arg(&directory).success();
    let output = world.context.rpub(["images", "--format", "json"]).success();
    let rows: Vec<serde_json::Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.iter().any(|row| row["Repository"] == "app" && row["Tag"] == "1"), "{output}");
    let quiet = world.context.rpub(["images", "-q"]).success();
    assert!(quiet.stdout.lines().all(|line| line.len() == 12), "{quiet}");
}

#[test]
fn a_root_file_system_is_imported() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let tar = world.bases.tar("busybox");
    world.context.rpub(["import"]).arg(tar).arg("imported:1").success();
    let text = "FROM imported:1\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\n";
    let directory = world.dockerfile("app", text);
    world.build_push("imported/app:1", &directory).success();
    crate::context::verify_image(&world.registry, "imported/app", "1");
}

#[test]
fn a_table_template_prints_dockers_headers() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world.context.rpub(["build", "-q", "-t", "team/app:1"]).arg(&directory).success();
    let format = |command: &[&str], template: &str| {
        let output = world.context.rpub(command).args(["--format", template]).success();
        output.stdout.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(format(&["images", "team/app"], "{{.Repository}}:{{.Tag}}"), ["team/app:1"]);
    assert_eq!(
        format(&["images", "team/app"], "table {{.Repository}}\\t{{.Tag}}"),
        ["REPOSITORY   TAG", "team/app     1"]
    );
    let history = format(&["history", "team/app:1"], "table {{.ID}}\\t{{.CreatedBy}}");
    assert!(history[0].starts_with("IMAGE ") && history[0].ends_with("CREATED BY"), "{history:?}");
    assert_eq!(format(&["inspect", "team/app:1"], "{{index .RepoTags 0}}"), ["team/app:1"]);
    let config = format(&["inspect", "team/app:1"], "{{json .Config}}").concat();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["Labels"]["who"], "me");
    world.context.rpub(["images", "--format", "{{.Nothing}}"]).code(2);
}

#[test]
fn images_are_filtered_and_removed_as_docker_does() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", SMALL);
    world
        .context
        .rpub(["build", "-q", "-t", "app:1", "-t", "team/app:2"])
        .arg(&directory)
        .success();
    world.dockerfile("app", "FROM busybox\nLABEL who=you\n");
    world.context.rpub(["build", "-q"]).arg(&directory).success();

    let list = |arguments: &[&str]| {
        let arguments = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], arguments].concat();
        world.context.rpub(arguments).success().stdout.clone()
    };
    assert_eq!(list(&["--filter", "dangling=true"]), "<none>:<none>\n");
    assert_eq!(list(&["-f", "dangling=false", "-f", "reference=team/*"]), "team/app:2\n");
    assert_eq!(list(&["app"]), "app:1\n");
    assert!(list(&["-a"]).contains("<none>:<none>"));
    world.context.rpub(["images", "--filter", "colour=red"]).code(2);

    let id = |arguments: &[&str]| {
        let arguments = [&["images", "-q", "--no-trunc"], arguments].concat();
        world.context.rpub(arguments).success().line().to_owned()
    };
    let (dangling, named) = (id(&["-f", "dangling=true"]), id(&["app"]));
    assert!(named.starts_with("sha256:") && named.len() == 71, "{named}");
    let removed = world.context.rpub(["rmi", &dangling]).success();
    assert_eq!(removed.line(), format!("Deleted: {dangling}"));
    // Two names: an id alone does not say which.
    world.context.rpub(["rmi", &named]).code(1).expect_error("several names");
    let output = world.context.rpub(["rmi", "app:1", "nothing", "team/app:2"]).code(6);
    output.expect_error("no image `nothing` in the store");
    output.expect_error("1 of 3 images were not removed");
    assert_eq!(
        output.stdout,
        format!("Untagged: app:1\nUntagged: team/app:2\nDeleted: {named}\n"),
        "{output}"
    );
    verify_store(&world.context.store());
}
