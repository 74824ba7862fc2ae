//! The typed form of each instruction.

use crate::dockerfile::ast::{
    Add, ArgPair, Command, Copy, InstructionKind, Onbuild, Pair, Run, RunNetwork, RunSecurity,
    Source,
};
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::flags::{Flags, Takes};
use crate::dockerfile::lines::Slice;
use crate::dockerfile::lint::Note;
use crate::dockerfile::mount::Mount;
use crate::dockerfile::parser::Head;
use crate::dockerfile::source::Word;
use crate::dockerfile::{healthcheck, heredoc, json};

/// Reads an instruction other than `FROM`.
pub(crate) fn read(head: &Head<'_>, note: &mut Note) -> Result<InstructionKind, Error> {
    if !matches!(head.name.as_str(), "add" | "copy" | "healthcheck" | "run") {
        Flags::check(&head.flags, &[])?;
    }
    Ok(match head.name.as_str() {
        "add" => InstructionKind::Add(add(head)?),
        "arg" => InstructionKind::Arg(args(head, note)?),
        "cmd" => InstructionKind::Cmd(command(head.arguments)?),
        "copy" => InstructionKind::Copy(copy(head)?),
        "entrypoint" => InstructionKind::Entrypoint(command(head.arguments)?),
        "env" => InstructionKind::Env(pairs(head)?),
        "expose" => InstructionKind::Expose(some(head, words(head.arguments))?),
        "healthcheck" => InstructionKind::Healthcheck(healthcheck::read(head)?),
        "label" => InstructionKind::Label(pairs(head)?),
        "maintainer" => InstructionKind::Maintainer(one(head)?),
        "onbuild" => InstructionKind::Onbuild(onbuild(head)?),
        "run" => InstructionKind::Run(run(head)?),
        "shell" => InstructionKind::Shell(shell(head)?),
        "stopsignal" => InstructionKind::Stopsignal(one(head)?),
        "user" => InstructionKind::User(one(head)?),
        "volume" => InstructionKind::Volume(volume(head)?),
        _ => InstructionKind::Workdir(one(head)?),
    })
}

/// Reads a command: the JSON form, or else all of the text for the shell.
pub(crate) fn command(arguments: Slice<'_>) -> Result<Command, Error> {
    Ok(match json::strings(arguments)? {
        Some(words) => Command::Exec(words.into_iter().map(|word| word.text).collect()),
        None => Command::Shell(arguments.word()),
    })
}

fn words(arguments: Slice<'_>) -> Vec<Word> {
    arguments.split_blanks().iter().map(Slice::word).collect()
}

fn json_or_words(arguments: Slice<'_>) -> Result<Vec<Word>, Error> {
    Ok(json::strings(arguments)?.unwrap_or_else(|| words(arguments)))
}

fn some(head: &Head<'_>, words: Vec<Word>) -> Result<Vec<Word>, Error> {
    if words.is_empty() { Err(at_least_one(head)) } else { Ok(words) }
}

pub(crate) fn at_least_one(head: &Head<'_>) -> Error {
    head.fault(format!("{} requires at least one argument", head.capitals()))
}

fn one(head: &Head<'_>) -> Result<Word, Error> {
    if head.arguments.is_empty() {
        return Err(head.fault(format!("{} requires exactly one argument", head.capitals())));
    }
    Ok(head.arguments.word())
}

fn volume(head: &Head<'_>) -> Result<Vec<Word>, Error> {
    let volumes = some(head, json_or_words(head.arguments)?)?;
    if let Some(blank) = volumes.iter().find(|volume| volume.text.trim().is_empty()) {
        let message = "VOLUME specified can not be an empty string";
        return Err(Error::new(ErrorKind::BadArguments, message, blank.span));
    }
    Ok(volumes)
}

fn shell(head: &Head<'_>) -> Result<Vec<String>, Error> {
    match command(head.arguments)? {
        Command::Exec(arguments) if arguments.is_empty() => Err(at_least_one(head)),
        Command::Exec(arguments) => Ok(arguments),
        Command::Shell(text) if text.text.is_empty() => Err(at_least_one(head)),
        Command::Shell(_) => Err(head.fault("SHELL requires the arguments to be in JSON form")),
    }
}

