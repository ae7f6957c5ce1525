//! Arguments of pruning.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::search::SearchArgs;
use super::values::{
    BlockList, FormList, above_one, amount, block_list, form_list, not_negative, output_weight,
    positive, positive_up_to, share, size, up_to,
};
use crate::gates::GateOptions;
use crate::score_command::{self, ScoreCommand};

/// What a pruned block becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormChoice {
    /// With data the form with the smallest degradation for the goal, else the fastest of conv, dwpw and norm
    Auto,
    /// One convolution or fully connected operator
    Conv,
    /// A depthwise and a pointwise convolution
    Dwpw,
    /// One pointwise convolution
    Pw,
    /// A convolution to a quarter of the channels and a pointwise one back (needs --data)
    LowRank,
    /// The normalization and one pointwise or fully connected operator
    Norm,
    /// The shortcut alone
    Drop,
}

/// Whether kernels shrink so that the merged one stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShrinkChoice {
    /// As the family of the block needs it
    Auto,
    /// Never
    None,
}

/// How accuracy is recovered after pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recovery {
    /// Not at all: an experiment with the structure, and the result is not usable
    None,
    /// In closed form, without labels and without gradients (needs --data)
    Fit,
    /// By training, which starts as --method says (needs --data)
    Train,
}

/// Where pruning stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// After the network holds both versions of each block of --blocks, mixed by the input λ; writes that network
    Expand,
    /// After the supernet is trained; keeps it in --work
    Supernet,
    /// After the blocks are chosen and fitted; keeps the results in --work
    Search,
    /// After the training of --epochs; keeps the result in --work
    Train,
}

/// Arguments of pruning.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Prunes these blocks, by the numbers that inspect prints: 3,5,9-11 or all
    #[arg(long, value_name = "LIST", value_parser = block_list)]
    pub blocks: Option<BlockList>,
    /// Forms a block may take: auto, depth, all, or a list of conv, dwpw, pw, low-rank, norm, drop and thin. auto = depth
    /// for --blocks and --prune, all for other goals
    #[arg(long, alias = "form", value_name = "LIST", value_parser = form_list, default_value = "auto")]
    pub forms: FormList,
    /// Whether kernels shrink: the first 3x3 to 1x1, a depthwise 7x7 to 3x3
    #[arg(long, value_enum, default_value = "auto")]
    pub shrink: ShrinkChoice,
    /// Prunes this many blocks: those with the smallest degradation
    #[arg(long, value_name = "N", conflicts_with = "blocks", value_parser = up_to::<1_000_000>)]
    pub prune: Option<NonZeroUsize>,
    /// Prunes until the model is X times as fast
    #[arg(long, value_name = "X", value_parser = above_one, conflicts_with_all = ["blocks", "prune"])]
    pub speedup: Option<f64>,
    /// Prunes until the model takes T milliseconds
    #[arg(long, value_name = "T", value_parser = positive, conflicts_with_all = ["blocks", "prune", "speedup"])]
    pub latency_ms: Option<f64>,
    /// Prunes until at most this share of the multiply-adds is left, such as 0.7; the count is the same on every machine
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["blocks", "prune", "speedup", "latency_ms"])]
    pub macs: Option<f64>,
    /// Largest accuracy drop in points (without labels: drop in agreement); without another goal, prunes as much as this allows
    #[arg(long, value_name = "P", value_parser = positive)]
    pub max_drop: Option<f64>,
    /// Writes a network that an earlier run with --front measured, without fitting it again; needs the work folder of that run
    #[arg(long, value_name = "K", conflicts_with_all = ["blocks", "prune", "speedup", "latency_ms", "macs", "front"], value_parser = up_to::<1_000_000>)]
    pub pick: Option<NonZeroUsize>,
    /// Fits and measures five more sets between the input model and the result, writes a table of all, and keeps the work
    /// folder for --pick
    #[arg(long, value_name = "FILE.tsv|FILE.json")]
    pub front: Option<PathBuf>,
    /// Outputs that count in the degradation, each with a weight [default: all outputs with floats for each image, equally]
    #[arg(long, value_name = "NAME[=WEIGHT]", value_delimiter = ',', value_parser = output_weight, requires = "data")]
    pub outputs: Vec<(String, f64)>,
    /// How the blocks are chosen
    #[command(flatten)]
    pub search: SearchArgs,
    /// How accuracy is recovered [default with --data: fit]
    #[arg(long, value_enum)]
    pub recover: Option<Recovery>,
    /// Stops early; the same command without it continues from --work
    #[arg(long, value_enum)]
    pub until: Option<Stage>,
    /// Prunes blocks even where every form is slower
    #[arg(long)]
    pub force: bool,
    /// Prunes a model that is near chance on the images; without it, such a model is an error
    #[arg(long)]
    pub allow_low_accuracy: bool,
    /// Batch size for measurements, where the model leaves it open
    #[arg(long, value_name = "N", default_value = "1", value_parser = up_to::<65_536>)]
    pub batch: NonZeroUsize,
    /// File that keeps measured latencies for the next run
    #[arg(long, value_name = "FILE.json")]
    pub latency_table: Option<PathBuf>,
    /// Most seconds to measure each form of a block
    #[arg(long, value_name = "S", default_value = "0.25", value_parser = positive_up_to::<3600>)]
    pub probe_seconds: f64,
}

