//! `push` and `pull`.

use crate::operations;
use crate::operations::{Error, ForeignLayers};

use super::args::{PullArgs, PushArgs};
use super::build::{interrupted, reference, summary};
use super::output::print;
use super::{Context, settings};
use crate::operations::Kind;

/// Pushes images, one after another.
pub(super) async fn push(context: &Context, args: PushArgs) -> Result<(), Error> {
    let foreign = if args.include_external { ForeignLayers::Push } else { ForeignLayers::Skip };
    for image in &args.images {
        let name = reference(image)?;
        let report = tokio::select! {
            report = operations::push(&context.session, &name, foreign) => report?,
            () = interrupted() => return Err(Error::new(Kind::Interrupted, "interrupted")),
        };
        context.session.note(summary(&report.traffic));
        context.progress.finish();
        print(&format!("{}@{}", report.reference.familiar(), report.digest))?;
    }
    Ok(())
}

/// Pulls images, one after another.
pub(super) async fn pull(context: &Context, args: PullArgs) -> Result<(), Error> {
    let platform = settings::platform(args.platform.as_deref())?;
    for image in &args.images {
        let name = reference(image)?;
        let report = tokio::select! {
            report = operations::pull(&context.session, &name, &platform) => report?,
            () = interrupted() => return Err(Error::new(Kind::Interrupted, "interrupted")),
        };
        let (fetched, there) = (report.fetched, report.already_there);
        context.session.note(format!("pulled: {fetched} layers fetched, {there} already there"));
        context.progress.finish();
        print(&format!("{}@{}", report.reference.familiar(), report.digest))?;
    }
    Ok(())
}
