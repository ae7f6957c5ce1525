//! Fresh names: unique across all graphs of a model, and the same on every run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use indexmap::{IndexMap, IndexSet};

/// All names of values and nodes of a model, including those of bodies; its graphs share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamePool(Arc<Mutex<Names>>);

#[derive(Clone, Debug, Default)]
struct Names {
    taken: IndexSet<String>,
    next: BTreeMap<String, u32>,
    /// Names that nodes have or had, in any graph.
    nodes: IndexSet<String>,
}

/// How often each node name stands in one graph. Unnamed nodes do not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeNames {
    counts: IndexMap<String, u32>,
    /// Names that the file itself gave to several nodes. Runtimes differ on such files, so they are read.
    pub repeated: BTreeSet<String>,
}

impl NodeNames {
    pub fn count(&self, name: &str) -> u32 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn add(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub fn remove(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count = count.saturating_sub(1);
        }
    }
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

    /// Notes the name of a node that the file holds.
    pub fn note_node(&self, name: &str) {
        self.lock().nodes.insert(name.to_owned());
    }

    /// The name for a new node of a graph: `hint`, else `hint_1`, `hint_2`, … A node may take over the name of
    /// an earlier node once it is free in its graph. A name that no node had before must also be free of
    /// `is_value`, because some runtimes put nodes and constants into one namespace. No hint gives no name.
    pub fn node(&self, hint: &str, own: &NodeNames, is_value: impl Fn(&str) -> bool) -> String {
        let mut names = self.lock();
        let is_free =
            |name: &str, is_known: bool| own.count(name) == 0 && (is_known || !is_value(name));
        let is_known = names.nodes.contains(hint);
        let name = if hint.is_empty() || is_free(hint, is_known) {
            hint.to_owned()
        } else {
            let numbered = (1_u32..).map(|number| format!("{hint}_{number}"));
            let mut free =
                numbered.filter(|name| !names.nodes.contains(name) && is_free(name, false));
            free.next().unwrap_or_default()
        };
        names.nodes.insert(name.clone());
        name
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
