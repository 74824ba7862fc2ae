//! `serve`.

use crate::operations::{self, Error, Kind};

use super::Context;
use super::args::ServeArgs;
use super::build::interrupted;
use super::output::print;

/// Serves the store until interrupted.
pub(super) async fn serve(context: &Context, args: ServeArgs) -> Result<(), Error> {
    let name = args.name.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid `--name`").because(error)
    })?;
    let ready = |address: std::net::SocketAddr| {
        // On standard output, so that a script that asked for port 0 can read it.
        let _ = print(&format!("listening on {address}"));
    };
    let session = &context.session;
    operations::serve(session, &args.listen, name, args.read_only, ready, interrupted()).await
}
