//! Named contexts (`--build-context NAME=...`): they stand in for stages and images of that name.

use crate::image::{self, Platform, Reference};

use super::PlanOptions;

/// What a named context holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files: of a directory, a repository, an archive.
    Files,
    /// An image of a registry.
    Image(Reference),
    /// An image that something else than its name finds, as one in an OCI image layout. What
    /// resolves it gives its [`Base`](super::Base) a reference without a tag, which names nothing.
    Layout,
    /// Nothing at all.
    Scratch,
}

/// Returns the key of a named context: the short form of the name as an image's, without `latest`;
/// `NAME::PLATFORM` stands in only for that platform (BuildKit, `dockerui`, `NamedContext`).
///
/// # Errors
///
/// [`image::Error`] when the name is no name of an image, or the platform none.
pub fn context_key(name: &str) -> Result<String, image::Error> {
    let (name, platform) = match name.split_once("::") {
        Some((name, platform)) => (name, Some(platform.parse::<Platform>()?)),
        None => (name, None),
    };
    let key = key_of(&name.parse()?);
    Ok(platform.map_or_else(|| key.clone(), |platform| format!("{key}::{platform}")))
}

fn key_of(reference: &Reference) -> String {
    let familiar = reference.familiar();
    familiar.strip_suffix(":latest").map_or_else(|| familiar.clone(), str::to_owned)
}

/// Finds the context that stands in for `reference` on `platform`, and its key.
pub(super) fn find<'a>(
    options: &'a PlanOptions,
    reference: &Reference,
    platform: &Platform,
) -> Option<(&'a String, &'a NamedContext)> {
    if options.contexts.is_empty() {
        return None;
    }
    let key = key_of(reference);
    if matches!(key.as_str(), "scratch" | "context") {
        return None;
    }
    let contexts = &options.contexts;
    contexts.get_key_value(&format!("{key}::{platform}")).or_else(|| contexts.get_key_value(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_key() {
        for (name, key) in [
            ("alpine", "alpine"),
            ("docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "alpine:3"),
            ("r.example/a/b:latest", "r.example/a/b"),
            ("build", "build"),
            ("alpine::linux/x86_64", "alpine::linux/amd64"),
        ] {
            assert_eq!(context_key(name).as_deref(), Ok(key), "{name}");
        }
        for name in ["", "Upper", "a b", "a::", "a::x/y/z/w"] {
            assert!(context_key(name).is_err(), "{name}");
        }
    }
}
