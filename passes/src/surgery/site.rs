//! The place where a fitted operator replaces a block's branch.
//!
//! Fitting keeps no weight of the branch. One or two new operators, solved for on data, read `features` and make
//! `output`; everything between them is removed. A site refers to values by name only, so a site found in one copy
//! of a network holds in every other copy.

use updp_ir::{ConvGeometry, ValueId};

use super::geometry::{Shrink, moved};
use super::opaque::{Opening, is_droppable};
use super::thin::Hidden;
use super::{Form, forms};
use crate::blocks::{ActivationKind, Block, BlockKind, Element};
use crate::error::Declined;
use crate::kernel::AffineMap;
use crate::lift::Linear;
use crate::rule::Context;

/// The place of a fitted operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Index of the block.
    pub block: usize,
    /// Name of the block, for messages.
    pub name: String,
    /// The form that the block gets.
    pub form: Form,
    /// The value that the branch and the shortcut start from.
    pub source: String,
    /// Value that the operator reads; its channels lie on `channel_axis`.
    pub features: String,
    /// Value that the operator makes anew; its channels lie on `channel_axis`.
    pub output: String,
    /// Axis of the channels of `features` and `output`.
    pub channel_axis: usize,
    /// End of the branch: the value that is added to the shortcut. It is `output`, or a transposition of it.
    pub end: String,
    /// Axis of the channels of `end`, `shortcut` and `sum`.
    pub end_axis: usize,
    /// The value that is added to the branch; `None` if there is none.
    pub shortcut: Option<String>,
    /// The block's output before its end activation.
    pub sum: String,
    /// The block's output.
    pub result: String,
    /// Activation at the end.
    pub activation: Option<ActivationKind>,
    /// The operator's window.
    pub window: ConvGeometry,
    /// Channels of `features`.
    pub in_channels: usize,
    /// Channels of `output`.
    pub out_channels: usize,
    /// What a thin form keeps; `None` for other forms.
    pub thin: Option<Thin>,
}

/// What a thin form keeps of the channels of [`Site::features`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thin {
    /// Number of channels that stay, a multiple of `group`.
    pub kept: usize,
    /// Neighbouring channels that stay or leave together: 1, or the channels of an attention head.
    pub group: usize,
    /// Whether a gate lies on the channels, so that fewer of them change the others.
    pub is_gated: bool,
}

impl Site {
    /// The value that takes the place of the block when it is dropped: the shortcut, or what the block reads.
    #[must_use]
    pub fn bypass(&self) -> &str {
        self.shortcut.as_deref().unwrap_or(&self.source)
    }

    /// Number of channels in the middle of its low-rank form.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.out_channels.min(self.in_channels).div_ceil(4)
    }
}

/// The replacement of a branch.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "its weights dwarf it")]
pub enum Fitted {
    /// Nothing: the shortcut alone.
    Drop,
    /// Operators in a row; the first one reads the features.
    Maps(Vec<AffineMap>),
    /// The branch with some of its hidden channels.
    Thin {
        /// The channels that stay, ascending.
        kept: Vec<usize>,
        /// The operator that reads them and makes the output, `[O, kept, k…]`.
        last: AffineMap,
    },
}

/// The forms that a block can be fitted in, each with its site or the reason why there is none.
///
/// These are [`forms`], plus `drop` if there is a shortcut or if the block makes what it reads in the same sizes, and
/// `low-rank` if `conv` is offered. A block that is only fitted offers the forms that give the same sizes. The thin forms
/// come last, if the block has hidden channels.
#[must_use]
pub fn sites(
    cx: &Context<'_>,
    block: &Block,
    shrink: Shrink,
) -> Vec<(Form, Result<Site, Declined>)> {
    if block.refusal.is_some() {
        return Vec::new();
    }
    if is_opaque(block) {
        return opaque_sites(cx, block, shrink);
    }
    let mut wanted = forms(block);
    if wanted.is_empty() {
        return Vec::new();
    }
    if wanted.contains(&Form::Conv) {
        wanted.push(Form::LowRank);
    }
    let can_drop = block.shortcut.is_some() || is_droppable(cx, block);
    if can_drop && !wanted.contains(&Form::Drop) {
        wanted.push(Form::Drop);
    }
    wanted.extend(thin_forms(cx, block));
    wanted.into_iter().map(|form| (form, site(cx, block, form, shrink))).collect()
}

