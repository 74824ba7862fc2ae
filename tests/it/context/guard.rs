//! What to do where the machine lacks something: say so and pass, or fail where nothing may lack.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Reads a variable that steers the tests, not the program.
#[expect(clippy::disallowed_methods, reason = "the tests' own switches")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Says why a test does not run here.
///
/// # Panics
/// When `RPUB_TEST_REQUIRE` is set, as in CI, where every test must run.
#[expect(clippy::print_stderr, reason = "the harness shows it beside the test's name")]
pub(crate) fn skip(reason: &str) {
    assert!(variable("RPUB_TEST_REQUIRE").is_none(), "required, but: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Returns whether all programs are there; when not, has said which is missing.
pub(crate) fn has_tools(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| find(name).is_none());
    if let Some(name) = missing {
        skip(&format!("`{name}` is not installed"));
    }
    missing.is_none()
}

/// Returns the path of a program.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = vec!["/usr/sbin".into(), "/sbin".into()];
    paths.extend(std::env::split_paths(&variable("PATH").unwrap_or_default()));
    paths.into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Returns the directory that keeps what is dear to make between runs: `RPUB_TEST_CACHE`, or a
/// place that all users can reach.
pub(super) fn shared_cache() -> PathBuf {
    let path = variable("RPUB_TEST_CACHE").map_or_else(
        || Path::new("/var/tmp").join(format!("rpub-test-cache-{}", super::user::uid())),
        PathBuf::from,
    );
    fs_err::create_dir_all(&path).unwrap();
    path
}
