//! What flags and files say about registries and how they are reached.

use std::path::{Path, PathBuf};

use crate::image::RegistryName;
use crate::operations::{Error, Headers, HostSettings, Kind};

use super::args::NetworkArgs;
use super::settings::{path, xdg};

/// The file that counts over all others.
const OVERRIDE: &str = "CONTAINERS_REGISTRIES_CONF_OVERRIDE";

/// Returns what the user says about registries, and where files about them may be.
pub(super) fn host_settings(network: &NetworkArgs) -> Result<HostSettings, Error> {
    let resolve = network.resolve.iter().map(|text| {
        text.parse().map_err(|why| invalid(&format!("invalid `--resolve {text}`: {why}")))
    });
    let directories = Directories::of_machine();
    Ok(HostSettings {
        registries: directories.registries(network.registries_conf.as_deref()),
        namespaces: directories.namespaces(),
        certificates: directories.certificates(),
        certificate_directory: network.cert_dir.clone(),
        insecure: names("--insecure-registry", &network.insecure_registry)?,
        plain_http: names("--plain-http", &network.plain_http)?,
        unverified: names("--skip-tls-verify", &network.skip_tls_verify)?,
        headers: headers(&network.http_header)?,
        resolve: resolve.collect::<Result<_, _>>()?,
    })
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::Settings, message.to_owned())
}

fn names(flag: &str, given: &[String]) -> Result<Vec<RegistryName>, Error> {
    let parse = |text: &String| {
        text.parse().map_err(|error: crate::image::Error| {
            invalid(&format!("invalid `{flag} {text}`")).because(error)
        })
    };
    given.iter().map(parse).collect()
}

/// Reads `--http-header`. A value may be a secret: it is in no error.
fn headers(given: &[String]) -> Result<Headers, Error> {
    let mut headers = Headers::default();
    for text in given {
        let Some(file) = text.strip_prefix('@') else {
            headers
                .parse(text)
                .map_err(|why| invalid(&format!("invalid `--http-header`: {why}")))?;
            continue;
        };
        let lines = fs_err::read_to_string(file)
            .map_err(|error| invalid("failed to read the `--http-header` file").because(error))?;
        for (line, number) in lines.lines().zip(1..) {
            if !line.trim().is_empty() {
                headers
                    .parse(line)
                    .map_err(|why| invalid(&format!("invalid `{file}`, line {number}: {why}")))?;
            }
        }
    }
    Ok(headers)
}

/// Directories below which the tools whose files rpub reads keep them.
struct Directories {
    /// `$XDG_CONFIG_HOME`.
    user: Option<PathBuf>,
    /// Where docker's `config.json` is.
    docker: Option<PathBuf>,
    machine: PathBuf,
    vendor: PathBuf,
    uid: u32,
}

impl Directories {
    fn of_machine() -> Self {
        Self {
            user: xdg("XDG_CONFIG_HOME", ".config"),
            docker: path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker"))),
            machine: PathBuf::from("/etc"),
            vendor: PathBuf::from("/usr/share"),
            uid: rustix::process::getuid().as_raw(),
        }
    }

    /// Returns the `registries.conf` files in the order in which they are read: the one named, or
    /// the user's with the user's drop-ins, or the machine's with all drop-ins
    /// (containers-registries.conf.d(5)); then the overriding one.
    fn registries(&self, named: Option<&Path>) -> Vec<PathBuf> {
        let mut files = match named {
            Some(named) => vec![named.to_owned()],
            None => self.found_registries(),
        };
        files.extend(path(OVERRIDE));
        files
    }

    fn found_registries(&self) -> Vec<PathBuf> {
        const NAME: &str = "containers/registries.conf";
        const DROP_INS: &str = "containers/registries.conf.d";
        let user = self.user.as_ref();
        let drop_ins = |directory: &PathBuf| drop_ins(&directory.join(DROP_INS));
        let of_user = user.map(|user| user.join(NAME)).filter(|file| file.exists());
        let of_machine = [&self.machine, &self.vendor].map(|directory| directory.join(NAME));
        // The user's file stands for all of the machine's.
        let directories =
            if of_user.is_some() { Vec::new() } else { vec![&self.vendor, &self.machine] };
        let main = of_user.or_else(|| of_machine.into_iter().find(|file| file.exists()));
        let directories = directories.into_iter().chain(user);
        main.into_iter().chain(directories.flat_map(drop_ins)).collect()
    }