/// Whether the branch is replaced as a whole, because the geometry of its operators cannot be moved.
fn is_opaque(block: &Block) -> bool {
    let is_known = |element: &Element| {
        matches!(
            element,
            Element::Linear(_)
                | Element::Affine(_)
                | Element::Activation(_)
                | Element::Norm(_)
                | Element::Transpose(_)
        )
    };
    block.fit_only.is_some() || !block.branch.iter().all(is_known)
}

/// The sites of a block whose branch is replaced as a whole.
fn opaque_sites(
    cx: &Context<'_>,
    block: &Block,
    shrink: Shrink,
) -> Vec<(Form, Result<Site, Declined>)> {
    let mut found = match Opening::of(cx, block) {
        Ok(opening) => {
            let forms = opening.forms(cx, block).into_iter();
            forms.map(|form| (form, opening.site(cx, block, form))).collect()
        }
        Err(declined) => vec![(Form::Conv, Err(declined))],
    };
    let thin = thin_forms(cx, block).into_iter();
    found.extend(thin.map(|form| (form, site(cx, block, form, shrink))));
    found
}

/// The thin forms of a block, the widest first.
fn thin_forms(cx: &Context<'_>, block: &Block) -> Vec<Form> {
    let Ok((_, hidden)) = hidden(cx, block) else { return Vec::new() };
    hidden.widths().into_iter().map(|(eighths, _)| Form::Thin(eighths)).collect()
}

/// The span of a block's last operator, and its hidden channels.
fn hidden(cx: &Context<'_>, block: &Block) -> Result<(Span, Hidden), Declined> {
    let none = || Declined::new("no-weights", "it has no weighted operator");
    let last = block.branch.iter().rposition(|e| e.linear().is_some()).ok_or_else(none)?;
    let span = Span::between(cx, block, last, last)?;
    let output = block.branch.iter().position(|e| e.y() == span.output).ok_or_else(none)?;
    let hidden = Hidden::of(cx, &block.branch[..=output])?;
    Ok((span, hidden))
}

/// The part of a block that a form replaces, the window of its operator, and what a thin form keeps.
fn place(
    cx: &Context<'_>,
    block: &Block,
    form: Form,
    shrink: Shrink,
) -> Result<(Span, ConvGeometry, Option<Thin>), Declined> {
    let Form::Thin(eighths) = form else {
        let span = Span::of(cx, block, form)?;
        let window = window(block, form, shrink, &span)?;
        return Ok((span, window, None));
    };
    let (span, hidden) = hidden(cx, block)?;
    let kept = hidden.widths().into_iter().find(|(own, _)| *own == eighths);
    let (_, kept) = kept.ok_or_else(|| {
        let count = hidden.last().in_channels;
        let detail = format!("{count} hidden channels cannot be cut to {eighths}/8");
        Declined::new("too-narrow", detail)
    })?;
    let window = hidden.last().geometry.clone();
    let thin = Thin { kept, group: hidden.group(), is_gated: hidden.is_gated() };
    Ok((span, window, Some(thin)))
}

