//! `login` and `logout`.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::image::RegistryName;
use crate::operations::{
    self, Error, Keyring, Kind, Login, LoginPlace, LoginReport, Saved, Secret, Verify,
};

use super::args::{FormatArgs, LoginArgs, LogoutArgs, WhoamiArgs};
use super::output::print;
use super::{Context, auth};

/// Most that a password can have; tokens of clouds have some thousand bytes.
const MAX_PASSWORD_BYTES: usize = 64 << 10;

/// Logs in.
pub(super) async fn login(context: &Context, args: LoginArgs) -> Result<(), Error> {
    let registry = registry(&args.registry)?;
    if args.get_login {
        let format = FormatArgs { format: None };
        return auth::whoami(context, WhoamiArgs { registry: args.registry, format }).await;
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => ask_username()?,
    };
    if username.contains(':') {
        return Err(Error::new(Kind::Settings, "a user name cannot have a colon"));
    }
    let secret = password(context, &args)?;
    let verify = if args.no_verify { Verify::No } else { Verify::Yes };
    let login = Login { registry: registry.clone(), username, secret, in_keyring: args.keyring };
    let place = place(args.compat_auth_file);
    let report = operations::login(&context.session, login, place, verify).await?;
    for error in &report.passed_over {
        context.session.warn(reason_of(error));
    }
    context.session.note(match report.done {
        Saved::File(path) => format!("saved unencrypted in {}", path.display()),
        Saved::Helper(name) => format!("saved with the credential helper {name}"),
        Saved::Keyring(Keyring::Desktop) => "saved in the desktop's keyring".to_owned(),
        Saved::Keyring(Keyring::Kernel) => "saved in the kernel's keyring, until the machine \
            restarts or it is not used for some days"
            .to_owned(),
    });
    if let Some(other) = report.other {
        context.session.warn(format!("another credential for `{registry}` comes first: {other}"));
    }
    print("Login Succeeded")
}

/// Logs out.
pub(super) async fn logout(context: &Context, args: LogoutArgs) -> Result<(), Error> {
    let place = place(args.compat_auth_file);
    if args.all {
        let report = operations::logout_all(&context.session, place).await?;
        warn_of_keyrings(context, &report);
        if report.done.is_empty() {
            return print("Not logged in to any registry");
        }
        let lines = report.done.iter().map(|key| format!("Removed login credentials for {key}"));
        return print(&lines.collect::<Vec<_>>().join("\n"));
    }
    let registry = registry(&args.registry)?;
    let report = operations::logout(&context.session, registry.clone(), place).await?;
    warn_of_keyrings(context, &report);
    if let Some(other) = &report.other {
        context.session.warn(format!("there still is a credential for `{registry}`: {other}"));
    }
    if report.done.is_empty() {
        print(&format!("Not logged in to {registry}"))
    } else {
        print(&format!("Removed login credentials for {registry}"))
    }
}

fn place(compat_file: Option<PathBuf>) -> LoginPlace {
    compat_file.map_or(LoginPlace::Usual, LoginPlace::DockerFile)
}

fn warn_of_keyrings<T>(context: &Context, report: &LoginReport<T>) {
    for error in &report.passed_over {
        let reason = reason_of(error);
        context.session.warn(format!("a keyring may still have the login: {reason}"));
    }
}

/// Returns what an error says, with its cause.
fn reason_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
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
    let secret = if let Some(password) = &args.password {
        context.session.warn(
            "a password on the command line is seen by other users of this machine and kept in \
             the shell's history; use --password-stdin",
        );
        password.clone()
    } else if args.password_stdin {
        read_password(std::io::stdin().lock())?
    } else if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("Password: ").map_err(|error| {
            Error::new(Kind::Internal, "failed to ask for the password").because(error)
        })?;
        Secret::new(typed)
    } else {
        return Err(
            Error::new(Kind::Settings, "no password").hint("give it with `--password-stdin`")
        );
    };
    if secret.expose().is_empty() {
        return Err(Error::new(Kind::Settings, "the password is empty"));
    }
    Ok(secret)
}

/// Reads a password; the line's end that `echo` and files have is not part of it.
fn read_password(input: impl Read) -> Result<Secret, Error> {
    let failed = |error| {
        let message = "failed to read the password from standard input";
        Error::new(Kind::User, message).because(error)
    };
    // As large as it may get: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_PASSWORD_BYTES + 1));
    input.take(MAX_PASSWORD_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_PASSWORD_BYTES {
        return Err(Error::new(Kind::User, "the password is longer than 64 KiB"));
    }
    Ok(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}
