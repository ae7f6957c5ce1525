//! How a network is to be pruned, as plain data.

use std::path::PathBuf;

use updp_exec::RuntimeOptions;
use updp_passes::Options;
use updp_passes::surgery::{Form, Shrink};
use updp_trainer::finetune::TrainingConfig;
use updp_trainer::train::Ramp;

use crate::error::{PruneError, Result};
use crate::search::explore::Strategy;

/// How much is pruned.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// These blocks, each in the form that loses least.
    Blocks(BlockSelection),
    /// This many blocks, those that lose least together.
    Count(usize),
    /// Until the network is this many times as fast as the exactly compiled input model.
    Speedup(f64),
    /// Until the network takes at most this many milliseconds.
    LatencyMs(f64),
    /// Until at most this share of the multiply-adds of the exactly compiled input model is left, 0 to 1.
    MacsShare(f64),
    /// As fast as a loss of this many points allows.
    MaxDrop(f64),
}

/// Blocks by their index, as `inspect` numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockSelection {
    /// Every block that can be pruned.
    All,
    /// These blocks, in ascending order, each once.
    List(Vec<usize>),
}

impl Goal {
    /// The latency that is asked for, of a network that takes `original_ms`; `original_ms` itself where none is asked for.
    #[must_use]
    pub fn latency_ms(&self, original_ms: f64) -> f64 {
        match self {
            Self::Speedup(speedup) => original_ms / speedup,
            Self::LatencyMs(ms) => *ms,
            Self::Blocks(_) | Self::Count(_) | Self::MacsShare(_) | Self::MaxDrop(_) => original_ms,
        }
    }

    /// The blocks that may be pruned.
    #[must_use]
    pub fn blocks(&self) -> &BlockSelection {
        match self {
            Self::Blocks(selection) => selection,
            _ => &BlockSelection::All,
        }
    }
}

impl BlockSelection {
    /// The indices of the selected blocks, of a model with `count` blocks.
    ///
    /// # Errors
    /// C0013 for a block that is not there.
    pub fn indices(&self, count: usize) -> Result<Vec<usize>> {
        let Self::List(list) = self else { return Ok((0..count).collect()) };
        if let Some(index) = list.iter().find(|index| **index >= count) {
            return Err(PruneError::NoSuchBlock { index: *index, count });
        }
        Ok(list.clone())
    }
}

/// Everything that pruning with images can be told, apart from the model and the images.
#[derive(Clone, Debug)]
pub struct PruneConfig {
    /// How much is pruned.
    pub goal: Goal,
    /// Most points that may be lost, whatever the goal is; the outcome says when more are.
    pub max_drop: Option<f64>,
    /// Which forms blocks may take.
    pub forms: FormConfig,
    /// How latencies are measured.
    pub latency: LatencyConfig,
    /// How the images are used.
    pub data: DataConfig,
    /// How sets of blocks are searched.
    pub search: SearchConfig,
    /// The supernet that sets of blocks are evaluated in; `None` = they are evaluated as the blocks were fitted alone.
    pub supernet: Option<SupernetConfig>,
    /// Training after the fit; `None` = the network is only fitted.
    pub finetune: Option<FinetuneConfig>,
    /// Options of the exact merge.
    pub passes: Options,
    /// How models are run.
    pub runtime: RuntimeOptions,
    /// Folder that keeps intermediate results, so that the same call resumes; `None` = nothing is kept.
    pub work: Option<PathBuf>,
    /// The stage after which pruning stops; `None` = it goes to the end.
    pub until: Option<Stage>,
}

impl PruneConfig {
    /// The defaults for a goal.
    #[must_use]
    pub fn new(goal: Goal) -> Self {
        Self {
            goal,
            max_drop: None,
            forms: FormConfig::default(),
            latency: LatencyConfig::default(),
            data: DataConfig::default(),
            search: SearchConfig::default(),
            supernet: None,
            finetune: None,
            passes: Options::default(),
            runtime: RuntimeOptions::default(),
            work: None,
            until: None,
        }
    }

    /// Most points that may be lost: the gate, or the goal itself.
    #[must_use]
    pub fn drop_limit(&self) -> Option<f64> {
        match self.goal {
            Goal::MaxDrop(points) => Some(self.max_drop.unwrap_or(points)),
            _ => self.max_drop,
        }
    }