/// Splits into words as `ENV`, `LABEL` and `ARG` do: at white space outside quotes; quotes and
/// escapes stay in the words, for expansion to remove.
fn quoted_words(arguments: Slice<'_>, escape: char) -> Vec<Slice<'_>> {
    let text = arguments.text();
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = text.len();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                words.extend(start.take().map(|start| arguments.part(start, at)));
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') && chars.next().is_none() {
            end = at;
        }
    }
    words.extend(start.filter(|start| *start < end).map(|start| arguments.part(start, end)));
    words
}

/// Splits `name=value`.
fn assignment(word: Slice<'_>) -> Option<(Slice<'_>, Slice<'_>)> {
    let at = word.text().find('=')?;
    Some((word.part(0, at), word.from(at + 1)))
}

fn blank_name(head: &Head<'_>, word: Slice<'_>) -> Error {
    let message = format!("{} names can not be blank", head.capitals());
    Error::new(ErrorKind::BadArguments, message, word.span())
}

fn args(head: &Head<'_>, note: &mut Note) -> Result<Vec<ArgPair>, Error> {
    let words = quoted_words(head.arguments, head.escape);
    if words.is_empty() {
        return Err(at_least_one(head));
    }
    let read = |word: Slice<'_>| match assignment(word) {
        Some((name, _)) if name.is_empty() => Err(blank_name(head, word)),
        Some((name, value)) => Ok((name.word(), Some(value.word()))),
        None => Ok((word.word(), None)),
    };
    let pairs = words.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    note.defines = pairs.iter().map(|(name, _)| name.text.clone()).collect();
    let pair = |(name, default): (Word, Option<Word>)| ArgPair {
        description: note.description(&name.text),
        instruction: head.whole.span(),
        name,
        default,
    };
    Ok(pairs.into_iter().map(pair).collect())
}

fn pairs(head: &Head<'_>) -> Result<Vec<Pair>, Error> {
    let words = quoted_words(head.arguments, head.escape);
    let Some(first) = words.first() else {
        return Err(at_least_one(head));
    };
    if !first.text().contains('=') {
        let (key, Some(value)) = head.arguments.split_once_blank() else {
            return Err(head.fault(format!("{} must have two arguments", head.capitals())));
        };
        return Ok(vec![Pair { key: key.word(), value: value.word(), is_legacy: true }]);
    }
    let read = |word: Slice<'_>| match assignment(word) {
        Some((key, _)) if key.is_empty() => Err(blank_name(head, word)),
        Some((key, value)) => Ok(Pair { key: key.word(), value: value.word(), is_legacy: false }),
        None => {
            let text = word.text();
            let message =
                format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value");
            Err(Error::new(ErrorKind::BadArguments, message, word.span()))
        }
    };
    words.into_iter().map(read).collect()
}

fn sources(head: &Head<'_>) -> Result<(Vec<Source>, Word), Error> {
    let mut words = json_or_words(head.arguments)?;
    let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
        head.fault(format!(
            "{} requires at least two arguments, but only one was provided. Destination could \
             not be determined",
            head.capitals()
        ))
    })?;
    if heredoc::Opening::parse(&destination.text).is_some() {
        let message = format!("{} cannot accept a heredoc as a destination", head.capitals());
        return Err(Error::new(ErrorKind::BadHeredoc, message, destination.span));
    }
    let source = |word: Word| {
        let opened = heredoc::Opening::parse(&word.text);
        let body = opened.and_then(|it| head.heredocs.iter().rfind(|body| body.name == it.name));
        body.map_or(Source::Path(word), |body| Source::Heredoc(body.clone()))
    };
    Ok((words.into_iter().map(source).collect(), destination))
}

