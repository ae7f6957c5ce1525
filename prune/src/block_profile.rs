//! Block profiles. A profile says what a block of the model is, which forms it can take, and how large and fast each
//! form is.

use indexmap::IndexMap;
use updp_ir::infer::Shapes;
use updp_ir::{IrError, Model};
use updp_passes::blocks::Block;
use updp_passes::cost::MapShape;
use updp_passes::surgery::{self, Form, Shrink, Site};
use updp_passes::{Declined, ModelSummary, Options, PassError, cost, pipeline};
use updp_trainer::observer::Observer;

use crate::error::Result;
use crate::latency_model::interpolate;
use crate::latency_table::{LatencyTable, signature};
use crate::progress;

/// A form counts as slower when it takes this many times as long as the baseline. A smaller difference is noise.
const NOISE: f64 = 1.02;

/// Size and speed of one variant of a block.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// Number of weight elements.
    pub parameters: usize,
    /// Multiply-adds at batch 1.
    pub macs: u64,
    /// Number of operators.
    pub nodes: usize,
    /// Number of weighted operators.
    pub layers: usize,
    /// Time that the cost model predicts, in milliseconds.
    pub estimate_ms: f64,
    /// Measured median time, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Whether `latency_ms` was read off between measured variants of the block by multiply-adds.
    pub is_interpolated: bool,
}

impl Variant {
    fn of(model: &Model) -> Self {
        let summary = ModelSummary::of(model, 0);
        let count = |op: &str| summary.ops.get(op).copied().unwrap_or(0);
        Self {
            parameters: summary.parameters,
            macs: summary.macs,
            nodes: summary.nodes,
            layers: count("Conv") + count("Gemm") + count("MatMul") + count("ConvTranspose"),
            estimate_ms: surgery::with_context(model, cost::graph_ns) / 1e6,
            latency_ms: None,
            is_interpolated: false,
        }
    }

    /// Whether both have the same operators with different weights, as far as the counts can tell.
    #[must_use]
    pub fn is_same_network(&self, other: &Self) -> bool {
        let counts = |v: &Self| (v.parameters, v.macs, v.nodes, v.layers);
        counts(self) == counts(other)
    }

    /// The measured time if there is one, otherwise the predicted time.
    #[must_use]
    pub fn time_ms(&self) -> f64 {
        self.latency_ms.unwrap_or(self.estimate_ms)
    }
}

/// One block.
#[derive(Debug)]
pub struct BlockProfile {
    /// The block.
    pub block: Block,
    /// Type of the block's input.
    pub input: String,
    /// Type of the block's output.
    pub output: String,
    /// The block after exact compilation.
    pub baseline: Variant,
    /// The requested forms, or the reason why a form is not possible.
    pub forms: Forms,
    /// Why the block was not measured although a measurement was requested. The cost model is used instead.
    pub unmeasured: Option<String>,
}

impl BlockProfile {
    /// The block in one form; `None` if that form is not possible.
    #[must_use]
    pub fn variant(&self, form: Form) -> Option<&Variant> {
        self.forms.get(&form)?.as_ref().ok()
    }

    /// Time of the block in one form. If the form is not possible, this is the time of the baseline.
    #[must_use]
    pub fn time_ms(&self, form: Form) -> f64 {
        self.variant(form).unwrap_or(&self.baseline).time_ms()
    }

    /// The fastest form; `None` if there is none.
    #[must_use]
    pub fn fastest(&self) -> Option<(Form, &Variant)> {
        let known = self.forms.iter().filter_map(|(form, v)| Some((*form, v.as_ref().ok()?)));
        known.min_by(|a, b| a.1.time_ms().total_cmp(&b.1.time_ms()))
    }

    /// Why no form is useful: all of them take longer than the baseline.
    #[must_use]
    pub fn slower(&self) -> Option<String> {
        let (_, best) = self.fastest()?;
        if best.time_ms() <= self.baseline.time_ms() * NOISE {
            return None;
        }
        let times: Vec<String> = self
            .forms
            .iter()
            .filter_map(|(form, v)| {
                Some(format!("{} {:.3} ms", form.name(), v.as_ref().ok()?.time_ms()))
            })
            .collect();
        let how = if best.latency_ms.is_some() { "measured" } else { "by the cost model" };
        Some(format!(
            "every form is slower than the block's {:.3} ms: {} ({how})",
            self.baseline.time_ms(),
            times.join(", ")
        ))
    }
}

/// The forms of a block with their costs, or the reason why a form is not possible.
pub type Forms = IndexMap<Form, std::result::Result<Variant, String>>;

