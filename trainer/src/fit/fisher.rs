//! The Fisher information of the network's outputs at inner values: how much the outputs react to each direction of the
//! channels.
//!
//! Let `q(y | x)` be the distribution of answers that the outputs describe, and `g = ∂ ln q(y | x) / ∂ z` its gradient at
//! one position of a value `z [C]`, for an answer `y` drawn from `q` itself. Then `F = E[g gᵀ] [C, C]`, and a change `Δ` at
//! one position costs about `½ Δᵀ F Δ` nats of divergence. Hidden channels whose loss the outputs do not see can leave
//! first ([`super::saliency`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use faer::{Mat, Side};
use indexmap::IndexMap;
use updp_autodiff::backward;
use updp_ir::infer::Shapes;
use updp_ir::{Model, Tensor, TensorType, ValueId};
use updp_passes::surgery::{Site, part_between};

use super::gram::gram;
use super::rows::Grid;
use super::table::Table;
use crate::error::TrainerError;
use crate::evaluator::Evaluator;
use crate::run::Runner;
use crate::seed::Generator;

/// Multiply-adds of all forward and backward passes.
const MOST_MACS: u64 = 120_000_000_000;

/// Bounds of the number of images.
const IMAGES: (usize, usize) = (32, 512);

/// Number of images of one pass, if the model accepts any. Gradients take memory.
const BATCH: usize = 8;

/// Maximum number of bytes of all values of one pass together. A pass takes fewer images if they need more.
const PASS_BYTES: u64 = 512 << 20;

/// Maximum number of bytes of all values of a pass over one image, or over the batch that a model fixes.
const MOST_BYTES: u64 = 2 << 30;

/// Maximum time of all passes, as the first one predicts it. Some operators have slow gradients.
const MOST_TIME: Duration = Duration::from_mins(1);

/// Maximum number of positions of one image.
const POSITIONS: usize = 256;

/// A pass forward and backward takes this many times the multiply-adds of a pass forward.
const BACKWARD: u64 = 3;

/// Ridge of the factorization, relative to the mean of the diagonal.
const RIDGE: f64 = 1e-4;

/// Factors `R [C, C]` of the Fisher information `F = R Rᵀ` at the outputs of blocks, by value.
#[derive(Clone, Debug, Default)]
pub struct Fisher {
    factors: BTreeMap<String, Mat<f64>>,
}

impl Fisher {
    /// Measures the information at the values [`Site::sum`] of the sites. `macs` is the number of multiply-adds of one
    /// image. `evaluator` holds the outputs of `original` for its images. `None` if the gradients take too much memory or
    /// time.
    ///
    /// # Errors
    /// T0301 to T0304 if the network has no gradient; errors of running it.
    pub fn measure(
        runner: &Runner,
        original: &Model,
        evaluator: &Evaluator,
        sites: &[&Site],
        macs: u64,
        seed: u64,
    ) -> Result<Option<Self>, TrainerError> {
        let axes = sites.iter().map(|site| (site.sum.as_str(), site.end_axis)).collect();
        Self::measure_at(runner, original, evaluator, &axes, macs, seed)
    }

