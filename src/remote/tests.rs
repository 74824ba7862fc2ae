//! Files from a server that is not there.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use fs_err as fs;

use super::*;
use crate::credentials::Secret;
use crate::image::Digest;
use crate::store::{RemoteKind, Store};

/// Answers everything with one page, and remembers what was asked.
#[derive(Default)]
struct Page {
    body: &'static [u8],
    headers: Vec<(&'static str, &'static str)>,
    asked: Mutex<Vec<WebRequest>>,
}

impl Web for Page {
    fn get(
        &self,
        request: &WebRequest,
        content: &mut dyn Content,
    ) -> Result<Head, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.lock().unwrap().push(request.clone());
        let headers: HeaderMap = self
            .headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        if request.headers.contains_key("if-none-match") {
            return Ok(Head { status: StatusCode::NOT_MODIFIED, headers });
        }
        // A first try that breaks off counts for nothing.
        content.begin()?;
        content.take(b"rubbish")?;
        content.begin()?;
        content.take(self.body)?;
        Ok(Head { status: StatusCode::OK, headers })
    }
}

/// Secrets by name.
#[derive(Default)]
struct Known(BTreeMap<&'static str, &'static str>);

impl Secrets for Known {
    fn secret(&self, id: &str) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.get(id).map(|text| Secret::new((*text).to_owned())))
    }
}

struct Place {
    _directory: tempfile::TempDir,
    store: Store,
    web: Page,
    secrets: Known,
    git: GitSettings,
}

impl Place {
    fn new(web: Page) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let (secrets, git) = (Known::default(), GitSettings::default());
        Self { _directory: directory, store, web, secrets, git }
    }

    fn get(&self, url: &str, name: FileName<'_>, sum: Option<&Digest>) -> Result<RemoteFile> {
        let fetcher = Fetcher {
            is_offline: false,
            store: &self.store,
            web: &self.web,
            secrets: &self.secrets,
            git: &self.git,
            is_canceled: &|| false,
        };
        fetcher.file(url, name, sum)
    }

    fn authorization(&self) -> Option<String> {
        let asked = self.web.asked.lock().unwrap();
        let secret = asked.last().unwrap().authorization.as_ref();
        secret.map(|secret| secret.expose().to_owned())
    }
}

#[test]
fn a_file_is_what_the_last_try_brought() {
    let place = Place::new(Page { body: b"content", ..Page::default() });
    let file = place.get("http://h/a/b.txt?x=1#y", FileName::OfUrl, None).unwrap();
    assert_eq!((file.name.as_str(), &file.digest), ("b.txt", &Digest::of(b"content")));
    assert_eq!(fs::read(file.path()).unwrap(), b"content");
    assert_eq!(fs::read_dir(&file.directory).unwrap().count(), 1);
    assert_eq!(place.web.asked.lock().unwrap()[0].url.as_str(), "http://h/a/b.txt?x=1");
}

#[test]
fn what_is_known_is_asked_about_and_a_damaged_copy_is_not_known() {
    let web = Page { body: b"content", headers: vec![("etag", "\"1\"")], ..Page::default() };
    let place = Place::new(web);
    let get = || place.get("http://h/f", FileName::OfUrl, None).unwrap();
    let file = get();
    assert_eq!(get(), file);
    let conditions = || {
        let asked = place.web.asked.lock().unwrap();
        let has = |request: &WebRequest| request.headers.contains_key("if-none-match");
        asked.iter().map(has).collect::<Vec<_>>()
    };
    assert_eq!(conditions(), [false, true]);
    fs::remove_file(file.path()).unwrap();
    fs::write(file.path(), "cut").unwrap();
    let entry = file.directory.parent().unwrap();
    let record = fs::read_to_string(entry.join("record.json")).unwrap();
    get();
    assert_eq!(conditions(), [false, true, false]);
    for damage in [
        "",
        "{}",
        &record.replace("\"version\":1", "\"version\":2"),
        &record.replace("\"name\":\"f\"", "\"name\":\"../f\""),
    ] {
        fs::write(entry.join("record.json"), damage).unwrap();
        get();
        assert_eq!(conditions().last(), Some(&false), "{damage}");
    }
}

#[test]
fn a_file_with_the_right_digest_needs_no_server() {
    let place = Place::new(Page { body: b"content", ..Page::default() });
    let (right, wrong) = (Digest::of(b"content"), Digest::of(b"other"));
    let error = place.get("http://h/f", FileName::OfUrl, Some(&wrong)).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    let text = error.to_string();
    assert!(text.contains(right.hex()) && text.contains(wrong.hex()), "{text}");
    place.get("http://h/f", FileName::OfUrl, Some(&right)).unwrap();
    place.get("http://h/f", FileName::OfUrl, Some(&right)).unwrap();
    assert_eq!(place.web.asked.lock().unwrap().len(), 2);
    let long = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    let error = place.get("http://h/f", FileName::OfUrl, Some(&long)).unwrap_err();
    assert!(error.to_string().contains("it is sha512:"), "{error}");
}

