//! `build --check` and `build --call`: answers in docker buildx's shapes, as text and as JSON.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::operations::{
    About, Answer, Argument, Error, Kind, Mounted, Parameters, Position, Question, Span, Target,
    Warning, suggest,
};

use super::args::BuildArgs;
use super::output::{print, print_bytes};

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The question; none for the list of questions.
    question: Option<Question>,
    is_json: bool,
    ignores_status: bool,
}

const METHODS: [&str; 5] = ["build", "check", "outline", "targets", "subrequests.describe"];

impl Call {
    /// Reads `--check` and `--call`; none is a build.
    pub(super) fn of(args: &BuildArgs) -> Result<Option<Self>, Error> {
        let text = match &args.call {
            _ if args.check => "check",
            Some(text) => text,
            None => return Ok(None),
        };
        Self::parse(text)
    }

    /// Reads `METHOD[,format=json][,ignorestatus=true]`.
    fn parse(text: &str) -> Result<Option<Self>, Error> {
        let invalid = |why: String| {
            Error::new(Kind::Settings, format!("invalid `--call {text}`: {why}"))
                .hint("use `check`, `outline`, `targets` or `subrequests.describe`")
        };
        let mut fields = text.split(',');
        let method = fields.next().unwrap_or_default();
        let question = match method {
            "build" => return Ok(None),
            "check" | "lint" => Some(Question::Check),
            "outline" => Some(Question::Outline),
            "targets" => Some(Question::Targets),
            "subrequests.describe" => None,
            other => {
                let error = invalid(format!("there is no method `{other}`"));
                let near = suggest(other, METHODS);
                return Err(match near {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                });
            }
        };
        let mut call = Self { question, is_json: false, ignores_status: false };
        for field in fields {
            match field.split_once('=') {
                Some(("format", "json")) => call.is_json = true,
                Some(("format", "text")) => call.is_json = false,
                Some(("ignorestatus", "true" | "1")) => call.ignores_status = true,
                Some(("ignorestatus", "false" | "0")) => call.ignores_status = false,
                _ => return Err(invalid(format!("`{field}` is not understood"))),
            }
        }
        Ok(Some(call))
    }

    /// Returns what must be asked for the answer.
    pub(super) fn question(self) -> Option<Question> {
        self.question
    }

    /// Prints the list of questions.
    pub(super) fn describe(self) -> Result<(), Error> {
        if self.is_json { print(&pretty(&requests())) } else { print_bytes(describe().as_bytes()) }
    }

