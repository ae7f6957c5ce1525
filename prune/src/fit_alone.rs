//! The stage that fits every block alone. It makes one candidate per form and scores it while all other blocks stay
//! unchanged.

use updp_passes::surgery::{self, Form, Site};
use updp_trainer::activation_cache::ActivationCache;
use updp_trainer::observer::Observer;

use crate::candidates::{BlockCandidates, CandidateSet};
use crate::config::{BlockSelection, FormSet, Goal, Method};
use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::profile::{BlockProfile, Profile, Variant};
use crate::progress;
use crate::time_budget;
use crate::words::counted;

/// A candidate's latency must be below this fraction of the block's latency. A smaller gain is noise.
const FASTER: f64 = 0.98;

/// Fits every form of every block that may be pruned and scores it.
///
/// # Errors
/// C0013 for a block that does not exist; C0014 when too few blocks can be pruned; T0006 when results cannot be stored;
/// errors of fitting and running.
pub fn fit_alone(
    cx: &Context<'_>,
    profile: Profile,
    observer: &mut dyn Observer,
) -> Result<CandidateSet> {
    let wanted = cx.config.goal.blocks().indices(profile.blocks.len())?;
    let images = &cx.images.calibration;
    // Where all inputs are images, they reach everything.
    let seen =
        (!images.others().is_empty()).then(|| surgery::computed_from(&cx.original, images.input()));
    let pairs = profile.blocks.into_iter().zip(profile.sites);
    let blocks = pairs.map(|(block, sites)| {
        let is_wanted = wanted.contains(&block.block.index);
        let result = sites.first().map(|site| site.result.as_str());
        let is_seen =
            seen.as_ref().is_none_or(|seen| result.is_none_or(|name| seen.contains(name)));
        if is_seen {
            return unfitted(cx, block, &sites, is_wanted);
        }
        let reason = "no image reaches it: it is computed from other inputs alone".to_owned();
        let (sites, fitted) = (Vec::new(), Vec::new());
        BlockCandidates { profile: block, sites, fitted, reason: Some(reason) }
    });
    let mut blocks: Vec<BlockCandidates> = blocks.collect();
    refuse_too_few(&cx.config.goal, &blocks)?;
    let baseline = cx.evaluator.baseline();
    let total = blocks.iter().filter(|block| !block.sites.is_empty()).count();
    let fitter = cx.fitter();
    let fewer = time_budget::comparing(&fitter)?;
    let fitter = time_budget::with(fitter, fewer.as_ref());
    let mut cache = ActivationCache::default();
    let mut costs = Vec::new();
    let mut done = 0;
    for block in &mut blocks {
        progress::tell(observer, "fitting blocks", done, total)?;
        block.fitted = time_budget::alone(&fitter, &mut cache, &block.profile, &block.sites)?;
        costs.push(block.cost());
        done += usize::from(!block.sites.is_empty());
    }
    Ok(CandidateSet { blocks, costs, baseline })
}

/// A block with the sites of its candidates, not fitted yet.
fn unfitted(
    cx: &Context<'_>,
    profile: BlockProfile,
    sites: &[Site],
    is_wanted: bool,
) -> BlockCandidates {
    let (kept, reason) = match &profile.block.refusal {
        Some(refusal) => (Vec::new(), Some(format!("{} ({})", refusal.detail, refusal.reason))),
        None if !is_wanted => (Vec::new(), Some("not among the blocks asked for".to_owned())),
        None if !cx.config.takes(&profile.block) => {
            let text = "its layer stands for it where blocks are counted; --blocks can name it";
            (Vec::new(), Some(text.to_owned()))
        }
        None if needs_surgery(cx) && profile.block.fit_only.is_some() => {
            let why = profile.block.fit_only.as_ref().map_or("", |it| it.detail.as_str());
            let text =
                "it is only fitted, and training by λ opens it; --method fit and blend do not";
            (Vec::new(), Some(format!("{text}: {why}")))
        }
        None => {
            let is_auto = cx.config.forms.forms == FormSet::Auto;
            let guard = match &cx.config.goal {
                _ if !cx.config.is_guarded() => Guard::None,
                Goal::MacsShare(_) => Guard::Macs,
                _ => Guard::Time,
            };
            useful_sites(&profile, sites, guard, is_auto)
        }
    };
    BlockCandidates { profile, sites: kept, fitted: Vec::new(), reason }
}

