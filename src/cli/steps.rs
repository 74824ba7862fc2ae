//! What `build` gives to RUN steps: secrets, agents, sizes and limits.

use std::path::PathBuf;
use std::sync::Arc;

use crate::operations::{AgentSource, Error, Kind, Limit, SecretOrigin, SecretSource, Session};

use super::settings;

/// Parses `--secret`, as buildx does: `id=ID`, `src=FILE` or `env=NAME`, and `type`. Without a place,
/// a variable called as the secret is taken, else a file of that name.
/// A variable that is not set is an empty secret, as in buildx, but the user is told.
pub(super) fn secrets(session: &Session, given: &[String]) -> Result<Vec<SecretSource>, Error> {
    let warn = |text| session.warn(text);
    given.iter().map(|text| secret(text, &warn)).collect()
}

fn secret(text: &str, warn: &dyn Fn(String)) -> Result<SecretSource, Error> {
    // The text may hold what somebody took for the place of a secret's value: do not repeat it.
    let invalid = |why: String| {
        Error::new(Kind::Settings, format!("invalid `--secret`: {why}"))
            .hint("write `id=name,src=file` or `id=name,env=NAME`")
    };
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    for field in fields(text).map_err(|why| invalid(why.to_owned()))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(invalid("each field must be a key=value pair".to_owned()));
        };
        let value = value.to_owned();
        match key.to_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => env = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(invalid(format!("unsupported secret type {value:?}"))),
            key => return Err(invalid(format!("unexpected key '{key}'"))),
        }
    }
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let id = given(id).ok_or_else(|| invalid("secret missing ID".to_owned()))?;
    let (mut file, mut env) = (given(file), given(env));
    if kind.as_deref() == Some("env") && env.is_none() {
        env = file.take().or_else(|| Some(id.clone()));
    }
    if file.is_none() && env.is_none() {
        let is_variable = kind.is_none() && settings::secret(&id).is_some();
        *(if is_variable { &mut env } else { &mut file }) = Some(id.clone());
    }
    // As in buildx, a variable goes before a file.
    let origin = match (env, file) {
        (Some(name), _) => SecretOrigin::Value(settings::secret(&name).unwrap_or_else(|| {
            warn(format!("the secret `{id}` is empty: the variable `{name}` is not set"));
            Arc::new(Vec::new().into())
        })),
        (None, file) => SecretOrigin::File(PathBuf::from(file.unwrap_or_default())),
    };
    Ok(SecretSource { id, origin })
}

/// Parses `--ssh`: an id, and a socket or key files; without them, the agent of `SSH_AUTH_SOCK`.
pub(super) fn agents(given: &[String]) -> Result<Vec<AgentSource>, Error> {
    given.iter().map(|text| agent(text)).collect()
}

fn agent(text: &str) -> Result<AgentSource, Error> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        let message = format!("invalid `--ssh {text}`: it has no id");
        return Err(Error::new(Kind::Settings, message).hint("write `default` or `id=path`"));
    }
    let mut paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(settings::agent_socket().ok_or_else(|| {
            let message = format!("`--ssh {id}` needs an ssh agent: SSH_AUTH_SOCK is not set");
            Error::new(Kind::Settings, message)
                .hint(format!("start one, or name a key file: `--ssh {id}=path`"))
        })?);
    }
    Ok(AgentSource { id: id.to_owned(), paths })
}

/// Parses `--shm-size`.
pub(super) fn shm_bytes(given: Option<&str>) -> Result<Option<u64>, Error> {
    let Some(text) = given else { return Ok(None) };
    match size(text) {
        // docker takes nothing as its default.
        Some(0) => Ok(None),
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::new(Kind::Settings, format!("invalid `--shm-size {text}`"))
            .hint("write a number of bytes, or one with the unit k, m or g")),
    }
}