    /// Prints an answer. Warnings and what would fail the build make the command fail.
    pub(super) fn print(self, answer: Answer) -> Result<(), Error> {
        let Answer { file, text, about } = answer;
        let source = Source { file: &file, text: &text };
        match about {
            About::Targets(targets) if self.is_json => print(&pretty(&source.targets(&targets))),
            About::Targets(targets) => print_bytes(targets_text(&targets).as_bytes()),
            About::Outline(found) if self.is_json => print(&pretty(&source.outline(&found))),
            About::Outline(found) => print_bytes(outline_text(&found).as_bytes()),
            About::Check { warnings, failure } => {
                if self.is_json {
                    print(&pretty(&source.check(&warnings, failure.as_ref())))?;
                } else {
                    print_bytes(source.check_text(&warnings, failure.is_some()).as_bytes())?;
                }
                match failure {
                    Some(error) => Err(error),
                    None if warnings.is_empty() || self.ignores_status => Ok(()),
                    None => Err(Error::new(Kind::Reported, "the checks found something")),
                }
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// The Dockerfile that an answer is about.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// Returns the lines that a span is on, the first and the last.
    fn lines(&self, span: Span) -> (usize, usize) {
        let first = Position::of(self.text, span.start).line;
        // A span that ends with its line's end does not reach the next.
        let last = Position::of(self.text, span.end.saturating_sub(1).max(span.start)).line;
        (first, last)
    }

    fn location(&self, span: Span) -> Value {
        let (first, last) = self.lines(span);
        json!({ "ranges": [{ "start": { "line": first }, "end": { "line": last } }] })
    }

    fn data(&self) -> String {
        STANDARD.encode(self.text)
    }

    fn check(&self, warnings: &[Warning], failure: Option<&Error>) -> Value {
        let warning = |warning: &Warning| {
            let mut value = json!({
                "ruleName": warning.rule.name(),
                "description": warning.rule.description(),
            });
            if let Some(url) = url(warning) {
                value["url"] = url.into();
            }
            value["detail"] = warning.message.as_str().into();
            value["location"] = self.location(warning.location);
            value
        };
        let mut value = json!({
            "warnings": warnings.iter().map(warning).collect::<Vec<_>>(),
            "sources": [
                { "filename": self.file, "data": self.data(), "language": "Dockerfile" },
            ],
        });
        if let Some(error) = failure {
            value["buildError"] = json!({ "message": error.message });
            if let Some(snippet) = &error.snippet {
                value["buildError"]["location"] = self.location(snippet.span);
            }
        }
        value
    }

    fn check_text(&self, warnings: &[Warning], has_failed: bool) -> String {
        let mut out = match warnings.len() {
            0 if has_failed => String::new(),
            0 => "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        for warning in warnings {
            let url = url(warning).map(|url| format!(" - {url}")).unwrap_or_default();
            let _ = writeln!(out, "\nWARNING: {}{url}\n{}", warning.rule, warning.message);
            self.excerpt(warning.location, &mut out);
        }
        out
    }

    /// Adds the lines of a span, marked, with some around them.
    fn excerpt(&self, span: Span, out: &mut String) {
        let lines: Vec<&str> = self.text.split('\n').collect();
        let (first, last) = self.lines(span);
        let (mut start, mut end) = (first, last.min(lines.len()));
        let wanted = if first == last { 4 } else { 2 };
        let mut around = 0;
        // BuildKit's count: a round in which nothing is left to add counts too.
        while around < wanted {
            if start > 1 {
                start -= 1;
                around += 1;
            }
            if end < lines.len() {
                end += 1;
                around += 1;
            }
            around += 1;
        }
        let rule = "--------------------";
        let _ = writeln!(out, "{}:{first}\n{rule}", self.file);
        for number in start..=end {
            let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
            let line = format!(" {number:>3} | {mark} {}", lines[number - 1].trim_end());
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let _ = writeln!(out, "{rule}");
    }

    fn targets(&self, targets: &[Target]) -> Value {
        let target = |target: &Target| {
            let mut value = json!({});
            let texts = [
                ("description", &target.description),
                ("base", &Some(target.base.clone())),
                ("platform", &target.platform),
            ];
            set(&mut value, "name", target.name.as_ref());
            if target.is_default {
                value["default"] = true.into();
            }
            for (name, text) in texts {
                set(&mut value, name, text.as_ref());
            }
            value["location"] = self.location(target.location);
            value
        };
        let targets: Vec<Value> = targets.iter().map(target).collect();
        json!({ "targets": targets, "sources": [self.data()] })
    }

    fn outline(&self, found: &Parameters) -> Value {
        let argument = |argument: &Argument| {
            let mut value = json!({ "name": argument.name });
            set(&mut value, "description", argument.description.as_ref());
            set(&mut value, "value", Some(&argument.value));
            value["location"] = self.location(argument.location);
            value
        };
        let mounted = |mounted: &Mounted| {
            let mut value = json!({ "name": mounted.name });
            if mounted.is_required {
                value["required"] = true.into();
            }
            value["location"] = self.location(mounted.location);
            value
        };
        let mut value = json!({});
        set(&mut value, "name", found.name.as_ref());
        set(&mut value, "description", found.description.as_ref());
        let lists: [(&str, Vec<Value>); 3] = [
            ("args", found.arguments.iter().map(argument).collect()),
            ("secrets", found.secrets.iter().map(mounted).collect()),
            ("ssh", found.ssh.iter().map(mounted).collect()),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                value[name] = list.into();
            }
        }
        value["sources"] = json!([self.data()]);
        value
    }
}

/// Sets a text that is there and not empty.
fn set(value: &mut Value, name: &str, text: Option<&String>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        value[name] = text.as_str().into();
    }
}

/// Returns the page about a rule in docker's documentation.
fn url(warning: &Warning) -> Option<String> {
    let page = warning.rule.page();
    (!page.is_empty()).then(|| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
}

/// Aligns columns, `gap` spaces apart.
fn columns(rows: &[Vec<&str>], gap: usize) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0) + gap).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn targets_text(targets: &[Target]) -> String {
    let name = |target: &Target| match (target.name.as_deref().unwrap_or_default(), target) {
        ("", Target { is_default: true, .. }) => "(default)".to_owned(),
        (name, Target { is_default: true, .. }) => format!("{name} (default)"),
        (name, _) => name.to_owned(),
    };
    let names: Vec<String> = targets.iter().map(name).collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    for (name, target) in names.iter().zip(targets) {
        rows.push(vec![name, target.description.as_deref().unwrap_or_default()]);
    }
    columns(&rows, 1)
}

fn outline_text(found: &Parameters) -> String {
    let mut blocks = Vec::new();
    if found.name.is_some() || found.description.is_some() {
        let mut rows = vec![vec!["TARGET:", found.name.as_deref().unwrap_or("(default)")]];
        rows.extend(found.description.as_deref().map(|text| vec!["DESCRIPTION:", text]));
        blocks.push(columns(&rows, 1));
    }
    if !found.arguments.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        rows.extend(found.arguments.iter().map(|argument| {
            let description = argument.description.as_deref().unwrap_or_default();
            vec![argument.name.as_str(), argument.value.as_str(), description]
        }));
        blocks.push(columns(&rows, 3));
    }
    for (header, list) in [("SECRET", &found.secrets), ("SSH", &found.ssh)] {
        if list.is_empty() {
            continue;
        }
        let mut rows = vec![vec![header, "REQUIRED"]];
        let required = |mounted: &Mounted| if mounted.is_required { "true" } else { "" };
        rows.extend(list.iter().map(|it| vec![it.name.as_str(), required(it)]));
        blocks.push(columns(&rows, 3));
    }
    blocks.join("\n")
}

