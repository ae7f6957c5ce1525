//! The stage that profiles a network: its blocks, the sites of their forms, and the latency of each form.

use std::collections::BTreeMap;

use updp_passes::blocks::Block;
use updp_passes::pipeline;
use updp_passes::surgery::{self, Form, Site};
use updp_trainer::observer::Observer;

pub use crate::block_profile::{BlockProfile, Forms, Profiler, SHORT_EFFORT, Variant};
use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::latency_table::{Conditions, LatencyTable};
use crate::progress;
use crate::work_folder;

/// The blocks of a network that will be fitted, with the sites of their forms.
#[derive(Debug)]
pub struct Profile {
    /// The blocks, in network order.
    pub blocks: Vec<BlockProfile>,
    /// The sites of the forms of each block; empty if the block has no allowed form.
    pub sites: Vec<Vec<Site>>,
    /// Why latencies are measured with one thread, if the user did not choose a number; `None` if they are not.
    pub one_thread: Option<String>,
}

/// Finds the blocks and measures the baseline and the forms of each block. The latency table can then measure whole
/// networks.
///
/// # Errors
/// C0014 when there is no block; C0015 when the latency table cannot be used; errors of running blocks.
pub fn profile(cx: &Context<'_>, observer: &mut dyn Observer) -> Result<(Profile, LatencyTable)> {
    let blocks = surgery::blocks_of(&cx.original)?;
    if blocks.is_empty() {
        return Err(PruneError::nothing("no blocks of a known family are in the model"));
    }
    // This check runs before anything is measured.
    cx.config.goal.blocks().indices(blocks.len())?;
    let sites = sites(cx, &blocks, |_| true);
    let mut table = latency_table(cx)?;
    progress::tell(observer, "measuring the original", 0, 0)?;
    let mut original = cx.original.clone();
    pipeline::compile(&mut original, &cx.config.passes, &mut |_, _| {})?;
    let one_thread = table.choose_threads(&original)?;
    let forms = forms_of(&blocks, &sites);
    let forms = |block: &Block| forms.get(&block.index).cloned().unwrap_or_default();
    let blocks = profiler(cx, f64::INFINITY).profiles(blocks, forms, Some(&mut table), observer)?;
    table.save()?;
    Ok((Profile { blocks, sites, one_thread }, table))
}

/// The forms of each block, by its index.
pub(crate) fn forms_of(blocks: &[Block], sites: &[Vec<Site>]) -> BTreeMap<usize, Vec<Form>> {
    let forms = sites.iter().map(|sites| sites.iter().map(|site| site.form).collect());
    blocks.iter().map(|block| block.index).zip(forms).collect()
}

/// The sites of the allowed forms of each block that takes part; no sites if `is_wanted` is false.
pub(crate) fn sites(
    cx: &Context<'_>,
    blocks: &[Block],
    is_wanted: impl Fn(&Block) -> bool,
) -> Vec<Vec<Site>> {
    let shrink = cx.config.forms.shrink;
    surgery::with_context(&cx.original, |graph| {
        let of = |block: &Block| {
            if !is_wanted(block) || !cx.config.takes(block) {
                return Vec::new();
            }
            let all = surgery::sites(graph, block, shrink).into_iter();
            let allowed = all.filter(|(form, _)| cx.config.allows(*form));
            allowed.filter_map(|(_, site)| site.ok()).collect()
        };
        blocks.iter().map(of).collect()
    })
}

/// The profiler for blocks that will be fitted.
pub(crate) fn profiler<'a>(cx: &'a Context<'_>, effort: f64) -> Profiler<'a> {
    Profiler {
        model: &cx.original,
        shrink: cx.config.forms.shrink,
        options: &cx.config.passes,
        is_fitted: true,
        shows_fitted: false,
        effort,
    }
}

/// The latency table of the configuration; otherwise the one in the work folder.
fn latency_table(cx: &Context<'_>) -> Result<LatencyTable> {
    let in_work = || cx.config.work.as_ref().map(|work| work.join(work_folder::LATENCIES));
    let path = cx.config.latency.table.clone().or_else(in_work);
    let conditions = Conditions {
        constants: cx.images.calibration.others().to_vec(),
        ..Conditions::of(&cx.config.latency, &cx.config.runtime)
    };
    LatencyTable::open(path.as_deref(), conditions)
}
