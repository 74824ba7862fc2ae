//! Addresses of git repositories, as `ADD` and build contexts write them.
//!
//! `https://host/name.git#reference:directory`, the same with a query in place of the fragment, and
//! `git@host:name.git` (BuildKit, `dfgitutil` and `gitutil`). What is and what is not an address of a
//! repository is decided by its text alone.

/// A git repository and what of it is meant.
///
/// ```
/// use rpub::dockerfile::GitReference;
/// let git = GitReference::parse("https://git.example/app.git#v1:docs").unwrap().unwrap();
/// assert_eq!(git.remote, "https://git.example/app.git");
/// assert_eq!(git.reference.as_deref(), Some("v1"));
/// assert_eq!(git.directory.as_deref(), Some("docs"));
/// assert_eq!(GitReference::parse("https://git.example/app.tar").unwrap(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GitReference {
    /// The repository, as git takes it.
    pub remote: String,
    /// How the repository is reached.
    pub transport: GitTransport,
    /// A branch, a tag, a full reference (`refs/...`) or a commit; the default branch without one.
    pub reference: Option<String>,
    /// A directory of the repository.
    pub directory: Option<String>,
    /// The commit that `reference` must be, or how its name begins.
    pub checksum: Option<String>,
    /// Whether `.git` stays; `None` when the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; `None` when the address does not say: they are.
    pub submodules: Option<bool>,
    /// What times files get.
    pub times: GitTimes,
    /// Whether the commit is fetched by its name rather than through a branch or tag.
    pub fetch_by_commit: bool,
    /// Whether the text could as well be a path, as `github.com/...`: only a build context means a
    /// repository then.
    pub is_ambiguous: bool,
}

/// How a git repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GitTransport {
    /// `https://`.
    #[default]
    Https,
    /// `http://`: not encrypted.
    Http,
    /// `git://`: not encrypted.
    Git,
    /// `ssh://` and `user@host:path`.
    Ssh,
}

/// What times the files of a repository get (`mtime` of the query).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GitTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// Why the address of a git repository cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidGitReference(String);

