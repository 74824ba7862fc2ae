//! `EXPOSE` and `STOPSIGNAL` arguments.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Reads one expanded word of `EXPOSE` and returns the ports it names, as `80/tcp`.
///
/// A word is `[[address:]host:]port[-port][/protocol]`; only the container's side counts, but all of
/// it must be well (BuildKit, `parsePortSpec`).
///
/// # Errors
///
/// BuildKit's words about what is wrong with it.
pub fn ports(word: &str) -> Result<Vec<String>, String> {
    let (rest, container) = word.rsplit_once(':').unwrap_or(("", word));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(format!("no port specified: {container}<empty>"));
    }
    let protocol = match protocol.to_ascii_lowercase() {
        empty if empty.is_empty() => "tcp".to_owned(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        other => return Err(format!("invalid proto: {other}")),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {bare}"));
    }
    let ports = port_range(range).ok_or_else(|| format!("invalid containerPort: {range}"))?;
    if !host.is_empty() {
        let hosts = port_range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        // A range of the host's ports for one of the container's means any of them.
        if ports.len() > 1 && hosts.len() != ports.len() {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {range} and {host}"
            ));
        }
    }
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// The signals by name, without `SIG`, in the numbering of Linux on x86 and arm.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Returns whether `text` names a signal, by number or by name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    let offset_is_well = |rest: &str| {
        rest.is_empty() || rest.strip_prefix(['+', '-']).is_some_and(|n| n.parse::<u8>().is_ok())
    };
    SIGNALS.contains(&name)
        || matches!(name, "IOT" | "CLD" | "POLL")
        || real_time.is_some_and(offset_is_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports() {
        let ok = |word: &str| ports(word).unwrap_or_else(|error| panic!("{word}: {error}"));
        assert_eq!(ok("80"), ["80/tcp"]);
        assert_eq!(ok("53/UDP"), ["53/udp"]);
        assert_eq!(ok("7000-7002/tcp"), ["7000/tcp", "7001/tcp", "7002/tcp"]);
        assert_eq!(ok("127.0.0.1:80:8080"), ["8080/tcp"]);
        assert_eq!(ok("9-11"), ["9/tcp", "10/tcp", "11/tcp"]);
        assert_eq!(ok("[::1]:80:8080/tcp"), ["8080/tcp"]);
        assert_eq!(ok("::1:80:8080"), ["8080/tcp"]);
        assert_eq!(ok("8000-8010:80"), ["80/tcp"]);
        for (word, message) in [
            ("", "no port specified: <empty>"),
            ("/udp", "no port specified: /udp<empty>"),
            ("x", "invalid containerPort: x"),
            ("80/http", "invalid proto: http"),
            ("9-8", "invalid containerPort: 9-8"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("a.b:80:80", "invalid IP address: a.b"),
            ("1-3:8-9", "invalid ranges specified for container and host Ports: 8-9 and 1-3"),
        ] {
            assert_eq!(ports(word).unwrap_err(), message, "{word}");
        }
    }

    #[test]
    fn knows_signals() {
        for text in ["9", "SIGTERM", "term", "SIGRTMIN+3", "64"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "65", "SIGNOPE", "RTMINx"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