#[test]
fn names_are_names() {
    for (url, name) in [
        ("http://h", "__unnamed__"),
        ("http://h/", "__unnamed__"),
        ("http://h/a/", "a"),
        ("http://h/a%20b", "a b"),
        ("http://h/a%2Fb", "b"),
        ("http://h/%2e%2e", "__unnamed__"),
        ("http://h/..%2f", "__unnamed__"),
        ("http://h/a%00b", "__unnamed__"),
        ("http://h/%zz", "%zz"),
    ] {
        let place = Place::new(Page::default());
        assert_eq!(place.get(url, FileName::OfUrl, None).unwrap().name, name, "{url}");
    }
    for (header, name) in [
        ("attachment; filename=\"x.txt\"", "x.txt"),
        ("attachment; FileName=x", "x"),
        ("attachment; filename=\"/etc/passwd\"", "passwd"),
        ("attachment; filename=\"..\"", "f"),
        ("inline", "f"),
    ] {
        let headers = vec![("content-disposition", header)];
        let place = Place::new(Page { headers, ..Page::default() });
        let file = place.get("http://h/f", FileName::OfServer, None).unwrap();
        assert_eq!(file.name, name, "{header}");
    }
}

#[test]
fn secrets_authorise_by_host() {
    let mut place = Place::new(Page::default());
    place.secrets.0.insert("HTTP_AUTH_TOKEN_h.example", "abc\n");
    place.secrets.0.insert("HTTP_AUTH_HEADER_other.example", "Basic xyz");
    place.get("https://h.example:8443/f", FileName::OfUrl, None).unwrap();
    assert_eq!(place.authorization().as_deref(), Some("Bearer abc"));
    place.get("https://other.example/f", FileName::OfUrl, None).unwrap();
    assert_eq!(place.authorization().as_deref(), Some("Basic xyz"));
    place.get("https://third.example/f", FileName::OfUrl, None).unwrap();
    assert_eq!(place.authorization(), None);
}

#[test]
fn errors_show_no_credentials() {
    let place = Place::new(Page::default());
    for url in ["ftp://me:hunter2@h/f?token=hunter2", "http://me:hunter2@:x/f", "hunter2"] {
        let error = place.get(url, FileName::OfUrl, None).unwrap_err();
        let shown = error.to_string();
        assert!(url == "hunter2" || !shown.contains("hunter2"), "{shown}");
        assert_eq!(error.kind(), Kind::User);
    }
}

#[test]
fn archives_are_known_by_their_beginning() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, "a", b"1".as_slice()).unwrap();
    let tar = builder.into_inner().unwrap();
    assert!(is_archive(&tar[..SNIFFED_BYTES]));
    assert!(!is_archive(&tar[..100]));
    assert!(is_archive(&[0x1f, 0x8b, 0x08, 0]));
    assert!(is_archive(b"BZh9"));
    assert!(is_archive(&[0x28, 0xb5, 0x2f, 0xfd]));
    assert!(!is_archive(b"FROM scratch\n"));
    assert!(!is_archive(&[0; SNIFFED_BYTES]));
    assert!(!is_archive(b""));
}

#[test]
fn an_archive_is_unpacked_once_and_whole_or_not_at_all() {
    let place = Place::new(Page::default());
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o555);
    builder.append_data(&mut header, "closed", std::io::empty()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, "closed/a", b"1".as_slice()).unwrap();
    let tar = builder.into_inner().unwrap();
    let path = place.store.root().join("tmp/archive");
    let digest = Digest::of(&tar);
    let unpack = || Tree::of_archive(&place.store, &path, &digest, "it");
    fs::write(&path, &tar[..1000]).unwrap();
    assert!(unpack().is_err());
    let entry = place.store.remote_entry(RemoteKind::Tree, &digest).unwrap();
    assert_eq!(fs::read_dir(entry).unwrap().count(), 0);
    fs::write(&path, &tar).unwrap();
    let tree = unpack().unwrap();
    assert_eq!(fs::read(tree.root.join("closed/a")).unwrap(), b"1");
    fs::remove_file(&path).unwrap();
    assert_eq!(unpack().unwrap().root, tree.root);
    assert_eq!(fs::read_dir(place.store.root().join("tmp")).unwrap().count(), 0);
}
