//! Merges weighted operators in a row into one.
//!
//! Before: `y = Wₙ·(… (W₁·x + b₁) …) + bₙ`, affine operators between them included
//! After:  `y = W·x + b`, or `W·x + B` with a border map B [1, O, H', W']
//!
//! `W[o,c,t] = Σ_m Σ_{d₁u + s₁d₂v = t} W₂[o,m,v]·W₁[m,c,u]`, kernel `K = d₁(k₁−1) + s₁d₂(k₂−1) + 1`,
//! stride `s₁s₂`, padding `P₁ + s₁P₂`, groups `gcd(g₁, g₂)`. Fully connected: `W = W₂W₁`.
//!
//! Of all runs that end in the root, the rule merges the run that saves the most.
//!
//! 1. `read-twice`: nothing else reads a value inside the run.
//! 2. the conditions L1–L5, L15 of the algebra, by the names of `kernel::Obstacle`.
//! 3. `dtype`: all operators store their weights in one dtype.
//! 4. `slower`: the merged operator is not slower than the run, and clearly faster if it multiplies more (cost model).
//! 5. `border-too-large`: a border map stays within the budget of the options.
//! 6. `overflow`: no weight leaves the range of its dtype.
//! 7. `border-inside`: a border map does not stop the weighted operator after the run.
//!
//! Source: [UPDP] FC-FC and conv-conv merging, [DBB] transform III; papers.md L1–L5, L8, L15.
//! Measure: one weighted operator fewer.

use updp_ir::NodeId;

use super::{budget, quantization};
use crate::cost::Work;
use crate::error::{Declined, Stop};
use crate::kernel::AffineMap;
use crate::lift::{Domain, Linear, Path, input_size};
use crate::patch::{Operand, Out, Patch};
use crate::rule::{Context, Rule};

/// See the module documentation.
#[derive(Debug)]
pub struct MergeChain;

/// Runs that end in one operator, the most promising first.
#[derive(Debug)]
pub struct Match {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    path: Path,
    domain: Domain,
    channels: usize,
    before: Work,
    after: Work,
}

impl Rule for MergeChain {
    type Match = Match;
    const NAME: &'static str = "merge-chain";
    const SUMMARY: &'static str =
        "merges Conv, Gemm or MatMul in a row (1x1 and kxk, depthwise and pointwise, FC and FC)";
    const ROOTS: &'static [&'static str] = &["Conv", "Gemm", "MatMul"];

    fn find(&self, cx: &Context<'_>, root: NodeId) -> Option<Match> {
        let unit = Linear::at(cx, root)?;
        let last = Path::ending_in(cx, unit.x);
        let mut runs: Vec<Run> = last
            .into_iter()
            .filter(|path| path.units().next().is_some())
            .filter(|path| path.steps.first().is_some_and(is_weighted))
            .filter_map(|mut path| {
                path.steps.push(crate::lift::Step::Linear(unit.clone()));
                let domain = path.domain()?;
                let channels = path.in_channels()?;
                let input = input_size(cx, path.source, domain);
                let before = path.work(domain, channels, input.as_deref());
                let after = path.shape(domain, channels)?.work(input.as_deref());
                Some(Run { path, domain, channels, before, after })
            })
            .collect();
        if runs.is_empty() {
            return None;
        }
        let saved = |run: &Run| run.before.ns - run.after.ns;
        runs.sort_by(|a, b| saved(b).total_cmp(&saved(a)));
        if cx.options.merge_all {
            runs.sort_by_key(|run| std::cmp::Reverse(run.path.steps.len()));
        }
        Some(Match { runs })
    }

    fn plan(&self, cx: &Context<'_>, matched: Match) -> Result<Patch, Stop> {
        let mut first_refusal = None;
        for run in matched.runs {
            match run.plan(cx) {
                Ok(patch) => return Ok(patch),
                Err(declined) => _ = first_refusal.get_or_insert(declined),
            }
        }
        Err(first_refusal.unwrap_or_else(|| Declined::new("no-run", "nothing in a row")).into())
    }
}

fn is_weighted(step: &crate::lift::Step) -> bool {
    matches!(step, crate::lift::Step::Linear(_))
}

/// Whether the only reader of a unit's result is an unpadded weighted operator, so that a longer run
/// can carry the border map further.
fn is_continued(cx: &Context<'_>, unit: &Linear) -> bool {
    let next = cx.graph.sole_use(unit.y).and_then(|user| Linear::reading(cx, unit.y, user.node));
    next.is_some_and(|next| !next.geometry.is_padded())
}

impl Run {
    /// Declines a run whose merged operator would be slower, unless the user asked to merge all runs.
    fn check_cost(&self, cx: &Context<'_>) -> Result<(), Declined> {
        if cx.options.merge_all || self.before.allows(&self.after) {
            return Ok(());
        }
        let count = self.path.units().count();
        let detail = self.before.comparison(&self.after);
        Err(Declined::new("slower", format!("{count} operators in a row {detail}")))
    }

    fn plan(&self, cx: &Context<'_>) -> Result<Patch, Declined> {
        self.check_cost(cx)?;
        let units: Vec<&Linear> = self.path.units().collect();
        let (Some(first), Some(last)) = (units.first(), units.last()) else {
            return Err(Declined::new("no-run", "nothing in a row"));
        };
        if let Some(other) = units.iter().find(|unit| unit.dtype() != first.dtype()) {
            let (a, b) = (first.dtype(), other.dtype());
            return Err(Declined::new("dtype", format!("the operators store {a} and {b}")));
        }
        let input = cx.spatial(self.path.source);
        let map: AffineMap = self
            .path
            .map(self.domain, self.channels, input.as_deref())
            .ok_or_else(|| Declined::new("channel-axis", "a constant lies on another axis"))?
            .map_err(|obstacle| Declined::new(obstacle.reason(), obstacle.to_string()))?;
        if map.border.is_some() && is_continued(cx, last) {
            return Err(Declined::new(
                "border-inside",
                "a border map would stop the operator after",
            ));
        }
        budget::check(cx, &map, first.dtype().bits().unwrap_or(32) / 8)?;
        let mut patch = Patch::new();
        quantization::compare(&mut patch, self.path.units(), &map);
        let source = Operand::Value(self.path.source);
        last.emit_map(cx, &mut patch, source, &map, Out::Value(last.y))?;
        patch.remove_all(self.path.nodes());
        Ok(patch)
    }
}
