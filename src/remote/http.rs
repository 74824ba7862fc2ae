//! Files of HTTP servers.
//!
//! By the case. The store has the file with the digest that is asked for: nobody is asked. It has
//! some file of that URL: the server is asked whether that is still the one (RFC 9110, section 13),
//! and 304 brings nothing. Otherwise the file comes, is hashed on its way, and gets its place only
//! when it is whole and is what its checksum says.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ::http::header::{
    ACCEPT, CONTENT_DISPOSITION, ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use fs_err as fs;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::blob::Hasher;
use crate::credentials::Secret;
use crate::image::{Algorithm, Digest};
use crate::store::{RemoteKind, Store};

use super::{Content, Error, Fetcher, Head, Result, TemporaryTree, WebRequest};

/// Version of the records; another one counts as none.
const VERSION: u32 = 1;
/// The largest file that is taken.
const MAX_FILE_BYTES: u64 = 64 << 30;
/// The name of a record in its entry.
const RECORD: &str = "record.json";
/// The name of a file whose URL has none (BuildKit, `convert_copy.go`).
const UNNAMED: &str = "__unnamed__";

/// What the file is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName<'a> {
    /// As the last part of the URL's path.
    OfUrl,
    /// As the server says, else as the URL says.
    OfServer,
    /// So.
    Given(&'a str),
}

/// A file that was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The directory that holds it, alone. Its mode is 0600, its time that of `Last-Modified`, or
    /// 0 without one.
    pub directory: PathBuf,
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

impl RemoteFile {
    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// What is known of a URL's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    version: u32,
    digest: Digest,
    size: u64,
    name: String,
    directory: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Fetcher<'_> {
    /// Gets the file at `url`. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Checksum`] when it is not what `checksum` says, [`Error::Get`] when it cannot be
    /// had.
    ///
    /// # Panics
    ///
    /// Never: records hold nothing that JSON cannot express.
    pub fn file(
        &self,
        url: &str,
        name: FileName<'_>,
        checksum: Option<&Digest>,
    ) -> Result<RemoteFile> {
        let mut url = parse(url)?;
        url.set_fragment(None);
        let entry = self.store.remote_entry(RemoteKind::Http, &key(&url, name))?;
        let known = Record::read(&entry);
        if let (Some(known), Some(checksum)) = (&known, checksum)
            && known.digest == *checksum
        {
            return Ok(known.file(&entry));
        }
        let algorithm = checksum.map_or(Algorithm::Sha256, Digest::algorithm);
        if self.is_offline {
            let known = known.filter(|_| checksum.is_none()).map(|known| known.file(&entry));
            return known.ok_or_else(|| Error::Offline { what: redacted(&url) });
        }
        // What another algorithm hashed could not be compared.
        let known = known.filter(|known| known.digest.algorithm() == algorithm);
        let request = WebRequest {
            headers: conditions(known.as_ref()),
            authorization: self.http_authorization(&url)?,
            url,
        };
        let mut incoming = Incoming::new(TemporaryTree::new(self.store)?, algorithm);
        let head = self.web.get(&request, &mut incoming);
        let head = head.map_err(|source| incoming.failure(&request.url, source))?;
        let file = match (head.status == StatusCode::NOT_MODIFIED, known) {
            (true, Some(known)) => {
                known.keep(self.store, &entry)?;
                known.file(&entry)
            }
            (true, None) => {
                let url = redacted(&request.url);
                return Err(Error::Answer {
                    url,
                    reason: "nothing was asked, and it is unchanged",
                });
            }
            (false, _) => {
                let record = incoming.place(&entry, &request.url, name, &head, checksum)?;
                record.keep(self.store, &entry)?;
                record.file(&entry)
            }
        };
        check(&request.url, checksum, &file.digest)?;
        Ok(file)
    }