    /// The information at these values, each with the axis of its channels.
    fn measure_at(
        runner: &Runner,
        original: &Model,
        evaluator: &Evaluator,
        axes: &BTreeMap<&str, usize>,
        macs: u64,
        seed: u64,
    ) -> Result<Option<Self>, TrainerError> {
        let mut random = Generator::new(seed ^ 0x00f1_54e5);
        let images = (MOST_MACS / (BACKWARD * macs.max(1))) as usize;
        let images = images.clamp(IMAGES.0, IMAGES.1).min(evaluator.images().max(1));
        let step = (evaluator.images() / images).max(1);
        let mut sums: BTreeMap<&str, Mat<f64>> = BTreeMap::new();
        let mut graph: Option<GradientGraph> = None;
        for (at, batch) in evaluator.source().batches()?.enumerate().step_by(step) {
            let inputs = batch?.inputs;
            let seeds = evaluator.draw_cotangents(at, &mut random);
            let graph = match &mut graph {
                Some(graph) => graph,
                none => {
                    let opened = GradientGraph::open(runner, original, &inputs, &seeds, axes)?;
                    let Some(opened) = opened else { return Ok(None) };
                    none.insert(opened)
                }
            };
            for feed in graph.feeds(&inputs, &seeds) {
                let start = Instant::now();
                let made = graph.executor.run(&feed)?;
                let passes = images.div_ceil(graph.batch) as u32;
                if sums.is_empty() && start.elapsed() * passes > MOST_TIME {
                    return Ok(None);
                }
                for (name, gradient) in graph.gradients.iter().zip(made.values()) {
                    let Some((name, axis)) = axes.get_key_value(name.as_str()) else { continue };
                    let Some(rows) = rows(gradient, *axis, &mut random) else { continue };
                    let own = gram(&rows, &vec![0.0; rows.width]);
                    match sums.get_mut(name) {
                        Some(sum) => *sum += own,
                        None => drop(sums.insert(name, own)),
                    }
                }
            }
        }
        let factors =
            sums.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), factor(sum)?)));
        Ok(Some(Self { factors: factors.collect() }))
    }

    /// The factor `R [C, C]` at a value; `None` if the outputs do not react to it.
    pub(super) fn factor(&self, value: &str) -> Option<&Mat<f64>> {
        self.factors.get(value)
    }
}

/// `R` of `F = R Rᵀ`, where the mean of `F`'s diagonal is 1. `None` if `F` is zero or not finite.
fn factor(mut sum: Mat<f64>) -> Option<Mat<f64>> {
    let unit = (0..sum.nrows()).map(|at| sum[(at, at)]).sum::<f64>() / sum.nrows().max(1) as f64;
    if !(unit.is_finite() && unit > 0.0) {
        return None;
    }
    sum *= faer::Scale(1.0 / unit);
    for at in 0..sum.nrows() {
        sum[(at, at)] += RIDGE;
    }
    Some(sum.llt(Side::Lower).ok()?.L().to_owned())
}

/// The gradients of one batch as rows, one per position.
fn rows(gradient: &Tensor, axis: usize, random: &mut Generator) -> Option<Table> {
    let grid = Grid::of(gradient, axis)?;
    let mut rows = Table::new(grid.channels());
    for image in 0..*gradient.dims().first()? {
        grid.draw(image, POSITIONS, random, &mut rows.values);
    }
    rows.is_finite().then_some(rows)
}

/// The graph of a [`GradientGraph`] before it is opened.
struct Written {
    model: Model,
    batch: usize,
    /// Whether the model fixes the batch.
    is_fixed: bool,
    /// Inputs that every pass gets as a whole: they have no axis of images.
    whole: BTreeSet<String>,
    seeds: IndexMap<String, String>,
    gradients: Vec<String>,
}

/// Number of bytes of all values that a run computes. Values of an unknown size do not count.
fn value_bytes(model: &Model) -> u64 {
    let graph = &model.graph;
    let shapes = Shapes::infer(graph, model.opset("").unwrap_or(0));
    let results = graph.nodes().into_iter().flat_map(|node| graph.results(node)).flatten();
    let bytes = results.filter_map(|value| {
        let ty = shapes.of(value)?;
        ty.dtype.byte_len(ty.known_dims()?.iter().product())
    });
    bytes.map(|bytes| bytes as u64).sum()
}

/// The network with its gradients. Its inputs are those of the network and the cotangents of the outputs.
struct GradientGraph {
    executor: Box<dyn updp_exec::Executor>,
    /// Number of images of one pass.
    batch: usize,
    /// Inputs that every pass gets as a whole.
    whole: BTreeSet<String>,
    /// Input with the cotangent of each output.
    seeds: IndexMap<String, String>,
    /// The value of each result, in order.
    gradients: Vec<String>,
}

