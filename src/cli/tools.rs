//! Arguments of the subcommands that look at models.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{FormChoice, MergePolicy, RuleArgs, RuntimeArgs, ShrinkChoice, TargetChoice};

/// Arguments of `inspect`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct InspectArgs {
    /// Model to show
    pub model: PathBuf,
    /// The graph as text
    #[arg(long, conflicts_with_all = ["dot", "json"])]
    pub text: bool,
    /// The graph for Graphviz
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// The graph as JSON
    #[arg(long)]
    pub json: bool,
    /// Lists what would be left alone, and why
    #[arg(long)]
    pub why_not: bool,
    /// Checks the model as it is against what this target documents
    #[arg(long, value_enum)]
    pub target: Option<TargetChoice>,
    /// Measures each block as it is and in its forms
    #[arg(long)]
    pub latency: bool,
    /// Draws the blocks, before and after pruning, as a page
    #[arg(long, value_name = "FILE.html")]
    pub map: Option<PathBuf>,
    /// What a pruned block would become
    #[arg(long, value_enum, default_value = "auto")]
    pub form: FormChoice,
    /// Whether kernels would shrink
    #[arg(long, value_enum, default_value = "auto")]
    pub shrink: ShrinkChoice,
    /// Batch to measure with, where the model leaves it open
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: NonZeroUsize,
    /// Keeps measured latencies for the next run
    #[arg(long, value_name = "FILE.json", requires = "latency")]
    pub latency_table: Option<PathBuf>,
    /// Rules that would run
    #[command(flatten)]
    pub rules: RuleArgs,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Reference
    pub reference: PathBuf,
    /// Model to hold against it
    pub model: PathBuf,
    /// Inputs: FILE.npz (an array `labels` gives the top-1 of both), NAME:FILE.npy
    #[arg(long, value_name = "FILE")]
    pub input_data: Vec<String>,
    /// Number of inputs when they are drawn
    #[arg(long, value_name = "N", default_value = "3")]
    pub check: NonZeroUsize,
    /// Largest allowed max|Δ| / max|reference|; the default depends on the dtype
    #[arg(long, value_name = "X")]
    pub limit: Option<f64>,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// Arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Model to measure
    pub model: PathBuf,
    /// Model to measure in turn with it
    pub other: Option<PathBuf>,
    /// Size of a symbolic batch
    #[arg(long, value_name = "N", default_value = "1")]
    pub batch: NonZeroUsize,
    /// Seconds to measure, all models together
    #[arg(long, value_name = "S", default_value = "4")]
    pub seconds: f64,
    /// Prints the numbers as JSON
    #[arg(long)]
    pub json: bool,
    /// Measures every block of the model by itself, as it is and in each of its forms
    #[arg(long, conflicts_with = "other")]
    pub per_block: bool,
    /// Keeps measured latencies of blocks for the next run
    #[arg(long, value_name = "FILE.json", requires = "per_block")]
    pub latency_table: Option<PathBuf>,
    /// When merges are made in the forms
    #[arg(long, value_enum, default_value = "auto", requires = "per_block")]
    pub merge: MergePolicy,
    /// How models are run
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}
