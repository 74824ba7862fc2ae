//! A text that must not be shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize as _;

/// A password or token: prints as `****`, is wiped from memory when dropped.
///
/// ```
/// let secret = rpub::credentials::Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{secret} {secret:?}"), "**** ****");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Returns a secret that holds `text`.
    #[must_use]
    pub fn new(mut text: String) -> Self {
        // A copy of the right size: shrinking the text itself would leave it behind unwiped.
        let secret = Self(SecretString::from(Box::<str>::from(text.as_str())));
        text.zeroize();
        secret
    }

    /// Returns the text, for the one place that sends or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("****")
    }
}
