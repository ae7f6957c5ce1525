//! The configuration of a pruning run, as plain data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use updp_exec::RuntimeOptions;
use updp_ir::Model;
use updp_passes::Options;
use updp_passes::blocks::Block;
use updp_passes::surgery::{Form, Shrink};
use updp_trainer::evaluator::OutputWeights;
use updp_trainer::finetune::TrainingConfig;
use updp_trainer::train::Ramp;

use crate::error::{PruneError, Result};
use crate::search::explore::Strategy;

/// How long a run waits for another process in its work folder, if nothing else is asked for.
pub const DEFAULT_WORK_WAIT: Duration = Duration::from_mins(10);

/// How much is pruned.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// These blocks, each in the form with the least degradation.
    Blocks(BlockSelection),
    /// This many blocks: the set with the least degradation.
    Count(usize),
    /// Prune until the network is this many times as fast as the exactly compiled input model.
    Speedup(f64),
    /// Prune until the network takes at most this many milliseconds.
    LatencyMs(f64),
    /// Prune until at most this share (0 to 1) of the multiply-adds of the exactly compiled input model is left.
    MacsShare(f64),
    /// Prune for the lowest latency that a degradation of this many points allows.
    MaxDrop(f64),
    /// The network with this number of the front that an earlier run with the same work folder kept. Model, images and
    /// seed must be those of that run.
    Pick(usize),
}

/// The set of a network of an earlier front, and what that run allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Number of the network.
    pub number: usize,
    /// Blocks with the forms that were fitted to them.
    pub set: Vec<(usize, Form)>,
    /// Whether [`FormSet::Auto`] means forms of less depth.
    pub is_depth: bool,
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
    /// The latency target for a network that takes `original_ms`. It is `original_ms` itself if the goal sets no
    /// latency.
    #[must_use]
    pub fn latency_ms(&self, original_ms: f64) -> f64 {
        match self {
            Self::Speedup(speedup) => original_ms / speedup,
            Self::LatencyMs(ms) => *ms,
            Self::Blocks(_)
            | Self::Count(_)
            | Self::MacsShare(_)
            | Self::MaxDrop(_)
            | Self::Pick(_) => original_ms,
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
    /// C0013 for a block that does not exist.
    pub fn indices(&self, count: usize) -> Result<Vec<usize>> {
        let Self::List(list) = self else { return Ok((0..count).collect()) };
        if let Some(index) = list.iter().find(|index| **index >= count) {
            return Err(PruneError::NoSuchBlock { index: *index, count });
        }
        Ok(list.clone())
    }
}

/// A score of networks by the user's own measure; higher is better.
#[derive(Clone)]
pub struct NetworkScore {
    /// Score of the input model.
    pub before: f64,
    /// Scores a network with the input model's signature; an error says why it cannot.
    pub of: Arc<ScoreFunction>,
}

/// Scores a network.
pub type ScoreFunction = dyn Fn(&Model) -> std::result::Result<f64, String> + Send + Sync;

impl std::fmt::Debug for NetworkScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkScore").field("before", &self.before).finish_non_exhaustive()
    }
}