impl GitReference {
    /// Reads an address; `None` when it is not one of a git repository.
    ///
    /// # Errors
    ///
    /// When it is one, but its query says something unknown or contradictory.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidGitReference> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let Some((mut git, query, fragment)) = Self::split(text) else { return Ok(None) };
        git.read_fragment(fragment);
        git.read_query(query)?;
        Ok(Some(git))
    }

    /// Reads an address that is known to be one of a git repository, as with `--keep-git-dir`: the
    /// path of an https address need not end in `.git` then. `None` when git could not reach it.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_known(text: &str) -> Result<Option<Self>, InvalidGitReference> {
        if let Some(git) = Self::parse(text)? {
            return Ok(Some(git));
        }
        let Some((transport, _)) = scheme(text) else { return Ok(None) };
        let (remote, query, fragment) = address(text);
        let mut git = Self { remote: remote.to_owned(), transport, ..Self::default() };
        git.read_fragment(fragment);
        git.read_query(query)?;
        Ok(Some(git))
    }

    /// Returns the repository's own name: the last part of its path, without `.git`.
    #[must_use]
    pub fn name(&self) -> &str {
        let last = self.remote.rsplit(['/', ':']).next().unwrap_or(&self.remote);
        last.strip_suffix(".git").unwrap_or(last)
    }

    fn split(text: &str) -> Option<(Self, &str, &str)> {
        let (remote, query, fragment) = address(text);
        let git = |transport, is_ambiguous| {
            let remote = remote.to_owned();
            Some((Self { remote, transport, is_ambiguous, ..Self::default() }, query, fragment))
        };
        if text.starts_with("github.com/") {
            return git(GitTransport::Https, true);
        }
        if let Some((transport, _)) = scheme(text) {
            let path = remote.split_once("://").map_or("", |(_, rest)| rest);
            let names_repository = path.contains('/') && path.strip_suffix(".git").is_some();
            return match transport {
                GitTransport::Https | GitTransport::Http if !names_repository => None,
                transport => git(transport, false),
            };
        }
        if is_scp_style(remote) { git(GitTransport::Ssh, false) } else { None }
    }

    /// Reads `reference:directory`.
    fn read_fragment(&mut self, fragment: &str) {
        let fragment = decode(fragment, Plus::Literal);
        let (reference, directory) = fragment.split_once(':').unwrap_or((&fragment, ""));
        self.reference = some(reference);
        self.directory = some(directory);
    }

    fn read_query(&mut self, query: &str) -> Result<(), InvalidGitReference> {
        let fault = |message: String| Err(InvalidGitReference(message));
        let mut seen: Vec<String> = Vec::new();
        let (mut tag, mut branch) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key, Plus::Blank), decode(value, Plus::Blank));
            if seen.contains(&key) {
                return fault(format!("query {key:?} has multiple values"));
            }
            let is_switch = matches!(&*key, "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_switch {
                return fault(format!("query {key:?} has no value"));
            }
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, value)?,
                "subdir" => agree("subdir", &mut self.directory, value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => agree("checksum", &mut self.checksum, value)?,
                "keep-git-dir" => self.keep_git_dir = Some(switch(&key, &value)?),
                "submodules" => self.submodules = Some(switch(&key, &value)?),
                "fetch-by-commit" => self.fetch_by_commit = switch(&key, &value)?,
                "mtime" => self.times = times(&value)?,
                _ => return fault(format!("unexpected query {key:?}")),
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return fault("branch conflicts with tag".to_owned());
        }
        for (prefix, name) in [("refs/tags/", tag), ("refs/heads/", branch)] {
            let Some(name) = name else { continue };
            let full = if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
            agree("ref", &mut self.reference, full)?;
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        if self.fetch_by_commit && self.checksum.is_none() {
            return fault("fetch-by-commit needs a commit, as in `&commit=<id>`".to_owned());
        }
        Ok(())
    }
}

/// Splits an address into the part that git takes, the query and the fragment.
fn address(text: &str) -> (&str, &str, &str) {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
    (remote, query, fragment)
}

/// Returns how `scheme://...` is reached, when git can, and what follows.
fn scheme(text: &str) -> Option<(GitTransport, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "https" => GitTransport::Https,
        "http" => GitTransport::Http,
        "git" => GitTransport::Git,
        "ssh" => GitTransport::Ssh,
        _ => return None,
    };
    Some((transport, rest))
}

/// Returns whether `text` is `user@host:path`. BuildKit also takes `host:path`, which is a usual
/// name for a file: here the user must be there.
fn is_scp_style(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_word = |word: &str, also: &[u8]| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
    };
    is_word(user, b"-_") && is_word(host, b"-.")
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Sets `place`, which must not hold something else.
fn agree(what: &str, place: &mut Option<String>, value: String) -> Result<(), InvalidGitReference> {
    if let Some(other) = place.as_ref().filter(|other| **other != value) {
        return Err(InvalidGitReference(format!("{what} conflicts: {other:?} vs {value:?}")));
    }
    *place = Some(value);
    Ok(())
}

fn switch(key: &str, value: &str) -> Result<bool, InvalidGitReference> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(InvalidGitReference(format!("invalid {key} value: {value:?}"))),
    }
}

fn times(value: &str) -> Result<GitTimes, InvalidGitReference> {
    match value {
        "checkout" => Ok(GitTimes::Checkout),
        "commit" => Ok(GitTimes::Commit),
        _ => Err(InvalidGitReference(format!("invalid mtime value: {value:?}"))),
    }
}

/// What a plus sign stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Literal,
    Blank,
}

