//! Changing docker's `config.json`.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroize as _;

use super::file::{self, ConfigFile};
use super::{Error, Result, Secret};
use crate::image::{DEFAULT_REGISTRY, RegistryName};

/// More symbolic links than this in a row are a loop (what Linux allows).
const MAX_LINKS: usize = 40;

/// Returns the key that docker stores `registry` under.
pub(super) fn key_of(registry: &RegistryName) -> &str {
    if registry.as_str() == DEFAULT_REGISTRY { file::DOCKER_HUB_KEY } else { registry.as_str() }
}

/// Puts a login into the file's `auths`; only a marker when a helper holds the secret.
pub(super) fn set(
    config: &mut ConfigFile,
    registry: &RegistryName,
    login: Option<(&str, &Secret)>,
) {
    remove(config, registry);
    let entry = match login {
        Some((username, password)) => {
            let mut text = format!("{username}:{}", password.expose());
            let auth = STANDARD.encode(&text);
            text.zeroize();
            json!({ "auth": auth })
        }
        None => Value::Object(Map::new()),
    };
    let auths = config.json.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    if !auths.is_object() {
        *auths = Value::Object(Map::new());
    }
    if let Some(auths) = auths.as_object_mut() {
        auths.insert(key_of(registry).to_owned(), entry);
    }
}

/// Removes every entry of `registry`, under whatever key; returns whether there was one.
pub(super) fn remove(config: &mut ConfigFile, registry: &RegistryName) -> bool {
    let Some(auths) = config.json.get_mut("auths").and_then(Value::as_object_mut) else {
        return false;
    };
    let before = auths.len();
    auths.retain(|key, _| !file::means(key, registry));
    auths.len() != before
}

/// Removes every login; returns the keys that there were.
pub(super) fn remove_all(config: &mut ConfigFile) -> Vec<String> {
    let Some(auths) = config.json.get_mut("auths").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let keys = auths.keys().cloned().collect();
    auths.clear();
    keys
}

/// Writes the file: to a temporary one beside it, then renamed, readable by its owner only.
///
/// A symbolic link is followed and stays, even when it points to nothing yet.
pub(super) fn write(path: &Path, config: &ConfigFile) -> Result<()> {
    let target = follow(path).map_err(|source| failed(path, source))?;
    let mut text = serde_json::to_vec_pretty(&config.json).expect("JSON values serialise");
    text.push(b'\n');
    let written = replace(&target, &text);
    text.zeroize();
    written.map_err(|source| failed(&target, source))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::File { action: "write", path: path.to_owned(), source }
}

fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    let directory = target.parent().filter(|p| !p.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    if !directory.exists() {
        fs_err::create_dir_all(directory)?;
        fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    // `tempfile` creates files with mode 0600, whatever the umask.
    let mut file = tempfile::Builder::new().prefix(".config.json.").tempfile_in(directory)?;
    file.write_all(text)?;
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