    /// Returns the digest of the file of `url` that the store has, and when it was last seen to be
    /// that; `None` when it has none, or not what `checksum` says. Asks nobody. Blocks.
    ///
    /// # Errors
    ///
    /// When it is no URL of http(s).
    pub fn known_file(
        &self,
        url: &str,
        name: FileName<'_>,
        checksum: Option<&Digest>,
    ) -> Result<Option<(Digest, SystemTime)>> {
        let mut url = parse(url)?;
        url.set_fragment(None);
        let entry = self.store.remote_entry(RemoteKind::Http, &key(&url, name))?;
        let fits = |known: &Record| checksum.is_none_or(|checksum| known.digest == *checksum);
        let Some(known) = Record::read(&entry).filter(fits) else { return Ok(None) };
        let seen = fs::metadata(entry.join(RECORD))?.modified()?;
        Ok(Some((known.digest, seen)))
    }

    /// Returns the authorisation that secrets give for a server (BuildKit, `source/http`).
    fn http_authorization(&self, url: &Url) -> Result<Option<Secret>> {
        let Some(host) = url.host_str() else { return Ok(None) };
        if let Some(token) = self.secret(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            return Ok(Some(Secret::new(format!("Bearer {}", token.expose()))));
        }
        self.secret(&format!("HTTP_AUTH_HEADER_{host}"))
    }
}

fn key(url: &Url, name: FileName<'_>) -> Digest {
    Digest::of(format!("{url}\0{name:?}").as_bytes())
}

fn check(url: &Url, expected: Option<&Digest>, actual: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(Error::Checksum {
            what: redacted(url),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }),
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Result<Url> {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    // What stands before an at sign may be a password.
    let address = match shown.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or(rest)),
        None => shown.to_owned(),
    };
    let url = Url::parse(text)
        .map_err(|error| Error::Address { address: address.clone(), reason: error.to_string() })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Address { address, reason: "it is not of http or https".to_owned() });
    }
    Ok(url)
}

/// Returns the URL without user, query and fragment, for people to see.
fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Only URLs that cannot have them refuse.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

fn conditions(known: Option<&Record>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]);
    let Some(known) = known else { return headers };
    let condition: Option<(HeaderName, &String)> = match (&known.etag, &known.last_modified) {
        (Some(etag), _) => Some((IF_NONE_MATCH, etag)),
        (None, Some(time)) => Some((IF_MODIFIED_SINCE, time)),
        (None, None) => None,
    };
    if let Some((name, Ok(value))) = condition.map(|(name, v)| (name, HeaderValue::from_str(v))) {
        headers.insert(name, value);
    }
    headers
}

impl Record {
    /// Reads the record of an entry; `None` when there is none whose file is there.
    fn read(entry: &Path) -> Option<Self> {
        let bytes = fs::read(entry.join(RECORD)).ok()?;
        let record: Self = serde_json::from_slice(&bytes).ok()?;
        let is_plain = |name: &str| file_name(name).as_deref() == Some(name);
        let is_usable =
            record.version == VERSION && is_plain(&record.directory) && is_plain(&record.name);
        let size = fs::symlink_metadata(record.file(entry).path()).map(|file| file.len());
        (is_usable && size.ok() == Some(record.size)).then_some(record)
    }

    /// Writes the record, whose time says when the server was last asked.
    fn keep(&self, store: &Store, entry: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).expect("records serialise to JSON");
        Ok(store.replace_in_remote(&entry.join(RECORD), &bytes)?)
    }

    fn file(&self, entry: &Path) -> RemoteFile {
        RemoteFile {
            directory: entry.join(&self.directory),
            name: self.name.clone(),
            digest: self.digest.clone(),
        }
    }
}

/// A file on its way in.
struct Incoming {
    directory: TemporaryTree,
    algorithm: Algorithm,
    file: Option<fs::File>,
    hasher: Hasher,
    /// Why no more was taken.
    refused: Option<Error>,
}