/// Computes block profiles.
#[derive(Debug)]
pub struct Profiler<'a> {
    /// The prepared model.
    pub model: &'a Model,
    /// Whether kernels shrink.
    pub shrink: Shrink,
    /// Options of the merge.
    pub options: &'a Options,
    /// Whether the forms are fitted to data; otherwise they are the forms of the paper.
    pub is_fitted: bool,
    /// Whether a form of the paper that is refused is shown as it is fitted.
    pub shows_fitted: bool,
    /// Upper limit on the multiplications for composing one block's weights. A block above the limit is not tried.
    pub effort: f64,
}

/// The [`Profiler::effort`] to use when a result is needed within seconds.
pub const SHORT_EFFORT: f64 = 4e10;

/// Approximate number of multiplications for composing a block's weighted operators.
fn composing_effort(block: &Block) -> f64 {
    let mut whole: Option<MapShape> = None;
    let mut effort = 0.0;
    for unit in block.linears() {
        let next = MapShape::of_unit(unit);
        whole = Some(match whole.filter(|known| known.geometry.rank() == next.geometry.rank()) {
            None => next,
            Some(known) => {
                // W₂·W₁ for every pair of taps.
                let taps = known.geometry.taps() * next.geometry.taps();
                let per_group = next.in_channels / next.groups;
                effort += (next.out_channels * per_group * known.in_channels / known.groups) as f64
                    * taps as f64;
                known.then(&next)
            }
        });
    }
    effort
}

/// Whether the form belongs to a family of one shape in several widths.
fn is_width(form: Form) -> bool {
    form.name().starts_with("thin")
}

/// The members of a family of widths that are not measured, given all members with their multiply-adds: all but the
/// smallest and the middle one.
fn interpolated(mut family: Vec<(Form, u64)>) -> Vec<Form> {
    family.sort_by_key(|(_, macs)| *macs);
    let middle = family.len() / 2;
    let left_out = family.into_iter().enumerate().filter(|(at, _)| *at != 0 && *at != middle);
    left_out.map(|(_, (form, _))| form).collect()
}

/// The baseline of a block and its forms.
#[derive(Clone, Debug)]
struct Variants {
    baseline: Variant,
    forms: Forms,
    unmeasured: Option<String>,
}

