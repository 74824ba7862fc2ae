//! `tag` with its family, and `repo`: names in a registry.

use serde_json::{Value, json};

use crate::image::Reference;
use crate::operations::{self, Error, Kind, ListRequest, TagOrder, UntaggedBy};

use super::args::{
    FormatArgs, NameFilterArgs, RepoLsArgs, SortOrder, TagCommand, TagFamily, TagLsArgs, TagRmArgs,
};
use super::build::interrupted;
use super::login::registry;
use super::output::{Format, from_template, print};
use super::{Context, images};

/// `tag` and what is below it.
pub(super) async fn tag(context: &Context, family: TagFamily) -> Result<(), Error> {
    match (family.command, family.args) {
        (Some(TagCommand::Ls(args)), _) => tags(context, args).await,
        (Some(TagCommand::Rm(args)), _) => remove_tags(context, args).await,
        (None, Some(args)) => {
            let word = args.source.clone();
            let is_command = matches!(word.as_str(), "ls" | "list" | "rm" | "remove");
            images::tag(context, args).await.map_err(|error| {
                let hint = format!("flags of `rpub tag {word}` come after `{word}`");
                if is_command { error.hint(hint) } else { error }
            })
        }
        // The parser wants one or the other.
        (None, None) => Err(Error::new(Kind::Settings, "nothing to tag")),
    }
}

/// Lists the tags of a repository, one a line.
async fn tags(context: &Context, args: TagLsArgs) -> Result<(), Error> {
    let name = repository(&args.repository)?;
    let repository = name.repository;
    let order = args.sort.map(|sort| match sort {
        SortOrder::Name => TagOrder::Name,
        SortOrder::Semver => TagOrder::Version,
    });
    let request = ListRequest { order, ..request(args.filter) };
    let shown = repository.familiar();
    let each = |tag: &str| {
        let row = json!({"repository": shown, "tag": tag, "name": format!("{shown}:{tag}")});
        print_name(&args.format, tag, &row)
    };
    tokio::select! {
        listed = operations::list_tags(&context.session, &repository, &request, each) => listed,
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

/// Lists the repositories of a registry, one a line.
pub(super) async fn repositories(context: &Context, args: RepoLsArgs) -> Result<(), Error> {
    let registry = registry(&args.registry)?;
    let request = request(args.filter);
    let each = |repository: &str| {
        let name = format!("{registry}/{repository}");
        let row = json!({"registry": registry, "repository": repository, "name": name});
        print_name(&args.format, repository, &row)
    };
    tokio::select! {
        listed = operations::list_repositories(&context.session, &registry, &request, each) => {
            listed
        }
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

fn request(filter: NameFilterArgs) -> ListRequest {
    let NameFilterArgs { include, exclude, last, limit } = filter;
    ListRequest { include, exclude, last, limit, order: None }
}

/// Prints a name as soon as it has come. A registry may send anything: what a terminal would obey is
/// left out.
fn print_name(format: &FormatArgs, name: &str, row: &Value) -> Result<(), Error> {
    match format.format() {
        Format::Table => print(&name.replace(char::is_control, "")),
        Format::Json => print(&row.to_string()),
        Format::Template(template) => print(&from_template(&template, row)?),
    }
}

/// Parses a name as it is given: one without tag and digest stays one.
pub(super) fn name(text: &str) -> Result<Reference, Error> {
    text.parse().map_err(|error: crate::image::Error| {
        let lower = text.to_lowercase();
        let is_well_in_lower_case = lower != text && lower.parse::<Reference>().is_ok();
        let error = Error::new(Kind::Settings, error.to_string());
        if is_well_in_lower_case { error.hint(format!("write `{lower}`")) } else { error }
    })
}

/// Parses a repository: a name without tag and digest.
fn repository(text: &str) -> Result<Reference, Error> {
    let name = name(text)?;
    if name.tag.is_some() || name.digest.is_some() {
        let message = format!("`{text}` is more than a repository");
        let hint = format!("give `{}`", name.repository.familiar());
        return Err(Error::new(Kind::Settings, message).hint(hint));
    }
    Ok(name)
}

/// Removes tags from their registries; goes on after a failure, and says each.
async fn remove_tags(context: &Context, args: TagRmArgs) -> Result<(), Error> {
    let names = args.tags.iter().map(|text| {
        let name = name(text)?;
        match (&name.tag, &name.digest) {
            (Some(_), None) => Ok(name),
            (_, Some(_)) => Err(Error::new(Kind::Settings, format!("`{text}` has a digest"))
                .hint(format!("remove a manifest with `rpub manifest rm {text}`"))),
            (None, None) => Err(Error::new(Kind::Settings, format!("`{text}` has no tag"))
                .hint(format!("name the tag, as in `{text}:latest`"))),
        }
    });
    let names: Vec<Reference> = names.collect::<Result<_, Error>>()?;
    // A tag is removed to its end, so that it does not stay on a stand-in.
    let stop = tokio::spawn(interrupted());
    each_of(&names, "tags were not removed", async |name| {
        if stop.is_finished() {
            return Err(Error::new(Kind::Interrupted, "interrupted"));
        }
        let by = operations::remove_tag(&context.session, name, args.force).await?;
        if by == UntaggedBy::Digest {
            context.session.warn(format!(
                "the registry deletes only whole images: that of `{}` is gone",
                name.familiar()
            ));
        }
        let (how, name) = (word(by), name.familiar());
        args.format.print(&format!("Untagged: {name}"), &json!({"name": name, "deleted": how}))
    })
    .await
}

/// What had to be deleted for a tag to go.
fn word(by: UntaggedBy) -> &'static str {
    match by {
        UntaggedBy::Tag => "tag",
        UntaggedBy::StandIn => "stand-in",
        UntaggedBy::Digest => "image",
    }
}

/// Does `work` for each item; goes on after a failure, and says each. A single one's failure is the
/// command's, and an interruption ends it.
pub(super) async fn each_of<T>(
    items: &[T],
    what_failed: &str,
    work: impl AsyncFn(&T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut failed = 0;
    for item in items {
        match work(item).await {
            Ok(()) => {}
            Err(error) if items.len() == 1 || error.kind == Kind::Interrupted => return Err(error),
            Err(error) => {
                failed += 1;
                anstream::eprint!("{}", super::render::error(&error));
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => {
            let message = format!("{failed} of {} {what_failed}", items.len());
            Err(Error::new(Kind::Partial, message))
        }
    }
}
