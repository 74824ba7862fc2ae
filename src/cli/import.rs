//! `import`.

use std::path::Path;

use crate::operations::{self, Error, ImportRequest, ImportSource};

use super::args::ImportArgs;
use super::build::reference;
use super::output::print;
use super::{Context, settings};

/// Makes an image of a root file system.
pub(super) async fn import(context: &Context, args: ImportArgs) -> Result<(), Error> {
    let source = if args.source == Path::new("-") {
        ImportSource::Stdin
    } else {
        ImportSource::Path(args.source)
    };
    let request = ImportRequest {
        source,
        name: args.name.as_deref().map(reference).transpose()?,
        changes: args.change,
        message: args.message,
        platform: settings::platform(args.platform.as_deref())?,
    };
    let report = operations::import(&context.session, request).await?;
    print(&report.config.digest.to_string())
}
