//! Instructions that change the configuration, `WORKDIR` among them.

use crate::build::plan::format::{healthcheck, plain_list, quote_list};
use crate::build::plan::ports::{is_signal, ports};
use crate::build::plan::stage::{State, join};
use crate::build::plan::{Directory, Error, Work};
use crate::dockerfile::{Command, Healthcheck as Check, Instruction, Pair, Word};
use crate::image::{Empty, Healthcheck};

fn with_shell(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell(word) => {
            let mut args = state.shell();
            args.push(word.text.clone());
            args
        }
    }
}

pub(super) fn cmd(state: &mut State, command: &Command) {
    let args = with_shell(state, command);
    state.note(format!("CMD {}", quote_list(&args)));
    state.config.config.cmd = Some(args);
    state.config.config.args_escaped = Some(true);
    state.cmd_is_own = true;
}

pub(super) fn entrypoint(state: &mut State, command: &Command) {
    let args = with_shell(state, command);
    state.note(format!("ENTRYPOINT {}", quote_list(&args)));
    state.config.config.entrypoint = Some(args).filter(|args| !args.is_empty());
    if !state.cmd_is_own {
        state.config.config.cmd = None;
    }
}

/// Expands keys and values with the environment as it was before the instruction.
fn expand_pairs(state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>, Error> {
    pairs.iter().map(|pair| Ok((state.expand(&pair.key)?, state.expand(&pair.value)?))).collect()
}

fn show_pairs(name: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(name.to_owned(), |text, (key, value)| format!("{text} {key}={value}"))
}

pub(super) fn env(state: &mut State, pairs: &[Pair]) -> Result<(), Error> {
    let pairs = expand_pairs(state, pairs)?;
    for (key, value) in &pairs {
        state.set_env(key, value);
        state.set_config_env(key, value);
    }
    state.note(show_pairs("ENV", &pairs));
    Ok(())
}

pub(super) fn label(state: &mut State, pairs: &[Pair]) -> Result<(), Error> {
    let pairs = expand_pairs(state, pairs)?;
    state.note(show_pairs("LABEL", &pairs));
    state.config.config.labels.extend(pairs);
    Ok(())
}

/// `EXPOSE`: words count in the order of their texts, as BuildKit sorts them before it expands them.
pub(super) fn expose(state: &mut State, words: &[Word]) -> Result<(), Error> {
    let mut sorted: Vec<&Word> = words.iter().collect();
    sorted.sort_by(|a, b| a.text.cmp(&b.text));
    let mut named = Vec::new();
    for word in sorted {
        for text in state.expand_several(word)? {
            let ports = ports(&text).map_err(|message| Error::refused(message, word.span))?;
            named.extend(ports);
        }
    }
    state.note(format!("EXPOSE {}", plain_list(&named)));
    state.config.config.exposed_ports.extend(named.into_iter().map(|port| (port, Empty {})));
    Ok(())
}

pub(super) fn volume(state: &mut State, words: &[Word]) -> Result<(), Error> {
    let mut paths = Vec::new();
    for word in words {
        let path = state.expand(word)?;
        if path.is_empty() {
            return Err(Error::refused("VOLUME specified can not be an empty string", word.span));
        }
        paths.push(path);
    }
    state.note(format!("VOLUME {}", plain_list(&paths)));
    state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    Ok(())
}

pub(super) fn stop_signal(state: &mut State, word: &Word) -> Result<(), Error> {
    let signal = state.expand(word)?;
    if !is_signal(&signal) {
        return Err(Error::refused(format!("invalid signal: {signal}"), word.span));
    }
    state.note(format!("STOPSIGNAL {signal}"));
    state.config.config.stop_signal = Some(signal);
    Ok(())
}

pub(super) fn health(state: &mut State, check: &Check) {
    let nanoseconds =
        |time: &std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let check = match check {
        Check::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        Check::Test { command, interval, timeout, start_period, start_interval, retries } => {
            let mut test = Vec::new();
            match command {
                Command::Shell(word) => test.extend(["CMD-SHELL".to_owned(), word.text.clone()]),
                Command::Exec(args) => {
                    test.push("CMD".to_owned());
                    test.extend(args.iter().cloned());
                }
            }
            Healthcheck {
                test,
                interval: nanoseconds(interval),
                timeout: nanoseconds(timeout),
                start_period: nanoseconds(start_period),
                start_interval: nanoseconds(start_interval),
                retries: i64::from(*retries),
            }
        }
    };
    state.note(format!("HEALTHCHECK {}", healthcheck(&check)));
    state.config.config.healthcheck = Some(check);
}

/// `WORKDIR` makes a layer, unless it means the root, which is always there.
pub(super) fn workdir(
    state: &mut State,
    instruction: &Instruction,
    word: &Word,
) -> Result<(), Error> {
    let path = join(&state.working_directory(), &state.expand(word)?);
    state.config.config.working_dir.clone_from(&path);
    let created_by = format!("WORKDIR {path}");
    if path == "/" {
        state.note(created_by);
        return Ok(());
    }
    let user = state.config.config.user.clone();
    let work = Work::Directory(Directory { path, user });
    state.step(instruction.span, created_by.clone(), created_by, work);
    Ok(())
}
