//! Why a step was done again: the first thing in which it differs from the nearest earlier record.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dockerfile::is_secret;
use crate::image::Digest;
use crate::layer::ListedFile;

use super::{Below, Definition, Place, StepRecord};

/// Longest value that is quoted whole.
const QUOTED: usize = 80;

/// What differs, as a word for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::build) struct Cause {
    /// The word: `file`, `variable`, `instruction`, ...
    pub(in crate::build) kind: &'static str,
    /// The sentence, without a final period.
    pub(in crate::build) text: String,
}

impl Cause {
    pub(in crate::build) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// A step as it is now.
#[derive(Debug, Clone, Copy)]
pub(in crate::build) struct Current<'a> {
    /// What its key comes from.
    pub(in crate::build) definition: &'a Definition,
    /// Where it stands.
    pub(in crate::build) place: &'a Place,
}

/// Returns the record that is nearest to a step: of the same stage of the same project, with the same
/// instruction if there is one, else at the same place; of several, the one with the fewest
/// differences, then the latest. `records` are in the order of their last use.
pub(in crate::build) fn nearest<'a>(
    now: Current<'_>,
    records: &'a [StepRecord],
) -> Option<&'a StepRecord> {
    let score = |record: &StepRecord| -> Option<u32> {
        let (then, place) = (&record.definition, &record.place);
        let same_work = then.work == now.definition.work;
        let same_stage = place.project == now.place.project && place.stage == now.place.stage;
        let same_number = same_stage && place.number == now.place.number;
        let same_kind = kind_of(&then.work) == kind_of(&now.definition.work);
        let is_near = same_work || (same_number && same_kind);
        if !is_near {
            return None;
        }
        let platform = then.platform == now.definition.platform;
        let below = then.below == now.definition.below;
        let inputs = digests(then) == digests(now.definition);
        let bits = |bits: &[bool]| bits.iter().fold(0, |score, bit| score * 2 + u32::from(*bit));
        Some(
            (bits(&[same_stage, same_work]) << 12)
                + (equal_fields(&then.work, &now.definition.work) << 4)
                + bits(&[same_number, platform, below, inputs]),
        )
    };
    let scored = records.iter().filter_map(|record| Some((score(record)?, record)));
    // Of equals, the last one wins.
    scored.max_by_key(|(score, _)| *score).map(|(_, record)| record)
}

/// Returns the first thing in which a step differs from an earlier one; `None` when they are the same.
///
/// `listing` gives the files of a content digest.
pub(in crate::build) fn difference(
    now: Current<'_>,
    then: &StepRecord,
    listing: &dyn Fn(&Digest) -> Option<Vec<ListedFile>>,
) -> Option<Cause> {
    let (new, old) = (now.definition, &then.definition);
    work_difference(&old.work, &new.work)
        .or_else(|| input_difference(old, new, listing))
        .or_else(|| {
            (old.platform != new.platform).then(|| {
                let text =
                    format!("the platform changed from {} to {}", old.platform, new.platform);
                Cause::new("platform", text)
            })
        })
        .or_else(|| below_difference(now, then))
}

fn digests(definition: &Definition) -> Vec<&Digest> {
    definition.inputs.iter().map(|input| &input.digest).collect()
}

/// Returns how much of two instructions is the same: fewer than 256 parts.
fn equal_fields(old: &Value, new: &Value) -> u32 {
    let fields = new.as_object().into_iter().flatten();
    fields.filter(|(name, value)| old.get(name) == Some(value)).take(255).map(|_| 1).sum()
}

/// Returns the name of the instruction.
fn kind_of(work: &Value) -> Option<&str> {
    work.as_object()?.keys().next().map(String::as_str)
}

fn work_difference(old: &Value, new: &Value) -> Option<Cause> {
    if old == new {
        return None;
    }
    if kind_of(old) != kind_of(new) {
        return Some(Cause::new("instruction", "another instruction stood here"));
    }
    // The variables last: whoever changes a command sees that first.
    let fields = new.as_object()?.keys().filter(|key| *key != "env");
    let changed = fields.into_iter().find(|key| old.get(key) != new.get(key));
    match changed {
        Some(field) => Some(field_difference(field, &old[field], &new[field])),
        None => Some(variable_difference(&old["env"], &new["env"])),
    }
}

fn field_difference(field: &str, old: &Value, new: &Value) -> Cause {
    let (kind, name) = match field {
        "run" => ("instruction", "the command"),
        "cwd" => ("workdir", "the working directory"),
        "user" => ("user", "the user"),
        "hostname" => ("hostname", "the host name"),
        "network" => ("network", "the network"),
        "security" => ("security", "the security mode"),
        "hosts" => ("hosts", "the names of `--add-host`"),
        "mounts" => ("mount", "a mount"),
        "script" => ("instruction", "the here-document"),
        "directory" => ("instruction", "the directory"),
        "copy" => ("instruction", "the instruction"),
        "sources" => ("instruction", "the sources"),
        "destination" => ("instruction", "the destination"),
        other => {
            let text = format!("`--{other}` changed from {} to {}", shown(old), shown(new));
            return Cause::new("instruction", text);
        }
    };
    let (old, new) = match field {
        "mounts" => first_difference(old, new),
        "run" => (last_of(old), last_of(new)),
        _ => (old.clone(), new.clone()),
    };
    Cause::new(kind, format!("{name} changed from {} to {}", shown(&old), shown(&new)))
}

