//! `whoami` and `auth`.

use serde_json::{Value, json};

use crate::operations::{self, Access, Attempt, Error, Kind, Outcome};

use super::Context;
use super::args::{AuthExplainArgs, AuthTokenArgs, WhoamiArgs};
use super::build::reference;
use super::login::registry;
use super::output::{Format, from_template, print, print_bytes};
use super::render::Table;

/// Prints the user, or says that there is none.
pub(super) async fn whoami(context: &Context, args: WhoamiArgs) -> Result<(), Error> {
    let registry = registry(&args.registry)?;
    let Some(attempt) = operations::whoami(&context.session, registry.clone()).await? else {
        let message = format!("not logged in to `{registry}`");
        let hint = format!("run `rpub login {registry}`");
        return Err(Error::new(Kind::Denied, message).hint(hint));
    };
    match args.format.format() {
        Format::Table => print(match &attempt.outcome {
            Outcome::Password(user) => user,
            _ => "<token>",
        }),
        Format::Json => print(&shown(&attempt).to_string()),
        Format::Template(template) => print(&from_template(&template, &shown(&attempt))?),
    }
}

/// Prints every place that is asked for a credential, in order.
pub(super) async fn explain(context: &Context, args: AuthExplainArgs) -> Result<(), Error> {
    let repository = reference(&args.image)?.repository;
    let access = if args.push { Access::Push } else { Access::Pull };
    let attempts =
        operations::explain_credential(&context.session, repository.clone(), access).await?;
    match args.format.format() {
        Format::Table => {
            let mut table = Table::new(&["PLACE", "KEY", "ANSWER"]);
            for Attempt { place, outcome } in &attempts {
                let (place, key) = place.parts();
                table.row(vec![place, key.unwrap_or_default().to_owned(), said(outcome)]);
            }
            print_bytes(table.render().as_bytes())?;
            let is_found = attempts.last().is_some_and(|attempt| attempt.outcome.is_found());
            if !is_found {
                print(&format!("`{}` is asked without credentials", repository.familiar()))?;
            }
        }
        Format::Json => {
            print(&Value::Array(attempts.iter().map(shown).collect()).to_string())?;
        }
        Format::Template(template) => {
            let rows = attempts.iter().map(shown);
            rows.into_iter().try_for_each(|row| print(&from_template(&template, &row)?))?;
        }
    }
    match attempts.into_iter().next_back() {
        Some(Attempt { place, outcome: Outcome::Failed(error) }) => {
            Err(Error::from(error).about(format!("failed to ask {place}")))
        }
        _ => Ok(()),
    }
}

/// Prints a token, or the header that carries what the registry wants to see.
pub(super) async fn token(context: &Context, args: AuthTokenArgs) -> Result<(), Error> {
    let repository = reference(&args.image)?.repository;
    let access = if args.push { Access::Push } else { Access::Pull };
    let found = operations::authorization(&context.session, &repository, access).await?;
    let Some(found) = found else {
        let message = format!("the registry `{}` asks for no token", repository.registry);
        return Err(Error::new(Kind::NotFound, message));
    };
    if args.header {
        return print(&format!("Authorization: {}", found.expose()));
    }
    let Some(token) = found.expose().strip_prefix("Bearer ") else {
        let message = format!("the registry `{}` asks for user and password", repository.registry);
        return Err(Error::new(Kind::NotFound, message).hint("print the header with `-H`"));
    };
    print(token)
}

fn said(outcome: &Outcome) -> String {
    if outcome.is_found() { format!("{outcome} (used)") } else { outcome.to_string() }
}

fn shown(attempt: &Attempt) -> Value {
    let (place, key) = attempt.place.parts();
    let user = match &attempt.outcome {
        Outcome::Password(user) => Some(user),
        _ => None,
    };
    json!({
        "Place": place,
        "Key": key,
        "Answer": attempt.outcome.to_string(),
        "Used": attempt.outcome.is_found(),
        "Username": user,
    })
}
