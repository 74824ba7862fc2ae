//! The keyrings themselves.

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

use super::{Failure, Keyring, Store};

/// What rpub's entries are known by.
const SERVICE: &str = "rpub registry login";

/// Opens a keyring.
pub(super) fn open(keyring: Keyring) -> Result<Box<dyn Store>, Failure> {
    let store: Arc<dyn CredentialStoreApi> = match keyring {
        Keyring::Desktop => {
            zbus_secret_service_keyring_store::Store::new().map_err(|error| failure(&error))?
        }
        Keyring::Kernel => {
            linux_keyutils_keyring_store::Store::new().map_err(|error| failure(&error))?
        }
    };
    Ok(Box::new(Opened { keyring, store }))
}

struct Opened {
    keyring: Keyring,
    store: Arc<dyn CredentialStoreApi>,
}

impl Opened {
    fn entry(&self, key: &str) -> Result<Entry, Error> {
        let label = format!("rpub login for {key}");
        let modifiers = HashMap::from([("label", label.as_str())]);
        // What the desktop shows; the kernel's has nothing of the kind.
        let modifiers = (self.keyring == Keyring::Desktop).then_some(&modifiers);
        self.store.build(SERVICE, key, modifiers)
    }
}

impl Store for Opened {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        absent_as(None, self.entry(key).and_then(|entry| entry.get_secret()).map(Some))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        let set = self.entry(key).and_then(|entry| entry.set_secret(value));
        set.map_err(|error| failure(&error))
    }

    fn delete(&self, key: &str) -> Result<bool, Failure> {
        let deleted = self.entry(key).and_then(|entry| entry.delete_credential());
        absent_as(false, deleted.map(|()| true))
    }
}

fn absent_as<T>(absent: T, outcome: Result<T, Error>) -> Result<T, Failure> {
    match outcome {
        Err(Error::NoEntry) => Ok(absent),
        outcome => outcome.map_err(|error| failure(&error)),
    }
}

/// Returns what an error says. Some hold the secret itself, but none says it.
fn failure(error: &Error) -> Failure {
    match error {
        Error::PlatformFailure(reason) => reason.to_string().into(),
        Error::NoStorageAccess(reason) => format!("it is locked: {reason}").into(),
        other => other.to_string().into(),
    }
}
