//! Changes of file modes: `--chmod`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A mode in octal, or a change of one in the symbolic form of `chmod(1)`.
///
/// ```
/// use rpub::layer::ModeChange;
/// let change: ModeChange = "u=rwX,go=rX".parse()?;
/// assert_eq!((change.apply(0o777, true), change.apply(0o600, false)), (0o755, 0o644));
/// # Ok::<(), rpub::layer::InvalidMode>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModeChange {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// A list of users, then operations in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// The bits that the users' letters stand for: `u` 0o4700, `g` 0o2070, `o` 0o1007.
    who: u32,
    operations: Vec<(Operator, Permissions)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Permissions {
    /// `r`, `w`, `x` for every user, `s` and `t`.
    bits: u32,
    /// `X`: execution for directories and for what somebody may execute already.
    conditional_execute: bool,
    /// `u`, `g` or `o`: how far right that user's three bits are.
    copy_of: Option<u32>,
}

/// Text that is not a mode.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("invalid mode `{0}`: expected octal up to 7777, or symbols as in `u=rwX,go=rX`")]
pub struct InvalidMode(pub String);

impl ModeChange {
    /// Returns the mode when it was given as a number.
    #[must_use]
    pub fn octal(&self) -> Option<u32> {
        match self.form {
            Form::Octal(mode) => Some(mode),
            Form::Symbolic(_) => None,
        }
    }

    /// Returns `mode` changed; only the low twelve bits matter.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match &self.form {
            Form::Octal(mode) => *mode,
            Form::Symbolic(clauses) => {
                let operations =
                    clauses.iter().flat_map(|c| c.operations.iter().map(|o| (c.who, o)));
                operations.fold(mode & 0o7777, |mode, (who, (operator, permissions))| {
                    let bits = permissions.of(mode, is_directory) & who;
                    match operator {
                        Operator::Add => mode | bits,
                        Operator::Remove => mode & !bits,
                        // A directory keeps its set-id bits unless they are named, as in chmod(1).
                        Operator::Set if is_directory => mode & !(who & 0o1777) | bits,
                        Operator::Set => mode & !who | bits,
                    }
                })
            }
        }
    }
}

impl Permissions {
    fn of(self, mode: u32, is_directory: bool) -> u32 {
        let execute = self.conditional_execute && (is_directory || mode & 0o111 != 0);
        let copied = self.copy_of.map_or(0, |shift| (mode >> shift & 7) * 0o111);
        self.bits | copied | if execute { 0o111 } else { 0 }
    }
}

impl FromStr for ModeChange {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        let invalid = || InvalidMode(text.chars().take(100).collect());
        let form = if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| invalid())?;
            (mode <= 0o7777).then_some(Form::Octal(mode))
        } else {
            text.split(',').map(parse_clause).collect::<Option<Vec<_>>>().map(Form::Symbolic)
        };
        Ok(Self { text: text.to_owned(), form: form.ok_or_else(invalid)? })
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let operators = ['+', '-', '='];
    let (users, mut rest) = text.split_at(text.find(operators)?);
    let mut who = if users.is_empty() { 0o7777 } else { 0 };
    for user in users.chars() {
        who |= match user {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut operations = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let (letters, next) =
            rest[1..].split_at(rest[1..].find(operators).unwrap_or(rest.len() - 1));
        operations.push((operator, parse_permissions(letters)?));
        rest = next;
    }
    Some(Clause { who, operations })
}

fn parse_permissions(letters: &str) -> Option<Permissions> {
    let mut permissions = Permissions::default();
    if let "u" | "g" | "o" = letters {
        permissions.copy_of = Some(match letters {
            "u" => 6,
            "g" => 3,
            _ => 0,
        });
        return Some(permissions);
    }
    for letter in letters.chars() {
        match letter {
            'r' => permissions.bits |= 0o444,
            'w' => permissions.bits |= 0o222,
            'x' => permissions.bits |= 0o111,
            's' => permissions.bits |= 0o6000,
            't' => permissions.bits |= 0o1000,
            'X' => permissions.conditional_execute = true,
            _ => return None,
        }
    }
    Some(permissions)
}

impl fmt::Display for ModeChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl TryFrom<String> for ModeChange {
    type Error = InvalidMode;

    fn try_from(text: String) -> Result<Self, InvalidMode> {
        text.parse()
    }
}

impl From<ModeChange> for String {
    fn from(change: ModeChange) -> Self {
        change.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_modes_as_chmod_does() {
        let cases = [
            ("644", 0o755, false, 0o644),
            ("0755", 0o600, true, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o666, false, 0o644),
            ("u=rwX,go=rX", 0o777, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=", 0o777, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o-rx", 0o755, true, 0o2750),
            ("+t", 0o777, true, 0o1777),
            ("u=rw+x", 0o000, false, 0o700),
            ("=r", 0o777, false, 0o444),
        ];
        for (text, mode, is_directory, expected) in cases {
            let change: ModeChange = text.parse().unwrap();
            let actual = change.apply(mode, is_directory);
            assert_eq!(actual, expected, "{text} on {mode:o} gave {actual:o}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_mode() {
        for text in ["", "8", "17777", "u", "u=q", "rwx", "u=rwx,", "é=r", "64 4"] {
            assert!(text.parse::<ModeChange>().is_err(), "{text} was accepted");
        }
    }
}
