//! Type and shape rules, one function per operator, grouped by kind.

mod elementwise;
mod matrix;
mod movement;
mod reshape;
mod source;
mod value;
mod window;

pub(super) use value::{MAX_ENTRIES, value};

use crate::dtype::DataType;
use crate::infer::attributes::{self, Axes};
use crate::infer::entry::Entry;
use crate::node::Node;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// Known facts about one operand.
#[derive(Clone, Copy, Default)]
pub(super) struct Operand<'a> {
    /// Whether the slot holds a value at all.
    pub is_present: bool,
    /// Its type.
    pub ty: Option<&'a TensorType>,
    /// Entries of a small integer or bool tensor of rank 0 or 1.
    pub value: Option<&'a [Entry]>,
    /// Its elements, if it is a constant.
    pub tensor: Option<&'a Tensor>,
}

/// Facts that a rule gives about one result; `None` if it gives none.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub dtype: Option<DataType>,
    pub shape: Option<Vec<Dim>>,
}

impl Outcome {
    fn new(dtype: Option<DataType>, shape: Option<Vec<Dim>>) -> Self {
        Self { dtype, shape }
    }
}

/// One node with the known facts about its operands.
pub(super) struct Site<'a> {
    pub node: &'a Node,
    pub opset: i64,
    pub operands: Vec<Operand<'a>>,
    pub results: usize,
}

impl<'a> Site<'a> {
    fn operand(&self, slot: usize) -> Operand<'a> {
        self.operands.get(slot).copied().unwrap_or_default()
    }

    fn has(&self, slot: usize) -> bool {
        self.operand(slot).is_present
    }

    fn dtype(&self, slot: usize) -> Option<DataType> {
        self.operand(slot).ty.map(|ty| ty.dtype).filter(|dtype| *dtype != DataType::Other(0))
    }

    fn shape(&self, slot: usize) -> Option<&'a [Dim]> {
        self.operand(slot).ty?.shape.as_deref()
    }

    fn rank(&self, slot: usize) -> Option<usize> {
        self.shape(slot).map(<[Dim]>::len)
    }

    fn entries(&self, slot: usize) -> Option<&'a [Entry]> {
        self.operand(slot).value
    }

    /// All entries of a small integer operand as numbers.
    fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.entries(slot)?.iter().map(Entry::known).collect()
    }

    /// Number of entries of a vector operand; their values do not matter.
    fn vector_len(&self, slot: usize) -> Option<usize> {
        match self.shape(slot)? {
            [Dim::Known(len)] if *len <= MAX_RANK => Some(*len),
            [] => Some(1),
            _ => None,
        }
    }

    fn int(&self, name: &str, default: i64) -> Option<i64> {
        attributes::int(self.node, name, default)
    }

    /// The `axis` attribute, within `rank`.
    fn axis(&self, default: i64, rank: usize) -> Option<usize> {
        attributes::axis(self.int("axis", default)?, rank)
    }

    /// Axes from operand `slot`, otherwise from the attribute; `None` if they are not known.
    fn axes(&self, slot: usize) -> Option<Axes> {
        if self.has(slot) {
            return self.ints(slot).map(Axes::given);
        }
        Some(Axes::attribute(self.node))
    }

    /// A dtype attribute, with a default if it is absent.
    fn dtype_attribute(&self, name: &str, default: Option<DataType>) -> Option<DataType> {
        if !self.node.has(name) {
            return default;
        }
        Some(DataType::from_code(i32::try_from(self.int(name, 0)?).ok()?))
            .filter(|dtype| *dtype != DataType::Other(0))
    }
}

/// Longest shape that may be made from a number in the file.
pub(super) const MAX_RANK: usize = 256;

/// Results of a standard operator by slot; empty for an unknown operator.
pub(super) fn infer(site: &Site<'_>) -> Vec<Outcome> {
    if site.node.has_reference_attribute() {
        return Vec::new();
    }
    if !site.node.domain().is_empty() {
        return contrib(site).unwrap_or_default();
    }
    standard(site).unwrap_or_default()
}

