//! `SOURCE_DATE_EPOCH`: the date that a build pretends to have.

use crate::dockerfile::{self, Dockerfile, expand_word};
use crate::operations::build::request::BuildRequest;
use crate::operations::{Error, Kind};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// Returns the date in seconds since 1970: that of the build argument, which the environment gives
/// too, else that of a global `ARG` of the Dockerfile. An empty one counts as none.
///
/// # Errors
///
/// When it is no number that a date can be made of.
pub(in crate::operations::build) fn epoch(
    request: &BuildRequest,
    dockerfile: &str,
) -> Result<Option<i64>, Error> {
    let given = request.build_args.get(NAME).cloned();
    let text = given.or_else(|| {
        // The text was parsed before, so this cannot fail.
        let dockerfile = dockerfile::parse(dockerfile).ok()?;
        default_value(&dockerfile, request)
    });
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    let is_date = |seconds: &i64| jiff::Timestamp::from_second(*seconds).is_ok();
    seconds.filter(is_date).map(Some).ok_or_else(|| {
        Error::new(Kind::Settings, format!("invalid {NAME}: `{text}`")).hint(
            "give the seconds since 1970, as `date +%s` or `git log -1 --format=%ct` print them",
        )
    })
}

fn default_value(dockerfile: &Dockerfile, request: &BuildRequest) -> Option<String> {
    let arg = dockerfile.global_args.iter().rev().find(|arg| arg.name.text == NAME)?;
    let lookup = |name: &str| request.build_args.get(name).cloned();
    expand_word(&arg.default.as_ref()?.text, dockerfile.escape, &lookup).ok()
}