impl Profiler<'_> {
    /// Computes the profile of each of `blocks` with the forms that `wants` returns.
    ///
    /// # Errors
    /// Errors of extracting blocks and of measuring them.
    pub fn profiles(
        &self,
        blocks: Vec<Block>,
        wants: impl Fn(&Block) -> Vec<Form>,
        mut table: Option<&mut LatencyTable>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<BlockProfile>> {
        let opset = self.model.opset("").unwrap_or(0);
        let shapes = Shapes::infer(&self.model.graph, opset);
        let mut known: IndexMap<String, Variants> = IndexMap::new();
        let mut profiles = Vec::new();
        let text = if table.is_some() { "measuring blocks" } else { "looking at blocks" };
        let total = blocks.len();
        for (at, block) in blocks.into_iter().enumerate() {
            progress::tell(observer, text, at, total)?;
            let ty = |value| shapes.of(value).map_or_else(|| "?".to_owned(), ToString::to_string);
            let (input, output) = (ty(block.source), ty(block.result));
            let forms = wants(&block);
            let part = match surgery::part_of(self.model, &block) {
                Err(PassError::Ir(error @ IrError::UnknownType { .. })) => {
                    let refused = |form| (form, Err(error.to_string()));
                    profiles.push(BlockProfile {
                        block,
                        input,
                        output,
                        baseline: Variant::default(),
                        forms: forms.into_iter().map(refused).collect(),
                        unmeasured: None,
                    });
                    continue;
                }
                part => part?,
            };
            let names: Vec<&str> = forms.iter().map(|form| form.name()).collect();
            let key = format!("{} {}", signature(&part), names.join(" "));
            if !known.contains_key(&key) {
                let made = self.variants(part, &block, &forms, table.as_deref_mut())?;
                known.insert(key.clone(), made);
            }
            let Variants { baseline, forms, unmeasured } = known[&key].clone();
            profiles.push(BlockProfile { block, input, output, baseline, forms, unmeasured });
        }
        Ok(profiles)
    }

    /// The sites of some forms of a block, in the whole network: in a part, other blocks may be found.
    fn sites<'b>(
        &self,
        block: &Block,
        forms: impl Iterator<Item = &'b Form>,
    ) -> IndexMap<Form, std::result::Result<Site, Declined>> {
        let forms: Vec<Form> = forms.copied().collect();
        if forms.is_empty() {
            return IndexMap::new();
        }
        surgery::with_context(self.model, |cx| {
            let site = |form: &Form| (*form, surgery::site(cx, block, *form, self.shrink));
            forms.iter().map(site).collect()
        })
    }

    /// Makes a part of a block in one form as it is fitted; `None` if it cannot be fitted in this form either.
    fn fitted_part(&self, model: &mut Model, block: &Block, form: Form) -> Option<()> {
        let site = self.sites(block, std::iter::once(&form)).swap_remove(&form)?.ok()?;
        let mut part = surgery::part_of(self.model, block).ok()?;
        surgery::fit_part(&mut part, &site, self.options).ok()?;
        *model = part;
        Some(())
    }

    fn variants(
        &self,
        mut part: Model,
        block: &Block,
        forms: &[Form],
        table: Option<&mut LatencyTable>,
    ) -> Result<Variants> {
        let mut models: Vec<(Form, Model)> = Vec::new();
        let mut variants = IndexMap::new();
        let effort = composing_effort(block);
        let own = surgery::forms(block);
        let is_fitted = |form: &&Form| self.is_fitted || !own.contains(*form);
        let mut sites = self.sites(block, forms.iter().filter(is_fitted));
        for form in forms {
            if effort > self.effort && !is_fitted(&form) {
                let reason = format!(
                    "composing its weights takes {effort:.0e} multiplications; --latency does"
                );
                variants.insert(*form, Err(reason));
                continue;
            }
            let mut model = surgery::part_of(self.model, block)?;
            let made = match sites.swap_remove(form) {
                Some(Ok(site)) => surgery::fit_part(&mut model, &site, self.options),
                Some(Err(declined)) => Err(block.refused(declined)),
                None => surgery::prune_part(&mut model, *form, self.shrink, self.options),
            };
            let made = match made {
                Err(PassError::Refused { .. }) if self.shows_fitted && !is_fitted(&form) => {
                    self.fitted_part(&mut model, block, *form).map_or(made, Ok)
                }
                made => made,
            };
            match made {
                Ok(()) => {
                    variants.insert(*form, Ok(Variant::of(&model)));
                    models.push((*form, model));
                }
                Err(PassError::Refused { reason, detail, .. }) => {
                    variants.insert(*form, Err(format!("{detail} ({reason})")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        pipeline::compile(&mut part, self.options, &mut |_, _| {})?;
        let mut baseline = Variant::of(&part);
        if let Some(table) = table {
            // The times of a family of widths lie near a line, so two of them say the others.
            let widths = models.iter().filter(|(form, _)| is_width(*form));
            let sizes: Vec<(Form, u64)> = widths
                .filter_map(|(form, _)| Some((*form, variants.get(form)?.as_ref().ok()?.macs)))
                .collect();
            let left_out = interpolated(sizes);
            models.retain(|(form, _)| !left_out.contains(form));
            let all: Vec<&Model> =
                std::iter::once(&part).chain(models.iter().map(|(_, model)| model)).collect();
            let times = match table.latencies(&all) {
                Ok(times) => times,
                Err(error) => {
                    let unmeasured = Some(format!("error[{}]: {error}", error.code()));
                    return Ok(Variants { baseline, forms: variants, unmeasured });
                }
            };
            baseline.latency_ms = Some(times[0]);
            let mut known = vec![(baseline.macs as f64, times[0])];
            for ((form, _), ms) in models.iter().zip(&times[1..]) {
                if let Some(Ok(variant)) = variants.get_mut(form) {
                    variant.latency_ms = Some(*ms);
                    if is_width(*form) {
                        known.push((variant.macs as f64, *ms));
                    }
                }
            }
            for form in left_out {
                if let Some(Ok(variant)) = variants.get_mut(&form) {
                    variant.latency_ms = interpolate(&known, variant.macs as f64);
                    variant.is_interpolated = true;
                }
            }
        }
        Ok(Variants { baseline, forms: variants, unmeasured: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_family_of_widths_the_smallest_and_the_middle_one_are_measured() {
        let family: Vec<(Form, u64)> =
            Form::ALL.into_iter().zip([60, 10, 40, 20, 50, 30]).collect();
        let left_out = interpolated(family.clone());
        let measured = family.iter().filter(|(form, _)| !left_out.contains(form));
        assert_eq!(measured.map(|(_, macs)| *macs).collect::<Vec<_>>(), [10, 40]);
        assert_eq!(interpolated(family[..2].to_vec()), []);
        assert_eq!(interpolated(Vec::new()), []);
    }
}