/// The site of one form.
///
/// # Errors
/// For a block that exact surgery does not open: `no-branch`, `no-weights`, `geometry`. For a thin form: the refusals of
/// finding the hidden channels, `too-narrow` when this share of them is none that is offered. For any form: `layout` when the channels
/// change their axis between `features` and `output`, `unknown-channels`, and the refusals of moving the
/// geometry.
pub fn site(cx: &Context<'_>, block: &Block, form: Form, shrink: Shrink) -> Result<Site, Declined> {
    if is_opaque(block) && !form.is_thin() {
        return Opening::of(cx, block)?.site(cx, block, form);
    }
    let own = own_site(cx, block, form, shrink);
    match own {
        Err(declined) if matches!(declined.reason, "padding" | "output-size") => {
            // Where the geometry of the operators cannot be moved, one window may still see the same.
            let opening = Opening::of(cx, block).and_then(|it| it.site(cx, block, form));
            opening.map_err(|_| declined)
        }
        own => own,
    }
}

/// The site of a form of a family.
fn own_site(cx: &Context<'_>, block: &Block, form: Form, shrink: Shrink) -> Result<Site, Declined> {
    let (span, window, thin) = place(cx, block, form, shrink)?;
    let name = |value: ValueId| cx.graph.value(value).name().to_owned();
    let end = block.branch.last().map(Element::y);
    let end = end.ok_or_else(|| Declined::new("no-branch", "the branch is empty"))?;
    let (sum, shortcut) = (block.sum(), block.shortcut_end());
    let channels = |value: ValueId| {
        let dim = cx.shapes.of(value).and_then(|ty| ty.known_dim(span.axis as i64));
        dim.ok_or_else(|| {
            let detail = format!("the channels of {:?} are not known", name(value));
            Declined::new("unknown-channels", detail)
        })
    };
    if shortcut.is_none() && end != sum {
        return Err(Declined::new("no-sum", "the branch does not end where the block does"));
    }
    Ok(Site {
        block: block.index,
        name: block.name.clone(),
        form,
        source: name(block.branch_source),
        features: name(span.features),
        output: name(span.output),
        channel_axis: span.axis,
        end: name(end),
        end_axis: span.end_axis,
        shortcut: shortcut.map(name),
        sum: name(sum),
        result: name(block.result),
        activation: block.end.as_ref().map(|end| end.kind),
        window,
        in_channels: channels(span.features)?,
        out_channels: channels(span.output)?,
        thin,
    })
}

/// The part of a branch that is replaced.
pub(super) struct Span {
    features: ValueId,
    pub(super) output: ValueId,
    axis: usize,
    pub(super) end_axis: usize,
    /// Whether the operator moves over spatial dims.
    is_spatial: bool,
}

impl Span {
    fn of(cx: &Context<'_>, block: &Block, form: Form) -> Result<Self, Declined> {
        let branch = &block.branch;
        let none = || Declined::new("no-weights", "it has no weighted operator");
        let last = branch.iter().rposition(|e| e.linear().is_some()).ok_or_else(none)?;
        let first = match (form, block.kind) {
            (Form::Norm, _) => {
                let norm = branch.iter().position(|e| matches!(e, Element::Norm(_)));
                let after = norm.and_then(|norm| {
                    let next = branch[norm..].iter().position(|e| e.linear().is_some());
                    Some(norm + next?)
                });
                after.ok_or_else(|| Declined::new("no-norm", "no normalization precedes"))?
            }
            // The depthwise convolution of the block stays as it is.
            (Form::DepthwisePointwise, BlockKind::ConvNext) => {
                let depthwise = branch.iter().position(|e| e.linear().is_some());
                depthwise.ok_or_else(none)? + 1
            }
            _ => 0,
        };
        Self::between(cx, block, first, last)
    }

