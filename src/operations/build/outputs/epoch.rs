//! `SOURCE_DATE_EPOCH`: the date that a build pretends to have (BuildKit,
//! `dockerfile2llb/epoch.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dockerfile::{self, Dockerfile, expand_word};
use crate::operations::build::contexts::MainContext;
use crate::operations::build::online::Online;
use crate::operations::build::request::BuildRequest;
use crate::operations::build::sources::Sources;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind};

use super::dated::{Dated, of_context, of_stage};

pub(super) const NAME: &str = "SOURCE_DATE_EPOCH";

/// Returns the date in seconds since 1970: that of the build argument, which the environment gives
/// too, else that of a global `ARG` of the Dockerfile. An empty one counts as none. One that is no
/// number names what has the date: `context`, a named context or a stage; then the build argument
/// of `request` becomes the number.
///
/// # Errors
///
/// When it is no number that a date can be made of, and names nothing that has a date.
pub(in crate::operations::build) async fn epoch(
    request: &mut BuildRequest,
    context: &MainContext,
    sources: &Sources,
    online: &Arc<Online>,
) -> Result<Option<i64>, Error> {
    // What is wrong with the text, planning says.
    let Ok(dockerfile) = dockerfile::parse(&sources.text) else { return Ok(None) };
    let given = request.build_args.get(NAME).cloned();
    let text = given.or_else(|| default_value(&dockerfile, request));
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if let Ok(seconds) = text.parse::<i64>() {
        return if is_date(seconds) { Ok(Some(seconds)) } else { Err(invalid(&text)) };
    }
    let dated = named(&text, request, context, &dockerfile, sources)?;
    let date = {
        let online = Arc::clone(online);
        blocking(move || dated.date(&online)).await
    };
    let about = |error: Error| error.about(format!("failed to get the date of `{text}` ({NAME})"));
    let date = date.map_err(about)?.filter(|seconds| is_date(*seconds));
    match date {
        Some(seconds) => {
            request.build_args.insert(NAME.to_owned(), seconds.to_string());
        }
        None => online.session.warn(format!("{NAME}: `{text}` has no date, so there is none")),
    }
    Ok(date)
}

/// Returns what the name means: first `context`, then a named context, then a stage.
fn named(
    text: &str,
    request: &BuildRequest,
    context: &MainContext,
    dockerfile: &Dockerfile,
    sources: &Sources,
) -> Result<Dated, Error> {
    if text == "context" {
        return of_context(text, &request.context, Some(context));
    }
    let key = crate::build::context_key(text).ok();
    if let Some(location) = key.and_then(|key| request.named_context(&key)) {
        return of_context(text, location, None);
    }
    let is_meant = |name: &str| name.eq_ignore_ascii_case(text);
    let mut stages = dockerfile.stages.iter();
    match stages.find(|stage| stage.name.as_ref().is_some_and(|name| is_meant(name.as_str()))) {
        Some(stage) => of_stage(stage, dockerfile, &request.build_args, sources),
        None => Err(invalid(text)),
    }
}

fn is_date(seconds: i64) -> bool {
    seconds >= 0 && jiff::Timestamp::from_second(seconds).is_ok()
}

fn invalid(text: &str) -> Error {
    Error::new(Kind::Settings, format!("invalid {NAME}: `{text}`")).hint(
        "give the seconds since 1970, as `date +%s` or `git log -1 --format=%ct` print them, \
         `context`, or the name of a build context or a stage",
    )
}

fn default_value(dockerfile: &Dockerfile, request: &BuildRequest) -> Option<String> {
    let arg = dockerfile.global_args.iter().rev().find(|arg| arg.name.text == NAME)?;
    let mut values = BTreeMap::new();
    super::dated::declare(&dockerfile.global_args, dockerfile, &request.build_args, &mut values);
    let lookup = |name: &str| values.get(name).cloned();
    expand_word(&arg.default.as_ref()?.text, dockerfile.escape, &lookup).ok()
}
