//! `login` and `logout`.

use std::io::{IsTerminal, Read, Write};

use crate::image::RegistryName;
use crate::operations::{self, Error, Kind, Saved, Secret, Verify};

use super::Context;
use super::args::{LoginArgs, LogoutArgs};
use super::output::print;

/// Logs in.
pub(super) async fn login(context: &Context, args: LoginArgs) -> Result<(), Error> {
    let registry = registry(&args.registry)?;
    let username = match &args.username {
        Some(username) => username.clone(),
        None => ask_username()?,
    };
    let password = password(context, &args)?;
    let verify = if args.no_verify { Verify::No } else { Verify::Yes };
    let saved =
        operations::login(&context.session, registry.clone(), username, password, verify).await?;
    context.session.note(match saved {
        Saved::File(path) => format!("saved unencrypted in {}", path.display()),
        Saved::Helper(name) => format!("saved with the credential helper {name}"),
    });
    print("Login Succeeded")
}

/// Logs out.
pub(super) async fn logout(context: &Context, args: LogoutArgs) -> Result<(), Error> {
    if args.all {
        let keys = operations::logout_all(&context.session).await?;
        if keys.is_empty() {
            return print("Not logged in to any registry");
        }
        return keys
            .iter()
            .try_for_each(|key| print(&format!("Removed login credentials for {key}")));
    }
    let registry = registry(&args.registry)?;
    if operations::logout(&context.session, registry.clone()).await? {
        print(&format!("Removed login credentials for {registry}"))
    } else {
        print(&format!("Not logged in to {registry}"))
    }
}

/// Parses a registry as people write it: a scheme or a path is left away.
pub(super) fn registry(text: &str) -> Result<RegistryName, Error> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = host.unwrap_or(text).split('/').next().unwrap_or(text);
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        crate::image::DEFAULT_REGISTRY
    } else {
        host
    };
    host.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid registry").because(error)
    })
}

fn ask_username() -> Result<String, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Settings, "no user name").hint("give it with `--username`"));
    }
    let failed = |error| Error::new(Kind::Internal, "failed to ask for the name").because(error);
    anstream::eprint!("Username: ");
    std::io::stderr().flush().map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}

fn password(context: &Context, args: &LoginArgs) -> Result<Secret, Error> {
    let text = if let Some(password) = &args.password {
        context.session.warn(
            "a password on the command line is seen by other users of this machine and kept in \
             the shell's history; use --password-stdin",
        );
        password.clone()
    } else if args.password_stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| {
            Error::new(Kind::User, "failed to read the password from standard input").because(error)
        })?;
        text.trim_end_matches(['\n', '\r']).to_owned()
    } else if std::io::stdin().is_terminal() {
        rpassword::prompt_password("Password: ").map_err(|error| {
            Error::new(Kind::Internal, "failed to ask for the password").because(error)
        })?
    } else {
        return Err(
            Error::new(Kind::Settings, "no password").hint("give it with `--password-stdin`")
        );
    };
    if text.is_empty() {
        return Err(Error::new(Kind::Settings, "the password is empty"));
    }
    Ok(Secret::new(text))
}