impl GradientGraph {
    fn open(
        runner: &Runner,
        original: &Model,
        inputs: &IndexMap<String, Tensor>,
        cotangents: &IndexMap<String, Tensor>,
        axes: &BTreeMap<&str, usize>,
    ) -> Result<Option<Self>, TrainerError> {
        let mut graph = Self::written(original, inputs, cotangents, axes, BATCH)?;
        let bytes = value_bytes(&graph.model);
        if bytes > PASS_BYTES && graph.batch > 1 && !graph.is_fixed {
            let fewer = (graph.batch as u64 * PASS_BYTES / bytes).max(1) as usize;
            graph = Self::written(original, inputs, cotangents, axes, fewer)?;
        }
        if value_bytes(&graph.model) > MOST_BYTES {
            return Ok(None);
        }
        let Written { model, batch, whole, seeds, gradients, .. } = graph;
        Ok(Some(Self { executor: runner.open(&model)?, batch, whole, seeds, gradients }))
    }

    /// The graph for passes over this many images, if the model accepts any number.
    fn written(
        original: &Model,
        inputs: &IndexMap<String, Tensor>,
        cotangents: &IndexMap<String, Tensor>,
        axes: &BTreeMap<&str, usize>,
        mut batch: usize,
    ) -> Result<Written, TrainerError> {
        let mut model = original.clone();
        let mut is_fixed = false;
        let mut whole = BTreeSet::new();
        for (at, (name, tensor)) in inputs.iter().enumerate() {
            let Some(value) = model.graph.find(name) else { continue };
            let declared = model.graph.value(value).declared();
            let fixed = declared.and_then(|ty| ty.shape.as_ref()?.first()?.known());
            // The images come first. Another input without an open axis 0 is the same for all images.
            let is_open = declared.is_some_and(|ty| {
                ty.shape
                    .as_ref()
                    .and_then(|dims| dims.first())
                    .is_some_and(|dim| dim.known().is_none())
            });
            if at > 0 && !is_open {
                whole.insert(name.clone());
                continue;
            }
            let images = tensor.dims().first().copied().unwrap_or(1);
            is_fixed |= fixed.is_some();
            batch = fixed.unwrap_or(batch).min(images.max(1));
            let dims = [&[batch], tensor.dims().get(1..).unwrap_or_default()].concat();
            model.graph.set_input_dims(value, &dims)?;
        }
        let (mut seeds, mut pairs) = (IndexMap::new(), Vec::new());
        for (name, tensor) in cotangents {
            let Some(value) = model.graph.find(name) else { continue };
            let dims = [&[batch], tensor.dims().get(1..).unwrap_or_default()].concat();
            let ty = TensorType::fixed(tensor.dtype(), &dims);
            let seed = model.graph.add_input(&format!("{name}.cotangent"), &ty);
            seeds.insert(name.clone(), model.graph.value(seed).name().to_owned());
            pairs.push((value, seed));
        }
        let wanted: Vec<(&str, ValueId)> =
            axes.keys().filter_map(|name| Some((*name, model.graph.find(name)?))).collect();
        let values: Vec<ValueId> = wanted.iter().map(|(_, value)| *value).collect();
        let found = backward(&mut model, &pairs, &values)?;
        let found: Vec<(String, String)> = wanted
            .iter()
            .zip(found)
            .filter_map(|((name, _), gradient)| {
                Some(((*name).to_owned(), model.graph.value(gradient?).name().to_owned()))
            })
            .collect();
        let names: Vec<&str> = found.iter().map(|(_, gradient)| gradient.as_str()).collect();
        let model = part_between(&model, &[], &names)?;
        let gradients = found.iter().map(|(name, _)| name.clone()).collect();
        Ok(Written { model, batch, is_fixed, whole, seeds, gradients })
    }