/// Outcome of an operator of the default domain; `None` for an unknown operator.
fn standard(site: &Site<'_>) -> Option<Vec<Outcome>> {
    elementwise::rule(site)
        .or_else(|| window::rule(site))
        .or_else(|| matrix::rule(site))
        .or_else(|| reshape::rule(site))
        .or_else(|| movement::rule(site))
        .or_else(|| source::rule(site))
}

/// Whether an operator of the default domain has a rule. The rules themselves answer: a rule that knows an operator gives an outcome
/// also where nothing is known of the operands.
pub(super) fn has_rule(op_type: &str) -> bool {
    let node = Node::new(op_type);
    let site = Site { node: &node, opset: i64::MAX, operands: Vec::new(), results: 1 };
    standard(&site).is_some()
}

/// Outcome of an operator that ONNX Runtime's optimizer writes; `None` for others.
fn contrib(site: &Site<'_>) -> Option<Vec<Outcome>> {
    match (site.node.domain(), site.node.op_type()) {
        ("com.microsoft", "FusedConv") => window::rule(site),
        ("com.microsoft", "BiasGelu" | "FastGelu" | "QuickGelu") => {
            one(site.dtype(0), site.shape(0).map(<[Dim]>::to_vec))
        }
        _ => None,
    }
}

/// The outcome of an operator with one result.
#[expect(clippy::unnecessary_wraps, reason = "the rules it ends are optional")]
fn one(dtype: Option<DataType>, shape: Option<Vec<Dim>>) -> Option<Vec<Outcome>> {
    Some(vec![Outcome::new(dtype, shape)])
}

/// `size` as a dim; unknown if absent.
fn known(size: Option<usize>) -> Dim {
    size.map_or(Dim::Unknown, Dim::Known)
}

/// Common dim of numpy broadcasting.
pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other.clone(),
        (Dim::Known(x), Dim::Known(y)) if x == y => a.clone(),
        (Dim::Known(_), Dim::Known(_)) => Dim::Unknown,
        (Dim::Known(x), _) | (_, Dim::Known(x)) => Dim::Known(*x),
        (Dim::Symbol(x), Dim::Symbol(y)) if x == y => a.clone(),
        _ => Dim::Unknown,
    }
}

/// Common shape of numpy broadcasting.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let extra = long.len() - short.len();
    let tail = long[extra..].iter().zip(short).map(|(x, y)| broadcast_dim(x, y));
    long[..extra].iter().cloned().chain(tail).collect()
}

/// Combines two statements about the same size; the first wins if both are names.
pub(super) fn same_dim(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Unknown, other) | (Dim::Symbol(_), other @ Dim::Known(_)) => other.clone(),
        _ => a.clone(),
    }
}

/// Product of dims: a number, or a symbol if all other dims are one.
fn product(dims: &[Dim]) -> Dim {
    if dims.contains(&Dim::Known(0)) {
        return Dim::Known(0);
    }
    let mut size = 1_usize;
    let mut symbol = None;
    for dim in dims {
        match dim {
            Dim::Known(factor) => match size.checked_mul(*factor) {
                Some(product) => size = product,
                None => return Dim::Unknown,
            },
            Dim::Symbol(_) if symbol.is_none() => symbol = Some(dim),
            _ => return Dim::Unknown,
        }
    }
    match symbol {
        None => Dim::Known(size),
        Some(symbol) if size == 1 => symbol.clone(),
        Some(_) => Dim::Unknown,
    }
}

/// Sum of dims: a number, or a symbol if all other dims are zero.
fn sum<'a>(dims: impl Iterator<Item = &'a Dim>) -> Dim {
    let mut size = 0_usize;
    let mut symbol = None;
    for dim in dims {
        match dim {
            Dim::Known(part) => match size.checked_add(*part) {
                Some(sum) => size = sum,
                None => return Dim::Unknown,
            },
            Dim::Symbol(_) if symbol.is_none() => symbol = Some(dim),
            _ => return Dim::Unknown,
        }
    }
    match symbol {
        None => Dim::Known(size),
        Some(symbol) if size == 0 => symbol.clone(),
        Some(_) => Dim::Unknown,
    }
}

/// `f` of a known dim; an unknown dim stays unknown.
fn map_dim(dim: &Dim, f: impl Fn(usize) -> Option<usize>) -> Dim {
    dim.known().and_then(f).map_or(Dim::Unknown, Dim::Known)
}
