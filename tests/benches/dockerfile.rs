//! Measures what a Dockerfile of two thousand lines costs before its first step: parsing, checking
//! and planning. `cargo bench --bench dockerfile`.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rpub::build::{Outline, Plan, PlanOptions};
use rpub::dockerfile::{self, Dockerfile, Surroundings};
use rpub::ignore::Patterns;
use rpub::image::{Platform, Reference};

const LINES: usize = 2_000;
const STAGES: usize = 20;
const ROUNDS: usize = 50;
const GOAL: Duration = Duration::from_millis(10);

/// Returns a file of many stages, each on the one before, with what real files are made of.
fn generate() -> String {
    let mut text = "# syntax=docker/dockerfile:1\nARG VERSION=1.2\n".to_owned();
    for stage in 0..STAGES {
        match stage {
            0 => text.push_str("FROM scratch AS stage0\n"),
            _ => writeln!(text, "FROM stage{} AS stage{stage}", stage - 1).unwrap(),
        }
        text.push_str("ARG VERSION\n");
        let mut step = 0;
        while text.lines().count() < LINES * (stage + 1) / STAGES - 8 {
            writeln!(
                text,
                "ENV NAME_{step}=\"${{VERSION:-none}} of $VERSION\" OTHER_{step}=$NAME_{step}\n\
                 # a comment about the step below\n\
                 RUN --mount=type=cache,target=/cache/{step} echo ${{NAME_{step}}} \\\n    \
                 && make -j8 all VERSION=$VERSION \\\n    && make install\n\
                 COPY --chown=1:1 --chmod=0755 src/part{step} src/common /app/part{step}/\n\
                 LABEL org.example.part{step}=\"part {step} of ${{VERSION}}\"\n\
                 WORKDIR /app/part{step}"
            )
            .unwrap();
            step += 1;
        }
    }
    text
}

fn main() {
    let text = generate();
    let platform: Platform = "linux/amd64".parse().unwrap();
    let options = PlanOptions::new(platform.clone(), platform);
    let (mut parse, mut check, mut plan, mut whole) = (vec![], vec![], vec![], vec![]);
    let mut steps = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let file = dockerfile::parse(&text).unwrap();
        let parsed = started.elapsed();
        checked(&file, &options);
        let with_checks = started.elapsed();
        let outline = Outline::new(&file, &options).unwrap();
        let planned = black_box(Plan::new(outline).unwrap());
        let total = started.elapsed();
        steps = planned.stages.iter().map(|stage| stage.steps.len()).sum();
        parse.push(parsed);
        check.push(with_checks.saturating_sub(parsed));
        plan.push(total.saturating_sub(with_checks));
        whole.push(total);
    }
    println!("{} lines, {STAGES} stages, {steps} steps", text.lines().count());
    for (name, times) in [("parse", parse), ("check", check), ("plan", plan)] {
        row(name, times);
    }
    let median = row("all", whole);
    println!("goal {GOAL:?}: {}", if median < GOAL { "met" } else { "MISSED" });
}

fn checked(file: &Dockerfile, options: &PlanOptions) {
    let predefined = options.predefined(file);
    let surroundings = Surroundings {
        build_args: &options.build_args,
        predefined: &predefined,
        bases: &BTreeMap::new(),
        stages: None,
        other_platforms: &[],
        ignored: &Patterns::default(),
        is_reference: &|text| text.parse::<Reference>().is_ok(),
    };
    black_box(file.check(&surroundings).unwrap());
}

/// Prints a line; returns the median.
fn row(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let median = times[times.len() / 2];
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:<6} min {:.2} ms, median {:.2} ms",
        milliseconds(times[0]),
        milliseconds(median)
    );
    median
}