fn copy(head: &Head<'_>) -> Result<Copy, Error> {
    let flags = Flags::check(
        &head.flags,
        &[
            ("from", Takes::Value),
            ("chown", Takes::Value),
            ("chmod", Takes::Value),
            ("link", Takes::Bool),
            ("parents", Takes::Bool),
            ("exclude", Takes::Values),
        ],
    )?;
    let from = flags.value("from");
    // What expansion would change is meant to be expanded.
    let changes = |from: &&Word| {
        expand_word(&from.text, head.escape, &|_| None).ok().as_ref() != Some(&from.text)
    };
    if let Some(from) = from.as_ref().filter(changes) {
        let message = "variable expansion is not supported for --from, define a new stage with \
                       FROM using ARG from global scope as a workaround";
        return Err(Error::new(ErrorKind::BadFlag, message, from.span));
    }
    let (sources, destination) = sources(head)?;
    Ok(Copy {
        sources,
        destination,
        from,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        exclude: flags.values("exclude"),
    })
}

fn add(head: &Head<'_>) -> Result<Add, Error> {
    let flags = Flags::check(
        &head.flags,
        &[
            ("chown", Takes::Value),
            ("chmod", Takes::Value),
            ("link", Takes::Bool),
            ("keep-git-dir", Takes::Bool),
            ("checksum", Takes::Value),
            ("exclude", Takes::Values),
            ("unpack", Takes::Bool),
        ],
    )?;
    let (sources, destination) = sources(head)?;
    Ok(Add {
        sources,
        destination,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.bool("link").unwrap_or(false),
        keep_git_dir: flags.bool("keep-git-dir").unwrap_or(false),
        checksum: flags.value("checksum"),
        exclude: flags.values("exclude"),
        unpack: flags.bool("unpack"),
    })
}

fn run(head: &Head<'_>) -> Result<Run, Error> {
    let flags = Flags::check(
        &head.flags,
        &[
            ("mount", Takes::Values),
            ("network", Takes::Value),
            ("security", Takes::Value),
            ("device", Takes::Values),
        ],
    )?;
    let bad = |word: &Word, what: &str| {
        let message = format!("{what} is not supported: {:?}", word.text);
        Error::new(ErrorKind::BadFlag, message, word.span)
    };
    let network = flags.value("network").map(|word| match word.text.as_str() {
        "default" => Ok(RunNetwork::Default),
        "none" => Ok(RunNetwork::None),
        "host" => Ok(RunNetwork::Host),
        _ => Err(bad(&word, "network mode")),
    });
    let security = flags.value("security").map(|word| match word.text.as_str() {
        "sandbox" => Ok(RunSecurity::Sandbox),
        "insecure" => Ok(RunSecurity::Insecure),
        _ => Err(bad(&word, "security")),
    });
    let command = command(head.arguments)?;
    if matches!(&command, Command::Exec(arguments) if arguments.is_empty()) {
        return Err(at_least_one(head));
    }
    Ok(Run {
        command,
        heredocs: head.heredocs.clone(),
        mounts: flags.values("mount").iter().map(Mount::parse).collect::<Result<_, _>>()?,
        network: network.transpose()?,
        security: security.transpose()?,
        devices: flags.values("device"),
    })
}

/// Refuses what may not be a trigger.
pub(crate) fn check_trigger(head: &Head<'_>) -> Result<(), Error> {
    let message = match head.name.as_str() {
        "onbuild" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        "from" | "maintainer" => format!("{} isn't allowed as an ONBUILD trigger", head.capitals()),
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::BadArguments, message, head.keyword.span()))
}

/// `ONBUILD` stores text; the trigger's own arguments are checked when it fires.
fn onbuild(head: &Head<'_>) -> Result<Onbuild, Error> {
    if head.arguments.is_empty() {
        return Err(at_least_one(head));
    }
    let inner = Head::split(head.arguments, head.escape);
    check_trigger(&inner)?;
    let trigger = heredoc::with_bodies(inner.whole.text().to_owned(), &head.heredocs);
    Ok(Onbuild { trigger, keyword: inner.keyword.word() })
}
