//! Arguments as the options of the library.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use updp_autodiff::Precision;
use updp_passes::surgery::{Form, Shrink};
use updp_prune::config::{self as library, BlockSelection, Goal, PruneConfig};
use updp_prune::search::explore::Strategy;
use updp_trainer::finetune::{Augmentation, OptimizerChoice as Rule, TrainingConfig};
use updp_trainer::train::{ClassWeights, Ramp};

use super::{
    AugmentChoice, BlockList, CompileArgs, DataArgs, FormChoice, Method, OptimizerChoice,
    PrecisionChoice, PruneArgs, RampForm, SearchArgs, SearchChoice, ShrinkAt, ShrinkChoice, Stage,
    StartChoice, TrainingArgs,
};
use crate::error::CliError;

/// Number of sets that `--front` adds between the input model and the result.
const FRONT_NETWORKS: usize = 5;

impl ShrinkChoice {
    /// As surgery takes it.
    #[must_use]
    pub fn as_shrink(self) -> Shrink {
        match self {
            Self::Auto => Shrink::Auto,
            Self::None => Shrink::None,
        }
    }
}

impl FormChoice {
    /// The form; `None` = every form is allowed.
    #[must_use]
    pub fn as_form(self) -> Option<Form> {
        Some(match self {
            Self::Auto => return None,
            Self::Conv => Form::Conv,
            Self::Dwpw => Form::DepthwisePointwise,
            Self::Pw => Form::Pointwise,
            Self::Norm => Form::Norm,
            Self::LowRank => Form::LowRank,
            Self::Drop => Form::Drop,
        })
    }
}

impl BlockList {
    /// As the library takes it.
    #[must_use]
    pub fn selection(&self) -> BlockSelection {
        match self {
            Self::All => BlockSelection::All,
            Self::Some(list) => BlockSelection::List(list.clone()),
        }
    }
}

impl PruneArgs {
    /// The goal.
    ///
    /// # Errors
    /// C0001 when there is none.
    pub fn goal(&self) -> Result<Goal, CliError> {
        let no_goal = || {
            CliError::Usage {
            detail: "--data needs a goal: --prune N, --blocks LIST, --speedup X, --latency-ms T, --macs SHARE or --max-drop P (or --pick K after a run with --front)".into(),
        }
        };
        Ok(match (self.prune, self.speedup, self.latency_ms, self.macs) {
            _ if self.pick.is_some() => Goal::Pick(self.pick.map_or(1, NonZeroUsize::get)),
            _ if self.blocks.is_some() => {
                Goal::Blocks(self.blocks.as_ref().map_or(BlockSelection::All, BlockList::selection))
            }
            (Some(count), ..) => Goal::Count(count.get()),
            (_, Some(speedup), ..) => Goal::Speedup(speedup),
            (.., Some(latency_ms), _) => Goal::LatencyMs(latency_ms),
            (.., Some(share)) => Goal::MacsShare(share),
            _ => Goal::MaxDrop(self.max_drop.ok_or_else(no_goal)?),
        })
    }

    /// Which forms blocks may take.
    #[must_use]
    pub fn forms(&self) -> library::FormConfig {
        library::FormConfig {
            forms: self.forms.0.clone(),
            shrink: self.shrink.as_shrink(),
            force: self.force,
        }
    }

    /// How latencies are measured.
    #[must_use]
    pub fn latency(&self) -> library::LatencyConfig {
        library::LatencyConfig {
            batch: self.batch.get(),
            seconds: self.probe_seconds,
            table: self.latency_table.clone(),
        }
    }
}

impl SearchArgs {
    /// How sets of blocks are searched.
    #[must_use]
    pub fn config(&self) -> library::SearchConfig {
        library::SearchConfig {
            strategy: match self.search {
                None => library::SearchChoice::Auto,
                Some(SearchChoice::Fit) => library::SearchChoice::Fit,
                Some(SearchChoice::Genetic) => library::SearchChoice::Explore(Strategy::Genetic),
                Some(SearchChoice::Random) => library::SearchChoice::Explore(Strategy::Random),
                Some(SearchChoice::Greedy) => library::SearchChoice::Explore(Strategy::Greedy),
            },
            evaluations: self.evaluations.map(usize::from),
            shortlist: self.shortlist.map(usize::from),
            start: match self.start {
                StartChoice::Auto => library::StartChoice::Auto,
                StartChoice::Fit => library::StartChoice::Fit,
                StartChoice::Supernet => library::StartChoice::Supernet,
            },
        }
    }
}

