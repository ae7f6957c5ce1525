//! The activation cache: inner values of two networks for all images. It moves forward as the fit goes through the
//! networks.
//!
//! A block is fitted to the outputs of the layers before it, and those layers do not change afterwards. So their values
//! are kept at the block's entry, and only the layers up to the next block have to run.

use indexmap::IndexMap;
use updp_exec::Executor;
use updp_ir::{Model, Tensor};
use updp_passes::surgery::part_between;

use crate::error::TrainerError;
use crate::run::{Batch, BatchSource, CachedBatches, Runner};

/// Maximum number of bytes of inner values that are kept per network and set of images.
const MOST_KEPT: usize = 640 << 20;

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
    /// The value's name and its data; `None` at the start.
    cut: Option<(String, Values)>,
}

/// One value of both networks for a set of images.
#[derive(Debug)]
struct Values {
    original: CachedBatches,
    /// `None` if it is the same as the original's.
    current: Option<CachedBatches>,
}

impl ActivationCache {
    /// The name of the kept value; `None` if networks run from their inputs.
    #[must_use]
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_ref().map(|(name, _)| name.as_str())
    }

    /// The images at the cut; `inputs` if the networks have not run yet.
    #[must_use]
    pub fn flow<'a>(&'a self, inputs: &'a dyn BatchSource) -> Flow<'a> {
        match &self.cut {
            Some((_, values)) => values.flow(),
            None => Flow { original: inputs, current: None },
        }
    }

    /// Runs both networks up to the value `name`. Changes nothing if this value is not the only path through the
    /// network, or if it is too large to keep.
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
        if self.cut() == Some(name) || !networks.are_closed_behind(name)? {
            return Ok(());
        }
        if let Some(values) = networks.run(runner, self.flow(inputs), self.cut(), name)? {
            self.cut = Some((name.to_owned(), values));
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
    /// Whether everything after `name` is computed from `name` alone.
    fn are_closed_behind(&self, name: &str) -> Result<bool, TrainerError> {
        for model in std::iter::once(self.original).chain(self.current) {
            let graph = &model.graph;
            if graph.required_inputs().any(|input| graph.value(input).name() == name)
                || !is_closed_behind(model, name, self.outputs)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The value of both networks; `None` if it is too large.
    fn run(
        &self,
        runner: &Runner,
        flow: Flow<'_>,
        from: Option<&str>,
        name: &str,
    ) -> Result<Option<Values>, TrainerError> {
        let Some(original) = values(runner, self.original, flow.original, from, name)? else {
            return Ok(None);
        };
        let Some(model) = self.current else {
            return Ok(Some(Values { original, current: None }));
        };
        let feed = flow.current.unwrap_or(flow.original);
        let current = values(runner, model, feed, from, name)?;
        Ok(current.map(|current| Values { original, current: Some(current) }))
    }
}

/// Whether the outputs are computed from the value `name` alone.
pub(crate) fn is_closed_behind(
    model: &Model,
    name: &str,
    outputs: &[String],
) -> Result<bool, TrainerError> {
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    Ok(part_between(model, &[name], &outputs)?.graph.required_inputs().count() == 1)
}

/// One value of a network for all batches of a feed; `None` if it is too large.
fn values(
    runner: &Runner,
    model: &Model,
    feed: &dyn BatchSource,
    from: Option<&str>,
    name: &str,
) -> Result<Option<CachedBatches>, TrainerError> {
    let mut part = Part::open(runner, model, from, &[name])?;
    let mut held = CachedBatches::default();
    let mut bytes = 0;
    for batch in feed.batches()? {
        let mut made = part.run(&batch?.inputs)?;
        let Some(value) = made.swap_remove(name) else { return Ok(None) };
        bytes += value.bytes().len();
        if bytes > MOST_KEPT {
            return Ok(None);
        }
        let inputs = IndexMap::from([(name.to_owned(), value)]);
        held.batches.push(Batch { inputs, labels: None });
    }
    Ok(Some(held))
}

/// A part of a network that ends at some values. It passes the values at its start through.
pub(crate) struct Part {
    executor: Option<Box<dyn Executor>>,
    names: Vec<String>,
}

impl Part {
    /// The part that computes the values `names` from the value `from`, or from the inputs.
    pub(crate) fn open(
        runner: &Runner,
        model: &Model,
        from: Option<&str>,
        names: &[&str],
    ) -> Result<Self, TrainerError> {
        let graph = &model.graph;
        let is_given = |name: &str| match from {
            Some(from) => name == from,
            None => graph.required_inputs().any(|input| graph.value(input).name() == name),
        };
        let made: Vec<&str> = names.iter().copied().filter(|name| !is_given(name)).collect();
        let executor = if made.is_empty() {
            None
        } else {
            Some(runner.open(&part_between(model, from.as_slice(), &made)?)?)
        };
        Ok(Self { executor, names: names.iter().map(|name| (*name).to_owned()).collect() })
    }

    pub(crate) fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, TrainerError> {
        let mut values = match &mut self.executor {
            Some(executor) => executor.run(inputs)?,
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
