//! What names a URL or a repository in a lock file, which others read: without secrets.

use crate::dockerfile::GitReference;
use crate::image::Digest;

/// The address of a file or a repository.
///
/// What may be a secret, a user's name or a query, is left out; where something is, the digest of the
/// whole tells addresses apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::operations) struct Address {
    shown: String,
    key: Option<Digest>,
}

impl Address {
    /// Returns the address of what a URL of http(s) gives.
    pub(in crate::operations) fn of_url(url: &str) -> Self {
        let whole = url.split('#').next().unwrap_or_default();
        Self::new(bare(whole), whole)
    }

    /// Returns the address of what a reference of a repository is.
    pub(in crate::operations) fn of_repository(git: &GitReference) -> Self {
        let reference = git.reference.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
        let shown = format!("{}{reference}", bare(&git.remote));
        Self::new(shown, &format!("{}{reference}", git.remote))
    }

    /// Returns an address as a lock file has it; `None` when it is none.
    pub(super) fn read(shown: &str, key: Option<Digest>) -> Option<Self> {
        let is_fit = !shown.is_empty() && !shown.contains(char::is_control);
        is_fit.then(|| Self { shown: shown.to_owned(), key })
    }

    /// Returns what people see.
    pub(in crate::operations) fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the digest of the whole, when something of it is not shown.
    pub(super) fn key(&self) -> Option<&Digest> {
        self.key.as_ref()
    }

    fn new(shown: String, whole: &str) -> Self {
        let key = (shown != whole).then(|| Digest::of(whole.as_bytes()));
        Self { shown, key }
    }
}

/// Returns an address without its query, and without the user of http(s), or any password.
fn bare(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let is_secret = user.contains(':') || scheme.to_ascii_lowercase().starts_with("http");
    if user.is_empty() || is_secret {
        return format!("{scheme}://{host}{path}");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_and_still_tell_addresses_apart() {
        for (url, shown) in [
            ("https://h.example/a.tar", "https://h.example/a.tar"),
            ("https://h.example/a.tar#x", "https://h.example/a.tar"),
            ("https://user:pw@h.example/a?token=t", "https://h.example/a"),
            ("HTTPS://token@h.example/a@b", "HTTPS://h.example/a@b"),
        ] {
            assert_eq!(Address::of_url(url).shown(), shown);
        }
        let (one, two) = ("https://h.example/a?v=1", "https://h.example/a?v=2");
        assert_ne!(Address::of_url(one), Address::of_url(two));
        assert_eq!(Address::of_url(one), Address::of_url(one));
        assert_eq!(Address::of_url("https://h.example/a").key(), None);
    }

    #[test]
    fn a_repository_is_its_remote_and_reference() {
        let address =
            |text: &str| Address::of_repository(&GitReference::parse_known(text).unwrap().unwrap());
        assert_eq!(
            address("https://h.example/a.git#v1:docs").shown(),
            "https://h.example/a.git#v1"
        );
        assert_eq!(address("https://h.example/a.git#v1"), address("https://h.example/a.git#v1:d"));
        assert_eq!(address("https://t@h.example/a.git").shown(), "https://h.example/a.git");
        assert_eq!(address("git@h.example:a.git#m").shown(), "git@h.example:a.git#m");
        assert_eq!(address("ssh://git@h.example/a.git").shown(), "ssh://git@h.example/a.git");
        assert_eq!(address("git@h.example:a.git").key(), None);
    }
}