    /// Returns the directories of `hosts.toml`, the most important first.
    fn namespaces(&self) -> Vec<PathBuf> {
        let users = self.user.iter().map(|user| user.join("containerd/certs.d"));
        let machine = self.machine.join("containerd/certs.d");
        users.chain([machine]).chain(self.docker_certificates()).collect()
    }

    /// Returns the directories of certificates, the most important first: the containers tools'
    /// (containers-certs.d(5)), docker's, containerd's.
    fn certificates(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            self.user.iter().map(|user| user.join("containers/certs.d")).collect();
        for directory in [&self.machine, &self.vendor] {
            let containers = directory.join("containers");
            found.push(containers.join("certs.d"));
            if self.uid == 0 {
                found.push(containers.join("certs.rootful.d"));
            } else {
                let rootless = containers.join("certs.rootless.d");
                found.push(rootless.join(self.uid.to_string()));
                found.push(rootless);
            }
        }
        found.extend(self.docker_certificates());
        found.extend(self.user.iter().map(|user| user.join("containerd/certs.d")));
        found.push(self.machine.join("containerd/certs.d"));
        found
    }

    fn docker_certificates(&self) -> impl Iterator<Item = PathBuf> {
        let rootless = self.user.iter().map(|user| user.join("docker/certs.d"));
        let client = self.docker.iter().map(|docker| docker.join("certs.d"));
        rootless.chain(client).chain([self.machine.join("docker/certs.d")])
    }
}

/// Returns the `*.conf` files of a directory by their names; none where there is none.
fn drop_ins(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(directory) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_drop_in =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "conf") && path.is_file();
    let mut found: Vec<PathBuf> = files.filter(is_drop_in).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(root: &Path) -> Directories {
        Directories {
            user: Some(root.join("user")),
            docker: Some(root.join("docker")),
            machine: root.join("etc"),
            vendor: root.join("vendor"),
            uid: 1000,
        }
    }

    #[test]
    fn registries_files_are_read_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        };
        let found = |named: Option<&Path>| -> Vec<String> {
            let files = directories(root.path()).registries(named).into_iter();
            let short = |path: PathBuf| match path.strip_prefix(root.path()) {
                Ok(path) => path.display().to_string(),
                Err(_) => path.display().to_string(),
            };
            files.map(short).collect()
        };
        assert_eq!(found(None), [] as [&str; 0]);
        write("etc/containers/registries.conf");
        write("etc/containers/registries.conf.d/10-b.conf");
        write("etc/containers/registries.conf.d/02-a.conf");
        write("etc/containers/registries.conf.d/notes.txt");
        write("user/containers/registries.conf.d/mine.conf");
        let machine = [
            "etc/containers/registries.conf",
            "etc/containers/registries.conf.d/02-a.conf",
            "etc/containers/registries.conf.d/10-b.conf",
            "user/containers/registries.conf.d/mine.conf",
        ];
        assert_eq!(found(None), machine);
        write("user/containers/registries.conf");
        let user =
            ["user/containers/registries.conf", "user/containers/registries.conf.d/mine.conf"];
        assert_eq!(found(None), user);
        assert_eq!(found(Some(Path::new("/named.conf"))), ["/named.conf"]);
    }

    #[test]
    fn certificates_are_looked_for_in_every_tools_place() {
        let found = directories(Path::new("/r")).certificates();
        let expected = [
            "/r/user/containers/certs.d",
            "/r/etc/containers/certs.d",
            "/r/etc/containers/certs.rootless.d/1000",
            "/r/etc/containers/certs.rootless.d",
            "/r/vendor/containers/certs.d",
            "/r/vendor/containers/certs.rootless.d/1000",
            "/r/vendor/containers/certs.rootless.d",
            "/r/user/docker/certs.d",
            "/r/docker/certs.d",
            "/r/etc/docker/certs.d",
            "/r/user/containerd/certs.d",
            "/r/etc/containerd/certs.d",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
