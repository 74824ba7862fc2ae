//! `EXPOSE` and `STOPSIGNAL` arguments.

/// Reads one expanded word of `EXPOSE` and returns the ports it names, as `80/tcp`.
///
/// A word is `[[address:]host:]port[-port][/protocol]`; only the container's side counts
/// (`docker/go-connections`, `nat.ParsePortSpec`).
pub(super) fn ports(word: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let protocol = if protocol.is_empty() { "tcp" } else { protocol.as_str() };
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let container = range.rsplit(':').next().unwrap_or(range);
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let number =
        |text: &str| text.parse::<u16>().map_err(|_| format!("invalid containerPort: {text}"));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid containerPort: {container}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
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
        for word in ["", "x", "80/http", "9-8", "70000"] {
            assert!(ports(word).is_err(), "{word} was accepted");
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
