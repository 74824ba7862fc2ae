//! One cell's world: a client, a registry that fails as told, and two that watch for secrets.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rpub::credentials::{Credential, Fixed, Secret};
use rpub::event::{Event, Sink};
use rpub::image::{Manifest, Reference, RegistryName, media_type};
use rpub::registry::{Client, ClientOptions};
use tokio_rustls::TlsAcceptor;

use super::fault::{Base, Does, Fault, Setting};
use super::kind::Kind;
use super::origin::{Auth, Content, IDENTITY, PASSWORD, Registry, USERNAME};
use super::wire::{Reply, Request, Server, Service, Travel};
use crate::context::Authority;

/// Returns the blob that is moved: several network packets long, and more than the smallest part.
pub(super) fn blob() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| {
        let squares = (0_u32..80_000).map(|at| at.wrapping_mul(at) >> 3);
        squares.flat_map(u32::to_le_bytes).collect()
    })
}

/// Returns the manifest that is moved.
pub(super) fn manifest() -> Manifest {
    let (layer, config) = (rpub::image::Digest::of(blob()), rpub::image::Digest::of(b"{}"));
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":{}}}]}}"#,
        media_type::OCI_MANIFEST,
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
        blob().len()
    );
    Manifest::parse(text.into_bytes(), None).unwrap()
}

/// Returns a manifest that refers to [`manifest`].
fn referrer() -> String {
    let (subject, config) = (manifest(), rpub::image::Digest::of(b"{}"));
    let (kind, digest, size) = (media_type::OCI_MANIFEST, &subject.digest, subject.bytes.len());
    let empty = format!(
        r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}}"#
    );
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","artifactType":"x/signature","config":{empty},"layers":[{empty}],"subject":{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}}}"#
    )
}

/// Remembers every event.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<Event>>);

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub(super) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// A registry, and what goes wrong with it.
struct Injector {
    registry: Arc<Registry>,
    faults: Vec<(Kind, Fault, AtomicU32)>,
    setting: OnceLock<Setting>,
    /// Whether anything goes wrong yet.
    has_begun: AtomicBool,
}

impl Injector {
    /// Returns the fault that befalls this request.
    fn fault(&self, request: &Request) -> Option<&Fault> {
        let has_begun = self.has_begun.load(Ordering::Relaxed);
        let (_, fault, _) = self.faults.iter().find(|(kind, fault, played)| {
            has_begun && kind.matches(request) && played.load(Ordering::Relaxed) < fault.times
        })?;
        Some(fault)
    }

    fn count(&self, fault: &Fault) {
        let (_, _, played) =
            self.faults.iter().find(|(_, have, _)| std::ptr::eq(have, fault)).unwrap();
        played.fetch_add(1, Ordering::Relaxed);
    }
}

impl Service for Injector {
    fn hangs_up(&self, head: &Request) -> bool {
        let fault = self.fault(head).filter(|fault| matches!(fault.does, Does::HangsUp));
        fault.is_some_and(|fault| {
            self.registry.note(head);
            self.count(fault);
            true
        })
    }

    fn answer(&self, request: Request) -> (Reply, Travel) {
        let Some(fault) = self.fault(&request) else {
            return (self.registry.answer(&request), Travel::Whole);
        };
        self.count(fault);
        let setting = self.setting.get().unwrap();
        let reply = match &fault.does {
            Does::Work | Does::HangsUp => self.registry.answer(&request),
            Does::Changes(change) => change(self.registry.answer(&request), setting),
            Does::Instead(make) => {
                self.registry.note(&request);
                make(setting, &request)
            }
        };
        (reply, fault.travel)
    }
}

/// A server without faults.
struct Plain(Arc<Registry>);

impl Service for Plain {
    fn hangs_up(&self, _head: &Request) -> bool {
        false
    }

    fn answer(&self, request: Request) -> (Reply, Travel) {
        (self.0.answer(&request), Travel::Whole)
    }
}

