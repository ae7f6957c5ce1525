//! The loss and the values reported beside it.

use updp_ir::{DataType, Node, TensorType, ValueId};

use super::spec::{Distance, Features, Objective};
use crate::emit::Emit;
use crate::error::{AutodiffError, Result};

/// The loss with the inputs it needs.
pub(super) struct Loss {
    /// The loss, a number with the type of the outputs.
    pub value: ValueId,
    /// The number of images whose largest score is at the place of the largest label, or of the teacher's largest
    /// score.
    pub correct: Option<ValueId>,
    /// Soft labels [N, classes].
    pub targets: Option<ValueId>,
    /// The outputs of a teacher, one value per output.
    pub teachers: Vec<ValueId>,
    /// The values of a teacher that are matched inside the network.
    pub features: Vec<ValueId>,
}

impl Loss {
    /// Writes the loss of the model's outputs.
    pub fn write(emit: &mut Emit<'_>, objective: &Objective, outputs: &[ValueId]) -> Result<Self> {
        emit.set_scope("loss");
        match *objective {
            Objective::Labels { smoothing } => {
                let scores = scores(emit, outputs)?;
                let targets = input_like(emit, "targets", scores)?;
                let value = cross_entropy(emit, scores, targets, smoothing)?;
                let correct = Some(agreement(emit, scores, targets)?);
                Ok(Self {
                    value,
                    correct,
                    targets: Some(targets),
                    teachers: Vec::new(),
                    features: Vec::new(),
                })
            }
            Objective::Teacher { temperature } => {
                let scores = scores(emit, outputs)?;
                let teacher = input_like(emit, "teacher", scores)?;
                let value = divergence(emit, scores, teacher, temperature)?;
                let correct = Some(agreement(emit, scores, teacher)?);
                Ok(Self {
                    value,
                    correct,
                    targets: None,
                    teachers: vec![teacher],
                    features: Vec::new(),
                })
            }
            Objective::LabelsAndTeacher { smoothing, temperature, weight } => {
                let scores = scores(emit, outputs)?;
                let targets = input_like(emit, "targets", scores)?;
                let teacher = input_like(emit, "teacher", scores)?;
                let hard = cross_entropy(emit, scores, targets, smoothing)?;
                let soft = divergence(emit, scores, teacher, temperature)?;
                let (hard, soft) = (emit.scale(hard, 1.0 - weight)?, emit.scale(soft, weight)?);
                let value = emit.add(hard, soft)?;
                let correct = Some(agreement(emit, scores, targets)?);
                Ok(Self {
                    value,
                    correct,
                    targets: Some(targets),
                    teachers: vec![teacher],
                    features: Vec::new(),
                })
            }
            Objective::Outputs(distance) => of_outputs(emit, distance, outputs),
        }
    }

    /// Adds the distance of a value inside the network from the same value of a teacher.
    pub fn add_features(&mut self, emit: &mut Emit<'_>, features: &Features) -> Result<()> {
        let value = emit.graph().find(&features.value);
        let value = value
            .ok_or_else(|| fails(&format!("the network has no value {:?}", features.value)))?;
        let teacher = input_like(emit, "teacher.features", value)?;
        let apart = relative_square(emit, value, teacher)?;
        let weighted = emit.scale(apart, features.weight)?;
        self.value = emit.add(self.value, weighted)?;
        self.features.push(teacher);
        Ok(())
    }
}

fn of_outputs(emit: &mut Emit<'_>, distance: Distance, outputs: &[ValueId]) -> Result<Loss> {
    let mut sum = None;
    let mut teachers = Vec::new();
    for output in outputs {
        let hint = if outputs.len() == 1 {
            "teacher".to_owned()
        } else {
            format!("teacher.{}", emit.name(*output))
        };
        let teacher = input_like(emit, &hint, *output)?;
        let apart = match distance {
            Distance::MeanSquare => mean_square(emit, *output, teacher)?,
            Distance::Cosine => cosine(emit, *output, teacher)?,
        };
        teachers.push(teacher);
        sum = Some(match sum {
            None => apart,
            Some(sum) => emit.add(sum, apart)?,
        });
    }
    let value = sum.ok_or_else(|| fails("the model has no float output"))?;
    Ok(Loss { value, correct: None, targets: None, teachers, features: Vec::new() })
}

fn fails(detail: &str) -> AutodiffError {
    AutodiffError::Loss { detail: detail.to_owned() }
}

/// The first float output, which must be [N, classes].
fn scores(emit: &Emit<'_>, outputs: &[ValueId]) -> Result<ValueId> {
    let first = *outputs.first().ok_or_else(|| fails("the model has no float output"))?;
    let dims = emit.dims(first)?;
    if dims.len() != 2 || dims[1] < 2 {
        let detail = format!("{:?} {dims:?} has no scores [N, classes]", emit.name(first));
        return Err(AutodiffError::Loss { detail });
    }
    Ok(first)
}

/// Adds a graph input with the type of a value.
fn input_like(emit: &mut Emit<'_>, name: &str, like: ValueId) -> Result<ValueId> {
    let ty = TensorType::fixed(emit.dtype(like)?, &emit.dims(like)?);
    Ok(emit.graph_mut().add_input(name, &ty))
}

