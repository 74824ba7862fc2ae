//! A small token server, as the distribution project's token authentication specifies it: it knows
//! one account, answers `GET` with basic credentials, and signs with a key the registry trusts.
//!
//! Without credentials it grants `pull` on repositories below `public/` and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::SigningKey;
use serde_json::{Value, json};

use super::tls::Identity;

/// The name under which the registry knows itself.
pub(super) const SERVICE: &str = "rpub test registry";
/// The name under which it knows the token server.
pub(super) const ISSUER: &str = "rpub test issuer";

/// The server. It runs until the test program ends.
pub(super) struct TokenServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

struct Issuing {
    identity: Identity,
    username: String,
    password: String,
    /// Seconds that a token lives for.
    lifetime: u64,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The registry takes a token for so many seconds more than it says.
const LEEWAY: u64 = 60;

impl TokenServer {
    pub(super) fn start(
        identity: Identity,
        username: &str,
        password: &str,
        lifetime: Option<u64>,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let issuing = Issuing {
            identity,
            username: username.to_owned(),
            password: password.to_owned(),
            lifetime: lifetime.unwrap_or(300),
            requests: Arc::clone(&requests),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle concerns nobody.
                let _ = issuing.answer(stream);
            }
        });
        Self { address, requests }
    }

    pub(super) fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Returns the request lines so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Issuing {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let (mut authorization, mut length) = (None, 0_usize);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        std::io::copy(&mut reader.take(length as u64), &mut std::io::sink())?;
        self.requests.lock().unwrap().push(request.trim_end().to_owned());
        let (status, body) = self.judge(&request, authorization.as_deref());
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn judge(&self, request: &str, authorization: Option<&str>) -> (&'static str, Value) {
        let mut words = request.split_whitespace();
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if method != "GET" {
            return ("405 Method Not Allowed", json!({}));
        }
        let known = match authorization {
            None => false,
            Some(value) if value == self.expected() => true,
            Some(_) => return ("401 Unauthorized", json!({"details": "incorrect credentials"})),
        };
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let scopes = pairs.filter(|(name, _)| name == "scope").map(|(_, value)| value.into_owned());
        let access: Vec<Value> = scopes
            .flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|scope| granted(&scope, known))
            .collect();
        let token = self.token(&Value::Array(access));
        ("200 OK", json!({"token": token, "access_token": token, "expires_in": self.lifetime}))
    }

    fn expected(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }

    /// Signs a JSON Web Token. RFC 7515; "Token Authentication Specification", distribution.
    fn token(&self, access: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let chain = [STANDARD.encode(&self.identity.certificate_der)];
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": chain});
        let claims = json!({
            "iss": ISSUER, "sub": self.username, "aud": SERVICE, "jti": "1",
            "iat": now - 10, "nbf": now - 10, "exp": now + self.lifetime - LEEWAY, "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = fixed_width(&self.identity.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Returns the claim for a scope as in `repository:team/app:pull,push`.
fn granted(scope: &str, known: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let public = name.starts_with("public/");
    let allowed = |action: &&str| known || (public && *action == "pull");
    let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

/// Turns a DER signature (two integers) into the two 32-byte numbers of JWS.
fn fixed_width(der: &[u8]) -> Vec<u8> {
    let integer = |at: usize| -> (Vec<u8>, usize) {
        let length = usize::from(der[at + 1]);
        let bytes = &der[at + 2..at + 2 + length];
        let bytes = &bytes[bytes.len().saturating_sub(32)..];
        ([vec![0; 32 - bytes.len()], bytes.to_vec()].concat(), at + 2 + length)
    };
    let (r, next) = integer(2);
    let (s, _) = integer(next);
    [r, s].concat()
}
