//! Rules about how instructions are written.

use crate::dockerfile::lint::{Note, Rule, Warning};
use crate::dockerfile::source::Word;

pub(crate) fn check(notes: &[Note], warnings: &mut Vec<Warning>) {
    for note in notes {
        for span in &note.empty_continuations {
            warnings.push(Warning {
                rule: Rule::NoEmptyContinuation,
                message: "Empty continuation line".to_owned(),
                span: *span,
            });
        }
        if let Some(span) = note.legacy_pair {
            let name = note.keyword.text.to_uppercase();
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            warnings.push(Warning { rule: Rule::LegacyKeyValueFormat, message, span });
        }
        if let Some(name) = note.stage_name.as_ref().filter(|name| !is_lower(&name.text)) {
            let message = format!("Stage name '{}' should be lowercase", name.text);
            warnings.push(Warning { rule: Rule::StageNameCasing, message, span: name.span });
        }
        warnings.extend(note.as_keyword.as_ref().and_then(|it| as_casing(&note.keyword, it)));
    }
    keyword_casing(notes, warnings);
}

fn as_casing(from: &Word, keyword: &Word) -> Option<Warning> {
    let (from_text, text) = (&from.text, &keyword.text);
    let differs =
        (is_lower(from_text) && !is_lower(text)) || (is_upper(from_text) && !is_upper(text));
    let message = format!("'{text}' and '{from_text}' keywords' casing do not match");
    differs.then_some(Warning { rule: Rule::FromAsCasing, message, span: keyword.span })
}

/// All keywords are to be written like most of them.
fn keyword_casing(notes: &[Note], warnings: &mut Vec<Warning>) {
    let lower = notes.iter().filter(|note| is_lower(&note.keyword.text)).count();
    let upper = notes.iter().filter(|note| is_upper(&note.keyword.text)).count();
    let (majority, fits): (_, fn(&str) -> bool) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for Note { keyword, .. } in notes.iter().filter(|note| !fits(&note.keyword.text)) {
        warnings.push(Warning {
            rule: Rule::ConsistentInstructionCasing,
            message: format!(
                "Command '{}' should match the case of the command majority ({majority})",
                keyword.text
            ),
            span: keyword.span,
        });
    }
}

fn is_lower(text: &str) -> bool {
    !text.contains(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.contains(char::is_lowercase)
}
