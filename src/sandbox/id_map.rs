//! Which ids the namespace has, and how its maps are written (`user_namespaces(7)`).

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, geteuid, getgid, getuid};

use super::error::Isolation;
use super::{Error, Result};

/// One line of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// The maps of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMap {
    uids: Vec<Extent>,
    gids: Vec<Extent>,
    /// The helpers, when this process may not write the maps itself.
    helpers: Option<[PathBuf; 2]>,
    name: String,
}

/// Where distributions put setuid programs. The environment's `PATH` is not asked: what writes the
/// maps should be the system's.
const HELPER_DIRECTORIES: [&str; 5] =
    ["/usr/bin", "/bin", "/usr/sbin", "/run/wrappers/bin", "/usr/local/bin"];

impl IdMap {
    /// Decides the maps for this process and finds what stands in the way of writing them.
    pub(super) fn detect() -> Result<Self> {
        if geteuid().is_root() {
            return Self::identity();
        }
        let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
        if field(&status, "NoNewPrivs") == Some("1") {
            return Err(Error::Isolation(Isolation::NoNewPrivileges));
        }
        let helpers = [find_helper("newuidmap")?, find_helper("newgidmap")?];
        let uids = subordinate("/etc/subuid")?;
        let gids = subordinate("/etc/subgid")?;
        let mut name = word(&uids);
        if gids != uids {
            let _ = write!(name, "_g{}", word(&gids));
        }
        Ok(Self {
            uids: with_own(getuid().as_raw(), &uids),
            gids: with_own(getgid().as_raw(), &gids),
            helpers: Some(helpers),
            name,
        })
    }

    /// Root keeps every id it has: each maps to itself.
    fn identity() -> Result<Self> {
        let read = |path: &str| {
            let text = fs_err::read_to_string(path).map_err(Error::Protocol)?;
            Ok::<_, Error>(parse_map(&text))
        };
        let (uids, gids) = (read("/proc/self/uid_map")?, read("/proc/self/gid_map")?);
        Ok(Self { uids, gids, helpers: None, name: "root".to_owned() })
    }

    /// Returns the word that names the mapping.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the maps of the process `pid`, which has entered its user namespace.
    pub(super) fn write(&self, pid: Pid) -> Result<()> {
        let Some(helpers) = &self.helpers else { return self.write_directly(pid) };
        // Both at once: each takes about a millisecond.
        let started = [(&helpers[0], &self.uids), (&helpers[1], &self.gids)]
            .map(|(program, extents)| (program, start_helper(program, pid, extents)));
        started.into_iter().try_for_each(|(program, child)| finish_helper(program, child))
    }

    fn write_directly(&self, pid: Pid) -> Result<()> {
        for (file, extents) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
            fs_err::write(&path, lines(extents)).map_err(|error| {
                Error::Isolation(Isolation::NamespacesRefused {
                    reason: error.to_string(),
                    obstacle: None,
                })
            })?;
        }
        Ok(())
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn find_helper(name: &str) -> Result<PathBuf> {
    let found = HELPER_DIRECTORIES.iter().map(|dir| Path::new(dir).join(name));
    let missing = || Error::Isolation(Isolation::HelperMissing { program: name.to_owned() });
    found.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

/// Reads the ranges that `path` gives to the current user, by name or number (`subuid(5)`).
fn subordinate(path: &str) -> Result<Vec<(u32, u32)>> {
    let uid = getuid().as_raw();
    let passwd = fs_err::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let text = fs_err::read_to_string(path).unwrap_or_default();
    let ranges = parse_ranges(&text, name, uid);
    if ranges.is_empty() {
        let user = name.map_or_else(|| uid.to_string(), ToOwned::to_owned);
        let file = PathBuf::from(path);
        return Err(Error::Isolation(Isolation::NoSubordinateIds { file, user }));
    }
    Ok(ranges)
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn parse_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let is_ours = Some(owner) == name || owner.parse() == Ok(uid);
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (is_ours && count > 0).then_some((start, count))
    };
    let mut ranges: Vec<_> = text.lines().filter_map(range).collect();
    // A line by name and the same by number are one range; the kernel refuses overlaps.
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn with_own(own: u32, ranges: &[(u32, u32)]) -> Vec<Extent> {
    let mut extents = vec![Extent { inside: 0, outside: own, count: 1 }];
    let mut inside = 1;
    for &(outside, count) in ranges {
        extents.push(Extent { inside, outside, count });
        inside += count;
    }
    extents
}

fn word(ranges: &[(u32, u32)]) -> String {
    let words: Vec<_> = ranges.iter().map(|(start, count)| format!("{start}-{count}")).collect();
    words.join("_")
}

fn parse_map(text: &str) -> Vec<Extent> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let (inside, _, count) =
            (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Extent { inside, outside: inside, count })
    };
    text.lines().filter_map(line).collect()
}

fn lines(extents: &[Extent]) -> String {
    extents.iter().fold(String::new(), |mut text, extent| {
        let _ = writeln!(text, "{} {} {}", extent.inside, extent.outside, extent.count);
        text
    })
}

fn start_helper(program: &Path, pid: Pid, extents: &[Extent]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg(pid.as_raw_nonzero().to_string());
    for extent in extents {
        command.args([extent.inside, extent.outside, extent.count].map(|id| id.to_string()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

fn finish_helper(program: &Path, child: io::Result<Child>) -> Result<()> {
    let failed = |message: String| {
        let program = program.display().to_string();
        Error::Isolation(Isolation::HelperFailed { program, message })
    };
    let output = child.and_then(Child::wait_with_output).map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Says what is known to forbid user namespaces here, for an error message.
pub(super) fn obstacle() -> Option<String> {
    let setting = |path: &str| fs_err::read_to_string(path).ok().map(|v| v.trim().to_owned());
    let refusing = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=65536"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    for (path, value, setting_to) in refusing {
        if setting(path).as_deref() == Some(value) {
            return Some(format!("`{path}` is {value}: run `sysctl -w {setting_to}`"));
        }
    }
    let status = setting("/proc/self/status")?;
    (field(&status, "Seccomp") == Some("2"))
        .then(|| "a seccomp filter of the surrounding container is active".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "other:1:2\nbuilder:100000:65536\n1001:300000:10\n# x\nbuilder:100000:65536\n";
        let ranges = parse_ranges(text, Some("builder"), 1001);
        assert_eq!(ranges, [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(word(&ranges), "100000-65536_300000-10");
        let inside: Vec<_> = with_own(1001, &ranges).iter().map(|e| e.inside).collect();
        assert_eq!(inside, [0, 1, 65_537]);
        assert!(parse_ranges(text, None, 1002).is_empty());
    }

    #[test]
    fn identity_maps_each_id_to_itself() {
        let extents = parse_map("         0     100000      65536\n     65536 1 2\n");
        assert_eq!(lines(&extents), "0 0 65536\n65536 65536 2\n");
    }

    #[test]
    fn user_names_come_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbuilder:x:1001:1001::/home/builder:/bin/sh\n";
        assert_eq!(user_name(passwd, 1001), Some("builder"));
        assert_eq!(user_name(passwd, 7), None);
    }
}
