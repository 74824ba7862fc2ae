//! The command line: flags in, text out. The only room that prints or reads the environment.
//!
//! One file a command turns its flags into an operation's request and the operation's answer into
//! text. `settings` joins flags, environment and files; `render` draws progress and errors.

mod args;
mod artifact;
mod auth;
mod blob;
mod build;
mod bundle;
mod call;
mod copy;
mod duration;
mod edit;
mod filter;
mod hosts;
mod images;
mod import;
mod index;
mod lock;
mod login;
mod manifest;
mod manifest_diff;
mod mirror;
mod mutate;
mod names;
mod output;
mod ping;
mod prune;
mod registry;
mod render;
mod save;
mod serve;
mod settings;
mod shell;
mod steps;
mod validate;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use crate::event::Sink;
use crate::operations::{self, Error, Kind, Session};

use args::{
    AuthCommand, BuilderCommand, Cli, Command, Global, ImageCommand, RepoCommand, SystemCommand,
};
use render::{Progress, ProgressMode};

/// What a command needs beside its flags.
struct Context {
    session: Session,
    progress: Arc<Progress>,
    quiet: bool,
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap's own text and exit code: 0 for help and version, 2 for a wrong command line.
        Err(error) => error.exit(),
    };
    settings::start_log();
    let mode = if cli.global.quiet { ProgressMode::Quiet } else { cli.global.progress };
    let progress = Progress::new(mode);
    match dispatch(cli, &progress) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress.finish();
            if error.kind != Kind::Reported {
                anstream::eprint!("{}", render::error(&error));
            }
            ExitCode::from(render::exit_code(error.kind))
        }
    }
}

fn dispatch(cli: Cli, progress: &Arc<Progress>) -> Result<(), Error> {
    match cli.command {
        Command::Version(args) => return output::version(&args),
        Command::Completion(args) => {
            let mut command = Cli::command();
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut command, "rpub", &mut script);
            return output::print_bytes(&script);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Internal, "failed to start").because(error))?;
    let result = runtime.block_on(run(cli.command, &cli.global, progress));
    // A blocked thread (a keyring that hangs, a pipe) must not keep a finished command alive.
    runtime.shutdown_background();
    progress.finish();
    result
}

async fn run(command: Command, global: &Global, progress: &Arc<Progress>) -> Result<(), Error> {
    let sink: Arc<dyn Sink> = progress.clone();
    let session = settings::session(global, sink)?;
    if command.builds() {
        operations::remove_abandoned_steps(&session).await?;
    }
    // Held until the end: what this command uses is not collected as garbage meanwhile. One that
    // collects would wait for itself; one that runs for days would make others wait.
    let in_use = if command.holds_store_itself() { None } else { Some(session.hold_store()?) };
    let builds = command.builds();
    let cache_size = global.cache_size.as_deref().map(prune::size).transpose()?;
    let context = Context { session, progress: Arc::clone(progress), quiet: global.quiet };
    perform(command, &context).await?;
    drop(in_use);
    if builds {
        operations::bound_cache(&context.session, cache_size).await?;
    }
    Ok(())
}

async fn perform(command: Command, context: &Context) -> Result<(), Error> {
    match command {
        Command::Build(args) => build::build(context, *args).await,
        Command::BuildPush(args) => build::build_push(context, *args).await,
        Command::Lock(args) => lock::lock(context, *args).await,
        Command::Fetch(args) => lock::fetch(context, *args).await,
        Command::Push(args) => registry::push(context, args).await,
        Command::Pull(args) => registry::pull(context, args).await,
        Command::Images(args) => images::list(context, args).await,
        Command::Tag(family) => names::tag(context, family).await,
        Command::Image(command) => image(command, context).await,
        Command::Rmi(args) => images::remove(context, args).await,
        Command::Inspect(args) => images::inspect(context, args).await,
        Command::History(args) => images::history(context, args).await,
        Command::Import(args) => import::import(context, args).await,
        Command::Bundle(command) => bundle::run(context, command).await,
        Command::Copy(args) => copy::copy(context, *args).await,
        Command::Mirror(family) => mirror::run(context, *family).await,
        Command::Save(args) => save::save(context, args).await,
        Command::Load(args) => save::load(context, args).await,
        Command::Index(command) => index::run(context, command).await,
        Command::Mutate(args) => mutate::mutate(context, *args).await,
        Command::Append(args) => mutate::append(context, args).await,
        Command::Flatten(args) => mutate::flatten(context, args).await,
        Command::Rebase(args) => mutate::rebase(context, args).await,
        Command::Validate(args) => validate::validate(context, args).await,
        Command::Df(args) | Command::System(SystemCommand::Df(args)) => {
            prune::df(context, args).await
        }
        Command::Prune(args)
        | Command::System(SystemCommand::Prune(args))
        | Command::Builder(BuilderCommand::Prune(args)) => prune::prune(context, args).await,
        Command::Login(args) => login::login(context, args).await,
        Command::Logout(args) => login::logout(context, args).await,
        Command::Whoami(args) => auth::whoami(context, args).await,
        Command::Auth(AuthCommand::Explain(args)) => auth::explain(context, args).await,
        Command::Auth(AuthCommand::Token(args)) => auth::token(context, args).await,
        Command::Digest(args) => manifest::digest(context, args).await,
        Command::Manifest(command) => manifest::manifest(context, command).await,
        Command::Blob(command) => blob::blob(context, command).await,
        Command::Repo(RepoCommand::Ls(args)) => names::repositories(context, args).await,
        Command::Referrers(args) => manifest::referrers(context, args).await,
        Command::Ping(args) => ping::ping(context, args).await,
        Command::Artifact(command) => artifact::artifact(context, command).await,
        Command::Serve(args) => serve::serve(context, args).await,
        // Answered in `dispatch`, before anything is opened.
        Command::Completion(_) | Command::Version(_) => Ok(()),
    }
}

/// The `image` family: docker's other spelling.
async fn image(command: ImageCommand, context: &Context) -> Result<(), Error> {
    match command {
        ImageCommand::Build(args) => build::build(context, *args).await,
        ImageCommand::Push(args) => registry::push(context, args).await,
        ImageCommand::Pull(args) => registry::pull(context, args).await,
        ImageCommand::Ls(args) => images::list(context, args).await,
        ImageCommand::Rm(args) => images::remove(context, args).await,
        ImageCommand::Inspect(args) => images::inspect(context, args).await,
        ImageCommand::History(args) => images::history(context, args).await,
        ImageCommand::Import(args) => import::import(context, args).await,
        ImageCommand::Tag(args) => images::tag(context, args).await,
        ImageCommand::Save(args) => save::save(context, args).await,
        ImageCommand::Load(args) => save::load(context, args).await,
    }
}
