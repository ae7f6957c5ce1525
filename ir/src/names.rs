//! Fresh names: unique across all graphs of a model, and the same on every run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use indexmap::IndexSet;

/// All value names of a model, including those of bodies; its graphs share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamePool(Arc<Mutex<Names>>);

#[derive(Clone, Debug, Default)]
struct Names {
    taken: IndexSet<String>,
    next: BTreeMap<String, u32>,
}

impl NamePool {
    /// A pool with the same taken names; from now on it takes names of its own.
    pub fn detached(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Marks `name` as taken; returns false if it was already taken.
    pub fn take(&self, name: &str) -> bool {
        self.lock().taken.insert(name.to_owned())
    }

    /// `hint` if it is free, else `hint_1`, `hint_2`, …; taken from now on.
    pub fn fresh(&self, hint: &str) -> String {
        let mut names = self.lock();
        let hint = if hint.is_empty() { "value" } else { hint };
        if names.taken.insert(hint.to_owned()) {
            return hint.to_owned();
        }
        let mut number = names.next.get(hint).copied().unwrap_or(1);
        loop {
            let name = format!("{hint}_{number}");
            number += 1;
            if names.taken.insert(name.clone()) {
                names.next.insert(hint.to_owned(), number);
                return name;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
