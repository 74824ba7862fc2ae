//! What a fault is, and words to say it in.

use std::sync::Arc;
use std::time::Duration;

use super::kind::Kind;
use super::wire::{At, Reply, Request, Travel};

/// What the client is told that other servers are.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) own: String,
    pub(super) other: String,
    pub(super) asking: String,
}

/// Makes another answer of the registry's.
type Change = dyn Fn(Reply, &Setting) -> Reply + Send + Sync;
/// Makes an answer without the registry.
type Make = dyn Fn(&Setting, &Request) -> Reply + Send + Sync;

/// What the registry does about a request.
#[derive(Clone)]
pub(super) enum Does {
    /// What it should.
    Work,
    /// What it should, but says something else.
    Changes(Arc<Change>),
    /// Nothing, and says this.
    Instead(Arc<Make>),
    /// Nothing: the connection ends before the request's body is read.
    HangsUp,
}

/// How the registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Plain,
    Tls,
}

/// Something that goes wrong: a row of the table.
#[derive(Clone)]
pub(super) struct Fault {
    pub(super) name: String,
    /// How often it does.
    pub(super) times: u32,
    pub(super) does: Does,
    pub(super) travel: Travel,
    /// At which requests it can.
    pub(super) fits: fn(Kind) -> bool,
    pub(super) base: Base,
    /// How long the client waits, when not as long as always.
    pub(super) patience: Option<Duration>,
}

/// What is long for an answer of this machine, and short for a test.
const SHORT: Duration = Duration::from_secs(3);

/// What a cell needs of the machine. Those that wait must not fail for want of a processor, so
/// they are played apart from those that take much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Light,
    Waits,
    Heavy,
}

impl Fault {
    pub(super) fn travels(name: &str, travel: Travel) -> Self {
        let name = name.to_owned();
        let does = Does::Work;
        let (fits, base, patience): (fn(Kind) -> bool, _, _) = (|_| true, Base::Plain, None);
        Self { name, times: u32::MAX, does, travel, fits, base, patience }
    }

    pub(super) fn says(name: &str, status: u16) -> Self {
        Self::instead(name, move |_, _| Reply::error(status, "UNKNOWN"))
    }

    pub(super) fn instead(
        name: &str,
        make: impl Fn(&Setting, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self { does: Does::Instead(Arc::new(make)), ..Self::travels(name, Travel::Whole) }
    }

    pub(super) fn changes(
        name: &str,
        change: impl Fn(Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let does = Does::Changes(Arc::new(move |reply, _| change(reply)));
        Self { does, ..Self::travels(name, Travel::Whole) }
    }

    /// The `Location` of the answer is another one.
    pub(super) fn leads(
        name: &str,
        target: impl Fn(&Setting, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        let does = Does::Changes(Arc::new(move |reply, setting| {
            let location = reply.headers.iter().find(|(name, _)| name == "location");
            let (_, location) = location.expect("the registry says where").clone();
            let target = target(setting, &location);
            reply.header("location", target)
        }));
        let fits = Kind::is_told_location;
        Self { does, fits, ..Self::travels(name, Travel::Whole) }
    }

    /// The answer is a redirect.
    pub(super) fn redirects(
        name: &str,
        status: u16,
        target: impl Fn(&Setting, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::instead(name, move |setting, request| {
            let query = if request.query.is_empty() { "" } else { "?" };
            let same = format!("{}{query}{}", request.path, request.query);
            Reply::new(status).header("location", target(setting, &same))
        })
    }

    pub(super) fn load(&self) -> Load {
        match self.travel {
            _ if self.patience.is_some() => Load::Waits,
            Travel::EndlessBody | Travel::EndlessHead | Travel::Drip => Load::Heavy,
            _ => Load::Light,
        }
    }

    pub(super) fn once(self) -> Self {
        Self { name: format!("{}, once", self.name), times: 1, ..self }
    }

    pub(super) fn twice(self) -> Self {
        Self { name: format!("{}, twice", self.name), times: 2, ..self }
    }

    pub(super) fn always(self) -> Self {
        Self { name: format!("{}, always", self.name), ..self }
    }

    pub(super) fn fits(self, fits: fn(Kind) -> bool) -> Self {
        Self { fits, ..self }
    }

    pub(super) fn in_short(self) -> Self {
        Self { patience: Some(SHORT), ..self }
    }

    pub(super) fn over_tls(self) -> Self {
        Self { base: Base::Tls, ..self }
    }

    pub(super) fn without_end(self) -> Self {
        Self { travel: Travel::DripForever, ..self }
    }

    pub(super) fn endless(self) -> Self {
        Self { travel: Travel::EndlessBody, ..self }
    }

    pub(super) fn in_chunks(self) -> Self {
        Self { travel: Travel::Chunked, ..self }
    }

    /// The connection ends with the answer.
    pub(super) fn and_cut(self) -> Self {
        Self { travel: Travel::Cut(At::AllThere), ..self }
    }
}
