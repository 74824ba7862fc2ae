//! A web server of files and git repositories, which can be made to lie and to break off.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a path answers.
#[derive(Clone, Default)]
pub(crate) struct Page {
    /// The content.
    pub(crate) body: Vec<u8>,
    /// `ETag`: a request that names it gets 304.
    pub(crate) etag: Option<&'static str>,
    /// `Last-Modified`.
    pub(crate) last_modified: Option<&'static str>,
    /// `Location`: the answer is 302.
    pub(crate) location: Option<String>,
    /// `Authorization` that is asked for.
    pub(crate) authorization: Option<&'static str>,
    /// The connection ends after so many bytes of the body, so often.
    pub(crate) cut: Option<(usize, usize)>,
    /// `Content-Length`, when not the body's.
    pub(crate) length: Option<usize>,
    /// After the answer's beginning, nothing more comes.
    pub(crate) hangs: bool,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// What was answered.
    pub(crate) status: u16,
}

#[derive(Default)]
struct Site {
    pages: BTreeMap<String, Page>,
    repositories: Option<PathBuf>,
    authorization: Option<String>,
    asked: Vec<Asked>,
}

/// A running server. It ends with the process.
pub(crate) struct WebServer {
    address: String,
    site: Arc<Mutex<Site>>,
}

impl WebServer {
    /// Starts a server that has nothing.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let site = Arc::new(Mutex::new(Site::default()));
        let shared = Arc::clone(&site);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&shared);
                // A connection that breaks is the client's business, and often the point.
                thread::spawn(move || drop(serve(&stream, &site)));
            }
        });
        Self { address, site }
    }

    /// Puts a page at `path`.
    pub(crate) fn put(&self, path: &str, page: Page) -> String {
        self.site.lock().unwrap().pages.insert(path.to_owned(), page);
        self.url(path)
    }

    /// Serves the git repositories in a directory below `/git/`, by git's own `http-backend`.
    pub(crate) fn serve_git(&self, directory: impl Into<PathBuf>) {
        self.site.lock().unwrap().repositories = Some(directory.into());
    }

    /// Asks for this `Authorization` below `/git/`.
    pub(crate) fn protect_git(&self, authorization: &str) {
        self.site.lock().unwrap().authorization = Some(authorization.to_owned());
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns what was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.site.lock().unwrap().asked)
    }
}

fn serve(mut stream: &TcpStream, site: &Mutex<Site>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut asked = Asked { method, path, query, headers, status: 0 };
    let answer = match asked.path.strip_prefix("/git") {
        Some(inside) => git(&asked, inside, &mut reader, site)?,
        None => page(&asked, site),
    };
    asked.status = answer.status;
    let hangs = site.lock().unwrap().pages.get(&asked.path).is_some_and(|page| page.hangs);
    site.lock().unwrap().asked.push(asked);
    if hangs {
        stream.write_all(&answer.bytes[..answer.bytes.len() - 1])?;
        // Until the client goes away.
        reader.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    stream.write_all(&answer.bytes)?;
    stream.shutdown(std::net::Shutdown::Both)
}

struct Answer {
    status: u16,
    bytes: Vec<u8>,
}

fn page(asked: &Asked, site: &Mutex<Site>) -> Answer {
    let mut site = site.lock().unwrap();
    let Some(page) = site.pages.get_mut(&asked.path) else { return answer(404, &[], b"nothing") };
    let header = |name: &str| asked.headers.get(name).map(String::as_str);
    if page.authorization.is_some() && header("authorization") != page.authorization {
        return answer(401, &[], b"who are you");
    }
    if let Some(location) = &page.location {
        return answer(302, &[("location", location)], b"");
    }
    let mut headers = Vec::new();
    headers.extend(page.etag.map(|etag| ("etag", etag)));
    headers.extend(page.last_modified.map(|time| ("last-modified", time)));
    let is_known = page.etag.is_some() && header("if-none-match") == page.etag
        || page.last_modified.is_some() && header("if-modified-since") == page.last_modified;
    if is_known {
        return answer(304, &headers, b"");
    }
    let length = page.length.unwrap_or(page.body.len()).to_string();
    headers.push(("content-length", &length));
    let mut whole = answer(200, &headers, &page.body);
    if let Some((after, times)) = &mut page.cut
        && *times > 0
    {
        *times -= 1;
        whole.bytes.truncate(whole.bytes.len() - page.body.len() + *after);
    }
    whole
}

fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut head = format!("HTTP/1.1 {status} Said\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "content-length") && status != 304 {
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    Answer { status, bytes: [head.as_bytes(), body].concat() }
}

/// Lets git's `http-backend` answer (git-http-backend(1)).
fn git(
    asked: &Asked,
    inside: &str,
    reader: &mut BufReader<TcpStream>,
    site: &Mutex<Site>,
) -> io::Result<Answer> {
    let (root, wanted) = {
        let site = site.lock().unwrap();
        (site.repositories.clone().unwrap(), site.authorization.clone())
    };
    let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
    if wanted.is_some_and(|wanted| header("authorization") != wanted) {
        return Ok(answer(401, &[("www-authenticate", "Basic realm=git")], b""));
    }
    let length: u64 = header("content-length").parse().unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", inside)
        .env("QUERY_STRING", &asked.query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().unwrap();
    let writing = thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output()?.stdout;
    // It may answer before it has read everything.
    let _ = writing.join();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let headers: Vec<(&str, &str)> = head.lines().filter_map(|l| l.split_once(": ")).collect();
    let status = headers.iter().find(|(name, _)| *name == "Status");
    let status = status.and_then(|(_, text)| text.get(..3)?.parse().ok()).unwrap_or(200);
    let rest = headers.into_iter().filter(|(name, _)| *name != "Status").collect::<Vec<_>>();
    Ok(answer(status, &rest, output.get(end + 4..).unwrap_or_default()))
}

/// Serves the git repositories in a directory by `git://`, and returns host and port.
pub(crate) fn git_daemon(directory: impl Into<PathBuf>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let directory = directory.into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let output = stream.try_clone().unwrap();
            let child = Command::new("git")
                .args(["-c", "safe.directory=*", "daemon", "--inetd", "--export-all"])
                .arg(format!("--base-path={}", directory.display()))
                .stdin(std::os::fd::OwnedFd::from(stream))
                .stdout(std::os::fd::OwnedFd::from(output))
                .stderr(Stdio::null())
                .spawn();
            thread::spawn(move || drop(child.and_then(|mut child| child.wait())));
        }
    });
    address
}
