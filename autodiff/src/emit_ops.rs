//! The operators that gradients consist of, each in the form of the model's opset.

use updp_ir::{DataType, Node, ValueId};

use crate::emit::Emit;
use crate::error::Result;

/// The axes `0..rank` in ONNX's numbering.
fn signed(list: &[usize]) -> Vec<i64> {
    list.iter().map(|v| *v as i64).collect()
}

impl Emit<'_> {
    /// `a + b`.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.call("Add", &[a, b])
    }

    /// `a − b`.
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.call("Sub", &[a, b])
    }

    /// `a ∘ b`.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.call("Mul", &[a, b])
    }

    /// `a / b`.
    pub fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.call("Div", &[a, b])
    }

    /// `−a`.
    pub fn neg(&mut self, a: ValueId) -> Result<ValueId> {
        self.call("Neg", &[a])
    }

    /// `A · B` with the semantics of numpy's `matmul`.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.call("MatMul", &[a, b])
    }

    /// `factor · a`, or `a` itself for the factor 1.
    pub fn scale(&mut self, a: ValueId, factor: f64) -> Result<ValueId> {
        if factor == 1.0 {
            return Ok(a);
        }
        let factor = self.scalar(a, factor)?;
        self.mul(a, factor)
    }

    /// `a + summand`.
    pub fn shift(&mut self, a: ValueId, summand: f64) -> Result<ValueId> {
        let summand = self.scalar(a, summand)?;
        self.add(a, summand)
    }

    /// `summand − a`.
    pub fn complement(&mut self, summand: f64, a: ValueId) -> Result<ValueId> {
        let summand = self.scalar(a, summand)?;
        self.sub(summand, a)
    }

    /// The elements of `x` converted to `dtype`, or `x` itself when it has that type.
    pub fn cast(&mut self, x: ValueId, dtype: DataType) -> Result<ValueId> {
        if self.dtype(x)? == dtype {
            return Ok(x);
        }
        self.node(Node::new("Cast").with("to", i64::from(dtype.code())), &[Some(x)])
    }

    /// 1 where `comparison` (`Greater`, `Less`, `Equal`, …) holds between `a` and `b`, else 0, in the type of `a`. This
    /// is cheaper than `Where` in ONNX Runtime.
    pub fn mask(&mut self, comparison: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        let dtype = self.dtype(a)?;
        let holds = self.call(comparison, &[a, b])?;
        self.cast(holds, dtype)
    }

    /// `mask` with a number as the second operand.
    pub fn mask_against(&mut self, comparison: &str, a: ValueId, bound: f64) -> Result<ValueId> {
        let bound = self.scalar(a, bound)?;
        self.mask(comparison, a, bound)
    }

    /// A reduction (`ReduceSum`, `ReduceMean`, `ReduceMax`, `ReduceSumSquare`) over `axes`.
    pub fn reduce(&mut self, op: &str, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        let node = Node::new(op).with("keepdims", i64::from(keep));
        let axes = signed(axes);
        let as_operand = self.opset() >= if op == "ReduceSum" { 13 } else { 18 };
        if as_operand {
            let axes = self.ints(&axes)?;
            self.node(node, &[Some(x), Some(axes)])
        } else {
            self.node(node.with("axes", axes), &[Some(x)])
        }
    }

    /// The sum over `axes`, or `x` itself when there are none.
    pub fn reduce_sum(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        if axes.is_empty() { Ok(x) } else { self.reduce("ReduceSum", x, axes, keep) }
    }

    /// `x` reshaped to other dims, or `x` itself when it already has them.
    pub fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        if self.dims(x)? == dims {
            return Ok(x);
        }
        let dims = self.ints(&signed(dims))?;
        self.call("Reshape", &[x, dims])
    }

    /// Axis `i` of the result is axis `perm[i]` of `x`. Returns `x` itself when no axis moves.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().copied().eq(0..perm.len()) {
            return Ok(x);
        }
        self.node(Node::new("Transpose").with("perm", perm), &[Some(x)])
    }

    /// `x` with its last two axes swapped.
    pub fn transpose_last(&mut self, x: ValueId) -> Result<ValueId> {
        let mut perm: Vec<usize> = (0..self.dims(x)?.len()).collect();
        let rank = perm.len();
        perm.swap(rank - 2, rank - 1);
        self.transpose(x, &perm)
    }

    /// `x` repeated to `dims`, or `x` itself when it already has them.
    pub fn expand(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        if self.dims(x)? == dims {
            return Ok(x);
        }
        let dims = self.ints(&signed(dims))?;
        self.call("Expand", &[x, dims])
    }

    /// The elements `start[i]`, `start[i] + step[i]`, … below `end[i]` of each axis `axes[i]`.
    pub fn slice(
        &mut self,
        x: ValueId,
        axes: &[usize],
        start: &[usize],
        end: &[usize],
        step: &[usize],
    ) -> Result<ValueId> {
        let start = self.ints(&signed(start))?;
        let end = self.ints(&signed(end))?;
        let axes = self.ints(&signed(axes))?;
        let step = self.ints(&signed(step))?;
        self.call("Slice", &[x, start, end, axes, step])
    }

    /// The entries `indices` of `axis`, in that order.
    pub fn gather(&mut self, x: ValueId, axis: usize, indices: &[i64]) -> Result<ValueId> {
        let indices = self.ints(indices)?;
        self.node(Node::new("Gather").with("axis", axis as i64), &[Some(x), Some(indices)])
    }

    /// The values side by side along `axis`, or the value itself when there is only one.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> Result<ValueId> {
        if let [value] = values {
            return Ok(*value);
        }
        let operands: Vec<Option<ValueId>> = values.iter().copied().map(Some).collect();
        self.node(Node::new("Concat").with("axis", axis as i64), &operands)
    }

    /// `x` with `begin` and `end` additional entries of `value` at each axis. Negative numbers cut entries off.
    pub fn pad(&mut self, x: ValueId, begin: &[i64], end: &[i64], value: f64) -> Result<ValueId> {
        let dims = self.dims(x)?;
        let is_cut: Vec<usize> =
            (0..dims.len()).filter(|axis| begin[*axis] < 0 || end[*axis] < 0).collect();
        let mut x = x;
        if !is_cut.is_empty() {
            let start: Vec<usize> = is_cut.iter().map(|a| (-begin[*a]).max(0) as usize).collect();
            let stop: Vec<usize> = is_cut
                .iter()
                .map(|a| dims[*a].saturating_sub((-end[*a]).max(0) as usize))
                .collect();
            x = self.slice(x, &is_cut, &start, &stop, &vec![1; start.len()])?;
        }
        if begin.iter().chain(end).all(|pad| *pad <= 0) {
            return Ok(x);
        }
        let pads: Vec<i64> = begin.iter().chain(end).map(|pad| (*pad).max(0)).collect();
        let pads = self.ints(&pads)?;
        let value = self.scalar(x, value)?;
        self.node(Node::new("Pad").with("mode", "constant"), &[Some(x), Some(pads), Some(value)])
    }

    /// `x` summed over the entries that broadcasting repeated, so that it has `dims`: the adjoint of broadcasting. A
    /// smaller `x` is repeated instead.
    pub fn sum_to(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        let own = self.dims(x)?;
        if own == dims {
            return Ok(x);
        }
        if own.len() < dims.len() {
            return self.expand(x, dims);
        }
        let extra = own.len() - dims.len();
        let mut axes: Vec<usize> = (0..extra).collect();
        axes.extend((extra..own.len()).filter(|axis| own[*axis] != 1 && dims[*axis - extra] == 1));
        let x = self.reduce_sum(x, &axes, true)?;
        let mut kept = self.dims(x)?;
        kept.drain(..extra);
        let x = self.reshape(x, &kept)?;
        self.expand(x, dims)
    }
}
