//! The environment of a step, shared between steps.
//!
//! A Dockerfile of a thousand `ENV` and a thousand `RUN` would hold a million variables if every step
//! had a list of its own. So an environment is the last assignment and a pointer to the environment
//! before it, and the list is made when a step needs it.

use std::collections::HashSet;
use std::sync::Arc;

/// Variables with their values, at one point of a stage.
#[derive(Clone, Default)]
pub struct Environment(Option<Arc<Assignment>>);

struct Assignment {
    /// `KEY=value`.
    entry: String,
    key_length: usize,
    earlier: Environment,
}

impl Environment {
    /// Sets a variable; it counts as the last one then.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let earlier = std::mem::take(self);
        let entry = format!("{key}={value}");
        self.0 = Some(Arc::new(Assignment { entry, key_length: key.len(), earlier }));
    }

    /// Returns the variables as `KEY=value`, each once, in the order in which they were last set.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut list = Vec::new();
        let mut current = self;
        while let Some(assignment) = &current.0 {
            if seen.insert(&assignment.entry[..assignment.key_length]) {
                list.push(assignment.entry.clone());
            }
            current = &assignment.earlier;
        }
        list.reverse();
        list
    }
}

impl Drop for Environment {
    /// Frees a long chain one by one, not in as many nested calls.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut assignment) = next.and_then(Arc::into_inner) {
            next = assignment.earlier.0.take();
        }
    }
}

impl PartialEq for Environment {
    /// Compares the assignments that led here.
    fn eq(&self, other: &Self) -> bool {
        let (mut a, mut b) = (&self.0, &other.0);
        loop {
            match (a, b) {
                (Some(left), Some(right)) if Arc::ptr_eq(left, right) => return true,
                (Some(left), Some(right)) if left.entry == right.entry => {
                    (a, b) = (&left.earlier.0, &right.earlier.0);
                }
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

impl Eq for Environment {}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let mut environment = Self::default();
        for (key, value) in variables {
            environment.set(key.as_ref(), value.as_ref());
        }
        environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_variable_counts_and_comes_last() {
        let mut environment: Environment =
            [("A", "1"), ("B", "2"), ("A", "3")].iter().copied().collect();
        let before = environment.clone();
        environment.set("C", "=");
        assert_eq!(environment.list(), ["B=2", "A=3", "C=="]);
        assert_eq!(before.list(), ["B=2", "A=3"]);
        assert_ne!(environment, before);
        let equal: Environment = [("A", "1"), ("B", "2"), ("A", "3")].into_iter().collect();
        assert_eq!(before, equal);
    }

    #[test]
    fn a_long_environment_is_freed_without_recursion() {
        let long: Environment = (0..200_000).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(long.list().len(), 200_000);
    }
}
