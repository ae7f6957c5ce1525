//! The activation cache: inner values of two networks for all images. It moves forward as the fit goes through the
//! networks.
//!
//! A block is fitted to the outputs of the layers before it, and those layers do not change afterwards. So the values
//! are kept from which everything behind is computed, and only the layers up to the next block have to run. A network
//! with several paths (the neck of a detector) has several such values.
//!
//! Where a network is cut decides how its values round. A block that was fitted by an earlier run needs no values, but the
//! blocks behind it must get the same ones as if it had been fitted now. So every stop is noted, and made up for in order
//! before the next one ([`ActivationCache::pass`]).

use indexmap::IndexMap;
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{self, part_between};

use crate::error::TrainerError;
use crate::hash::Fnv;
use crate::run::{Batch, BatchSource, Runner};
use crate::stored_batches::StoredBatches;

/// Maximum number of bytes of inner values that are kept in memory, per network and set of images; more are kept in a
/// file.
const MOST_IN_MEMORY: usize = 256 << 20;

/// Maximum number of bytes that are kept at all.
const MOST_KEPT: usize = 6 << 30;

/// The images as inputs of the two networks.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// Inputs of the original.
    pub original: &'a dyn BatchSource,
    /// Inputs of the pruned network; `None` if they are the same.
    pub current: Option<&'a dyn BatchSource>,
}

/// The two networks. Their values share names.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The original.
    pub original: &'a Model,
    /// The network pruned so far; `None` while that is the original.
    pub current: Option<&'a Model>,
    /// The names of the compared outputs.
    pub outputs: &'a [String],
}

/// The position up to which both networks have run.
#[derive(Debug, Default)]
pub struct ActivationCache {
    /// The names of the values; none at the start.
    cut: Vec<String>,
    values: Option<Values>,
    /// Stops that are noted, in order: the name of the value, and the pruned network then.
    passed: Vec<(String, Option<Model>)>,
    /// Hash of all stops so far.
    path: u64,
}

/// The values of both networks for a set of images.
#[derive(Debug)]
struct Values {
    original: StoredBatches,
    /// `None` if they are the same as the original's.
    current: Option<StoredBatches>,
}

impl ActivationCache {
    /// The names of the kept values; none if networks run from their inputs.
    #[must_use]
    pub fn cut(&self) -> &[String] {
        &self.cut
    }

    /// The images at the cut; `inputs` if the networks have not run yet.
    #[must_use]
    pub fn flow<'a>(&'a self, inputs: &'a dyn BatchSource) -> Flow<'a> {
        match &self.values {
            Some(values) => values.flow(),
            None => Flow { original: inputs, current: None },
        }
    }

    /// Notes that the values at `name` would have been needed, with the network pruned so far. Nothing runs before other
    /// values are needed.
    pub fn pass(&mut self, current: Option<&Model>, name: &str) {
        self.path = self.path_to(name);
        self.passed.push((name.to_owned(), current.cloned()));
    }

    /// A number for all stops so far and one more: values that are reached over other stops round in another way.
    #[must_use]
    pub fn path_to(&self, name: &str) -> u64 {
        let mut path = Fnv::with_seed(self.path);
        path.text(name);
        path.value()
    }

    /// Runs both networks up to the value `name`, with a stop wherever one was noted before. Changes nothing if that takes
    /// too much memory.
    ///
    /// # Errors
    /// Errors of cutting and running the networks.
    pub fn advance(
        &mut self,
        runner: &Runner,
        networks: Pair<'_>,
        name: &str,
        inputs: &dyn BatchSource,
    ) -> Result<(), TrainerError> {
        for (name, current) in std::mem::take(&mut self.passed) {
            let then = Pair { current: current.as_ref(), ..networks };
            self.go_on(runner, then, &name, inputs)?;
        }
        self.path = self.path_to(name);
        self.go_on(runner, networks, name, inputs)
    }

    fn go_on(
        &mut self,
        runner: &Runner,
        networks: Pair<'_>,
        name: &str,
        inputs: &dyn BatchSource,
    ) -> Result<(), TrainerError> {
        let Some(cut) = networks.frontier(&self.cut, name)?.filter(|cut| *cut != self.cut) else {
            return Ok(());
        };
        if let Some(values) = networks.run(runner, self.flow(inputs), &self.cut, &cut)? {
            self.cut = cut;
            self.values = Some(values);
        }
        Ok(())
    }
}

impl Values {
    fn flow(&self) -> Flow<'_> {
        let current = self.current.as_ref().map(|held| held as &dyn BatchSource);
        Flow { original: &self.original, current }
    }
}

