//! `certs.d` in docker's and the containers tools' places: authorities and client certificates for
//! one registry each (containers-certs.d(5); dockerd, "Verify repository client with
//! certificates").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::HostsError;

/// Files with authorities and client certificates. Nothing of them is read before a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// PEM files with authorities to trust besides the system's.
    pub authorities: Vec<PathBuf>,
    /// Client certificates, the one that is used first.
    pub identities: Vec<IdentityFiles>,
}

/// A client certificate's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdentityFiles {
    /// The PEM file with the certificate, and those of its authorities if any.
    pub certificate: PathBuf,
    /// The PEM file with the key; none when it is in the certificate's file.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.identities.is_empty()
    }

    /// Adds what `other` has and this has not.
    pub(super) fn add(&mut self, other: &Self) {
        add_missing(&mut self.authorities, &other.authorities);
        add_missing(&mut self.identities, &other.identities);
    }
}

fn add_missing<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for one in from {
        if !to.contains(one) {
            to.push(one.clone());
        }
    }
}

/// What the directories of all registries hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    /// By the directory's name: `host` or `host:port`.
    registries: BTreeMap<String, Result<TlsFiles, HostsError>>,
    /// What is for every registry.
    common: Option<Result<TlsFiles, HostsError>>,
}

impl Certificates {
    /// Lists the directories, the most important first. A registry's settings are those of the
    /// first directory that has one of its name. Directories that are not there, or not for this
    /// user, say nothing.
    pub(super) fn load(directories: &[PathBuf], common: Option<&Path>) -> Self {
        let mut registries = BTreeMap::new();
        for directory in directories {
            for (name, path) in subdirectories(directory) {
                registries.entry(name).or_insert_with(|| {
                    // One that this user must not read is for another.
                    list(&path).unwrap_or(Ok(TlsFiles::default()))
                });
            }
        }
        Self { registries, common: common.map(list_common) }
    }

    /// Returns whether there is a directory of the registry's own.
    pub(super) fn has_own(&self, registry: &str) -> bool {
        self.registries.contains_key(registry)
    }

    /// Returns the files for `registry`, written as in references: `host` or `host:port`.
    pub(super) fn of(&self, registry: &str) -> Result<TlsFiles, HostsError> {
        let mut found = match &self.common {
            Some(common) => common.clone()?,
            None => TlsFiles::default(),
        };
        if let Some(own) = self.registries.get(registry) {
            found.add(own.as_ref().map_err(Clone::clone)?);
        }
        Ok(found)
    }
}

/// Returns the directories in `parent`, by name.
pub(super) fn subdirectories(parent: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs_err::read_dir(parent) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}

type Listed = Result<TlsFiles, HostsError>;

fn list(directory: &Path) -> Option<Listed> {
    let entries = fs_err::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(files(directory, names.collect()))
}

fn list_common(directory: &Path) -> Listed {
    let unreadable = || HostsError::Unreadable {
        path: directory.to_owned(),
        reason: "it is not a directory that this user may read".to_owned(),
    };
    list(directory).unwrap_or_else(|| Err(unreadable()))
}

/// Decides what the files of a directory are: `*.crt` authorities, `NAME.cert` with `NAME.key` a
/// client certificate.
fn files(directory: &Path, mut names: Vec<String>) -> Listed {
    names.sort();
    let mut found = TlsFiles::default();
    let lacks = |name: &str, other: &str| HostsError::Invalid {
        path: directory.join(name),
        line: None,
        reason: format!("`{other}` is missing beside it: a client certificate needs its key"),
    };
    for name in &names {
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        match extension {
            "crt" => found.authorities.push(directory.join(name)),
            "cert" => {
                let key = format!("{stem}.key");
                if !names.contains(&key) {
                    return Err(lacks(name, &key));
                }
                found.identities.push(IdentityFiles {
                    certificate: directory.join(name),
                    key: Some(directory.join(key)),
                });
            }
            "key" => {
                let certificate = format!("{stem}.cert");
                if !names.contains(&certificate) {
                    return Err(lacks(name, &certificate));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Listed {
        files(Path::new("/c/r.example"), names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn files_are_told_apart_by_their_extensions() {
        let found =
            of(&["b.cert", "ca.crt", "b.key", "a.cert", "a.key", "notes", "x.pem"]).unwrap();
        assert_eq!(found.authorities, [PathBuf::from("/c/r.example/ca.crt")]);
        let first = &found.identities[0];
        assert_eq!(first.certificate, PathBuf::from("/c/r.example/a.cert"));
        assert_eq!(first.key, Some(PathBuf::from("/c/r.example/a.key")));
        assert_eq!(found.identities.len(), 2);
    }

    #[test]
    fn halves_are_named() {
        let text = |names: &[&str]| of(names).unwrap_err().to_string();
        let expected = "invalid `/c/r.example/a.cert`: `a.key` is missing beside it: \
                        a client certificate needs its key";
        assert_eq!(text(&["a.cert"]), expected);
        assert!(text(&["a.key"]).contains("`a.cert` is missing"));
    }

    #[test]
    fn the_first_directory_wins_and_the_port_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "").unwrap();
            path
        };
        let (user, machine) = (root.path().join("user"), root.path().join("machine"));
        let mine = write("user/r.example/ca.crt");
        write("machine/r.example/other.crt");
        let with_port = write("machine/r.example:5000/ca.crt");
        write("machine/broken.example/a.cert");
        let common = write("all/all.crt");
        let missing = root.path().join("missing");
        let found = Certificates::load(&[user, missing.clone(), machine], None);
        assert_eq!(found.of("r.example").unwrap().authorities, [mine]);
        assert_eq!(found.of("r.example:5000").unwrap().authorities, [with_port]);
        assert!(found.of("other.example").unwrap().is_empty());
        assert!(found.of("broken.example").is_err());
        let found = Certificates::load(&[], common.parent());
        assert_eq!(found.of("any.example").unwrap().authorities, [common]);
        assert!(Certificates::load(&[], Some(&missing)).of("any.example").is_err());
    }
}