impl DataArgs {
    /// How the images are used.
    #[must_use]
    pub fn config(&self) -> library::DataConfig {
        library::DataConfig {
            held_out_share: self.val_split,
            images: self.images.map(usize::from),
            seed: self.seed,
        }
    }

    /// How long to wait for another process in the work folder.
    #[must_use]
    pub fn work_wait(&self) -> Duration {
        Duration::from_secs(self.work_wait.into())
    }

    /// The work folder: the one asked for, else one beside the output; `None` where the output is no file.
    #[must_use]
    pub fn work_folder(&self, target: &Path) -> Option<PathBuf> {
        if let Some(asked) = &self.work {
            return Some(asked.clone());
        }
        if crate::model_file::is_pipe(target) || crate::write::is_special(target) {
            return None;
        }
        let mut name = target.file_name()?.to_owned();
        name.push(".work");
        Some(target.with_file_name(name))
    }
}

impl TrainingArgs {
    /// Settings of a training.
    #[must_use]
    pub fn config(&self) -> TrainingConfig {
        TrainingConfig {
            batch_size: self.batch_size.map(NonZeroUsize::get),
            accumulate: self.accumulate.get(),
            optimizer: match self.optimizer {
                OptimizerChoice::Auto => Rule::Auto,
                OptimizerChoice::Sgd => Rule::Sgd,
                OptimizerChoice::Adamw => Rule::AdamW,
            },
            learning_rate: self.lr,
            warm_up_epochs: self.warm_up,
            weight_decay: self.weight_decay,
            clip_norm: self.clip,
            label_smoothing: self.label_smoothing,
            distill: self.distill,
            temperature: self.temperature,
            average: self.ema,
            augmentation: match self.augment {
                AugmentChoice::None => Augmentation::None,
                AugmentChoice::Crop => Augmentation::Crop,
                AugmentChoice::Light => Augmentation::Light,
                AugmentChoice::Strong => Augmentation::Strong,
            },
            class_weights: match (self.balance_classes, self.class_weights.as_slice()) {
                (true, _) => ClassWeights::Balanced,
                (false, []) => ClassWeights::Equal,
                (false, given) => ClassWeights::Given(given.to_vec()),
            },
            frozen: self.freeze.clone(),
            recompute: self.recompute,
            precision: match self.precision {
                PrecisionChoice::F32 => Precision::Single,
                PrecisionChoice::F16 => Precision::Half,
                PrecisionChoice::Bf16 => Precision::Brain,
            },
        }
    }
}

impl CompileArgs {
    /// How a model is pruned with images. Rules and runtime are those of the compilation.
    ///
    /// # Errors
    /// C0001 when there is no goal.
    pub fn prune_config(&self, work: Option<PathBuf>) -> Result<PruneConfig, CliError> {
        let epochs = self.prune.search.supernet_epochs;
        let training = || self.training.config();
        Ok(PruneConfig {
            max_drop: self.prune.max_drop,
            forms: self.prune.forms(),
            latency: self.prune.latency(),
            data: self.images.config(),
            outputs: self.prune.outputs.iter().cloned().collect(),
            search: self.prune.search.config(),
            front: self.prune.front.as_ref().map(|_| FRONT_NETWORKS),
            supernet: (epochs > 0)
                .then(|| library::SupernetConfig { epochs, training: training() }),
            finetune: self.training_epochs().map(|epochs| library::FinetuneConfig {
                epochs: epochs.get(),
                method: self.method.config(),
                ramp_speed: self.ramp,
                ramp: match self.ramp_form {
                    RampForm::Linear => Ramp::Linear,
                    RampForm::Cosine => Ramp::Cosine,
                },
                shrink_at: match self.shrink_at.unwrap_or(ShrinkAt::Lambda) {
                    ShrinkAt::Lambda => library::ShrinkAt::Lambda,
                    ShrinkAt::Epoch(epoch) => library::ShrinkAt::Epoch(epoch),
                },
                training: training(),
            }),
            work,
            work_wait: self.images.work_wait(),
            until: self.prune.until.and_then(Stage::config),
            ..PruneConfig::new(self.prune.goal()?)
        })
    }
}

impl Method {
    fn config(self) -> library::Method {
        match self {
            Self::Fit => library::Method::Fit,
            Self::Blend => library::Method::Blend,
            Self::Progressive => library::Method::Progressive,
            Self::Direct => library::Method::Direct,
        }
    }
}

impl Stage {
    /// As the library takes it; `None` for the expanded network, which is another job there.
    fn config(self) -> Option<library::Stage> {
        Some(match self {
            Self::Expand => return None,
            Self::Supernet => library::Stage::Supernet,
            Self::Search => library::Stage::Search,
            Self::Train => library::Stage::Train,
        })
    }
}
