//! `mirror` and its family.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::operations::{
    self, Error, ExtraTags, Kind, MirrorDialect, MirrorInput, MirrorItem, MirrorOutcome,
    MirrorPlan, MirrorReport, MirrorStep, QuotaCost, Reading, Recheck, Shard,
};

use super::Context;
use super::args::{
    FormatArgs, MirrorArgs, MirrorCommand, MirrorFamily, MirrorFileArgs, MirrorPlanArgs, MirrorTool,
};
use super::copy::summary;
use super::edit::interruptible;
use super::output::{Format, from_template, print, write_file};
use super::render::{self, bytes};
use super::settings;

/// Most of a file that is read.
const MAX_FILE_BYTES: u64 = 5 << 20;

/// `mirror` and what is below it.
pub(super) async fn run(context: &Context, family: MirrorFamily) -> Result<(), Error> {
    match family.command {
        Some(MirrorCommand::Plan(args)) => plan(context, args).await,
        Some(MirrorCommand::Convert(args)) => {
            let text = input(&args)?.to_toml(&context.session)?;
            print(text.trim_end())
        }
        Some(MirrorCommand::Schema) => print(&format!("{:#}", MirrorInput::schema())),
        None if family.args.dry_run => {
            let file = family.args.named();
            let MirrorArgs { shard, format, .. } = family.args;
            plan(context, MirrorPlanArgs { file, shard, exact: false, format }).await
        }
        None => mirror(context, family.args).await,
    }
}

impl MirrorArgs {
    /// Returns which file is meant.
    fn named(&self) -> MirrorFileArgs {
        let file = self.file.clone().unwrap_or_default();
        MirrorFileArgs { file, from: self.from, to: self.to.clone() }
    }
}

async fn mirror(context: &Context, args: MirrorArgs) -> Result<(), Error> {
    let (session, input) = (&context.session, input(&args.named())?);
    let shard = args.shard.as_deref().map(shard).transpose()?;
    let extra = if args.delete { ExtraTags::Remove } else { ExtraTags::Keep };
    let recheck = if args.recheck { Recheck::Yes } else { Recheck::No };
    let work = operations::mirror(session, &input, shard, extra, recheck);
    let report = interruptible(Box::pin(work)).await?;
    session.note(summary(&report.traffic));
    session.note(counted(&report));
    context.progress.finish();
    show(&args.format, &report)?;
    if let Some(path) = &args.report {
        write_file(path, format!("{:#}\n", document(&report)).as_bytes())?;
    }
    if let Some(path) = &args.digest_file {
        write_file(path, digests(path, &report).as_bytes())?;
    }
    conclude(report)
}

/// Reads the file, and which variables there are for it.
fn input(args: &MirrorFileArgs) -> Result<MirrorInput, Error> {
    let name = args.file.display().to_string();
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::User,
        };
        Error::new(kind, format!("failed to read the mirror file `{name}`")).because(error)
    };
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = fs_err::File::open(&args.file).map_err(unreadable)?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Settings, format!("the mirror file `{name}` is no text")).because(error)
    })?;
    let dialect = args.from.map(|tool| match tool {
        MirrorTool::Rpub => MirrorDialect::Rpub,
        MirrorTool::Skopeo => MirrorDialect::Skopeo,
        MirrorTool::Regsync => MirrorDialect::Regsync,
        MirrorTool::Digests => MirrorDialect::Digests,
    });
    let variables: BTreeMap<String, String> = settings::variables();
    Ok(MirrorInput { name, text, dialect, to: args.to.clone(), variables })
}

/// Reads `--shard`: in numbers, or `auto` for what the scheduler says.
fn shard(text: &str) -> Result<Shard, Error> {
    let wrong =
        |message: String| Error::new(Kind::Settings, format!("invalid `--shard`: {message}"));
    let Some(count) = text.strip_prefix("auto") else { return text.parse().map_err(wrong) };
    let given = settings::shard();
    let Some(index) = given.index else {
        let message = "neither JOB_COMPLETION_INDEX nor CI_NODE_INDEX is set".to_owned();
        return Err(wrong(message).hint("give the part by its number, as in `--shard 1/3`"));
    };
    let count = match (count.strip_prefix('/'), given.count) {
        (Some(count), _) => Some(count.to_owned()),
        (None, count) if text == "auto" => count,
        (None, _) => return Err(wrong(format!("`{text}` is not `auto` or `auto/COUNT`"))),
    };
    let count = count.ok_or_else(|| {
        wrong("the environment does not say how many shards there are".to_owned())
            .hint("say it, as in `--shard auto/3`")
    })?;
    format!("{index}/{count}").parse().map_err(wrong)
}