/// Returns what a shell is given to run, when only that can differ.
fn last_of(args: &Value) -> Value {
    match args.as_array().map(Vec::as_slice) {
        Some([shell, flag, text]) if *flag == "-c" && shell == "/bin/sh" => text.clone(),
        _ => args.clone(),
    }
}

fn first_difference(old: &Value, new: &Value) -> (Value, Value) {
    let empty = Vec::new();
    let (old, new) = (old.as_array().unwrap_or(&empty), new.as_array().unwrap_or(&empty));
    let at = (0..old.len().max(new.len())).find(|at| old.get(*at) != new.get(*at));
    let item = |list: &[Value]| at.and_then(|at| list.get(at)).cloned().unwrap_or_default();
    (item(old), item(new))
}

/// Returns a value as people read it, not too long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::String(text) if text.is_empty() => return "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => return "nothing".to_owned(),
        Value::Array(items) => {
            let words = items.iter().map(|item| item.as_str().map(str::to_owned));
            words.collect::<Option<Vec<_>>>().map_or_else(|| value.to_string(), |w| w.join(" "))
        }
        other => other.to_string(),
    };
    quoted(&text)
}

fn quoted(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    if line.chars().count() <= QUOTED {
        return format!("`{line}`");
    }
    let start: String = line.chars().take(QUOTED - 1).collect();
    format!("`{start}…`")
}

fn variable_difference(old: &Value, new: &Value) -> Cause {
    let (old, new) = (variables(old), variables(new));
    for (name, value) in &new {
        let text = match old.get(name) {
            Some(before) if before == value => continue,
            Some(before) => format!(
                "variable `{name}` changed from {} to {}",
                value_of(name, before),
                value_of(name, value)
            ),
            None => format!("variable `{name}` is new, {}", value_of(name, value)),
        };
        return Cause::new("variable", text);
    }
    let gone = old.iter().find(|(name, _)| !new.contains_key(*name));
    match gone {
        Some((name, value)) => {
            let text = format!("variable `{name}` is gone, it was {}", value_of(name, value));
            Cause::new("variable", text)
        }
        None => Cause::new("variable", "the variables are in another order"),
    }
}

fn variables(env: &Value) -> BTreeMap<&str, &str> {
    let entries = env.as_array().into_iter().flatten().filter_map(Value::as_str);
    entries.map(|entry| entry.split_once('=').unwrap_or((entry, ""))).collect()
}

/// Returns a variable's value in quotes, or stars when its name says that it is a secret.
fn value_of(name: &str, value: &str) -> String {
    if is_secret(name) { "`****`".to_owned() } else { quoted(value) }
}

fn input_difference(
    old: &Definition,
    new: &Definition,
    listing: &dyn Fn(&Digest) -> Option<Vec<ListedFile>>,
) -> Option<Cause> {
    for (at, input) in new.inputs.iter().enumerate() {
        let before = old.inputs.get(at);
        if before.is_some_and(|before| before.digest == input.digest) {
            continue;
        }
        let Some(before) = before else {
            return Some(Cause::new("input", format!("it did not read {} before", input.name)));
        };
        if before.name != input.name {
            let text = format!("it read {} instead of {}", before.name, input.name);
            return Some(Cause::new("input", text));
        }
        let kind = if input.name.starts_with("stage ") {
            "stage"
        } else if input.name.starts_with("image ") {
            "image"
        } else if input.name.contains("build context") {
            match (listing(&before.digest), listing(&input.digest)) {
                (Some(then), Some(now)) => return Some(file_difference(&input.name, &then, &now)),
                _ => "context",
            }
        } else {
            "remote"
        };
        let text = match kind {
            "stage" => format!("{} changed", input.name),
            "image" => format!("{} has other layers", input.name),
            "context" => format!("files of {} changed", input.name),
            _ => format!("`{}` has other content", input.name),
        };
        return Some(Cause::new(kind, text));
    }
    (old.inputs.len() > new.inputs.len())
        .then(|| Cause::new("input", format!("it read {}", old.inputs[new.inputs.len()].name)))
}

fn file_difference(context: &str, old: &[ListedFile], new: &[ListedFile]) -> Cause {
    let by_path = |files: &[ListedFile]| -> BTreeMap<String, ListedFile> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (old, new) = (by_path(old), by_path(new));
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut differences = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    let Some(first) = differences.next() else {
        return Cause::new("file", format!("the order of the files of {context} changed"));
    };
    // A directory says less than the file in it that made it differ.
    let more = differences.count();
    let name = if first.is_empty() { "." } else { first.as_str() };
    let what = match (old.get(first), new.get(first)) {
        (None, None) => format!("file `{name}` of {context} differs"),
        (None, Some(new)) => format!("{} `{name}` of {context} is new", new.kind),
        (Some(old), None) => format!("{} `{name}` of {context} is gone", old.kind),
        (Some(old), Some(new)) => {
            format!("{} `{name}` of {context}: {}", new.kind, changed(old, new))
        }
    };
    let text = match more {
        0 => what,
        1 => format!("{what}, and 1 other file differs"),
        more => format!("{what}, and {more} other files differ"),
    };
    Cause::new("file", text)
}