impl Incoming {
    fn new(directory: TemporaryTree, algorithm: Algorithm) -> Self {
        let hasher = Hasher::new(algorithm);
        Self { directory, algorithm, file: None, hasher, refused: None }
    }

    fn failure(&mut self, url: &Url, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        match self.refused.take() {
            Some(Error::TooLarge { limit, .. }) => Error::TooLarge { what: redacted(url), limit },
            Some(error) => error,
            None => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Error::Get { url: redacted(url), source },
            },
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.root().join("incoming")
    }

    fn open(&self) -> io::Result<fs::File> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        fs::OpenOptions::from_options(options).open(self.path())
    }

    /// Gives the whole file its name, time and place.
    fn place(
        mut self,
        entry: &Path,
        url: &Url,
        name: FileName<'_>,
        head: &Head,
        checksum: Option<&Digest>,
    ) -> Result<Record> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        let (digest, size) = self.hasher.clone().finish();
        check(url, checksum, &digest)?;
        let text = |name: HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let last_modified = text(LAST_MODIFIED);
        let seconds = last_modified.as_deref().and_then(seconds_of).unwrap_or(0);
        file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))?;
        file.sync_data()?;
        let name = match name {
            FileName::Given(name) => name.to_owned(),
            FileName::OfUrl => name_of_url(url),
            FileName::OfServer => text(CONTENT_DISPOSITION)
                .and_then(|value| disposition_name(&value))
                .unwrap_or_else(|| name_of_url(url)),
        };
        fs::rename(self.path(), self.directory.root().join(&name))?;
        let id = Digest::of(format!("{digest}\0{name}\0{seconds}").as_bytes());
        let directory = id.hex().to_owned();
        self.directory.keep(Path::new(""), &entry.join(&directory))?;
        // A weak validator is as good: it is compared, not combined.
        let etag = text(ETAG);
        Ok(Record { version: VERSION, digest, size, name, directory, etag, last_modified })
    }
}

impl Content for Incoming {
    fn begin(&mut self) -> io::Result<()> {
        self.hasher = Hasher::new(self.algorithm);
        match self.open() {
            Ok(file) => self.file = Some(file),
            Err(error) => return Err(self.refuse(Error::Io(error))),
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        if self.hasher.count() > MAX_FILE_BYTES {
            let (what, limit) = (String::new(), MAX_FILE_BYTES);
            return Err(self.refuse(Error::TooLarge { what, limit }));
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(bytes) {
            return Err(self.refuse(Error::Io(error)));
        }
        Ok(())
    }
}

impl Incoming {
    fn refuse(&mut self, error: Error) -> io::Error {
        let shown = io::Error::other(error.to_string());
        self.refused = Some(error);
        shown
    }
}

/// Returns the time of `Last-Modified` in seconds since 1970 (RFC 9110, section 5.6.7).
fn seconds_of(text: &str) -> Option<u64> {
    // `GMT` is a zone name of RFC 2822's obsolete part.
    let time = rfc2822::parse(&text.replace("GMT", "+0000")).ok()?.timestamp();
    u64::try_from(time.as_second()).ok()
}

fn name_of_url(url: &Url) -> String {
    let last = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    file_name(&decode(last)).unwrap_or_else(|| UNNAMED.to_owned())
}

/// Returns the last part of `name` when it can be a file's name.
fn file_name(name: &str) -> Option<String> {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_name = !matches!(last, "" | "." | "..") && !last.contains('\0') && last.len() <= 255;
    is_name.then(|| last.to_owned())
}

/// Returns the file name that `Content-Disposition` gives (RFC 6266).
fn disposition_name(value: &str) -> Option<String> {
    let plain = value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("filename").then(|| value.trim().trim_matches('"'))
    })?;
    if plain.ends_with('/') { None } else { file_name(plain) }
}

/// Decodes `%41`; what is no such escape, or no UTF-8 then, stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = (byte == b'%').then(|| after.get(..2)).flatten();
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
