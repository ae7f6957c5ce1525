//! One weighted operator: Conv, ConvTranspose, Gemm, or MatMul with the Add that holds its bias.

use ndarray::{ArrayD, IxDyn};
use updp_ir::view::{Binary, BinaryOp, Conv, ConvTranspose, Gemm, MatMul};
use updp_ir::{ConvGeometry, DataType, NodeId, Tensor, ValueId};

use crate::kernel::AffineMap;
use crate::rule::Context;

/// The kind of operator, and the layout of its weight in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// W [O, I/g, k…], result channels on axis 1.
    Conv,
    /// W [I, O/g, k…], result channels on axis 1.
    ConvTranspose,
    /// W [O, I] with `transB`, else [I, O]; result channels on axis 1 of 2.
    Gemm {
        /// Whether W is stored [O, I].
        trans_b: bool,
    },
    /// W [I, O]; result channels on the last axis.
    MatMul {
        /// The Add with the bias, if there is one.
        bias_add: Option<NodeId>,
    },
}

/// A weighted operator with constant weights.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Which operator.
    pub form: Form,
    /// Its nodes in the direction of data flow: one, or MatMul and Add.
    pub nodes: Vec<NodeId>,
    /// Input value.
    pub x: ValueId,
    /// Result (of the Add, if there is one).
    pub y: ValueId,
    /// The weight value.
    pub weight_value: ValueId,
    /// The bias value.
    pub bias_value: Option<ValueId>,
    /// The stored weight.
    pub weight: Tensor,
    /// Bias `[O]` as f64, as it acts after scaling; `None` = no bias.
    pub bias: Option<Vec<f64>>,
    /// Whether the stored bias is zeros that serve as the bias of as many result channels. Only a Gemm asks.
    pub stores_zeros: bool,
    /// Factor of the stored weight (Gemm's alpha).
    pub alpha: f64,
    /// Input channels.
    pub in_channels: usize,
    /// Result channels.
    pub out_channels: usize,
    /// Groups.
    pub groups: usize,
    /// Kernel, strides, dilations and paddings. Empty for fully connected forms; a ConvTranspose gives
    /// only the kernel.
    pub geometry: ConvGeometry,
    /// Axis of the result that carries the result channels, and axis of the input that carries the input channels.
    pub channel_axis: usize,
}

impl Linear {
    /// The operators that may be the main node of one.
    pub const OPERATORS: &'static [&'static str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

    /// The unit whose main node (one of [`Self::OPERATORS`]) is `node`.
    #[must_use]
    pub fn at(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let op = cx.graph.get_node(node)?.op_type();
        // So that the list misses none of them.
        if !Self::OPERATORS.contains(&op) {
            return None;
        }
        match op {
            "Conv" => Self::conv(cx, node),
            "ConvTranspose" => Self::conv_transpose(cx, node),
            "Gemm" => Self::gemm(cx, node),
            "MatMul" => Self::mat_mul(cx, node),
            _ => None,
        }
    }

    /// The unit with the result `value`; looks through no other node.
    #[must_use]
    pub fn producing(cx: &Context<'_>, value: ValueId) -> Option<Self> {
        let (producer, _) = cx.graph.producer(value)?;
        let main = if cx.graph.node(producer).is("Add") {
            let add = Binary::of(cx.graph, producer, cx.opset)?;
            [add.a, add.b].into_iter().find_map(|operand| {
                let (made_by, _) = cx.graph.producer(operand)?;
                cx.graph.node(made_by).is("MatMul").then_some(made_by)
            })?
        } else {
            producer
        };
        Self::at(cx, main).filter(|unit| unit.y == value)
    }

    /// The unit that reads `value` as its input in this node.
    #[must_use]
    pub fn reading(cx: &Context<'_>, value: ValueId, node: NodeId) -> Option<Self> {
        Self::at(cx, node).filter(|unit| unit.x == value)
    }