/// All settings of pruning with images, except the model and the images.
#[derive(Clone, Debug)]
pub struct PruneConfig {
    /// How much is pruned.
    pub goal: Goal,
    /// Largest allowed degradation in points, for every goal. The outcome says when the degradation is larger.
    pub max_drop: Option<f64>,
    /// Which forms blocks may take.
    pub forms: FormConfig,
    /// How latencies are measured.
    pub latency: LatencyConfig,
    /// How the images are divided and used.
    pub data: DataConfig,
    /// Weights of the outputs that count in degradations. None = all outputs with floats for each image, equally.
    pub outputs: OutputWeights,
    /// How sets of blocks are searched.
    pub search: SearchConfig,
    /// Number of sets between the input model and the result that are fitted and measured too. `None` = no front.
    pub front: Option<usize>,
    /// The set to take instead of a search. A run with [`Goal::Pick`] finds it itself.
    pub picked: Option<Picked>,
    /// The supernet in which sets of blocks are evaluated. `None` = they are evaluated with the blocks as they were
    /// fitted alone.
    pub supernet: Option<SupernetConfig>,
    /// The user's own measure, which decides for [`Goal::MaxDrop`] instead of answers. `None` = answers decide.
    pub score: Option<NetworkScore>,
    /// Training after the fit. `None` = the network is fitted only.
    pub finetune: Option<FinetuneConfig>,
    /// Options of the exact merge.
    pub passes: Options,
    /// How models are run.
    pub runtime: RuntimeOptions,
    /// Folder for intermediate results, so that the same call can resume. `None` = nothing is kept.
    pub work: Option<PathBuf>,
    /// How long to wait for another process that is in the work folder.
    pub work_wait: Duration,
    /// The stage after which pruning stops. `None` = pruning runs to the end.
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
            outputs: OutputWeights::new(),
            search: SearchConfig::default(),
            front: None,
            picked: None,
            supernet: None,
            score: None,
            finetune: None,
            passes: Options::default(),
            runtime: RuntimeOptions::default(),
            work: None,
            work_wait: DEFAULT_WORK_WAIT,
            until: None,
        }
    }

    /// Largest allowed degradation in points: either the gate or the goal itself. `None` if the user's measure judges.
    #[must_use]
    pub fn drop_limit(&self) -> Option<f64> {
        if self.score.is_some() {
            return None;
        }
        self.asked_drop()
    }

    /// The drop that the caller allows: in points, or in the unit of [`Self::score`].
    #[must_use]
    pub fn asked_drop(&self) -> Option<f64> {
        match self.goal {
            Goal::MaxDrop(points) => Some(self.max_drop.unwrap_or(points)),
            _ => self.max_drop,
        }
    }

    /// Whether a block is rejected if it would get slower.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.forms.is_guarded(&self.passes)
    }

    /// Whether a block may take a form.
    #[must_use]
    pub fn allows(&self, form: Form) -> bool {
        self.forms.forms.contains(form, self.is_depth())
    }

    /// Whether a block takes part. The attention half of a transformer layer does where costs decide; where blocks are
    /// counted, its layer stands for it, unless a list names it.
    #[must_use]
    pub fn takes(&self, block: &Block) -> bool {
        let is_named = match &self.goal {
            Goal::Blocks(BlockSelection::List(list)) => list.contains(&block.index),
            _ => false,
        };
        !block.is_half || is_named || !self.is_depth()
    }

    /// Whether [`FormSet::Auto`] means forms of less depth.
    #[must_use]
    pub fn is_depth(&self) -> bool {
        if let Some(picked) = &self.picked {
            return picked.is_depth;
        }
        let is_counted = matches!(self.goal, Goal::Blocks(_) | Goal::Count(_));
        let is_mixed = self.finetune.as_ref().is_some_and(|it| it.method != Method::Fit);
        let is_searched = self.supernet.is_some() || self.strategy().is_some();
        is_counted || is_mixed || is_searched
    }

    /// The search for sets of blocks. `None` = the search that uses the degradations of single blocks.
    #[must_use]
    pub fn strategy(&self) -> Option<Strategy> {
        match self.search.strategy {
            SearchChoice::Auto => self.supernet.is_some().then_some(Strategy::Genetic),
            SearchChoice::Fit => None,
            SearchChoice::Explore(strategy) => Some(strategy),
        }
    }

    /// The source of the starting weights for the network of the chosen blocks. Only [`Method::Fit`] accepts weights
    /// from a supernet.
    #[must_use]
    pub fn start_choice(&self) -> StartChoice {
        match &self.finetune {
            Some(config) if config.method != Method::Fit => StartChoice::Fit,
            _ => self.search.start,
        }
    }

    /// Whether the network of the chosen blocks is always extracted from the supernet.
    #[must_use]
    pub fn starts_from_supernet(&self) -> bool {
        self.supernet.is_some() && self.start_choice() == StartChoice::Supernet
    }
}

/// Which forms blocks may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormConfig {
    /// The allowed forms.
    pub forms: FormSet,
    /// Whether kernels shrink.
    pub shrink: Shrink,
    /// Whether blocks may be pruned even if every form is slower.
    pub force: bool,
}

