//! The mirror file: read, translated, its faults shown in its text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dockerfile::Span;
use crate::mirror::{self, Dialect, Document, MirrorFile};
use crate::operations::error::Snippet;
use crate::operations::{Error, Kind, Session};

/// A mirror file and what the caller says about it.
#[derive(Debug, Clone)]
pub struct MirrorInput {
    /// The file's name, as the user knows it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// In whose words it is; found out when nobody says.
    pub dialect: Option<Dialect>,
    /// Where images go by a file that does not say it.
    pub to: Vec<String>,
    /// The variables that it may name.
    pub variables: BTreeMap<String, String>,
}

impl MirrorInput {
    /// Reads the rules; says what could not be taken over from another tool's file.
    pub(super) fn rules(&self, session: &Session) -> Result<MirrorFile, Error> {
        let document = self.document(session)?;
        document.rules(&|name| self.variables.get(name).cloned()).map_err(|error| self.wrong(error))
    }

    /// Returns the file as TOML in rpub's words.
    ///
    /// # Errors
    ///
    /// When it makes no sense.
    pub fn to_toml(&self, session: &Session) -> Result<String, Error> {
        let document = self.document(session)?;
        document
            .to_toml(&|name| self.variables.get(name).cloned())
            .map_err(|error| self.wrong(error))
    }

    /// Returns the JSON schema of mirror files.
    #[must_use]
    pub fn schema() -> Value {
        mirror::schema()
    }

    fn document(&self, session: &Session) -> Result<Document, Error> {
        let read = |path: &str| fs_err::read_to_string(path).map_err(|error| error.to_string());
        let document = Document::parse(&self.name, &self.text, self.dialect, &self.to, &read)
            .map_err(|error| self.wrong(error))?;
        for warning in &document.warnings {
            let line = mirror::line_of(&self.text, warning.span.start);
            session.warn(format!("{}:{line}: {}", self.name, warning.message));
        }
        Ok(document)
    }

    /// Returns an error that shows the place in the file.
    pub(super) fn wrong(&self, error: mirror::Error) -> Error {
        let mirror::Error { message, span, hint } = error;
        let wrong = Error::new(Kind::Settings, message).at(Snippet {
            file: self.name.clone(),
            text: self.text.clone(),
            span: Span {
                start: span.start.min(self.text.len()),
                end: span.end.min(self.text.len()),
            },
        });
        match hint {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        }
    }
}
