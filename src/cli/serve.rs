//! `serve`.

use crate::operations::{self, CacheRequest, Error, Kind, ServeRequest, TlsFiles, WhatToServe};

use super::Context;
use super::args::ServeArgs;
use super::build::interrupted;
use super::output::print;
use super::prune;

/// Serves images until interrupted.
pub(super) async fn serve(context: &Context, args: ServeArgs) -> Result<(), Error> {
    let name = args.name.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid `--name`").because(error)
    })?;
    let ready = |address: std::net::SocketAddr| {
        // On standard output, so that a script that asked for port 0 can read it.
        let _ = print(&format!("listening on {address}"));
    };
    let what = what(&args)?;
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        client_authorities: args.tls_client_ca,
    });
    let request = ServeRequest { listen: args.listen, name, what, tls };
    operations::serve(&context.session, request, ready, interrupted()).await
}

fn what(args: &ServeArgs) -> Result<WhatToServe, Error> {
    if let Some(path) = &args.source {
        return Ok(WhatToServe::Archive(path.clone()));
    }
    if args.proxy.is_empty() {
        return Ok(if args.read_only { WhatToServe::ReadOnlyStore } else { WhatToServe::Store });
    }
    let parse = |text: &String| {
        text.parse().map_err(|error: crate::image::Error| {
            Error::new(Kind::Settings, format!("invalid `--proxy {text}`")).because(error)
        })
    };
    Ok(WhatToServe::Cache(CacheRequest {
        registries: args.proxy.iter().map(parse).collect::<Result<_, _>>()?,
        revalidate: args.revalidate,
        max_bytes: args.max_size.as_deref().map(prune::size).transpose()?,
    }))
}