impl Pair<'_> {
    /// The values to keep once both networks have run up to `name`; `None` if they would be the images themselves, or if
    /// one of the networks lacks such a value.
    fn frontier(&self, cut: &[String], name: &str) -> Result<Option<Vec<String>>, TrainerError> {
        let done: Vec<&str> = cut.iter().map(String::as_str).chain([name]).collect();
        let found = surgery::frontier(self.original, &done, &borrowed(self.outputs))?;
        let graph = &self.original.graph;
        let is_input = |found: &String| {
            graph.required_inputs().any(|input| graph.value(input).name() == found)
        };
        if found.iter().all(is_input) {
            return Ok(None);
        }
        for model in std::iter::once(self.original).chain(self.current) {
            let graph = &model.graph;
            if found.iter().any(|name| graph.find(name).is_none())
                || !is_closed_behind(model, &found, self.outputs)?
            {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Values of both networks; `None` if they are too large.
    fn run(
        &self,
        runner: &Runner,
        flow: Flow<'_>,
        from: &[String],
        names: &[String],
    ) -> Result<Option<Values>, TrainerError> {
        let Some(original) = values(runner, self.original, flow.original, from, names)? else {
            return Ok(None);
        };
        let Some(model) = self.current else {
            return Ok(Some(Values { original, current: None }));
        };
        let feed = flow.current.unwrap_or(flow.original);
        let current = values(runner, model, feed, from, names)?;
        Ok(current.map(|current| Values { original, current: Some(current) }))
    }
}

/// Whether the outputs are computed from these values alone.
fn is_closed_behind(
    model: &Model,
    names: &[String],
    outputs: &[String],
) -> Result<bool, TrainerError> {
    let behind = part_between(model, &borrowed(names), &borrowed(outputs))?;
    let graph = &behind.graph;
    Ok(graph
        .required_inputs()
        .all(|input| names.iter().any(|name| name == graph.value(input).name())))
}

pub(crate) fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Values of a network for all batches of a feed; `None` if they are too large.
fn values(
    runner: &Runner,
    model: &Model,
    feed: &dyn BatchSource,
    from: &[String],
    names: &[String],
) -> Result<Option<StoredBatches>, TrainerError> {
    let mut part = Part::open(runner, model, from, &borrowed(names))?;
    let mut stored = StoredBatches::within(MOST_IN_MEMORY, MOST_KEPT);
    for batch in feed.batches()? {
        let batch = batch?;
        let (inputs, count) = (part.run(&batch.inputs)?, batch.count);
        if inputs.len() < names.len() || !stored.push(Batch { inputs, labels: None, count }) {
            return Ok(None);
        }
    }
    Ok(Some(stored))
}

/// A part of a network that ends at some values. It passes the values at its start through.
pub(crate) struct Part {
    executor: Option<Box<dyn Executor>>,
    /// The inputs of the executor.
    reads: Vec<String>,
    names: Vec<String>,
}

impl Part {
    /// The part that computes the values `names` from the values `from`, or from the inputs if there are none.
    pub(crate) fn open(
        runner: &Runner,
        model: &Model,
        from: &[String],
        names: &[&str],
    ) -> Result<Self, TrainerError> {
        let graph = &model.graph;
        let is_given = |name: &str| {
            if from.is_empty() {
                graph.required_inputs().any(|input| graph.value(input).name() == name)
            } else {
                from.iter().any(|given| given == name)
            }
        };
        let made: Vec<&str> = names.iter().copied().filter(|name| !is_given(name)).collect();
        let executor = if made.is_empty() {
            None
        } else {
            // A model that is a part itself lacks the values that it does not need.
            let known: Vec<&str> =
                borrowed(from).into_iter().filter(|name| graph.find(name).is_some()).collect();
            Some(runner.open(&part_between(model, &known, &made)?)?)
        };
        let reads = executor.as_ref().map(|it| it.input_names()).unwrap_or_default();
        Ok(Self { executor, reads, names: names.iter().map(|name| (*name).to_owned()).collect() })
    }

    pub(crate) fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let mut values = match &mut self.executor {
            Some(executor) => {
                let own = |name: &String| Some((name.clone(), inputs.get(name)?.clone()));
                executor.run(&self.reads.iter().filter_map(own).collect())?
            }
            None => IndexMap::new(),
        };
        for name in &self.names {
            if let Some(input) = inputs.get(name) {
                values.insert(name.clone(), input.clone());
            }
        }
        Ok(values)
    }
}