/// A set of forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FormSet {
    /// Every form for goals of latency, multiply-adds and degradation; forms of less depth for goals that name or count
    /// blocks, and wherever a supernet or λ mixes forms.
    #[default]
    Auto,
    /// Forms with less depth: all but the thin ones.
    Depth,
    /// Every form.
    All,
    /// These forms.
    List(Vec<Form>),
}

impl FormSet {
    /// The form, if the set is a list of one.
    #[must_use]
    pub fn single(&self) -> Option<Form> {
        match self {
            Self::List(list) => match list[..] {
                [form] => Some(form),
                _ => None,
            },
            Self::Auto | Self::Depth | Self::All => None,
        }
    }

    /// Whether a form is in the set; `is_depth` says what [`Self::Auto`] means.
    #[must_use]
    pub fn contains(&self, form: Form, is_depth: bool) -> bool {
        match self {
            Self::Auto => !is_depth || !form.is_thin(),
            Self::Depth => !form.is_thin(),
            Self::All => true,
            Self::List(list) => list.contains(&form),
        }
    }
}

impl Default for FormConfig {
    fn default() -> Self {
        Self { forms: FormSet::Auto, shrink: Shrink::Auto, force: false }
    }
}

impl FormConfig {
    /// Whether a block is rejected if it would get slower.
    #[must_use]
    pub fn is_guarded(&self, passes: &Options) -> bool {
        !self.force && !passes.merge_all
    }
}

/// How latencies are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyConfig {
    /// Batch size of a run if the model leaves the batch open.
    pub batch: usize,
    /// Seconds spent on measuring each form of a block.
    pub seconds: f64,
    /// File that stores latencies for the next run.
    pub table: Option<PathBuf>,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self { batch: 1, seconds: 0.25, table: None }
    }
}

/// How the images are divided and used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DataConfig {
    /// Share of the images that is held out for making choices, between 0 and 1.
    pub held_out_share: f64,
    /// Maximum number of calibration images. `None` = as many as the model processes in one minute, 500 to 4000.
    pub images: Option<usize>,
    /// Seed of all random draws: held-out images, rows of the fit, searches.
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
    /// The search strategy.
    pub strategy: SearchChoice,
    /// Maximum number of sets of blocks that are evaluated together. `None` = depends on the size of the model.
    pub evaluations: Option<usize>,
    /// Maximum number of sets of blocks that are fitted as a whole. `None` = 4, or 2 for a large model.
    pub shortlist: Option<usize>,
    /// With a supernet: where the network of the chosen blocks gets its starting weights.
    pub start: StartChoice,
}

/// How sets of blocks are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchChoice {
    /// Genetic with a supernet; otherwise by the degradations of single blocks.
    #[default]
    Auto,
    /// Exact, by the degradations of single blocks. Afterwards, changes of the best sets are evaluated together.
    Fit,
    /// Every set is evaluated as a whole from the start.
    Explore(Strategy),
}

/// Where the weights of the chosen network come from after a search in a supernet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartChoice {
    /// From the source with the smaller degradation on the held-out images.
    #[default]
    Auto,
    /// From the fit, one block after another.
    Fit,
    /// From the supernet.
    Supernet,
}

/// How a supernet is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct SupernetConfig {
    /// Number of epochs.
    pub epochs: usize,
    /// Settings of the training.
    pub training: TrainingConfig,
}

/// How the pruned network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneConfig {
    /// Number of epochs.
    pub epochs: usize,
    /// Which network is trained.
    pub method: Method,
    /// K: λ reaches 1 after 1/K of the epochs. `None` = the default of the model family.
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
    /// The fitted network, in its merged form.
    #[default]
    Fit,
    /// The fitted operators fade in with λ while the blocks that they replace fade out.
    Blend,
    /// Activations and norms fade out with λ, as in the paper. The blocks are merged at the end.
    Progressive,
    /// The same as progressive, with λ = 1 from the first step.
    Direct,
}

impl Method {
    /// Stable name for reports.
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
    /// Gradually, with λ.
    #[default]
    Lambda,
    /// All at once, after this many epochs.
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