/// Returns how many images came to what.
fn counted(report: &MirrorReport) -> String {
    let all = [
        MirrorOutcome::Copied,
        MirrorOutcome::Unchanged,
        MirrorOutcome::Immutable,
        MirrorOutcome::Removed,
        MirrorOutcome::Failed,
        MirrorOutcome::Left,
    ];
    let counts = all.into_iter().map(|outcome| (report.count(outcome), outcome.word()));
    let said = counts.filter(|(count, word)| *count > 0 || *word == "copied");
    let said: Vec<String> = said.map(|(count, word)| format!("{count} {word}")).collect();
    format!("mirrored: {}", said.join(", "))
}

/// Prints what has changed; as JSON or by a template, everything.
fn show(format: &FormatArgs, report: &MirrorReport) -> Result<(), Error> {
    let rows = || report.items.iter().map(row);
    match format.format() {
        Format::Json => rows().try_for_each(|row| print(&row.to_string())),
        Format::Template(template) => {
            rows().try_for_each(|row| print(&from_template(&template, &row)?))
        }
        Format::Table => report.items.iter().try_for_each(|item| {
            match (item.outcome, &item.destination, &item.digest) {
                (MirrorOutcome::Copied, Some(name), Some(digest)) => {
                    print(&format!("{}@{digest}", name.familiar()))
                }
                (MirrorOutcome::Removed, Some(name), _) => {
                    print(&format!("Untagged: {}", name.familiar()))
                }
                _ => Ok(()),
            }
        }),
    }
}

fn row(item: &MirrorItem) -> Value {
    let familiar = |name: &crate::image::Reference| name.familiar();
    json!({
        "rule": item.rule,
        "source": item.source.as_ref().map(familiar),
        "destination": item.destination.as_ref().map(familiar),
        "digest": item.digest,
        "outcome": item.outcome.word(),
        "error": item.error.as_ref().map(causes),
    })
}

/// Returns an error with its causes in one line.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Returns the report as one JSON document.
fn document(report: &MirrorReport) -> Value {
    let count = |outcome| report.count(outcome);
    json!({
        "copied": count(MirrorOutcome::Copied),
        "unchanged": count(MirrorOutcome::Unchanged),
        "immutable": count(MirrorOutcome::Immutable),
        "removed": count(MirrorOutcome::Removed),
        "failed": count(MirrorOutcome::Failed),
        "left": count(MirrorOutcome::Left),
        "sentBytes": report.traffic.sent_bytes,
        "quotas": report.quotas.iter().map(|quota| {
            json!({"registry": quota.registry, "error": causes(&quota.error)})
        }).collect::<Vec<_>>(),
        "images": report.items.iter().map(row).collect::<Vec<_>>(),
    })
}

/// Returns the digest of every image that is where it should be.
fn digests(path: &Path, report: &MirrorReport) -> String {
    let there = report
        .items
        .iter()
        .filter_map(|item| Some((item.destination.as_ref()?, item.digest.as_ref()?)));
    if path.extension().is_some_and(|extension| extension == "json") {
        let there = there.map(|(name, digest)| json!({"reference": name, "digest": digest}));
        return format!("{:#}\n", Value::Array(there.collect()));
    }
    there.map(|(name, digest)| format!("{name} {digest}\n")).collect::<Vec<_>>().concat()
}