fn log_softmax(emit: &mut Emit<'_>, x: ValueId) -> Result<ValueId> {
    emit.node(Node::new("LogSoftmax").with("axis", 1_i64), &[Some(x)])
}

/// −Σ t′·ln softmax(z) / N with t′ = (1 − s)·t + s/classes.
fn cross_entropy(
    emit: &mut Emit<'_>,
    scores: ValueId,
    targets: ValueId,
    smoothing: f64,
) -> Result<ValueId> {
    let dims = emit.dims(scores)?;
    let logs = log_softmax(emit, scores)?;
    let mut targets = targets;
    if smoothing > 0.0 {
        targets = emit.scale(targets, 1.0 - smoothing)?;
        targets = emit.shift(targets, smoothing / dims[1] as f64)?;
    }
    let product = emit.mul(logs, targets)?;
    let sum = emit.reduce_sum(product, &[0, 1], false)?;
    emit.scale(sum, -1.0 / dims[0] as f64)
}

/// T²/N · Σ p·(ln p − ln q) with p = softmax(u/T), q = softmax(z/T).
fn divergence(
    emit: &mut Emit<'_>,
    scores: ValueId,
    teacher: ValueId,
    temperature: f64,
) -> Result<ValueId> {
    let images = emit.dims(scores)?[0] as f64;
    let scores = emit.scale(scores, 1.0 / temperature)?;
    let teacher = emit.scale(teacher, 1.0 / temperature)?;
    let (own, wanted) = (log_softmax(emit, scores)?, log_softmax(emit, teacher)?);
    let probability = emit.call("Exp", &[wanted])?;
    let apart = emit.sub(wanted, own)?;
    let product = emit.mul(probability, apart)?;
    let sum = emit.reduce_sum(product, &[0, 1], false)?;
    emit.scale(sum, temperature * temperature / images)
}

/// The mean of (y − u)².
fn mean_square(emit: &mut Emit<'_>, y: ValueId, u: ValueId) -> Result<ValueId> {
    let dims = emit.dims(y)?;
    let apart = emit.sub(y, u)?;
    let square = emit.mul(apart, apart)?;
    let axes: Vec<usize> = (0..dims.len()).collect();
    let sum = emit.reduce_sum(square, &axes, false)?;
    emit.scale(sum, 1.0 / dims.iter().product::<usize>() as f64)
}

/// Σ (y − u)² / Σ (u − ū)² with ū, the mean over the images; Σ u² is the divisor for one image.
fn relative_square(emit: &mut Emit<'_>, y: ValueId, u: ValueId) -> Result<ValueId> {
    let dims = emit.dims(y)?;
    let axes: Vec<usize> = (0..dims.len()).collect();
    let images = dims.first().copied().unwrap_or(1);
    let square = emit.mul(u, u)?;
    let all = emit.reduce_sum(square, &axes, false)?;
    let (spread, floor) = if images > 1 {
        let sum = emit.reduce_sum(u, &[0], true)?;
        let mean = emit.scale(sum, 1.0 / images as f64)?;
        let apart = emit.sub(u, mean)?;
        let square = emit.mul(apart, apart)?;
        (emit.reduce_sum(square, &axes, false)?, 1e-6)
    } else {
        (all, 0.0)
    };
    // Features that are the same in all images of a batch must not divide by 0.
    let least = emit.scale(all, floor)?;
    let spread = emit.add(spread, least)?;
    let spread = emit.shift(spread, 1e-12)?;
    let apart = emit.sub(y, u)?;
    let square = emit.mul(apart, apart)?;
    let sum = emit.reduce_sum(square, &axes, false)?;
    emit.div(sum, spread)
}

/// The mean over images of 1 − y·u / (‖y‖·‖u‖).
fn cosine(emit: &mut Emit<'_>, y: ValueId, u: ValueId) -> Result<ValueId> {
    let dims = emit.dims(y)?;
    let images = dims.first().copied().unwrap_or(1);
    let flat = [images, dims.iter().skip(1).product()];
    let (y, u) = (emit.reshape(y, &flat)?, emit.reshape(u, &flat)?);
    let mut inner = |a, b| -> Result<ValueId> {
        let product = emit.mul(a, b)?;
        emit.reduce_sum(product, &[1], false)
    };
    let (both, own, wanted) = (inner(y, u)?, inner(y, y)?, inner(u, u)?);
    let product = emit.mul(own, wanted)?;
    let product = emit.shift(product, 1e-24)?;
    let norm = emit.call("Sqrt", &[product])?;
    let cosine = emit.div(both, norm)?;
    let sum = emit.reduce_sum(cosine, &[0], false)?;
    let mean = emit.scale(sum, 1.0 / images as f64)?;
    emit.complement(1.0, mean)
}

/// The number of rows in which two matrices have their largest entry at the same place, as f32.
fn agreement(emit: &mut Emit<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let mut places = [a, b];
    for value in &mut places {
        let node = Node::new("ArgMax").with("axis", 1_i64).with("keepdims", 0_i64);
        *value = emit.node(node, &[Some(*value)])?;
    }
    let equal = emit.call("Equal", &places)?;
    let equal = emit.cast(equal, DataType::Float)?;
    emit.name_next("correct");
    emit.reduce_sum(equal, &[0], false)
}