impl PruneArgs {
    /// Whether anything says which blocks to prune, or how many.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.blocks.is_some()
            || self.prune.is_some()
            || self.speedup.is_some()
            || self.latency_ms.is_some()
            || self.macs.is_some()
            || self.max_drop.is_some()
            || self.pick.is_some()
            || self.front.is_some()
            || self.recover.is_some()
            || self.until.is_some()
    }
}

/// What the result is held against at the end, pruned or not.
#[derive(Args, Clone, Debug)]
pub struct GateArgs {
    /// Exits with 7 unless the result is X times as fast as the input model, measured in turns; below 1 it may be slower
    #[arg(long, value_name = "X", value_parser = positive)]
    pub min_speedup: Option<f64>,
    /// Exits with 7 if the result takes more bytes than this, external data included: 500000, 10MB, 1.5GiB
    #[arg(long, value_name = "N", value_parser = size)]
    pub max_bytes: Option<u64>,
    /// Command that prints a score of {model} as its last word, higher is better: 'python eval.py {model}'. It scores the
    /// input model and the result, and --max-drop is in its unit
    #[arg(long, value_name = "COMMAND", value_parser = score_command)]
    pub score_command: Option<String>,
    /// Exits with 7 if the score of --score-command falls by more than this
    #[arg(long, value_name = "D", value_parser = not_negative, requires = "score_command")]
    pub max_score_drop: Option<f64>,
    /// Most seconds for one run of --score-command
    #[arg(long, value_name = "S", default_value = "3600", requires = "score_command", value_parser = amount::<31_536_000>)]
    pub score_timeout: NonZeroU32,
}

/// A command that names the model.
fn score_command(text: &str) -> Result<String, String> {
    if text.contains(score_command::PLACE) {
        return Ok(text.to_owned());
    }
    Err(format!("it must contain {}, the place of the model", score_command::PLACE))
}

impl GateArgs {
    /// Whether anything is asked for.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.options() != GateOptions::default()
    }

    /// As the library takes it.
    #[must_use]
    pub fn options(&self) -> GateOptions {
        GateOptions {
            min_speedup: self.min_speedup,
            max_bytes: self.max_bytes,
            score: self.score_command.as_ref().map(|command| ScoreCommand {
                command: command.clone(),
                timeout: Duration::from_secs(self.score_timeout.get().into()),
                max_drop: self.max_score_drop,
            }),
        }
    }
}
