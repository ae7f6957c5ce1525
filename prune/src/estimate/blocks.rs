//! Estimates how long it takes to measure and fit the blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Site};
use updp_trainer::activation_cache::ActivationCache;
use updp_trainer::observer::Observer;

use crate::context::Context;
use crate::error::Result;
use crate::profile::{self, BlockProfile, SHORT_EFFORT};
use crate::time_budget;

/// Time limit for fitting during the estimate. The other blocks are estimated from the fitted ones.
const MOST: Duration = Duration::from_secs(30);

/// A block with the forms that would be fitted.
pub(super) struct BlockEstimate {
    pub(super) profile: BlockProfile,
    pub(super) sites: Vec<Site>,
}

impl BlockEstimate {
    /// Blocks with equal keys take about the same time.
    fn key(&self) -> String {
        let forms: Vec<&str> = self.sites.iter().map(|site| site.form.name()).collect();
        let BlockProfile { block, input, output, .. } = &self.profile;
        format!("{} {input} {output} {}", block.kind.name(), forms.join(" "))
    }

    /// Time of the forms according to the cost model. The fitting time is assumed to be proportional to it.
    fn weight(&self) -> f64 {
        let forms = self.sites.iter().filter_map(|site| self.profile.variant(site.form));
        self.profile.baseline.estimate_ms + forms.map(|variant| variant.estimate_ms).sum::<f64>()
    }

    /// The index, the kind, and the forms or the reason why there are none.
    pub(super) fn row(&self) -> (usize, String, String) {
        let block = &self.profile.block;
        let forms: Vec<&str> = self.sites.iter().map(|site| site.form.name()).collect();
        let text = match (&block.refusal, forms.is_empty()) {
            (Some(refusal), _) => format!("{} ({})", refusal.detail, refusal.reason),
            (None, true) => "not among the blocks asked for, or no form".to_owned(),
            (None, false) => forms.join(", "),
        };
        (block.index, block.kind.name().to_owned(), text)
    }
}

/// The blocks with the forms that can be fitted. Blocks that were not requested have none.
pub(super) fn of(cx: &Context<'_>, observer: &mut dyn Observer) -> Result<Vec<BlockEstimate>> {
    let blocks = surgery::blocks_of(&cx.original)?;
    let wanted = cx.config.goal.blocks().indices(blocks.len())?;
    let sites = profile::sites(cx, &blocks, |block| {
        block.refusal.is_none() && wanted.contains(&block.index)
    });
    let forms = profile::forms_of(&blocks, &sites);
    let forms = |block: &Block| forms.get(&block.index).cloned().unwrap_or_default();
    let profiler = profile::profiler(cx, SHORT_EFFORT);
    let profiles = profiler.profiles(blocks, forms, None, observer)?;
    let pairs = profiles.into_iter().zip(sites);
    Ok(pairs.map(|(profile, sites)| BlockEstimate { profile, sites }).collect())
}

/// Seconds of the work on single blocks.
pub(super) struct BlockTimes {
    pub(super) measuring: f64,
    pub(super) fitting: f64,
    /// Number of blocks that were fitted for the estimate.
    pub(super) fitted: usize,
}

impl BlockTimes {
    /// Fits one block of each kind, in network order, until the time limit.
    pub(super) fn measure(cx: &Context<'_>, blocks: &[&BlockEstimate]) -> Result<Self> {
        let mut known: BTreeMap<String, f64> = BTreeMap::new();
        let (mut measured, mut weight) = (0.0, 0.0);
        let fitter = cx.fitter();
        let fewer = time_budget::comparing(&fitter)?;
        let fitter = time_budget::with(fitter, fewer.as_ref());
        let (start, mut cache) = (Instant::now(), ActivationCache::default());
        for block in blocks {
            let key = block.key();
            if known.contains_key(&key) || (start.elapsed() > MOST && !known.is_empty()) {
                continue;
            }
            let from = Instant::now();
            time_budget::alone(&fitter, &mut cache, &block.profile, &block.sites)?;
            let seconds = from.elapsed().as_secs_f64();
            known.insert(key, seconds);
            measured += seconds;
            weight += block.weight();
        }
        let rate = measured / f64::max(weight, 1e-9);
        let of = |block: &&BlockEstimate| {
            known.get(&block.key()).copied().unwrap_or(rate * block.weight())
        };
        let kinds = blocks.iter().map(|block| block.key()).collect::<BTreeSet<_>>();
        // Whole networks are also measured: once for the goal and once at the end.
        let measuring = cx.config.latency.seconds * kinds.len() as f64 + 3.0;
        Ok(Self { measuring, fitting: blocks.iter().map(of).sum(), fitted: known.len() })
    }
}
