//! `manifest diff`.

use serde_json::{Value, json};

use crate::operations::{self, Difference, Error, Inspected, WithConfigs};

use super::args::ManifestDiffArgs;
use super::edit::{image_source, interruptible};
use super::output::{Format, from_template, print, print_bytes};
use super::render::unified;
use super::{Context, settings};

/// Shows in what two manifests differ, and their configs if asked.
pub(super) async fn diff(context: &Context, args: ManifestDiffArgs) -> Result<(), Error> {
    let configs = if args.config { WithConfigs::Yes } else { WithConfigs::No };
    let platform = settings::platform_given(args.platform.as_deref())?;
    let mut found = Vec::with_capacity(2);
    for name in [&args.before, &args.after] {
        let source = image_source(name, args.local)?;
        let read =
            operations::inspect_remote(&context.session, &source, platform.as_ref(), configs);
        found.push((source.to_string(), interruptible(Box::pin(read)).await?));
    }
    context.progress.finish();
    let [(first, before), (second, after)] = &found[..] else { return Ok(()) };
    let names = [first.as_str(), second.as_str()];
    match args.format.format() {
        Format::Table => print_bytes(text(names, before, after).as_bytes()),
        Format::Json => print(&value(names, before, after).to_string()),
        Format::Template(template) => {
            print(&from_template(&template, &value(names, before, after))?)
        }
    }
}

fn text(names: [&str; 2], before: &Inspected, after: &Inspected) -> String {
    let pretty = |value: &Value| format!("{value:#}\n");
    let mut out = unified(names, &pretty(&before.document), &pretty(&after.document));
    let of_configs = names.map(|name| format!("config of {name}"));
    let of_configs = [of_configs[0].as_str(), of_configs[1].as_str()];
    out.push_str(&unified(of_configs, &pretty(&before.configs), &pretty(&after.configs)));
    out
}

fn value(names: [&str; 2], before: &Inspected, after: &Inspected) -> Value {
    let all = |differences: Vec<Difference>| -> Vec<Value> {
        let one = |it: Difference| json!({"path": it.path, "before": it.before, "after": it.after});
        differences.into_iter().map(one).collect()
    };
    let side =
        |name: &str, found: &Inspected| json!({"name": name, "digest": found.manifest.digest});
    let mut value = json!({
        "before": side(names[0], before),
        "after": side(names[1], after),
        "same": before.manifest.digest == after.manifest.digest,
        "manifest": all(operations::differences(&before.document, &after.document)),
    });
    if !before.configs.is_null() || !after.configs.is_null() {
        value["config"] = all(operations::differences(&before.configs, &after.configs)).into();
    }
    value
}
