//! `prune` and `df`.

use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use serde_json::json;

use crate::operations::{
    self, Amount, Error, Kind, PruneMode, PruneRequest, PruneScope, Pruned, Usage,
};

use super::args::{DfArgs, PruneArgs};
use super::output::{Format, print, print_bytes, print_template};
use super::render::{Table, age, bytes};
use super::{Context, duration};

/// Shows what the store takes on disk.
pub(super) async fn df(context: &Context, args: DfArgs) -> Result<(), Error> {
    let usage = operations::disk_usage(&context.session).await?;
    let rows = rows(&usage);
    match args.format.format() {
        Format::Json => rows.iter().try_for_each(|row| print(&row.to_string())),
        Format::Template(template) => print_template(&template, &rows, "TYPE"),
        Format::Table => {
            let mut table = Table::new(&["TYPE", "TOTAL", "SIZE"]);
            for row in &rows {
                let cell = |name: &str| {
                    row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned)
                };
                table.row(vec![cell("Type"), cell("TotalCount"), cell("Size")]);
            }
            print_bytes(table.render().as_bytes())
        }
    }
}

/// Returns the kinds as rows, the sum last.
fn rows(usage: &Usage) -> Vec<serde_json::Value> {
    let row = |name: &str, count: Option<usize>, size: u64| {
        let count = count.map_or_else(String::new, |count| count.to_string());
        json!({ "Type": name, "TotalCount": count, "Size": bytes(size), "Bytes": size })
    };
    let of = |name: &str, amount: Amount| row(name, Some(amount.count), amount.bytes);
    vec![
        of("Images", usage.images),
        of("Build Cache", usage.build_cache),
        of("Unpacked Layers", usage.snapshots),
        of("Cache Mounts", usage.cache_mounts),
        of("Downloads", usage.remote),
        row("Other", None, usage.other.bytes),
        row("Total", None, usage.total_bytes()),
    ]
}

/// Removes what only makes later builds faster.
pub(super) async fn prune(context: &Context, args: PruneArgs) -> Result<(), Error> {
    let request = request(&args)?;
    if !args.force && request.mode == PruneMode::Remove && !confirmed(&args)? {
        return Ok(());
    }
    let pruned = operations::prune(&context.session, request).await?;
    context.progress.finish();
    if context.quiet {
        return print(&bytes(pruned.bytes));
    }
    if !pruned.items.is_empty() {
        print_bytes(table(&pruned).as_bytes())?;
        print("")?;
    }
    let what = match request.mode {
        PruneMode::Remove => "Total reclaimed space",
        PruneMode::DryRun => "Total reclaimable space",
    };
    print(&format!("{what}: {}", bytes(pruned.bytes)))
}

fn table(pruned: &Pruned) -> String {
    let mut table = Table::new(&["ID", "TYPE", "SIZE", "LAST USED"]);
    for item in &pruned.items {
        let id = match item.id.strip_prefix("sha256:").unwrap_or(&item.id) {
            hex if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                hex[..12].to_owned()
            }
            other => other.to_owned(),
        };
        let unused = SystemTime::now().duration_since(item.last_used).unwrap_or_default();
        let unused = age(i64::try_from(unused.as_secs()).unwrap_or(i64::MAX));
        table.row(vec![id, item.kind.to_owned(), bytes(item.bytes), unused]);
    }
    table.render()
}

fn request(args: &PruneArgs) -> Result<PruneRequest, Error> {
    let keep = args.max_used_space.as_deref().map(size).transpose()?;
    let mut unused_for = None;
    for filter in &args.filters {
        let Some(("until" | "unused-for", text)) = filter.split_once('=') else {
            let error = Error::new(Kind::Settings, format!("invalid `--filter {filter}`"));
            return Err(error.hint("use `until=24h`"));
        };
        unused_for = Some(duration::parse(text).map_err(|hint| {
            Error::new(Kind::Settings, format!("invalid duration `{text}`")).hint(hint)
        })?);
    }
    Ok(PruneRequest {
        scope: if args.all { PruneScope::All } else { PruneScope::Unneeded },
        unused_for,
        keep_bytes: keep,
        mode: if args.dry_run { PruneMode::DryRun } else { PruneMode::Remove },
    })
}

/// Asks the user; without a terminal to ask at, `--force` is needed.
fn confirmed(args: &PruneArgs) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Settings, "nobody is there to confirm")
            .hint("add `--force`, or look first with `--dry-run`"));
    }
    let what = if args.all {
        "all build caches, unpacked layers, downloads, and images without a name"
    } else {
        "what no named image needs: build caches, unpacked layers, downloads, and images without \
         a name"
    };
    anstream::eprint!("This removes {what}.\nContinue? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Error::new(Kind::User, "failed to read the answer").because(error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Parses a size such as `512MB`, `10GiB` or `1g`; a number alone is bytes.
pub(super) fn size(text: &str) -> Result<u64, Error> {
    let invalid = || {
        Error::new(Kind::Settings, format!("invalid size `{text}`"))
            .hint("write a number with B, KB, MB, GB, TB, or KiB, MiB, GiB, TiB")
    };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 9 {
        return Err(invalid());
    }
    let whole: u64 = whole.parse().map_err(|_| invalid())?;
    let mut bytes = whole.checked_mul(factor).ok_or_else(invalid)?;
    if !part.is_empty() {
        let digits: u64 = part.parse().map_err(|_| invalid())?;
        let scale = 10_u64.pow(u32::try_from(part.len()).unwrap_or_default());
        let added = u128::from(digits) * u128::from(factor) / u128::from(scale);
        bytes = bytes.checked_add(u64::try_from(added).unwrap_or_default()).ok_or_else(invalid)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_both_kinds_of_units() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("1.5kb", 1500),
            ("10GB", 10_000_000_000),
            ("2GiB", 2 << 30),
            ("1g", 1_000_000_000),
        ] {
            assert_eq!(size(text).unwrap(), expected, "{text}");
        }
        for text in
            ["", "GB", "1x", "1.2.3", "-1", "99999999999999999999", "18446744073709551615GB"]
        {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