    /// Whether a block that would get slower is refused.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.forms.is_guarded(&self.passes)
    }

    /// The search for sets of blocks; `None` = the one that goes by the degradations of single blocks.
    #[must_use]
    pub fn strategy(&self) -> Option<Strategy> {
        match self.search.strategy {
            SearchChoice::Auto => self.supernet.is_some().then_some(Strategy::Genetic),
            SearchChoice::Fit => None,
            SearchChoice::Explore(strategy) => Some(strategy),
        }
    }

    /// Where the network of the chosen blocks starts from. Only [`Method::Fit`] takes what a supernet has.
    #[must_use]
    pub fn start_choice(&self) -> StartChoice {
        match &self.finetune {
            Some(config) if config.method != Method::Fit => StartChoice::Fit,
            _ => self.search.start,
        }
    }

    /// Whether the network of the chosen blocks is cut out of the supernet in any case.
    #[must_use]
    pub fn starts_from_supernet(&self) -> bool {
        self.supernet.is_some() && self.start_choice() == StartChoice::Supernet
    }
}

/// Which forms blocks may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormConfig {
    /// The only form that is allowed; `None` = every form of a block is a candidate.
    pub form: Option<Form>,
    /// Whether kernels shrink.
    pub shrink: Shrink,
    /// Whether blocks may be pruned even where every form is slower.
    pub force: bool,
}

impl Default for FormConfig {
    fn default() -> Self {
        Self { form: None, shrink: Shrink::Auto, force: false }
    }
}

impl FormConfig {
    /// Whether a block that would get slower is refused.
    #[must_use]
    pub fn is_guarded(&self, passes: &Options) -> bool {
        !self.force && !passes.merge_all
    }
}

/// How latencies are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyConfig {
    /// Images of a run, where the model leaves the batch open.
    pub batch: usize,
    /// Seconds to measure each form of a block.
    pub seconds: f64,
    /// File that keeps latencies for the next run.
    pub table: Option<PathBuf>,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self { batch: 1, seconds: 0.25, table: None }
    }
}

/// How the images are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DataConfig {
    /// Share of the images that is held out to choose by, between 0 and 1.
    pub held_out_share: f64,
    /// Most calibration images; `None` = as many as one minute of running the model takes, 500 to 4000.
    pub images: Option<usize>,
    /// Seed of everything that is drawn: held-out images, rows of the fit, searches.
    pub seed: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { held_out_share: 0.1, images: None, seed: 0 }
    }
}

/// How sets of blocks are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchConfig {
    /// Which search.
    pub strategy: SearchChoice,
    /// Most sets of blocks that are evaluated together; `None` = by the size of the model.
    pub evaluations: Option<usize>,
    /// Most sets of blocks that are fitted as a whole; `None` = 4, or 2 for a large model.
    pub shortlist: Option<usize>,
    /// Where the network of the chosen blocks starts from, with a supernet.
    pub start: StartChoice,
}

/// How sets of blocks are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchChoice {
    /// Genetic with a supernet, else by the degradations of single blocks.
    #[default]
    Auto,
    /// Exactly by the degradations of single blocks; then changes of the best sets are evaluated together.
    Fit,
    /// By sets that are evaluated together from the start.
    Explore(Strategy),
}

/// Where the weights of the chosen network come from, after a search in a supernet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartChoice {
    /// From the one that loses less on the held-out images.
    #[default]
    Auto,
    /// From the fit, block after block.
    Fit,
    /// From the supernet.
    Supernet,
}

/// How a supernet is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct SupernetConfig {
    /// Epochs.
    pub epochs: usize,
    /// Settings of the training.
    pub training: TrainingConfig,
}

/// How the pruned network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneConfig {
    /// Epochs.
    pub epochs: usize,
    /// Which network is trained.
    pub method: Method,
    /// K: λ is 1 after 1/K of the epochs; `None` = the default of the family.
    pub ramp_speed: Option<f64>,
    /// How λ rises.
    pub ramp: Ramp,
    /// When kernels shrink.
    pub shrink_at: ShrinkAt,
    /// Settings of the training.
    pub training: TrainingConfig,
}

/// Which network is trained after pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The fitted network, in the form it is merged to.
    #[default]
    Fit,
    /// The fitted operators fade in with λ while the blocks they replace fade out.
    Blend,
    /// Activations and norms fade out with λ, as in the paper; the blocks are merged at the end.
    Progressive,
    /// As progressive, with λ = 1 from the first step.
    Direct,
}

impl Method {
    /// Stable name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Blend => "blend",
            Self::Progressive => "progressive",
            Self::Direct => "direct",
        }
    }
}

/// When the kernels of pruned blocks shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ShrinkAt {
    /// Little by little, with λ.
    #[default]
    Lambda,
    /// At once, after this many epochs.
    Epoch(f64),
}

/// A stage after which pruning may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The supernet is trained.
    Supernet,
    /// The blocks are chosen and fitted.
    Search,
    /// The network is trained.
    Train,
}