/// Whether the training mixes both flows of a block inside it.
fn needs_surgery(cx: &Context<'_>) -> bool {
    let method = cx.config.finetune.as_ref().map(|it| it.method);
    matches!(method, Some(Method::Progressive | Method::Direct))
}

/// Forms with more unknowns for each output channel are fitted only if they are asked for by name.
const MOST_UNKNOWNS: usize = 5000;

/// The same for a depthwise kernel before a pointwise operator, which is solved in several rounds.
const MOST_UNKNOWNS_IN_ROUNDS: usize = 1000;

/// What a form has to be less of than its block.
#[derive(Clone, Copy)]
enum Guard {
    None,
    /// Time on this machine.
    Time,
    /// Multiply-adds: where they are the goal, the network may run elsewhere.
    Macs,
}

impl Guard {
    fn admits(self, form: &Variant, block: &Variant) -> bool {
        match self {
            Self::None => true,
            Self::Time => form.time_ms() < block.time_ms() * FASTER,
            Self::Macs => form.macs < block.macs,
        }
    }
}

/// The sites of the forms that are worth fitting, or the reason why there are none.
fn useful_sites(
    profile: &BlockProfile,
    sites: &[Site],
    guard: Guard,
    is_auto: bool,
) -> (Vec<Site>, Option<String>) {
    // A form that is merged into the convolution that it approximates loses more and costs the same.
    let dense = sites.iter().any(|site| site.form == Form::Conv).then_some(Form::Conv);
    let dense = dense.and_then(|form| profile.variant(form));
    let is_own = |form: Form, variant: &Variant| {
        form == Form::Conv || dense.is_none_or(|dense| !dense.is_same_network(variant))
    };
    // Beside thin forms, a depthwise kernel or a middle of few channels is never worth its cost, and takes most of the
    // time (docs/experiments).
    let has_thin = sites.iter().any(|site| site.form.is_thin());
    let is_dominated = |form: Form| {
        has_thin && is_auto && matches!(form, Form::DepthwisePointwise | Form::LowRank)
    };
    // Solving takes minutes for one form, and gigabytes.
    let is_vast = |site: &Site| {
        let most = match site.form {
            Form::DepthwisePointwise => MOST_UNKNOWNS_IN_ROUNDS,
            _ => MOST_UNKNOWNS,
        };
        is_auto && !site.form.is_thin() && site.in_channels * site.window.taps() > most
    };
    let fits = |site: &&Site| {
        let is_left = is_dominated(site.form) || (site.form != Form::Drop && is_vast(site));
        let variant = profile.variant(site.form).filter(|_| !is_left);
        variant.is_some_and(|variant| {
            guard.admits(variant, &profile.baseline) && is_own(site.form, variant)
        })
    };
    let kept: Vec<Site> = sites.iter().filter(fits).cloned().collect();
    let reason = kept.is_empty().then(|| {
        if sites.is_empty() {
            "no form can be fitted to it".to_owned()
        } else if matches!(guard, Guard::Macs) {
            "no form has fewer multiply-adds".to_owned()
        } else {
            profile.slower().unwrap_or_else(|| "no form is faster".to_owned())
        }
    });
    (kept, reason)
}

/// Rejects a goal that needs more blocks than can be pruned, before anything is fitted.
fn refuse_too_few(goal: &Goal, blocks: &[BlockCandidates]) -> Result<()> {
    let prunable = blocks.iter().filter(|block| !block.sites.is_empty()).count();
    let refusals = |of: &dyn Fn(&BlockCandidates) -> bool| {
        let refused = blocks.iter().filter(|block| block.sites.is_empty() && of(block));
        refused.map(BlockCandidates::refusal).collect::<Vec<_>>().join("; ")
    };
    let detail = match goal {
        Goal::Blocks(BlockSelection::List(list)) => {
            refusals(&|block| list.contains(&block.profile.block.index))
        }
        Goal::Count(count) if prunable > 0 && *count > prunable => {
            let asked = counted(*count, "block is", "blocks are");
            let text = format!("{asked} asked for and {prunable} can be pruned");
            let reasons = refusals(&|_| true);
            if reasons.is_empty() { text } else { format!("{text}; {reasons}") }
        }
        _ if prunable == 0 => refusals(&|_| true),
        _ => return Ok(()),
    };
    if detail.is_empty() { Ok(()) } else { Err(PruneError::NothingToPrune { detail }) }
}