/// The world.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) events: Arc<Recorder>,
    pub(super) content: Arc<Mutex<Content>>,
    /// Has the same content, and lets anybody in.
    pub(super) other: Arc<Registry>,
    /// Has the same content, and asks for a token of its own, which anybody gets.
    pub(super) asking: Arc<Registry>,
    pub(super) server: Server,
    _others: [Server; 2],
    injector: Arc<Injector>,
}

impl World {
    /// Makes the world in which `fault` befalls each request of a kind.
    pub(super) fn new(kind: Kind, fault: &Fault) -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        {
            let mut content = content.lock().unwrap();
            content.put_blob("team/app", blob());
            content.put_blob("team/app", b"{}");
            content.put_manifest("team/app", "1", media_type::OCI_MANIFEST, &manifest().bytes);
            let (kind, referrer) = (media_type::OCI_MANIFEST, referrer());
            content.put_manifest("team/app", "signed", kind, referrer.as_bytes());
        }
        let make = |auth, scheme, prefix| Arc::new(Registry::new(auth, scheme, prefix, &content));
        let start =
            |registry: &Arc<Registry>| Server::start(Arc::new(Plain(Arc::clone(registry))), None);
        let other = make(Auth::Open, "http", "");
        let asking = make(Auth::AnyToken, "http", "foreign");
        let others = [start(&other), start(&asking)];
        let auth = if kind == Kind::Ping { Auth::Basic } else { Auth::Token };
        let (scheme, tls) = match fault.base {
            Base::Plain => ("http", None),
            Base::Tls => ("https", Some(identity().acceptor.clone())),
        };
        let registry = make(auth, scheme, "s3cr3t");
        let faults = kind.before().into_iter().chain([(kind, fault.clone())]);
        let injector = Arc::new(Injector {
            registry: Arc::clone(&registry),
            faults: faults.map(|(kind, fault)| (kind, fault, AtomicU32::new(0))).collect(),
            setting: OnceLock::new(),
            has_begun: AtomicBool::new(true),
        });
        let server = Server::start(Arc::<Injector>::clone(&injector), tls);
        let setting =
            Setting { own: server.origin(), other: others[0].origin(), asking: others[1].origin() };
        injector.setting.set(setting).ok().unwrap();
        let (client, events) = client(kind, fault, &server);
        Self { client, events, content, other, asking, server, _others: others, injector }
    }

    /// Has everything work, or not.
    pub(super) fn fail(&self, fails: bool) {
        self.injector.has_begun.store(fails, Ordering::Relaxed);
    }

    /// Returns how often the fault was played.
    pub(super) fn played(&self) -> u32 {
        self.injector.faults.last().unwrap().2.load(Ordering::Relaxed)
    }

    pub(super) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.server.name()).parse().unwrap()
    }

    pub(super) fn login(&self) -> (RegistryName, Secret) {
        (self.server.name().parse().unwrap(), Secret::new(PASSWORD.to_owned()))
    }
}

fn client(kind: Kind, fault: &Fault, server: &Server) -> (Client, Arc<Recorder>) {
    let registry = server.name().parse().unwrap();
    let credential = if kind == Kind::TokenPost {
        Credential::IdentityToken(Secret::new(IDENTITY.to_owned()))
    } else {
        let password = Secret::new(PASSWORD.to_owned());
        Credential::Basic { username: USERNAME.to_owned(), password }
    };
    let events = Arc::new(Recorder::default());
    let sink: Arc<dyn Sink> = Arc::<Recorder>::clone(&events);
    let mut options = ClientOptions::new(Arc::new(Fixed { registry, credential }), sink);
    options.retry.first_delay = Duration::from_millis(1);
    if let Some(patience) = fault.patience {
        options.retry.idle_timeout = patience;
        options.retry.attempts = 3;
    }
    if fault.base == Base::Tls {
        options.ca_files = vec![identity().authority.clone()];
    }
    (Client::new(options), events)
}

/// What the servers with TLS show, and the file with who vouches for it.
struct Identity {
    acceptor: TlsAcceptor,
    authority: PathBuf,
    _directory: tempfile::TempDir,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let authority = Authority::new();
        let issued = authority.issue();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authority.pem");
        fs_err::write(&path, &authority.pem).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.certificate_der.into()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Identity { acceptor, authority: path, _directory: directory }
    })
}