    /// The part from one element of the branch to another, and the transpositions that lead back to its first
    /// layout.
    pub(super) fn between(
        cx: &Context<'_>,
        block: &Block,
        first: usize,
        last: usize,
    ) -> Result<Self, Declined> {
        let branch = &block.branch;
        let none = || Declined::new("no-weights", "it has no weighted operator");
        let features = branch[first].x();
        // Layout of the features, and the moves of the axes from there on.
        let rank = cx.rank(features).ok_or_else(|| {
            Declined::new("unknown-shape", "the rank of what it reads is not known")
        })?;
        let mut perm: Vec<usize> = (0..rank).collect();
        let identity = perm.clone();
        let mut output = None;
        let mut axis = None;
        for (at, element) in branch.iter().enumerate().skip(first) {
            match element {
                // Axis `i` of the result is axis `perm[i]` of the operand.
                Element::Transpose(t) => perm = t.perm.iter().map(|a| perm[*a]).collect(),
                Element::Linear(unit) if axis.is_none() => {
                    let own = if unit.is_conv() { 1 } else { unit.channel_axis };
                    axis = perm.get(own).copied();
                }
                _ => {}
            }
            if at >= last && perm == identity {
                output = Some((at, element.y()));
            }
        }
        let layout = || {
            let detail = "what it reads and what it makes have their channels on different axes";
            Declined::new("layout", detail)
        };
        let (at, output) = output.ok_or_else(layout)?;
        let rest = &branch[at + 1..];
        if !rest.iter().all(|e| matches!(e, Element::Transpose(_))) {
            return Err(layout());
        }
        let axis = axis.ok_or_else(none)?;
        let end_axis = perm.iter().position(|own| *own == axis).ok_or_else(layout)?;
        let others: Vec<usize> = perm.iter().copied().filter(|own| *own != axis).collect();
        if !others.is_sorted() {
            return Err(layout());
        }
        let is_spatial = axis == 1 && rank >= 3 && block.linears().any(Linear::is_conv);
        if !is_spatial && axis + 1 != rank {
            return Err(layout());
        }
        Ok(Self { features, output, axis, end_axis, is_spatial })
    }
}

/// The window of a form's operator.
fn window(
    block: &Block,
    form: Form,
    shrink: Shrink,
    span: &Span,
) -> Result<ConvGeometry, Declined> {
    let rank = block.linears().find(|unit| unit.is_conv()).map_or(0, |unit| unit.geometry.rank());
    let keeps_own = form == Form::Norm
        || (form == Form::DepthwisePointwise && block.kind == BlockKind::ConvNext);
    if keeps_own || form == Form::Drop || !block.linears().any(Linear::is_conv) {
        return Ok(if span.is_spatial {
            ConvGeometry::pointwise(rank)
        } else {
            ConvGeometry::default()
        });
    }
    if !span.is_spatial {
        let detail = "a convolution needs its channels on axis 1";
        return Err(Declined::new("layout", detail));
    }
    // A low-rank branch has the same window as the whole branch.
    let like = if form == Form::LowRank { Form::Conv } else { form };
    let whole = composed(&moved(block, like, shrink)?, rank);
    if form != Form::Pointwise {
        return Ok(whole);
    }
    let declined = || Declined::new("identity-needs-centre-tap", "no tap reads its own position");
    whole.centre().ok_or_else(declined)
}

/// The window of convolutions in a row: `K = 1 + Σ dᵢ·(kᵢ − 1)·s₁⋯sᵢ₋₁` (L1).
fn composed(geometry: &[ConvGeometry], rank: usize) -> ConvGeometry {
    let mut window = ConvGeometry::pointwise(rank);
    for axis in 0..rank {
        let mut step = 1;
        let mut reaches: Vec<(usize, usize)> = Vec::new();
        for new in geometry {
            if new.kernel[axis] > 1 {
                reaches.push((new.kernel[axis], new.dilation[axis] * step));
            }
            step *= new.stride[axis];
        }
        window.stride[axis] = step;
        match reaches[..] {
            // A single kernel keeps its dilation.
            [(kernel, dilation)] => {
                (window.kernel[axis], window.dilation[axis]) = (kernel, dilation);
            }
            _ => window.kernel[axis] = 1 + reaches.iter().map(|(k, d)| (k - 1) * d).sum::<usize>(),
        }
        if let Some(first) = geometry.first() {
            window.pad_begin[axis] = first.pad_begin[axis];
            window.pad_end[axis] = first.pad_end[axis];
        }
    }
    window
}
