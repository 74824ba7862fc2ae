//! `serve`.

use crate::operations::{self, Error, Kind, Pushes, ServeRequest};

use super::Context;
use super::args::ServeArgs;
use super::build::interrupted;
use super::output::print;

/// Serves images until interrupted.
pub(super) async fn serve(context: &Context, args: ServeArgs) -> Result<(), Error> {
    let name = args.name.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid `--name`").because(error)
    })?;
    let ready = |address: std::net::SocketAddr| {
        // On standard output, so that a script that asked for port 0 can read it.
        let _ = print(&format!("listening on {address}"));
    };
    let pushes = if args.read_only { Pushes::Refused } else { Pushes::Taken };
    let request = ServeRequest { listen: args.listen, name, pushes };
    operations::serve(&context.session, request, ready, interrupted()).await
}
