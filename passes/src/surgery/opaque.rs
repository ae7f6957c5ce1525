//! Sites in blocks that no exact surgery opens: whatever lies between their input and their output is replaced as a
//! whole by a fitted operator, or dropped.

use updp_ir::{Dim, ValueId};

use super::reach::{Windows, windows};
use super::{Form, Site};
use crate::blocks::{Block, Element, Flow};
use crate::error::Declined;
use crate::rule::Context;

/// The part of a network that a fitted operator replaces.
pub(super) struct Opening {
    output: ValueId,
    axis: usize,
    windows: Windows,
}

impl Opening {
    /// The part of `block`.
    ///
    /// # Errors
    /// `no-branch`, `no-weights`, `layout` when input and output have their channels on different axes, `geometry` when no
    /// window gives the same sizes.
    pub(super) fn of(cx: &Context<'_>, block: &Block) -> Result<Self, Declined> {
        let output = block.branch.last().map(Element::y);
        let output = output.ok_or_else(|| Declined::new("no-branch", "the branch is empty"))?;
        let axis = channel_axis(cx, block)?;
        let flow = Flow::of(cx).map_err(|error| Declined::new("cycle", error.to_string()))?;
        let windows = windows(cx, &flow, block.branch_source, output, axis)?;
        Ok(Self { output, axis, windows })
    }

    /// The forms that fit, the one with the largest window first.
    pub(super) fn forms(&self, cx: &Context<'_>, block: &Block) -> Vec<Form> {
        let mut forms = vec![Form::Conv];
        if self.windows.wide.taps() > 1 {
            forms.push(Form::DepthwisePointwise);
            if self.windows.narrow.is_some() {
                forms.push(Form::Pointwise);
            }
        }
        forms.push(Form::LowRank);
        if block.shortcut.is_some() || is_droppable(cx, block) {
            forms.push(Form::Drop);
        }
        forms
    }

    /// The site of one form.
    ///
    /// # Errors
    /// `no-such-form` for a form that does not fit, `unknown-channels`.
    pub(super) fn site(
        &self,
        cx: &Context<'_>,
        block: &Block,
        form: Form,
    ) -> Result<Site, Declined> {
        let name = |value: ValueId| cx.graph.value(value).name().to_owned();
        if !self.forms(cx, block).contains(&form) {
            let detail = format!("it has no form {:?}", form.name());
            return Err(Declined::new("no-such-form", detail));
        }
        let window = match form {
            Form::Pointwise => self.windows.narrow.as_ref().unwrap_or(&self.windows.wide),
            _ => &self.windows.wide,
        };
        let channels = |value: ValueId| {
            let dim = cx.shapes.of(value).and_then(|ty| ty.known_dim(self.axis as i64));
            dim.ok_or_else(|| {
                let detail = format!("the channels of {:?} are not known", name(value));
                Declined::new("unknown-channels", detail)
            })
        };
        let (source, output) = (block.branch_source, self.output);
        Ok(Site {
            block: block.index,
            name: block.name.clone(),
            form,
            source: name(source),
            features: name(source),
            output: name(output),
            channel_axis: self.axis,
            end: name(output),
            end_axis: self.axis,
            shortcut: block.shortcut_end().map(name),
            sum: name(block.sum()),
            result: name(block.result),
            activation: block.end.as_ref().map(|end| end.kind),
            window: window.clone(),
            in_channels: channels(source)?,
            out_channels: channels(output)?,
            thin: None,
        })
    }
}

/// Whether a block without a shortcut can be left out: it makes what it reads in the same sizes.
pub(super) fn is_droppable(cx: &Context<'_>, block: &Block) -> bool {
    let (Some(from), Some(to)) = (cx.shapes.of(block.branch_source), cx.shapes.of(block.sum()))
    else {
        return false;
    };
    let is_known = |dims: &Vec<Dim>| dims.iter().all(|dim| *dim != Dim::Unknown);
    block.shortcut.is_none() && from == to && from.shape.as_ref().is_some_and(is_known)
}

/// The axis of the channels: the first weighted operator decides.
fn channel_axis(cx: &Context<'_>, block: &Block) -> Result<usize, Declined> {
    let layout = |detail: &str| Declined::new("layout", detail);
    let rank = cx.rank(block.branch_source);
    let rank = rank.ok_or_else(|| layout("the rank of what it reads is not known"))?;
    let end = block.branch.last().map_or(block.branch_source, Element::y);
    if cx.rank(end) != Some(rank) {
        return Err(layout("what it reads and what it makes differ in rank"));
    }
    let mut is_moved = false;
    for node in &block.nodes {
        let node = cx.graph.node(*node);
        match node.op_type() {
            "Conv" | "FusedConv" | "ConvTranspose" if is_moved || rank < 3 => {
                return Err(layout("its axes are moved before its first convolution"));
            }
            "Conv" | "FusedConv" | "ConvTranspose" => return Ok(1),
            "MatMul" | "Gemm" | "FusedMatMul" | "FusedGemm" | "Attention"
            | "MultiHeadAttention" => {
                return rank
                    .checked_sub(1)
                    .filter(|axis| *axis > 0)
                    .ok_or_else(|| layout("it has one axis"));
            }
            "Transpose" | "Reshape" => is_moved = true,
            _ => {}
        }
    }
    Err(Declined::new("no-weights", "it has no weighted operator"))
}
