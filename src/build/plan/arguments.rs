//! The `ARG`s of a stage, as the history of its `RUN`s shows them.

use indexmap::IndexMap;

/// The arguments that a stage has declared, with their present values.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    values: IndexMap<String, String>,
    /// `a=b c=d`, while it is true: a thousand `RUN` of a thousand arguments would write a million
    /// of them otherwise.
    text: Option<String>,
}

impl Arguments {
    /// Notes an argument; one that is there keeps its place.
    pub(super) fn declare(&mut self, name: &str, value: &str) {
        if self.values.contains_key(name) {
            return self.change(name, value);
        }
        if let Some(text) = &mut self.text {
            append(text, name, value);
        }
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// Notes that a variable has another value, which shows if it is an argument.
    pub(super) fn change(&mut self, name: &str, value: &str) {
        if let Some(present) = self.values.get_mut(name).filter(|present| *present != value) {
            value.clone_into(present);
            self.text = None;
        }
    }

    /// Returns how the arguments are shown in front of a command: `|2 a=b c=d `; nothing when there
    /// are none.
    pub(super) fn shown(&mut self) -> String {
        if self.values.is_empty() {
            return String::new();
        }
        let values = &self.values;
        let text = self.text.get_or_insert_with(|| {
            let mut text = String::new();
            values.iter().for_each(|(name, value)| append(&mut text, name, value));
            text
        });
        format!("|{} {text} ", values.len())
    }
}

fn append(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.extend([name, "=", value]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_shown_with_their_present_values() {
        let mut arguments = Arguments::default();
        assert_eq!(arguments.shown(), "");
        arguments.declare("A", "1");
        assert_eq!(arguments.shown(), "|1 A=1 ");
        arguments.declare("B", "");
        arguments.change("A", "2");
        arguments.change("C", "no argument");
        assert_eq!(arguments.shown(), "|2 A=2 B= ");
        arguments.declare("A", "3");
        arguments.declare("C", "4");
        assert_eq!(arguments.shown(), "|3 A=3 B= C=4 ");
    }
}