/// Reads a size in units of powers of 1024, as docker does.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Parses `--ulimit`: a name, and the soft and the hard limit; -1 is no limit.
pub(super) fn limits(given: &[String]) -> Result<Vec<Limit>, Error> {
    given.iter().map(|text| limit(text)).collect()
}

fn limit(text: &str) -> Result<Limit, Error> {
    let invalid = |why: &str| {
        Error::new(Kind::Settings, format!("invalid `--ulimit {text}`: {why}"))
            .hint("write it as `nofile=1024:4096`")
    };
    let (name, values) = text.split_once('=').ok_or_else(|| invalid("it has no value"))?;
    let resource = name.parse().map_err(|()| invalid("there is no such limit"))?;
    let number = |text: &str| match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| invalid("a limit is a number, or -1")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    let is_above = match (soft, hard) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(soft), Some(hard)) => soft > hard,
    };
    if is_above {
        return Err(invalid("the soft limit is above the hard one"));
    }
    Ok(Limit { resource, soft, hard })
}

/// Splits a line of comma-separated values; a field in double quotes may hold commas.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = vec![String::new()];
    let (mut is_quoted, mut characters) = (false, line.chars().peekable());
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted { Err("a quote is not closed") } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_an_id_and_a_place() {
        for (text, id, path) in [
            ("id=a,src=/b", "a", "/b"),
            ("ID=a,source=b c", "a", "b c"),
            ("type=file,id=a,src=b", "a", "b"),
            ("id=surely-no-variable", "surely-no-variable", "surely-no-variable"),
            ("id=a,type=file", "a", "a"),
            ("id=a,\"src=b,c\"", "a", "b,c"),
        ] {
            let source = secret(text, &|_| {}).unwrap();
            assert_eq!(source.id, id, "{text}");
            assert!(
                matches!(&source.origin, SecretOrigin::File(found) if found.to_str() == Some(path)),
                "{text}: {source:?}"
            );
        }
        for (text, path_variable) in [
            ("id=x,env=PATH", "PATH"),
            ("id=PATH", "PATH"),
            ("id=x,type=env,src=PATH", "PATH"),
            ("id=PATH,type=env", "PATH"),
        ] {
            let source = secret(text, &|_| {}).unwrap();
            assert!(matches!(source.origin, SecretOrigin::Value(_)), "{text} {path_variable}");
        }
        for text in ["", "a", "id=", "src=b", "id=a,what=b", "id=a,type=pipe", "id=a,\"src=b"] {
            assert!(secret(text, &|_| {}).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_unset_variable_is_an_empty_secret_and_a_warning() {
        let warned = std::cell::Cell::new(0);
        let source = secret("id=a,env=SURELY_NOT_SET", &|_| warned.set(warned.get() + 1)).unwrap();
        assert!(matches!(source.origin, SecretOrigin::Value(_)));
        assert_eq!(warned.get(), 1);
    }

    #[test]
    fn agents_have_an_id_and_paths() {
        let agent = agent("git=/a,/b").unwrap();
        assert_eq!((agent.id.as_str(), agent.paths.len()), ("git", 2));
        assert!(super::agent("=/a").is_err());
    }

    #[test]
    fn sizes_and_limits() {
        for (text, bytes) in [("64m", 64 << 20), ("1g", 1 << 30), ("512", 512), ("2KiB", 2048)] {
            assert_eq!(shm_bytes(Some(text)).unwrap(), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "99999999999g"] {
            assert!(shm_bytes(Some(text)).is_err(), "{text} was accepted");
        }
        let limit = |text: &str| limit(text).map(|limit| (limit.soft, limit.hard)).ok();
        assert_eq!(limit("nofile=5"), Some((Some(5), Some(5))));
        assert_eq!(limit("nproc=5:10"), Some((Some(5), Some(10))));
        assert_eq!(limit("core=0:-1"), Some((Some(0), None)));
        for text in ["nofile", "files=1", "nofile=a", "nofile=2:1", "nofile=-1:1"] {
            assert_eq!(limit(text), None, "{text} was accepted");
        }
    }
}
