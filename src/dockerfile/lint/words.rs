//! Rules about how instructions are written.

use crate::dockerfile::ast::{Dockerfile, Stage};
use crate::dockerfile::lint::{Note, Remark, Rule, Warning};
use crate::dockerfile::source::{Span, Word};

pub(super) fn check(file: &Dockerfile, notes: &[Note]) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for note in notes {
        let mut remark = |rule, message: String, span| {
            let warning = Warning { rule, message, span, location: note.location };
            remarks.push(Remark { local: note.checks.clone(), warning });
        };
        if let Some(name) = note.stage_name.as_ref().filter(|name| !is_lower(&name.text)) {
            let message = format!("Stage name '{}' should be lowercase", name.text);
            remark(Rule::StageNameCasing, message, name.span);
        }
        if let Some((message, span)) = note.as_keyword.as_ref().and_then(|it| as_casing(note, it)) {
            remark(Rule::FromAsCasing, message, span);
        }
        if note.keyword.text.eq_ignore_ascii_case("maintainer") {
            let message = "Maintainer instruction is deprecated in favor of using label";
            remark(Rule::MaintainerDeprecated, message.to_owned(), note.location);
        }
        if let Some((message, span)) = description(note) {
            remark(Rule::InvalidDefinitionDescription, message, span);
        }
        if let Some(span) = note.empty_continuations.first() {
            let message = "Empty continuation line".to_owned();
            let rule = Rule::NoEmptyContinuation;
            // BuildKit names the line where the instruction ends.
            let warning = Warning { rule, message, span: *span, location: note.last_line };
            remarks.push(Remark { local: note.checks.clone(), warning });
        }
    }
    keyword_casing(notes, &mut remarks);
    for (index, stage) in file.stages.iter().enumerate() {
        stage_name(&file.stages[..index], stage, &mut remarks);
    }
    remarks
}

fn as_casing(note: &Note, keyword: &Word) -> Option<(String, Span)> {
    let (from, text) = (&note.keyword.text, &keyword.text);
    let differs = (is_lower(from) && !is_lower(text)) || (is_upper(from) && !is_upper(text));
    let message = format!("'{text}' and '{from}' keywords' casing do not match");
    differs.then_some((message, keyword.span))
}

/// The last comment above `FROM` and `ARG` begins with a name that they define.
fn description(note: &Note) -> Option<(String, Span)> {
    let comment = note.comments.last()?;
    let first = comment.text.split(' ').next()?;
    if note.defines.is_empty() || note.defines.iter().any(|name| name == first) {
        return None;
    }
    let name = if note.defines.len() > 1 { "<arg_key>" } else { &note.defines[0] };
    let keyword = note.keyword.text.to_uppercase();
    let message =
        format!("Comment for {keyword} should follow the format: `# {name} <description>`");
    Some((message, comment.span))
}

/// All keywords are to be written like most of them; global arguments do not count.
fn keyword_casing(notes: &[Note], remarks: &mut Vec<Remark>) {
    let notes = || notes.iter().filter(|note| !note.is_global);
    let lower = notes().filter(|note| is_lower(&note.keyword.text)).count();
    let upper = notes().filter(|note| is_upper(&note.keyword.text)).count();
    let (majority, fits): (_, fn(&str) -> bool) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for note in notes().filter(|note| !fits(&note.keyword.text)) {
        let rule = Rule::ConsistentInstructionCasing;
        let message = format!(
            "Command '{}' should match the case of the command majority ({majority})",
            note.keyword.text
        );
        let (span, location) = (note.keyword.span, note.location);
        let warning = Warning { rule, message, span, location };
        remarks.push(Remark { local: note.checks.clone(), warning });
    }
}

fn stage_name(before: &[Stage], stage: &Stage, remarks: &mut Vec<Remark>) {
    let (Some(name), Some(span)) = (&stage.name, stage.name_span) else {
        return;
    };
    let mut remark = |rule, message| {
        let warning = Warning { rule, message, span, location: stage.span };
        remarks.push(Remark { local: stage.checks.clone(), warning });
    };
    if matches!(name.as_str(), "scratch" | "context") {
        let message =
            format!("Stage name should not use the same name as reserved stage \"{name}\"");
        remark(Rule::ReservedStageName, message);
    }
    if before.iter().any(|stage| stage.name.as_ref() == Some(name)) {
        let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
        remark(Rule::DuplicateStageName, message);
    }
}

fn is_lower(text: &str) -> bool {
    !text.contains(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.contains(char::is_lowercase)
}