    fn conv(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let weight_value = cx.graph.operand(node, 1)?;
        let weight = float_constant(cx, weight_value)?;
        let view = Conv::of(cx.graph, node, weight.dims().len())?;
        let kernel = weight.dims()[2..].to_vec();
        if let Some(declared) = cx.graph.node(node).ints("kernel_shape")
            && !declared.iter().copied().eq(kernel.iter().map(|k| *k as i64))
        {
            return None;
        }
        let input = cx.spatial(view.x);
        let geometry = view.geometry(&kernel, input.as_deref())?;
        let out_channels = weight.dims()[0];
        if weight.is_empty() || out_channels % view.group != 0 {
            return None;
        }
        Some(Self {
            form: Form::Conv,
            nodes: vec![node],
            x: view.x,
            y: view.y,
            bias: bias(cx, view.bias, out_channels)?,
            bias_value: view.bias,
            weight_value,
            stores_zeros: false,
            alpha: 1.0,
            in_channels: weight.dims()[1].checked_mul(view.group)?,
            out_channels,
            groups: view.group,
            geometry,
            channel_axis: 1,
            weight,
        })
    }

    fn conv_transpose(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = ConvTranspose::of(cx.graph, node)?;
        let weight = float_constant(cx, view.weight)?;
        let kernel = weight.dims().get(2..)?.to_vec();
        let in_channels = weight.dims()[0];
        let out_channels = weight.dims()[1].checked_mul(view.group)?;
        if weight.is_empty() || in_channels % view.group != 0 {
            return None;
        }
        Some(Self {
            form: Form::ConvTranspose,
            nodes: vec![node],
            x: view.x,
            y: view.y,
            bias: bias(cx, view.bias, out_channels)?,
            bias_value: view.bias,
            weight_value: view.weight,
            stores_zeros: false,
            alpha: 1.0,
            in_channels,
            out_channels,
            groups: view.group,
            geometry: ConvGeometry::dense(kernel),
            channel_axis: 1,
            weight,
        })
    }

    fn gemm(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = Gemm::of(cx.graph, node, cx.opset)?;
        let weight = float_constant(cx, view.b)?;
        let &[rows, columns] = weight.dims() else { return None };
        if view.trans_a || weight.is_empty() {
            return None;
        }
        let (out_channels, in_channels) =
            if view.trans_b { (rows, columns) } else { (columns, rows) };
        let mut stores_zeros = false;
        let bias = match view.c {
            None => None,
            Some(c) => {
                let tensor = float_constant(cx, c)?;
                stores_zeros = tensor.to_f64()?.iter().all(|v| *v == 0.0);
                let is_row =
                    tensor.dims().len() <= 2 && tensor.dims().iter().rev().skip(1).all(|d| *d == 1);
                let values = broadcast(&tensor, out_channels).filter(|_| is_row)?;
                Some(values.into_iter().map(|v| v * view.beta).collect())
            }
        };
        Some(Self {
            form: Form::Gemm { trans_b: view.trans_b },
            bias,
            bias_value: view.c,
            stores_zeros,
            alpha: view.alpha,
            channel_axis: 1,
            ..Self::fully_connected(node, view.a, view.y, view.b, weight, in_channels, out_channels)
        })
    }

    fn mat_mul(cx: &Context<'_>, node: NodeId) -> Option<Self> {
        let view = MatMul::of(cx.graph, node)?;
        let weight = float_constant(cx, view.b)?;
        let &[in_channels, out_channels] = weight.dims() else { return None };
        let rank = cx.rank(view.a).filter(|rank| *rank >= 2)?;
        if weight.is_empty() {
            return None;
        }
        let mut unit =
            Self::fully_connected(node, view.a, view.y, view.b, weight, in_channels, out_channels);
        unit.channel_axis = rank - 1;
        if let Some((add, bias_value, bias)) = bias_add(cx, view.y, rank, out_channels) {
            unit.form = Form::MatMul { bias_add: Some(add) };
            unit.nodes.push(add);
            unit.y = cx.graph.sole_result(add)?;
            unit.bias = Some(bias);
            unit.bias_value = Some(bias_value);
        }
        Some(unit)
    }

