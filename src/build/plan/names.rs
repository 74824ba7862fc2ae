//! The stages of a Dockerfile by name and number.

use std::collections::HashMap;

use crate::dockerfile::{self, Stage, StageName};

/// Finds stages.
#[derive(Debug, Clone)]
pub(super) struct StageNames<'a> {
    stages: &'a [Stage],
    /// The numbers of the stages of each name, ascending.
    numbers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> StageNames<'a> {
    pub(super) fn new(stages: &'a [Stage]) -> Self {
        let mut numbers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.name {
                numbers.entry(name.as_str()).or_default().push(number);
            }
        }
        Self { stages, numbers }
    }

    /// Finds the stage before `number` that a `FROM` means: the last one of that name, in exactly
    /// that casing.
    pub(super) fn base(&self, number: usize, name: &str) -> Option<usize> {
        let numbers = self.numbers.get(name)?;
        let before = numbers.partition_point(|other| *other < number);
        before.checked_sub(1).map(|at| numbers[at])
    }

    /// Finds the stage before `number` that `--from` means: by number, or by name in any casing.
    pub(super) fn before(&self, number: usize, text: &str) -> Option<usize> {
        match text.parse::<usize>() {
            Ok(index) => (index < number).then_some(index),
            Err(_) => self.base(number, &text.to_lowercase()),
        }
    }

    /// Finds the stage of the whole file that a text means, as [`before`](Self::before) does.
    pub(super) fn anywhere(&self, text: &str) -> Option<usize> {
        self.before(self.stages.len(), text)
    }

    /// Returns the stage's name as steps and messages have it.
    pub(super) fn of(&self, number: usize) -> String {
        match &self.stages[number].name {
            Some(name) => name.to_string(),
            None => format!("stage-{number}"),
        }
    }

    /// Returns all names, in the order of the file.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a str> {
        self.stages.iter().filter_map(|stage| stage.name.as_ref()).map(StageName::as_str)
    }

    /// Returns the name of the stage that `text` resembles.
    pub(super) fn nearest(&self, text: &str) -> Option<&'a str> {
        dockerfile::suggest(text, self.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_found_by_name_and_number() {
        let file = dockerfile::parse("FROM x AS Base\nFROM y\nFROM z AS base\n").expect("valid");
        let names = StageNames::new(&file.stages);
        assert_eq!(names.base(3, "base"), Some(2));
        assert_eq!(names.base(2, "base"), Some(0));
        assert_eq!(names.base(0, "base"), None);
        assert_eq!(names.base(3, "BASE"), None);
        assert_eq!(names.base(3, "1"), None);
        assert_eq!(names.before(1, "BASE"), Some(0));
        assert_eq!(names.before(1, "1"), None);
        assert_eq!(names.anywhere("1"), Some(1));
        assert_eq!(names.anywhere("3"), None);
        assert_eq!(names.of(1), "stage-1");
        assert_eq!(names.nearest("bsae"), Some("base"));
    }
}