    /// The inputs of each pass over a batch of images. A remainder that does not fill a pass is left out.
    fn feeds(
        &self,
        inputs: &IndexMap<String, Tensor>,
        cotangents: &IndexMap<String, Tensor>,
    ) -> Vec<IndexMap<String, Tensor>> {
        let images = inputs.values().next().and_then(|tensor| tensor.dims().first());
        let starts = (0..images.copied().unwrap_or(0) / self.batch).map(|pass| pass * self.batch);
        let feed = |from: usize| {
            let own = inputs.iter();
            let seeds = cotangents
                .iter()
                .filter_map(|(name, tensor)| Some((self.seeds.get(name)?, tensor)));
            own.chain(seeds)
                .map(|(name, tensor)| {
                    let own = if self.whole.contains(name) {
                        Some(tensor.clone())
                    } else {
                        images_of(tensor, from, self.batch)
                    };
                    Some((name.clone(), own?))
                })
                .collect::<Option<IndexMap<String, Tensor>>>()
        };
        starts.filter_map(feed).collect()
    }
}

/// Some images of a tensor; `None` if it has fewer.
fn images_of(tensor: &Tensor, from: usize, count: usize) -> Option<Tensor> {
    let (images, rest) = tensor.dims().split_first()?;
    if from + count > *images {
        return None;
    }
    let size = tensor.bytes().len() / (*images).max(1);
    let bytes = tensor.bytes().slice(from * size..(from + count) * size);
    Tensor::new(tensor.dtype(), [&[count], rest].concat(), bytes).ok()
}

#[cfg(test)]
mod tests {
    use updp_exec::{Options, Runtime};
    use updp_ir::{DataType, ModelBuilder, Node};
    use updp_testkit::{known, tensor};

    use super::*;
    use crate::run::{Batch, CachedBatches};

    /// Maps `z [N, 3, 2, 2]`, pooled and read by a head with two classes.
    fn network(head: &[f64], is_probability: bool) -> Model {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &known(&[8, 3, 2, 2]));
        builder.node(Node::new("Sigmoid"), &["x"], &["z"]);
        builder.node(Node::new("GlobalAveragePool"), &["z"], &["pooled"]);
        builder.node(Node::new("Flatten"), &["pooled"], &["flat"]);
        builder.initializer("head", &tensor(DataType::Float, &[3, 2], head));
        let scores = if is_probability { "scores" } else { "y" };
        builder.node(Node::new("MatMul"), &["flat", "head"], &[scores]);
        if is_probability {
            builder.node(Node::new("Softmax").with("axis", 1_i64), &["scores"], &["y"]);
        }
        builder.output("y", DataType::Float, Some(&known(&[8, 2])));
        builder.build().unwrap()
    }

    fn measured(model: &Model) -> Fisher {
        let runner = Runner { runtime: Runtime::Tract, options: Options::default() };
        let mut random = Generator::new(3);
        let mut batch = || {
            let values: Vec<f32> =
                (0..96).map(|_| random.below(1000) as f32 / 500.0 - 1.0).collect();
            let x = Tensor::from_f32(vec![8, 3, 2, 2], &values).expect("fits");
            Batch::new(IndexMap::from([("x".to_owned(), x)]), None)
        };
        let images = CachedBatches { batches: (0..4).map(|_| batch()).collect() };
        let evaluator = Evaluator::new(&runner, model, images).unwrap();
        let axes = BTreeMap::from([("z", 1)]);
        Fisher::measure_at(&runner, model, &evaluator, &axes, 1, 0).unwrap().expect("it is small")
    }

    #[test]
    fn only_the_direction_that_separates_the_classes_counts() {
        let head = [3.0, 0.0, 1.5, 1.5, -3.0, 3.0];
        // d = head[:, 0] − head[:, 1]; the information at a position is proportional to d dᵀ.
        let d = [3.0, 0.0, -6.0];
        let unit = 45.0 / 3.0;
        for is_probability in [false, true] {
            let fisher = measured(&network(&head, is_probability));
            let factor = fisher.factor("z").expect("the outputs react to it");
            let found = factor * factor.transpose();
            for (row, a) in d.iter().enumerate() {
                for (column, b) in d.iter().enumerate() {
                    let wanted = a * b / unit;
                    assert!((found[(row, column)] - wanted).abs() < 1e-3, "{found:?}");
                }
            }
        }
    }

    #[test]
    fn a_value_that_the_outputs_do_not_react_to_has_no_factor() {
        let fisher = measured(&network(&[0.5; 6], false));
        assert!(fisher.factor("z").is_none());
    }
}
