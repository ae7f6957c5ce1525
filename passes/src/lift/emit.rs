//! From affine maps back to nodes.

use updp_ir::{ConvGeometry, Node, Tensor};

use super::{Form, Linear, weights};
use crate::error::Declined;
use crate::kernel::AffineMap;
use crate::patch::{Operand, Out, Patch};
use crate::rule::Context;

impl Linear {
    /// Plans the unit anew with `a·y + c` applied to its result. Weight and bias are rescaled; an
    /// unchanged weight is shared, not copied. Returns the operand with the result.
    ///
    /// `a`, `c`: `[O]`.
    ///
    /// # Errors
    /// `overflow` when a weight leaves the range of its dtype.
    pub fn emit_scaled(
        &self,
        cx: &Context<'_>,
        patch: &mut Patch,
        a: &[f64],
        c: &[f64],
        out: Out,
    ) -> Result<Operand, Declined> {
        let weight = self.scaled_rows(a)?;
        let bias: Vec<f64> = match &self.bias {
            Some(bias) => bias.iter().zip(a).zip(c).map(|((b, a), c)| a * b + c).collect(),
            None => c.to_vec(),
        };
        self.emit_parts(cx, patch, Operand::Value(self.x), weight, Some(&bias), out)
    }

    /// Stored weight with result channel `o` multiplied by `a[o]`; `None` if nothing changes.
    fn scaled_rows(&self, a: &[f64]) -> Result<Option<Tensor>, Declined> {
        let alpha = self.alpha;
        if alpha == 1.0 && a.iter().all(|a| *a == 1.0) {
            return Ok(None);
        }
        let dims = self.weight.dims();
        let outputs = self.out_channels;
        let scaled = match self.form {
            Form::Conv => weights::scale_chunks(&self.weight, dims[1..].iter().product(), |o| a[o]),
            Form::ConvTranspose => {
                // [I, O/g, k…]: chunk = i·(O/g) + row within the group of i
                let per_group = outputs / self.groups;
                let inputs = self.in_channels / self.groups;
                weights::scale_chunks(&self.weight, dims[2..].iter().product(), |chunk| {
                    a[chunk / per_group / inputs * per_group + chunk % per_group]
                })
            }
            Form::Gemm { trans_b: true } => {
                weights::scale_chunks(&self.weight, dims[1], |o| alpha * a[o])
            }
            Form::Gemm { trans_b: false } | Form::MatMul { .. } => {
                weights::scale_chunks(&self.weight, 1, |at| alpha * a[at % outputs])
            }
        };
        scaled.map(Some)
    }

    /// Plans the unit anew with another input scale and bias: weight column `i` multiplied by
    /// `a[i]`, bias replaced.
    ///
    /// `a`: `[I]`; `bias`: `[O]`.
    ///
    /// # Errors
    /// `overflow` when a weight leaves the range of its dtype.
    pub fn emit_scaled_inputs(
        &self,
        cx: &Context<'_>,
        patch: &mut Patch,
        x: Operand,
        a: &[f64],
        bias: Option<&[f64]>,
        out: Out,
    ) -> Result<Operand, Declined> {
        let weight = self.scaled_columns(a)?;
        self.emit_parts(cx, patch, x, weight, bias, out)
    }

    fn scaled_columns(&self, a: &[f64]) -> Result<Option<Tensor>, Declined> {
        let alpha = self.alpha;
        if alpha == 1.0 && a.iter().all(|a| *a == 1.0) {
            return Ok(None);
        }
        let dims = self.weight.dims();
        let (inputs, outputs) = (self.in_channels, self.out_channels);
        let scaled = match self.form {
            Form::Conv => {
                // [O, I/g, k…]: chunk = o·(I/g) + column within the group of o
                let per_group = inputs / self.groups;
                let rows = outputs / self.groups;
                weights::scale_chunks(&self.weight, dims[2..].iter().product(), |chunk| {
                    a[chunk / per_group / rows * per_group + chunk % per_group]
                })
            }
            Form::ConvTranspose => {
                weights::scale_chunks(&self.weight, dims[1..].iter().product(), |i| a[i])
            }
            Form::Gemm { trans_b: true } => {
                weights::scale_chunks(&self.weight, 1, |at| alpha * a[at % inputs])
            }
            Form::Gemm { trans_b: false } | Form::MatMul { .. } => {
                weights::scale_chunks(&self.weight, outputs, |i| alpha * a[i])
            }
        };
        scaled.map(Some)
    }

    /// Plans the unit anew with the weights of `map` (same form, any kernel, stride, padding), and
    /// an Add of its border map if it has one.
    ///
    /// # Errors
    /// `overflow` when a weight leaves the range of its dtype; `border-form` when a fully connected
    /// unit would need a border map.
    pub fn emit_map(
        &self,
        cx: &Context<'_>,
        patch: &mut Patch,
        x: Operand,
        map: &AffineMap,
        out: Out,
    ) -> Result<Operand, Declined> {
        let shape = map.weight.shape().to_vec();
        let stored = match self.form {
            Form::Conv | Form::Gemm { trans_b: true } => {
                weights::stored(self.dtype(), shape, &contiguous(&map.weight))?
            }
            Form::ConvTranspose => {
                return Err(Declined::new("transposed", "a ConvTranspose has no affine map"));
            }
            Form::Gemm { trans_b: false } | Form::MatMul { .. } => {
                // [O, I] -> [I, O]
                let transposed = map.weight.view().reversed_axes();
                let values = contiguous(&transposed.to_owned());
                weights::stored(self.dtype(), vec![shape[1], shape[0]], &values)?
            }
        };
        let mut unit = self.clone();
        unit.alpha = 1.0;
        unit.groups = map.groups;
        unit.geometry = map.geometry();
        unit.out_channels = map.weight.shape()[0];
        unit.stores_zeros &= unit.out_channels == self.out_channels;
        let Some(border) = &map.border else {
            let bias = map.bias.iter().any(|b| *b != 0.0).then_some(map.bias.as_slice());
            return unit.emit_parts(cx, patch, x, Some(stored), bias, out);
        };
        if !self.is_conv() {
            return Err(Declined::new("border-form", "only a Conv can have a border map"));
        }
        let name = self.name(cx);
        let hint = format!("{}_inner", cx.graph.value(self.y).name());
        let inner = unit.emit_parts(cx, patch, x, Some(stored), None, Out::Fresh(hint))?;
        let mut dims = vec![1];
        dims.extend_from_slice(border.map.shape());
        let map = weights::stored(self.dtype(), dims, &contiguous(&border.map))?;
        let map = patch.constant(format!("{name}.border"), map, None);
        // The name of the constant is not used here: tract puts both names into one namespace.
        let add = Node::new("Add").named(&format!("{name}.border_add"));
        Ok(patch.node(add, self.main(), vec![inner, map], out))
    }

