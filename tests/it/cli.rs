//! The command line's own manners.

use std::path::Path;
use std::time::Duration;

use crate::context::{Role, TestContext, World};

const COMMANDS: [&str; 22] = [
    "build",
    "build-push",
    "push",
    "pull",
    "images",
    "image",
    "tag",
    "rmi",
    "inspect",
    "history",
    "login",
    "logout",
    "serve",
    "import",
    "artifact",
    "ping",
    "digest",
    "manifest",
    "blob",
    "repo",
    "referrers",
    "version",
];

#[test]
fn help_names_every_command() {
    let context = TestContext::new();
    let output = context.rpub(["--help"]).success();
    for command in COMMANDS {
        output.expect_output(&format!("\n  {command}"));
    }
}

#[test]
fn every_command_has_help() {
    let context = TestContext::new();
    for command in COMMANDS {
        let output = context.rpub([command, "--help"]).success();
        output.expect_output("Usage: rpub");
    }
}

#[test]
fn build_takes_dockers_flags() {
    let context = TestContext::new();
    for command in ["build", "build-push"] {
        let output = context.rpub([command, "--help"]).success();
        for flag in [
            "-t, --tag",
            "-f, --file",
            "--build-arg",
            "--target",
            "--no-cache",
            "--pull",
            "--label",
            "--platform",
            "--iidfile",
            "--metadata-file",
            "-q, --quiet",
            "--progress",
        ] {
            output.expect_output(flag);
        }
    }
}

#[test]
fn the_version_is_the_packages() {
    let context = TestContext::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(context.rpub(["--version"]).success().line(), format!("rpub {version}"));
    context.rpub(["version"]).success().expect_output(version);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let context = TestContext::new();
    let program = context.rpub(["--help"]).describe();
    let script = format!("{program} | true; exit ${{PIPESTATUS[0]}}");
    let output = context.command("bash").args(["-c", &script]).run();
    assert!(output.stderr.is_empty(), "{output}");
}

#[test]
fn plain_progress_numbers_its_lines() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", "FROM busybox\nRUN echo some output\n");
    let output = world.build_push("team/app:1", &directory).arg("--progress=plain").success();
    output.expect_error("RUN echo some output");
    output.expect_error("some output");
    // Numbers appear in order and none is left out; a step keeps its own.
    let numbers = output.stderr.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' '));
    let mut seen: Vec<&str> = Vec::new();
    for (number, _) in numbers {
        if !seen.contains(&number) {
            seen.push(number);
            assert_eq!(number, seen.len().to_string(), "{output}");
        }
    }
    assert!(seen.len() >= 3, "a step, a blob and a tag\n{output}");
    assert!(!output.stderr.contains('\u{1b}'), "colour without a terminal\n{output}");
}

#[test]
fn an_interrupt_ends_the_build_and_its_step() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let text = "FROM busybox\nRUN touch /started; while :; do sleep 1; done\n";
    let directory = world.dockerfile("app", text);
    let mut build = world.build_push("team/app:1", &directory).arg("--progress=plain").spawn();
    assert!(build.wait_for_error("RUN touch", Duration::from_secs(30)), "the step never started");
    build.interrupt();
    // Comes back only when nothing holds the output any more.
    let output = build.finish();
    output.expect_code(130);
    assert!(world.registry.manifest("team/app", "1").is_none());
}

#[test]
fn help_takes_a_command_as_docker_does() {
    let context = TestContext::new();
    for command in [&["build"][..], &["image", "ls"]] {
        let by_name = context.rpub([&["help"], command].concat()).success();
        let by_flag = context.rpub([command, &["--help"]].concat()).success();
        assert_eq!(by_name.stdout, by_flag.stdout);
    }
}

#[test]
fn help_fits_a_narrow_terminal() {
    let context = TestContext::new();
    for command in COMMANDS {
        let output = context.rpub([command, "--help"]).env("COLUMNS", "80").success();
        assert!(output.stdout.lines().all(|line| line.chars().count() <= 80), "{output}");
        assert!(!output.stdout.contains('`'), "no quotes of another language\n{output}");
    }
}

#[test]
fn the_completions_are_what_the_program_generates() {
    let context = TestContext::new();
    for (shell, file) in [("bash", "rpub.bash"), ("zsh", "_rpub"), ("fish", "rpub.fish")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
        let generated = context.rpub(["completion", shell]).success();
        assert!(
            fs_err::read_to_string(path).unwrap_or_default() == generated.stdout,
            "stale: run `cargo run -- completion {shell} > completions/{file}`"
        );
    }
}

#[test]
fn the_readme_names_every_command_and_flag_of_help() {
    let context = TestContext::new();
    let readme = readme();
    let help = context.rpub(["--help"]).success();
    let commands = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= COMMANDS.len(), "{commands:?}");
    for command in commands {
        assert!(readme.contains(&format!("`rpub {command}")), "README.md lacks `rpub {command}`");
    }
    let options = help.stdout.split_whitespace().filter(|word| word.starts_with("--"));
    for option in options.filter(|option| !["--help", "--version"].contains(option)) {
        assert!(readme.contains(option), "README.md lacks {option}");
    }
}

#[test]
fn the_readme_says_why_each_dependency_is_there() {
    let manifest = include_str!("../../Cargo.toml");
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next();
    let mut wanted: Vec<&str> = dependencies
        .unwrap()
        .lines()
        .filter_map(|line| line.split([' ', '.']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect();
    wanted.sort_unstable();
    let readme = readme();
    let table = readme.split("\n## Dependencies\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut said: Vec<&str> = rows
        .filter(|cell| *cell != "crate" && !cell.starts_with("---"))
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.split(" (").next().unwrap())
        .collect();
    said.sort_unstable();
    assert_eq!(said, wanted);
}

fn readme() -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn a_bad_user_agent_prefix_is_an_error_of_its_flag() {
    let context = TestContext::new();
    for wrong in ["a\nb: c", "caf\u{e9}", " "] {
        let flag = format!("--user-agent-prefix={wrong}");
        let output = context.rpub([&flag, "ping", "localhost:1"]).run();
        output.expect_code(2);
        output.expect_error("'--user-agent-prefix <TEXT>': write ASCII letters");
    }
}
