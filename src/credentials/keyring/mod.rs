//! Keyrings: the desktop's, by the Secret Service of its D-Bus session, and the kernel's.
//!
//! An entry's value is JSON with user name and secret, as helpers have it. A keyring that is absent,
//! locked or mute is an error here; who looks something up passes it over. D-Bus is asked from a
//! thread of its own, which is left behind when no answer comes.

#[cfg(feature = "keyring")]
mod stores;

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Credential, Error, Result, Secret};
use crate::image::RegistryName;
#[cfg(feature = "keyring")]
use stores::open;

/// How long it may take to reach a keyring: nobody is asked for a password meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take: the desktop may ask for the keyring's password.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The kernel keeps 32 KiB at most; no login is nearly as large.
const MAX_ENTRY_BYTES: usize = 32 << 10;

/// A place for secrets outside of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// The desktop's; what it keeps lasts.
    Desktop,
    /// The kernel's; what it keeps lasts until nobody uses it for days, or the machine restarts.
    Kernel,
}

/// A keyring's entry.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    username: String,
    secret: String,
}

impl Keyring {
    /// All keyrings, the most lasting first.
    pub(super) const ALL: [Self; 2] = [Self::Desktop, Self::Kernel];

    /// Returns the login for `registry`; `None` when the keyring has none.
    pub(super) fn find(self, registry: &RegistryName) -> Result<Option<Credential>> {
        let key = registry.clone();
        let found =
            self.ask(move |store| store.get(key.as_str()).map(|value| value.map(Zeroizing::new)))?;
        let Some(value) = found else { return Ok(None) };
        let entry: Entry = serde_json::from_slice(&value)
            .map_err(|_| self.failed("its entry is not one of rpub's"))?;
        Ok(Some(Credential::of(&entry.username, Secret::new(entry.secret.clone()))))
    }

    /// Saves a login.
    pub(super) fn store(
        self,
        registry: &RegistryName,
        username: &str,
        secret: &Secret,
    ) -> Result<()> {
        let entry = Entry { username: username.to_owned(), secret: secret.expose().to_owned() };
        let mut value = Zeroizing::new(Vec::with_capacity(MAX_ENTRY_BYTES));
        serde_json::to_writer(&mut *value, &entry).expect("strings serialise to JSON");
        if value.len() > MAX_ENTRY_BYTES {
            return Err(self.failed("the password is too long for it"));
        }
        let key = registry.clone();
        self.ask(move |store| store.set(key.as_str(), &value))
    }

    /// Erases the login for `registry`; returns whether there was one.
    pub(super) fn erase(self, registry: &RegistryName) -> Result<bool> {
        let key = registry.clone();
        self.ask(move |store| store.delete(key.as_str()))
    }

    /// Opens the keyring and does `work` with it, within the time there is.
    fn ask<T: Send + 'static>(
        self,
        work: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let outcome = open(self).and_then(|store| {
                // Whoever gave up waiting is gone; so for the second.
                let _ = sender.send(None);
                work(&*store)
            });
            let _ = sender.send(Some(outcome));
        });
        let answered = within(&receiver, CONNECT_TIMEOUT, TIMEOUT);
        let outcome =
            answered.map_err(|timeout| Error::KeyringTimeout { keyring: self, timeout })?;
        outcome.map_err(|source| Error::Keyring { keyring: self, source })
    }

    fn failed(self, what: &'static str) -> Error {
        Error::Keyring { keyring: self, source: what.into() }
    }
}

/// Waits for a first message, and then for one that holds something; else returns how long it has
/// waited for the one that did not come. A sender that is gone counts as mute.
fn within<T>(
    receiver: &mpsc::Receiver<Option<T>>,
    first: Duration,
    then: Duration,
) -> Result<T, Duration> {
    let (mut timeout, mut deadline) = (first, Instant::now() + first);
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => (timeout, deadline) = (then, Instant::now() + then),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(timeout),
        }
    }
}

impl fmt::Display for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Desktop => "desktop's keyring",
            Self::Kernel => "kernel's keyring",
        })
    }
}

/// Why a keyring did not do what it should.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An open keyring.
trait Store {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure>;
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure>;
    fn delete(&self, key: &str) -> Result<bool, Failure>;
}

#[cfg(not(feature = "keyring"))]
fn open(_keyring: Keyring) -> Result<Box<dyn Store>, Failure> {
    Err("this rpub was built without keyrings".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let moment = Duration::from_millis(20);
        let long = Duration::from_secs(20);
        let (sender, receiver) = mpsc::channel::<Option<u8>>();
        assert_eq!(within(&receiver, moment, long), Err(moment), "no connection");
        sender.send(None).unwrap();
        assert_eq!(within(&receiver, long, moment), Err(moment), "no answer");
        sender.send(None).unwrap();
        sender.send(Some(7)).unwrap();
        assert_eq!(within(&receiver, long, long), Ok(7));
        drop(sender);
        assert_eq!(within(&receiver, long, long), Err(long), "a thread that died");
    }
}
