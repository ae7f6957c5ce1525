//! Fuses a zero Pad into the padding of all its readers.
//!
//! Before: `y = Conv(Pad(x))`, one or several Conv or AveragePool
//! After:  `y = Conv(x)` with the pads added up
//!
//! x is `[N, C, …]`. Weights are shared, not copied, and need not be constant.
//!
//! 1. `pad-mode`: the Pad fills in a constant.
//! 2. `dynamic-pads`: pads and value are constant.
//! 3. `pad-value`: the constant is 0.
//! 4. `negative-pad`: nothing is cut off.
//! 5. `channel-pad`: only spatial axes are padded.
//! 6. `read-elsewhere`: every reader is a Conv or AveragePool that reads it as its data operand.
//! 7. `auto-pad`: no Conv chooses its padding from the size of its input.
//! 8. `pool-form`: an AveragePool counts padding or has none, rounds its size down, and its window
//!    is larger than the padding (runtimes refuse others).
//!
//! Source: papers.md L7 (reverse), L14. Measure: one node fewer.

use updp_ir::view::{AutoPad, AveragePool, Conv, Pad};
use updp_ir::{Node, NodeId, Use, ValueId};

use crate::error::{Declined, Stop};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct FusePad;

/// The Pad and its readers.
#[derive(Debug)]
pub struct Match {
    node: NodeId,
    result: ValueId,
    pad: Option<Pad>,
    users: Vec<Use>,
}

impl Rule for FusePad {
    type Match = Match;
    const NAME: &'static str = "fuse-pad";
    const SUMMARY: &'static str = "fuses a zero Pad into the Convs and AveragePools that read it";
    const ROOTS: &'static [&'static str] = &["Pad"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let result = cx.graph.sole_result(root)?;
        let users = cx.graph.users(result);
        let is_match = users.iter().any(|user| is_window(cx, *user));
        let rank = cx.rank(cx.graph.operand(root, 0)?);
        let pad = Pad::of(cx.graph, root, cx.opset, rank);
        is_match.then_some(Match { node: root, result, pad, users })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let pad = matched.checked_pad(cx)?;
        let mut patch = Patch::new();
        for user in &matched.users {
            let node = fused(cx, pad, user.node)?;
            let mut operands: Vec<Operand> =
                cx.graph.operands(user.node).into_iter().map(Operand::from).collect();
            operands[user.slot] = pad.x.into();
            if let Some(y) = cx.graph.sole_result(user.node) {
                patch.node(node, user.node, operands, Out::Value(y));
                patch.remove(user.node);
            }
        }
        Ok(patch)
    }
}

impl Match {
    /// The Pad, if it fills in zeros around the image and only windows read it.
    fn checked_pad(&self, cx: &Context<'_>) -> Result<&Pad, Declined> {
        let Self { node, result, pad, users } = self;
        let Some(pad) = pad else {
            let mode = cx.graph.node(*node).string("mode").unwrap_or("constant");
            return Err(if mode == "constant" {
                Declined::new("dynamic-pads", "the pads are not constant")
            } else {
                Declined::new("pad-mode", format!("the Pad fills in by mode {mode:?}"))
            });
        };
        if pad.value != 0.0 {
            return Err(Declined::new("pad-value", format!("the Pad fills in {}", pad.value)));
        }
        if pad.begin.iter().chain(&pad.end).any(|size| *size < 0) {
            return Err(Declined::new("negative-pad", "the Pad cuts off elements"));
        }
        if pad.begin.iter().take(2).chain(pad.end.iter().take(2)).any(|size| *size != 0) {
            return Err(Declined::new("channel-pad", "the Pad widens batch or channels"));
        }
        let value = cx.graph.value(*result);
        let is_shared = value.is_output()
            || cx.graph.is_captured(*result)
            || !users.iter().all(|user| is_window(cx, *user));
        if is_shared {
            let detail = format!("{:?} is read by others too", value.name());
            return Err(Declined::new("read-elsewhere", detail));
        }
        Ok(pad)
    }
}

/// Whether this is the data operand of a Conv or AveragePool.
fn is_window(cx: &Context<'_>, user: Use) -> bool {
    let node = cx.graph.node(user.node);
    user.slot == 0 && (node.is("Conv") || node.is("AveragePool"))
}

/// The reader, with the padding of `pad` added to its own padding.
fn fused(cx: &Context<'_>, pad: &Pad, reader: NodeId) -> Result<Node, Declined> {
    let old = cx.graph.node(reader);
    let unknown = || Declined::new("auto-pad", format!("{:?} is not understood", old.op_type()));
    let spatial = pad.begin.len().saturating_sub(2);
    let (own_begin, own_end) = if old.is("Conv") {
        let conv = Conv::of(cx.graph, reader, pad.begin.len()).ok_or_else(unknown)?;
        match conv.auto_pad {
            AutoPad::NotSet => (conv.pad_begin, conv.pad_end),
            AutoPad::Valid => (vec![0; spatial], vec![0; spatial]),
            AutoPad::SameUpper | AutoPad::SameLower => {
                let name = cx.describe(reader);
                let detail = format!("{name:?} pads by the size of its input");
                return Err(Declined::new("auto-pad", detail));
            }
        }
    } else {
        let pool = AveragePool::of(cx.graph, reader).ok_or_else(unknown)?;
        if pool.geometry.rank() != spatial {
            return Err(unknown());
        }
        let counts_less = pool.geometry.is_padded() && !pool.count_include_pad;
        if pool.ceil_mode || counts_less || cx.opset < 7 {
            return Err(Declined::new("pool-form", "the AveragePool would count other positions"));
        }
        (pool.geometry.pad_begin, pool.geometry.pad_end)
    };
    let sum = |own: &[usize], added: &[i64]| -> Vec<i64> {
        own.iter()
            .zip(&added[2..])
            .map(|(own, added)| (*own as i64).saturating_add(*added))
            .collect()
    };
    let (begin, end) = (sum(&own_begin, &pad.begin), sum(&own_end, &pad.end));
    let mut node = old.bare_copy();
    if old.is("AveragePool") {
        let window = old.ints("kernel_shape").unwrap_or_default();
        if begin.iter().zip(window).chain(end.iter().zip(window)).any(|(pad, size)| pad >= size) {
            return Err(Declined::new("pool-form", "the padding would exceed the window"));
        }
        node = node.with("count_include_pad", 1);
    }
    if node.has("auto_pad") {
        node = node.with("auto_pad", "NOTSET");
    }
    Ok(node.with("pads", [begin, end].concat()))
}
