//! Changing docker's `config.json`, or an `auth.json`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::file::{self, ConfigFile};
use super::{Credential, Error, Form, Result, Secret};
use crate::image::{DEFAULT_REGISTRY, RegistryName};

/// More symbolic links than this in a row are a loop (what Linux allows).
const MAX_LINKS: usize = 40;

/// Returns the key that logins of `registry` are stored under.
pub(super) fn key_of(registry: &RegistryName, form: Form) -> &str {
    match form {
        Form::Docker if registry.as_str() == DEFAULT_REGISTRY => file::DOCKER_HUB_KEY,
        Form::Docker | Form::Containers => registry.as_str(),
    }
}

/// Returns the keys that a helper may know `registry` by, the form's own first.
pub(super) fn keys_of(registry: &RegistryName, form: Form) -> Vec<&str> {
    let mut keys = vec![key_of(registry, form), key_of(registry, Form::Docker), registry.as_str()];
    keys.dedup();
    keys.truncate(2);
    keys
}

/// Puts a login into the file's `auths`; only a marker when the secret is kept elsewhere.
pub(super) fn set(
    config: &mut ConfigFile,
    registry: &RegistryName,
    form: Form,
    login: Option<(&str, &Secret)>,
) {
    remove(config, registry);
    let entry = login.map_or_else(|| Value::Object(Map::new()), |login| entry(login.0, login.1));
    let auths = config.json.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    if !auths.is_object() {
        *auths = Value::Object(Map::new());
    }
    if let Some(auths) = auths.as_object_mut() {
        auths.insert(key_of(registry, form).to_owned(), entry);
    }
}

fn entry(username: &str, secret: &Secret) -> Value {
    if let Credential::IdentityToken(token) = Credential::of(username, secret.clone()) {
        return json!({ "identitytoken": token.expose() });
    }
    let mut text =
        Zeroizing::new(String::with_capacity(username.len() + secret.expose().len() + 1));
    text.extend([username, ":", secret.expose()]);
    json!({ "auth": STANDARD.encode(text.as_bytes()) })
}

/// Removes every entry of `registry`, under whatever key; returns those keys.
pub(super) fn remove(config: &mut ConfigFile, registry: &RegistryName) -> Vec<String> {
    remove_those(config, |key| file::means(key, registry))
}

/// Removes every login; returns the keys that there were.
pub(super) fn remove_all(config: &mut ConfigFile) -> Vec<String> {
    remove_those(config, |_| true)
}

fn remove_those(config: &mut ConfigFile, which: impl Fn(&str) -> bool) -> Vec<String> {
    let mut keys = Vec::new();
    let auths = config.json.get_mut("auths").and_then(Value::as_object_mut);
    if let Some(auths) = auths {
        auths.retain(|key, value| {
            let goes = which(key);
            if goes {
                file::wipe(value);
                keys.push(key.clone());
            }
            !goes
        });
    }
    keys
}

/// Waits until no other rpub changes a file in that directory; others do until the turn is dropped.
/// Makes the directory.
pub(super) fn turn(path: &Path) -> Result<File> {
    let take = || -> io::Result<File> {
        let directory = directory_of(path);
        if !directory.exists() {
            fs_err::create_dir_all(directory)?;
            fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        }
        let directory = fs_err::File::open(directory)?.into_parts().0;
        match rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive) {
            // A file system without locks: the rename still keeps the file whole.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) | Ok(()) => Ok(directory),
            Err(error) => Err(error.into()),
        }
    };
    take().map_err(|source| failed(path, source))
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// Writes the file: to a temporary one beside it, then renamed, readable by its owner only.
///
/// A symbolic link is followed and stays, even when it points to nothing yet.
pub(super) fn write(path: &Path, config: &ConfigFile) -> Result<()> {
    let target = follow(path).map_err(|source| failed(path, source))?;
    // Counted first, because a buffer that grows leaves copies of secrets behind.
    let mut size = Count(0);
    serde_json::to_writer_pretty(&mut size, &config.json).expect("JSON values serialise");
    let mut text = Zeroizing::new(Vec::with_capacity(size.0 + 1));
    serde_json::to_writer_pretty(&mut *text, &config.json).expect("JSON values serialise");
    text.push(b'\n');
    replace(&target, &text).map_err(|source| failed(&target, source))
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::File { action: "write", path: path.to_owned(), source }
}

fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    let directory = directory_of(target);
    if !directory.exists() {
        fs_err::create_dir_all(directory)?;
        fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    // `tempfile` creates files with mode 0600, whatever the umask.
    let mut file = tempfile::Builder::new().prefix(".config.json.").tempfile_in(directory)?;
    file.write_all(text)?;
    // As root for somebody else, it stays theirs.
    if let Ok(before) = fs_err::metadata(target)
        && let Ok(now) = file.as_file().metadata()
        && (before.uid(), before.gid()) != (now.uid(), now.gid())
    {
        let owned = fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
        if let Err(error) = owned {
            tracing::debug!(%error, "the file's owner changes");
        }
    }
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    Ok(())
}

fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs_err::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or_else(|| Path::new("")).join(link),
            // Not a link, or nothing there.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}