/// Decodes `%41`; what is no such escape, or no UTF-8 then, stays as it is.
fn decode(text: &str, plus: Plus) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(match escaped {
            Some(value) => value,
            None if byte == b'+' && plus == Plus::Blank => b' ',
            None => byte,
        });
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GitReference {
        GitReference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).unwrap()
    }

    #[test]
    fn tells_repositories_from_files() {
        for text in [
            "https://h.example/a.git",
            "HTTPS://h.example/a.git#main",
            "http://h.example/a/b.git?tag=v1",
            "git://h.example/a",
            "ssh://git@h.example:22/a",
            "git@h.example:a/b",
            "user-1@h.example:a.git#x",
            "github.com/a/b",
        ] {
            assert!(GitReference::parse(text).unwrap().is_some(), "{text}");
        }
        for text in [
            "a",
            "./a.git",
            "../git@h:a",
            "a.git",
            "https://h.example/a",
            "https://h.example/a.git/x",
            "https://.git",
            "http://h.example/a.git.tar",
            "ftp://h.example/a.git",
            "h.example:a",
            "@h:a",
            "a b@h:c",
            "https://h.example/a?x=.git",
        ] {
            assert_eq!(GitReference::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn reads_fragments() {
        for (text, reference, directory) in [
            ("https://h/a.git", None, None),
            ("https://h/a.git#main", Some("main"), None),
            ("https://h/a.git#:docs", None, Some("docs")),
            ("https://h/a.git#v1:a/b", Some("v1"), Some("a/b")),
            ("git@h:a.git#refs/pull/1/head:x", Some("refs/pull/1/head"), Some("x")),
            ("https://h/a.git#a%20b", Some("a b"), None),
        ] {
            let git = read(text);
            assert_eq!(git.reference.as_deref(), reference, "{text}");
            assert_eq!(git.directory.as_deref(), directory, "{text}");
            assert!(!git.remote.contains(['#', '?']), "{text}");
        }
    }

    #[test]
    fn reads_queries() {
        let git = read("https://h/a.git?tag=v1&subdir=a%2Fb&commit=abc&submodules=false");
        assert_eq!(git.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!(git.directory.as_deref(), Some("a/b"));
        assert_eq!(git.checksum.as_deref(), Some("abc"));
        assert_eq!(git.submodules, Some(false));
        assert_eq!(git.keep_git_dir, None);
        let git = read("git@h:a.git?branch=x&keep-git-dir&mtime=commit");
        assert_eq!(git.reference.as_deref(), Some("refs/heads/x"));
        assert_eq!((git.keep_git_dir, git.times), (Some(true), GitTimes::Commit));
        assert_eq!((git.remote.as_str(), git.name()), ("git@h:a.git", "a"));
        let git = read("https://h/a.git?checksum=abc&fetch-by-commit=true");
        assert_eq!(git.reference.as_deref(), Some("abc"));
        assert!(git.fetch_by_commit);
        assert_eq!(read("https://h/a.git?ref=v1#v1").reference.as_deref(), Some("v1"));
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        for (query, message) in [
            ("ref=a&ref=b", "query \"ref\" has multiple values"),
            ("ref", "query \"ref\" has no value"),
            ("tag=a&branch=b", "branch conflicts with tag"),
            ("ref=a&tag=b", "ref conflicts: \"a\" vs \"refs/tags/b\""),
            ("ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
            ("submodules=maybe", "invalid submodules value: \"maybe\""),
            ("mtime=now", "invalid mtime value: \"now\""),
            ("nope=1", "unexpected query \"nope\""),
        ] {
            let error = GitReference::parse(&format!("https://h/a.git?{query}")).unwrap_err();
            assert_eq!(error.to_string(), message, "{query}");
        }
    }

    #[test]
    fn keep_git_dir_makes_any_address_one_of_a_repository() {
        let git = GitReference::parse_known("https://h/a?branch=x").unwrap().unwrap();
        assert_eq!(git.remote, "https://h/a");
        assert_eq!(git.reference.as_deref(), Some("refs/heads/x"));
        assert_eq!(GitReference::parse_known("a/b").unwrap(), None);
    }
}