/// Says what failed, and returns what the run as a whole came to.
fn conclude(report: MirrorReport) -> Result<(), Error> {
    let total = report.items.len();
    let (left, failed) = (report.count(MirrorOutcome::Left), report.count(MirrorOutcome::Failed));
    let failures = report.items.into_iter().filter(|item| item.outcome == MirrorOutcome::Failed);
    let failures: Vec<Error> = failures.filter_map(|item| item.error).collect();
    let Some(quota) = report.quotas.into_iter().next() else {
        return super::copy::all_or_partial(failures, total, "images");
    };
    for error in failures {
        anstream::eprint!("{}", render::error(&error));
    }
    let done = total - left - failed;
    let message = format!(
        "stopped at the quota of `{}`: {done} of {total} images are done, {left} left",
        quota.registry
    );
    let mut stopped = Error::new(Kind::RateLimited, message);
    stopped.hints =
        vec!["run the same command again then: what is done is not copied again".into()];
    stopped.hints.extend(quota.error.hints.iter().cloned());
    Err(stopped.because(causes(&quota.error)))
}

async fn plan(context: &Context, args: MirrorPlanArgs) -> Result<(), Error> {
    let (session, input) = (&context.session, input(&args.file)?);
    let shard = args.shard.as_deref().map(shard).transpose()?;
    let reading = if args.exact { Reading::All } else { Reading::Free };
    let work = operations::plan_mirror(session, &input, shard, reading);
    let plan = interruptible(Box::pin(work)).await?;
    context.progress.finish();
    let value = plan_value(&plan);
    args.format.print(&plan_text(&plan), &value)?;
    let total = plan.steps.len() + plan.unchanged + plan.immutable + plan.failures.len();
    super::copy::all_or_partial(plan.failures, total, "images")
}

fn plan_text(plan: &MirrorPlan) -> String {
    let step = |step: &MirrorStep| {
        let what = if step.previous.is_some() { "update" } else { "copy" };
        let size = step.bytes.map_or_else(|| "size unknown".to_owned(), bytes);
        let (from, to) = (step.source.familiar(), step.destination.familiar());
        format!("{what:8}{from} -> {to} ({size})")
    };
    let mut lines: Vec<String> = plan.steps.iter().map(step).collect();
    lines.extend(plan.removals.iter().map(|name| format!("{:8}{}", "remove", name.familiar())));
    let (count, unchanged, immutable) = (plan.steps.len(), plan.unchanged, plan.immutable);
    lines.push(format!("{count} to copy, {unchanged} unchanged, {immutable} immutable"));
    if count > 0 {
        let (blobs, requests) = (plan.blobs, plan.requests);
        let unknown = match plan.unknown {
            0 => String::new(),
            unknown => format!(" and those of {unknown} images that are not read yet (`--exact`)"),
        };
        let size = bytes(plan.bytes);
        lines.push(format!("{size} to move in {blobs} blobs{unknown}, about {requests} requests"));
    }
    lines.extend(plan.quotas.iter().map(quota_text));
    lines.join("\n")
}

fn quota_text(cost: &QuotaCost) -> String {
    let about = if cost.is_estimate { "about " } else { "" };
    let text = format!("quota of {}: {about}{} pulls", cost.registry, cost.pulls);
    let Some(left) = &cost.left else { return text };
    let of = left.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let enough = if left.remaining < cost.pulls {
        ": the run stops when they are used up, and goes on the next time"
    } else {
        ""
    };
    format!("{text}, {}{of} are left{enough}", left.remaining)
}

fn plan_value(plan: &MirrorPlan) -> Value {
    json!({
        "copies": plan.steps.iter().map(|step| json!({
            "rule": step.rule,
            "source": step.source.familiar(),
            "destination": step.destination.familiar(),
            "digest": step.manifest.digest,
            "previous": step.previous,
            "bytes": step.bytes,
        })).collect::<Vec<_>>(),
        "removals": plan.removals.iter().map(crate::image::Reference::familiar).collect::<Vec<_>>(),
        "unchanged": plan.unchanged,
        "immutable": plan.immutable,
        "blobs": plan.blobs,
        "bytes": plan.bytes,
        "unknown": plan.unknown,
        "requests": plan.requests,
        "quotas": plan.quotas.iter().map(|cost| json!({
            "registry": cost.registry,
            "pulls": cost.pulls,
            "estimate": cost.is_estimate,
            "left": cost.left,
        })).collect::<Vec<_>>(),
        "failures": plan.failures.iter().map(causes).collect::<Vec<_>>(),
    })
}
