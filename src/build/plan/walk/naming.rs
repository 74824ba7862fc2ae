//! How steps are called: `[linux/amd64 build 2/5] RUN make`, as BuildKit calls them.

use crate::build::plan::outline::{Outline, StageBase};
use crate::build::plan::stage::State;
use crate::build::plan::{Stage, Step};
use crate::event::StepId;
use crate::image::Platform;

/// Makes stages of what was walked, and gives their steps numbers and names.
///
/// The `FROM` of an image counts as the first step of its stage. The stage's name is left out when
/// nothing else is there.
pub(super) fn name_stages(outline: &Outline<'_>, states: Vec<State>) -> Vec<Stage> {
    let options = outline.options;
    let takes_images = outline.needed.values().filter(|needed| has_from_step(needed.start)).count();
    let is_alone = outline.dockerfile.stages.len() == 1 && outline.images().len() <= takes_images;
    let mut next = 0;
    let mut stages = Vec::with_capacity(states.len());
    for (state, (&number, needed)) in states.into_iter().zip(&outline.needed) {
        let name = outline.names.of(number);
        let shown = if is_alone { "" } else { name.as_str() };
        let first = usize::from(has_from_step(needed.start));
        let total = first + state.steps.iter().filter(|step| step.is_counted).count();
        let width = total.checked_ilog10().map_or(1, |zeros| zeros as usize + 1);
        let mut index = first;
        let mut steps = Vec::with_capacity(state.steps.len());
        for step in state.steps {
            next += 1;
            let (mut title, mut trigger) = (step.title, None);
            if step.is_counted {
                index += 1;
                let mut words = Vec::new();
                if options.names_platform {
                    words.push(platform(&state.platform, step.target.as_ref()));
                }
                words.extend(Some(shown.to_owned()).filter(|name| !name.is_empty()));
                words.push(format!("{index:width$}/{total}"));
                if step.is_trigger {
                    title.insert_str(0, "ONBUILD ");
                    trigger = Some(title.clone());
                }
                title = format!("[{}] {title}", words.join(" "));
            }
            steps.push(Step {
                id: StepId(next),
                name: title,
                span: step.span,
                trigger,
                work: step.work,
            });
        }
        let is_named = |given: &String| given.eq_ignore_ascii_case(&name);
        stages.push(Stage {
            uses_cache: !options.no_cache && !options.no_cache_stages.iter().any(is_named),
            name,
            base: state.base,
            steps,
            config: state.config,
            history: state.history,
            platform: state.platform,
        });
    }
    stages
}

fn has_from_step(start: StageBase) -> bool {
    matches!(start, StageBase::Image(_) | StageBase::Context(_))
}

/// Returns a step's platform, and what it compiles for when that is another (BuildKit,
/// `formatTargetPlatform`).
fn platform(own: &Platform, target: Option<&Platform>) -> String {
    match target {
        Some(target) if target.os != own.os => format!("{own}->{target}"),
        Some(target) if target.architecture != own.architecture => {
            let variant = target.variant.as_ref().map(|variant| format!("/{variant}"));
            format!("{own}->{}{}", target.architecture, variant.unwrap_or_default())
        }
        _ => own.to_string(),
    }
}
