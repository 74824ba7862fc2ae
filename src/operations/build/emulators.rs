//! What this machine executes beside programs of its own architecture.

use std::path::Path;

use crate::image::Platform;

/// Where the kernel lists the interpreters of foreign programs (kernel documentation, `binfmt_misc`).
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Returns the platforms whose programs an emulator runs, also in another root file system. Blocks.
pub(super) fn emulated() -> Vec<Platform> {
    // Without the directory, or with one that cannot be read, there are no emulators.
    let entries = fs_err::read_dir(Path::new(REGISTERED)).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs_err::read_to_string(entry.path()).ok());
    let mut platforms: Vec<Platform> = texts.filter_map(|text| platform(&text)).collect();
    platforms.sort_unstable();
    platforms.dedup();
    platforms
}

/// Returns the platform of a registered interpreter: one that is enabled, for ELF programs, and held
/// open by the kernel (`F`), so that it works where its file is not.
fn platform(text: &str) -> Option<Platform> {
    let mut lines = text.lines();
    if lines.next() != Some("enabled") {
        return None;
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("offset").is_some_and(|offset| offset != "0") || !field("flags:")?.contains('F') {
        return None;
    }
    let magic = bytes(field("magic ")?)?;
    if magic.get(..4)? != b"\x7fELF" {
        return None;
    }
    let machine = [*magic.get(18)?, *magic.get(19)?];
    let is_little_endian = *magic.get(5)? == 1;
    let machine =
        if is_little_endian { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    // ELF header, `e_machine`, and Go's names of architectures.
    let architecture = match (machine, *magic.get(4)?, is_little_endian) {
        (3, _, true) => "386",
        (62, _, true) => "amd64",
        (40, _, true) => "arm",
        (183, _, true) => "arm64",
        (21, _, true) => "ppc64le",
        (22, _, false) => "s390x",
        (243, 2, true) => "riscv64",
        (258, 2, true) => "loong64",
        (8, 2, true) => "mips64le",
        (8, 2, false) => "mips64",
        _ => return None,
    };
    Some(Platform::new("linux", architecture, None))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "7f454c460201010000000000000000000200b700";

    #[test]
    fn reads_what_the_kernel_lists() {
        let entry = |state: &str, flags: &str, magic: &str| {
            format!(
                "{state}\ninterpreter /usr/bin/qemu\nflags: {flags}\noffset 0\nmagic {magic}\n\
                 mask ffffffffffffff00fffffffffffffffffeffffff\n"
            )
        };
        let named = |text: String| platform(&text).map(|platform| platform.to_string());
        assert_eq!(named(entry("enabled", "OCF", ARM64)).as_deref(), Some("linux/arm64"));
        let s390x = "7f454c4602020100000000000000000000020016";
        assert_eq!(named(entry("enabled", "F", s390x)).as_deref(), Some("linux/s390x"));
        let arm = "7f454c4601010100000000000000000002002800";
        assert_eq!(named(entry("enabled", "F", arm)).as_deref(), Some("linux/arm/v7"));
        for text in [
            entry("disabled", "OCF", ARM64),
            entry("enabled", "OC", ARM64),
            entry("enabled", "F", "4d5a"),
            entry("enabled", "F", "7f454c46"),
            "enabled\ninterpreter /usr/bin/python3\nflags:\nextension .pyc\n".to_owned(),
            "enabled\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(named(text.clone()), None, "{text}");
        }
    }
}