    /// Plans the nodes of the unit. `weight` is `None` if the stored weight stays. A bias equal to
    /// the stored bias is shared. A bias of zeros is left out if the form allows it.
    fn emit_parts(
        &self,
        cx: &Context<'_>,
        patch: &mut Patch,
        x: Operand,
        weight: Option<Tensor>,
        bias: Option<&[f64]>,
        out: Out,
    ) -> Result<Operand, Declined> {
        let main = cx.graph.node(self.main());
        let name = self.name(cx);
        let weight = match weight {
            None => Operand::Value(self.weight_value),
            Some(tensor) => {
                patch.constant(format!("{name}.weight"), tensor, Some(self.weight_value))
            }
        };
        let bias = match self.plan_bias(patch, &name, bias)? {
            Operand::Absent if self.needs_bias(cx) => self.plan_zeros(patch, &name)?,
            planned => planned,
        };
        let planned = self.planned_node(main);
        let Form::MatMul { bias_add } = self.form else {
            // A trailing empty operand is legal, but tract takes it for a bias.
            let operands = if bias == Operand::Absent { 2 } else { 3 };
            let operands = [x, weight, bias][..operands].to_vec();
            return Ok(patch.node(planned, self.main(), operands, out));
        };
        if bias == Operand::Absent {
            return Ok(patch.node(planned, self.main(), vec![x, weight], out));
        }
        let product = format!("{name}.product");
        let product = patch.node(planned, self.main(), vec![x, weight], Out::Fresh(product));
        let add = match bias_add {
            Some(add) => cx.graph.node(add).bare_copy(),
            None => Node::new("Add").named(&format!("{name}.bias_add")),
        };
        Ok(patch.node(add, bias_add.unwrap_or(self.main()), vec![product, bias], out))
    }

    /// The prefix of new names: the name of the main node, otherwise of its result.
    fn name(&self, cx: &Context<'_>) -> String {
        let name = cx.graph.node(self.main()).name();
        if name.is_empty() { cx.graph.value(self.y).name() } else { name }.to_owned()
    }

    fn plan_bias(
        &self,
        patch: &mut Patch,
        name: &str,
        bias: Option<&[f64]>,
    ) -> Result<Operand, Declined> {
        let Some(bias) = bias.filter(|bias| bias.iter().any(|b| *b != 0.0)) else {
            return Ok(Operand::Absent);
        };
        if let (Some(value), Some(old), Form::Conv | Form::ConvTranspose) =
            (self.bias_value, &self.bias, &self.form)
            && old == bias
        {
            return Ok(Operand::Value(value));
        }
        let tensor = weights::stored(self.dtype(), vec![bias.len()], bias)?;
        Ok(patch.constant(format!("{name}.bias"), tensor, self.bias_value))
    }

    /// Whether the operator must have a bias: C of a Gemm is optional from opset 11 on.
    fn needs_bias(&self, cx: &Context<'_>) -> bool {
        matches!(self.form, Form::Gemm { .. }) && cx.opset < 11
    }

    /// A bias of zeros, the stored one if it is one.
    fn plan_zeros(&self, patch: &mut Patch, name: &str) -> Result<Operand, Declined> {
        if let (Some(value), true) = (self.bias_value, self.stores_zeros) {
            return Ok(Operand::Value(value));
        }
        let zeros =
            weights::stored(self.dtype(), vec![self.out_channels], &vec![0.0; self.out_channels])?;
        Ok(patch.constant(format!("{name}.bias"), zeros, self.bias_value))
    }

    fn planned_node(&self, main: &Node) -> Node {
        let planned = main.bare_copy();
        match self.form {
            Form::Conv => {
                let ConvGeometry { kernel, stride, dilation, .. } = &self.geometry;
                let pads = self.geometry.pads();
                let mut planned = planned
                    .with("dilations", dilation.as_slice())
                    .with("group", self.groups as i64)
                    .with("kernel_shape", kernel.as_slice())
                    .with("pads", pads.as_slice())
                    .with("strides", stride.as_slice());
                if planned.has("auto_pad") {
                    planned = planned.with("auto_pad", "NOTSET");
                }
                planned
            }
            Form::Gemm { .. } => {
                let mut planned = planned;
                for factor in ["alpha", "beta"] {
                    if planned.has(factor) {
                        planned = planned.with(factor, 1.0);
                    }
                }
                planned
            }
            Form::ConvTranspose | Form::MatMul { .. } => planned,
        }
    }
}

fn contiguous(array: &ndarray::ArrayD<f64>) -> Vec<f64> {
    array.as_standard_layout().iter().copied().collect()
}