/// The questions as BuildKit describes them: name, what it answers, and whether it takes a target.
const REQUESTS: [(&str, &str, bool); 4] = [
    ("outline", "List what the build of a target can be given", true),
    ("targets", "List the stages that can be built", false),
    ("lint", "Check a Dockerfile", false),
    ("subrequests.describe", "List these requests", false),
];

const REQUEST_VERSION: &str = "1.0.0";

fn describe() -> String {
    let mut rows = vec![vec!["NAME", "VERSION", "DESCRIPTION"]];
    rows.extend(REQUESTS.iter().map(|(name, text, _)| vec![*name, REQUEST_VERSION, *text]));
    columns(&rows, 1)
}

fn requests() -> Value {
    let request = |(name, description, takes_target): &(&str, &str, bool)| {
        let target = json!([{ "name": "target", "description": "Stage to build" }]);
        json!({
            "name": format!("frontend.{name}"),
            "version": REQUEST_VERSION,
            "type": "rpc",
            "description": description,
            "opts": if *takes_target { target } else { Value::Null },
            "inputs": Value::Null,
            "metadata": [
                { "name": "result.json", "description": "" },
                { "name": "result.txt", "description": "" },
            ],
            "refs": Value::Null,
        })
    };
    REQUESTS.iter().map(request).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let call = |text: &str| Call::parse(text).unwrap();
        let question = |text: &str| call(text).unwrap().question;
        assert_eq!(call("build"), None);
        assert_eq!(question("check"), Some(Question::Check));
        assert_eq!(question("lint"), Some(Question::Check));
        assert_eq!(question("outline,format=json"), Some(Question::Outline));
        assert_eq!(question("subrequests.describe"), None);
        assert!(call("check,format=json,ignorestatus=true").unwrap().ignores_status);
        assert!(!call("targets,format=text").unwrap().is_json);
        for text in ["", "chek", "check,format=xml", "check,x", "check,ignorestatus=maybe"] {
            assert!(Call::parse(text).is_err(), "{text}");
        }
        let error = Call::parse("target").unwrap_err();
        assert!(error.hints.iter().any(|hint| hint.contains("`targets`")), "{error:?}");
    }

    #[test]
    fn excerpts_show_the_lines_around() {
        let source = Source { file: "Dockerfile", text: "FROM a\nRUN x\nCMD b \\\n  c\nUSER d\n" };
        let mut out = String::new();
        source.excerpt(Span::new(7, 12), &mut out);
        source.excerpt(Span::new(13, 24), &mut out);
        insta::assert_snapshot!(out, @r"
        Dockerfile:2
        --------------------
           1 |     FROM a
           2 | >>> RUN x
           3 |     CMD b \
           4 |       c
        --------------------
        Dockerfile:3
        --------------------
           2 |     RUN x
           3 | >>> CMD b \
           4 | >>>   c
           5 |     USER d
        --------------------
        ");
    }
}