/// Says how a file differs from what it was.
fn changed(old: &ListedFile, new: &ListedFile) -> String {
    if old.kind != new.kind {
        return format!("it was a {} and is a {}", old.kind, new.kind);
    }
    let mut parts = Vec::new();
    if old.mode != new.mode {
        parts.push(format!("its mode changed from {:04o} to {:04o}", old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        parts.push(format!(
            "its owner changed from {}:{} to {}:{}",
            old.uid, old.gid, new.uid, new.gid
        ));
    }
    if old.target != new.target {
        let name = |target: &Option<String>| quoted(target.as_deref().unwrap_or_default());
        parts.push(format!("it links to {} instead of {}", name(&new.target), name(&old.target)));
    }
    if old.size != new.size {
        parts.push(format!("its content changed, from {} to {} bytes", old.size, new.size));
    } else if old.content != new.content {
        parts.push(format!("its content changed, still {} bytes", new.size));
    }
    if parts.is_empty() {
        parts.push("its extended attributes or device numbers changed".to_owned());
    }
    parts.join(", ")
}

fn below_difference(now: Current<'_>, then: &StepRecord) -> Option<Cause> {
    if now.definition.below == then.definition.below {
        return None;
    }
    if let (Below::Image(_), Below::Image(_)) = (&now.definition.below, &then.definition.below)
        && let (Some(new), Some(old)) = (&now.place.base, &then.place.base)
    {
        let text = if old.reference == new.reference {
            let (name, old, new) = (&new.reference, &old.manifest, &new.manifest);
            format!("the base image `{name}` changed from {old} to {new}")
        } else {
            format!("the base image changed from `{}` to `{}`", old.reference, new.reference)
        };
        return Some(Cause::new("base", text));
    }
    let text = match (&now.place.below, &then.place.below) {
        (Some(new), _) => format!("the step below changed: `{new}`"),
        (None, Some(old)) => format!("it stood on `{old}` and stands on the base now"),
        (None, None) => "the base changed".to_owned(),
    };
    Some(Cause::new("parent", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(command: &str, env: &[&str]) -> Value {
        json!({ "run": ["/bin/sh", "-c", command], "cwd": "/", "env": env })
    }

    fn text(old: &Value, new: &Value) -> String {
        work_difference(old, new).expect("they differ").text
    }

    #[test]
    fn variables_are_named_and_secrets_are_not_shown() {
        let old = run("make", &["A=1", "API_TOKEN=one", "PUBLIC_KEY=x"]);
        let cases = [
            (&["A=2", "API_TOKEN=one", "PUBLIC_KEY=x"][..], "variable `A` changed from `1` to `2`"),
            (
                &["A=1", "API_TOKEN=two", "PUBLIC_KEY=x"],
                "variable `API_TOKEN` changed from `****` to `****`",
            ),
            (
                &["A=1", "API_TOKEN=one", "PUBLIC_KEY=y"],
                "variable `PUBLIC_KEY` changed from `x` to `y`",
            ),
            (&["A=1", "API_TOKEN=one"], "variable `PUBLIC_KEY` is gone, it was `x`"),
            (&["A=1", "API_TOKEN=one", "B=3", "PUBLIC_KEY=x"], "variable `B` is new, `3`"),
        ];
        for (env, expected) in cases {
            assert_eq!(text(&old, &run("make", env)), expected);
        }
    }

    #[test]
    fn commands_and_directories_are_shown() {
        let old = run("make", &[]);
        let new = run("make all", &["B=1"]);
        assert_eq!(text(&old, &new), "the command changed from `make` to `make all`");
        let mut new = old.clone();
        new["cwd"] = json!("/src");
        assert_eq!(text(&old, &new), "the working directory changed from `/` to `/src`");
    }

    #[test]
    fn files_are_named_with_what_changed() {
        let file = |path: &str, mode: u32, content: &str| ListedFile {
            path: path.to_owned(),
            kind: "file".to_owned(),
            mode,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            content: content.to_owned(),
            target: None,
        };
        let old = [file("a", 0o644, "x"), file("b", 0o644, "x")];
        let say = |new: &[ListedFile]| file_difference("the build context", &old, new).text;
        assert_eq!(
            say(&[file("a", 0o755, "x"), file("b", 0o644, "x")]),
            "file `a` of the build context: its mode changed from 0644 to 0755"
        );
        assert_eq!(
            say(&[file("a", 0o644, "y"), file("b", 0o644, "xy")]),
            "file `a` of the build context: its content changed, still 1 bytes, and 1 other file \
             differs"
        );
        assert_eq!(say(&[file("a", 0o644, "x")]), "file `b` of the build context is gone");
    }
}