    fn fully_connected(
        node: NodeId,
        x: ValueId,
        y: ValueId,
        weight_value: ValueId,
        weight: Tensor,
        in_channels: usize,
        out_channels: usize,
    ) -> Self {
        Self {
            form: Form::MatMul { bias_add: None },
            nodes: vec![node],
            x,
            y,
            weight_value,
            bias_value: None,
            weight,
            bias: None,
            stores_zeros: false,
            alpha: 1.0,
            in_channels,
            out_channels,
            groups: 1,
            geometry: ConvGeometry::default(),
            channel_axis: 1,
        }
    }

    /// Element type of the weight.
    #[must_use]
    pub fn dtype(&self) -> DataType {
        self.weight.dtype()
    }

    /// The main node: new nodes take their names and their anchor from it.
    #[must_use]
    pub fn main(&self) -> NodeId {
        self.nodes[0]
    }

    /// Whether the operator has a kernel that moves over spatial dims.
    #[must_use]
    pub fn is_conv(&self) -> bool {
        self.form == Form::Conv
    }

    /// Whether every kernel size is 1 (always true for a fully connected operator).
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.geometry.is_pointwise()
    }

    /// Whether it is a convolution with a kernel above 1 and one group for each input channel.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.is_conv() && self.groups > 1 && self.groups == self.in_channels && !self.is_pointwise()
    }

    /// The unit as an affine map, weights in f64; `None` for ConvTranspose.
    #[must_use]
    pub fn map(&self) -> Option<AffineMap> {
        let values = self.weight.to_f64()?;
        let array = ArrayD::from_shape_vec(IxDyn(self.weight.dims()), values).ok()?;
        let weight = match self.form {
            Form::Conv => array,
            Form::ConvTranspose => return None,
            Form::Gemm { trans_b: true } => array * self.alpha,
            Form::Gemm { trans_b: false } | Form::MatMul { .. } => {
                // [I, O] -> [O, I]
                let transposed = array.permuted_axes(IxDyn(&[1, 0]));
                transposed.as_standard_layout().into_owned() * self.alpha
            }
        };
        let ConvGeometry { stride, dilation, pad_begin, pad_end, .. } = self.geometry.clone();
        Some(AffineMap {
            weight,
            bias: self.bias.clone().unwrap_or_else(|| vec![0.0; self.out_channels]),
            stride,
            dilation,
            pad_begin,
            pad_end,
            groups: self.groups,
            border: None,
        })
    }
}

/// A constant with a dtype whose weights can be folded.
fn float_constant(cx: &Context<'_>, value: ValueId) -> Option<Tensor> {
    cx.constant(value).filter(|tensor| tensor.dtype().is_foldable_float())
}

/// `Some(None)` without a bias; `None` if the bias is not a constant vector of `channels`.
#[expect(clippy::option_option, reason = "absent bias and unreadable bias are different answers")]
fn bias(cx: &Context<'_>, value: Option<ValueId>, channels: usize) -> Option<Option<Vec<f64>>> {
    let Some(value) = value else { return Some(None) };
    let values = float_constant(cx, value)?.to_f64()?;
    (values.len() == channels).then_some(Some(values))
}

/// The elements of a tensor with one or `channels` elements, as `channels` numbers.
fn broadcast(tensor: &Tensor, channels: usize) -> Option<Vec<f64>> {
    let values = tensor.to_f64()?;
    match values.len() {
        len if len == channels => Some(values),
        1 => Some(vec![values[0]; channels]),
        _ => None,
    }
}

/// The Add of a constant row, if it is the only reader of a MatMul's result.
fn bias_add(
    cx: &Context<'_>,
    product: ValueId,
    rank: usize,
    channels: usize,
) -> Option<(NodeId, ValueId, Vec<f64>)> {
    let user = cx.graph.sole_use(product)?;
    let add = Binary::of(cx.graph, user.node, cx.opset).filter(|b| b.op == BinaryOp::Add)?;
    let other = if add.a == product { add.b } else { add.a };
    let tensor = float_constant(cx, other)?;
    let is_row = tensor.dims().len() <= rank && tensor.dims().iter().rev().skip(1).all(|d| *d == 1);
    let values = broadcast(&tensor, channels).filter(|_| is_row)?;
    Some((user.node, other, values))
}
