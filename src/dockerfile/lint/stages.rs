//! Rules about stages and what they hold.

use std::collections::BTreeMap;

use crate::dockerfile::ast::{Command, Dockerfile, Instruction, InstructionKind, Stage};
use crate::dockerfile::lint::{Rule, Warning};
use crate::dockerfile::names::find_base;
use crate::dockerfile::source::Span;

pub(crate) fn check(file: &Dockerfile, warnings: &mut Vec<Warning>) {
    // Facts that a stage takes over from the stage it is based on.
    let mut inherited: Vec<Inherited> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        name(&file.stages[..index], stage, warnings);
        let base = find_base(&file.stages[..index], &stage.base.text);
        let mut state = base.map(|base| inherited[base]).unwrap_or_default();
        for instruction in &stage.instructions {
            check_instruction(instruction, &mut state, warnings);
        }
        repeated(stage, warnings);
        inherited.push(state);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Inherited {
    has_shell: bool,
    has_workdir: bool,
}

fn name(before: &[Stage], stage: &Stage, warnings: &mut Vec<Warning>) {
    let (Some(name), Some(span)) = (&stage.name, stage.name_span) else {
        return;
    };
    if matches!(name.as_str(), "scratch" | "context") {
        let message =
            format!("Stage name should not use the same name as reserved stage \"{name}\"");
        warnings.push(Warning { rule: Rule::ReservedStageName, message, span });
    }
    if before.iter().any(|stage| stage.name.as_ref() == Some(name)) {
        let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
        warnings.push(Warning { rule: Rule::DuplicateStageName, message, span });
    }
}

fn check_instruction(
    instruction: &Instruction,
    state: &mut Inherited,
    warnings: &mut Vec<Warning>,
) {
    match &instruction.kind {
        InstructionKind::Shell(_) => state.has_shell = true,
        InstructionKind::Maintainer(_) => warnings.push(Warning {
            rule: Rule::MaintainerDeprecated,
            message: "Maintainer instruction is deprecated in favor of using label".to_owned(),
            span: instruction.span,
        }),
        InstructionKind::Cmd(Command::Shell(_))
        | InstructionKind::Entrypoint(Command::Shell(_))
            if !state.has_shell =>
        {
            warnings.push(Warning {
                rule: Rule::JSONArgsRecommended,
                message: format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to \
                     OS signals",
                    instruction.name()
                ),
                span: instruction.span,
            });
        }
        InstructionKind::Workdir(path) => {
            // A path that starts with a variable may turn out absolute.
            let known = !path.text.trim_start_matches(['"', '\'']).starts_with(['/', '$']);
            if known && !state.has_workdir {
                warnings.push(Warning {
                    rule: Rule::WorkdirRelativePath,
                    message: format!(
                        "Relative workdir {:?} can have unexpected results if the base image \
                         changes",
                        path.text
                    ),
                    span: path.span,
                });
            }
            state.has_workdir = true;
        }
        _ => {}
    }
}

/// Of some instructions only the last in a stage counts: all before it are told.
fn repeated(stage: &Stage, warnings: &mut Vec<Warning>) {
    let mut last: BTreeMap<&str, Span> = BTreeMap::new();
    for instruction in &stage.instructions {
        let name = instruction.name();
        if !matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
            continue;
        }
        if let Some(span) = last.insert(name, instruction.span) {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only \
                 the last one will be used"
            );
            let rule = Rule::MultipleInstructionsDisallowed;
            warnings.push(Warning { rule, message, span });
        }
    }
}
