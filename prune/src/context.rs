//! The state that all stages share: the prepared network, the images, the evaluators and the folder for results.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use updp_exec::Optimizer;
use updp_ir::{DataPlacement, Model};
use updp_passes::surgery::Site;
use updp_passes::{ModelSummary, pipeline, surgery};
use updp_trainer::block_evaluator::BatchShare;
use updp_trainer::data::{Dataset, Preprocess};
use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::{Evaluator, OutputWeights};
use updp_trainer::finetune::{FinetuneSettings, Finetuning};
use updp_trainer::fit::{Fisher, FitSettings, with_mixtures};
use updp_trainer::hash::Fnv;
use updp_trainer::images::{Images, is_same_by_image};
use updp_trainer::observer::Observer;
use updp_trainer::other_inputs::OtherInput;
use updp_trainer::run::{BatchSource, CachedBatches, Runner};
use updp_trainer::stored_batches::StoredBatches;

use crate::checkpoint::{self, Checkpoint};
use crate::config::{Goal, PruneConfig};
use crate::error::Result;
use crate::evaluation_cache::EvaluationCache;
use crate::fitter::Fitter;
use crate::progress;
use crate::words::counted;
use crate::work_folder::WorkLock;
use crate::{front, latency_table, time_budget, work_folder};

/// Default multiply-adds of one pass over the calibration images. This takes about one minute on two cores.
const PASS_MACS: u64 = 4_000_000_000_000;

/// Minimum number of batches of calibration images, so that they can be divided into folds.
const LEAST_BATCHES: usize = 8;

/// Maximum number of held-out images.
const MOST_HELD_OUT: usize = 1000;

/// Version of the work folder's contents. A different version makes it a different job.
const WORK_VERSION: u32 = 5;

/// The images that pruning works with.
#[derive(Clone, Debug)]
pub struct ImageSets {
    /// Images for fitting, choosing and training. Labels are used if there are any.
    pub images: Dataset,
    /// Images for the report. `None` = the held-out images are used.
    pub validation: Option<Dataset>,
    /// How images are turned into inputs.
    pub preprocess: Preprocess,
}

/// The images, divided by purpose.
pub struct DividedImages {
    /// Images that the fit reads.
    pub calibration: Images,
    /// Images that decide between forms and blocks.
    pub held_out: Images,
    /// Images for the report.
    pub validation: Option<Images>,
    /// All images that are not held out. Training uses them.
    pub training: Dataset,
    /// Class names; empty without labels.
    pub classes: Vec<String>,
}

/// The state that all stages share.
pub struct Context<'a> {
    /// The pruning configuration.
    pub config: &'a PruneConfig,
    /// How networks are run.
    pub runner: Runner,
    /// The prepared input model, with its own batch size.
    pub prepared: Model,
    /// The same network with an open batch, if an open batch gives the same results.
    pub original: Model,
    /// Height and width of the images, where the model takes images of any size and [`Self::original`] those of one.
    pub image_size: Option<(usize, usize)>,
    /// The inputs whose fixed batch is opened in [`Self::original`]; `None` if its batch stays fixed.
    pub opened_inputs: Option<Vec<String>>,
    /// The images.
    pub images: DividedImages,
    /// How images are turned into inputs.
    pub preprocess: Preprocess,
    /// Scores networks on the held-out images.
    pub evaluator: Evaluator,
    /// Scores networks on the images for the report. `None` = the held-out images are used.
    pub validation: Option<Evaluator>,
    /// How forms are fitted.
    pub fit: FitSettings,
    /// How much the outputs react to the outputs of blocks; `None` if no form needs it.
    pub fisher: Option<Fisher>,
    /// Where fitted forms are stored.
    pub checkpoint: Checkpoint,
    /// The key of the job, as JSON: results of another job are never used.
    pub(crate) job: serde_json::Value,
    /// Scores networks on the calibration images.
    pub calibration: Evaluator,
    /// The calibration images with mixtures of them behind; `None` if there are enough images.
    mixtures: Option<CachedBatches>,
    /// Whether the calibration images show less than half of the model's classes. The network will then meet classes that
    /// the fit has not seen, and kept layers stay as they are: new weights fit only the classes seen (docs/experiments).
    pub shows_few_classes: bool,
    /// The calibration images that score a form of a block.
    scoring_share: BatchShare,
    /// Time of one pass over the held-out images.
    pub evaluation_time: Duration,
    /// Keeps other processes out of the work folder.
    _lock: Option<WorkLock>,
}

impl<'a> Context<'a> {
    /// Prepares the model, divides the images and runs the original over the held-out ones.
    ///
    /// # Errors
    /// T codes for images that do not fit the model; errors of running the model.
    pub fn open(
        mut model: Model,
        sets: &ImageSets,
        config: &'a PruneConfig,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        updp_trainer::use_threads(config.runtime.threads);
        let runner = runner(config);
        pipeline::prepare(&mut model)?;
        progress::tell(observer, "reading data", 0, 0)?;
        let (original, opened_inputs) =
            with_open_batch(&model, &runner, &sets.images, &sets.preprocess)?;
        let (original, image_size) = of_image_size(original, sets)?;
        let images = divide(&original, sets, config)?;
        let (checkpoint, job, lock) = checkpoint(&original, &images, sets, config, observer)?;
        let held_out = CachedBatches::of(&images.held_out)?;
        progress::tell(observer, "running the model", 0, 0)?;
        let start = Instant::now();
        let evaluator = Evaluator::weighted(&runner, &original, held_out, &config.outputs)?;
        let evaluation_time = start.elapsed();
        let calibration = evaluated(&evaluator, &runner, &original, &images.calibration)?;
        let shows_few_classes = shows_few_classes(&calibration);
        let blocks = surgery::blocks_of(&original)?.len();
        let fit = FitSettings { seed: config.data.seed, ..FitSettings::default() };
        let most = time_budget::MOST_IMAGE_BYTES;
        let mixtures = with_mixtures(calibration.source(), fit.folds, most, fit.seed)?;
        let scoring_share = time_budget::scoring_share(&original, &calibration, blocks, fit.folds);
        let validation = match &images.validation {
            Some(images) => Some(evaluator.again(&runner, &original, images.clone())?),
            None => None,
        };
        Ok(Self {
            config,
            runner,
            prepared: model,
            original,
            opened_inputs,
            image_size,
            images,
            preprocess: sets.preprocess.clone(),
            evaluator,
            validation,
            fit,
            fisher: None,
            checkpoint,
            job,
            scoring_share,
            shows_few_classes,
            calibration,
            mixtures,
            evaluation_time,
            _lock: lock,
        })
    }

    /// Whether labels count in a training: they may lead away from the input model, and then its answers are not the
    /// measure.
    pub(crate) fn follows_labels(&self, settings: &FinetuneSettings) -> bool {
        self.evaluator.has_labels() && settings.distill < 1.0
    }

    /// Measures how much the outputs react to the outputs of blocks, if a site has a thin form. Returns a sentence if the
    /// network has no gradient.
    ///
    /// # Errors
    /// Errors of running the network.
    pub fn measure_fisher(&mut self, sites: &[&Site]) -> Result<Option<String>> {
        let thin: Vec<&Site> = sites.iter().copied().filter(|site| site.form.is_thin()).collect();
        if thin.is_empty() {
            return Ok(None);
        }
        let macs = ModelSummary::of(&self.original, 0).macs;
        let seed = self.config.data.seed;
        let found =
            Fisher::measure(&self.runner, &self.original, &self.calibration, &thin, macs, seed);
        let reason = match found {
            Ok(Some(fisher)) => {
                self.fisher = Some(fisher);
                return Ok(None);
            }
            Ok(None) => "gradients would take too much memory or time".to_owned(),
            Err(TrainerError::Autodiff(error)) => format!("{error} ({})", error.code()),
            // Not every runtime runs every gradient, and pruning works without them.
            Err(TrainerError::Exec(error)) => {
                format!("the runtime does not run the gradients ({})", error.code())
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(format!(
            "thin forms keep the channels that blocks need, not those that the outputs need: {reason}"
        )))
    }

    /// Fits forms to all calibration images.
    #[must_use]
    pub fn fitter(&self) -> Fitter<'_> {
        Fitter {
            runner: &self.runner,
            original: &self.original,
            calibration: &self.calibration,
            images: match &self.mixtures {
                Some(images) => images,
                None => self.calibration.source(),
            },
            share: self.scoring_share,
            evaluator: &self.evaluator,
            settings: &self.fit,
            fisher: self.fisher.as_ref(),
            checkpoint: &self.checkpoint,
        }
    }

    /// Scores networks on the images for the report.
    #[must_use]
    pub fn validation(&self) -> &Evaluator {
        self.validation.as_ref().unwrap_or(&self.evaluator)
    }

    /// The network in the version that is trained and scored: with an open batch if the original has one.
    ///
    /// # Errors
    /// Errors of rewriting the graph.
    pub fn opened(&self, network: &Model) -> Result<Model> {
        let mut opened = network.clone();
        if let Some(inputs) = &self.opened_inputs {
            surgery::open_batch(
                &mut opened,
                &inputs.iter().map(String::as_str).collect::<Vec<_>>(),
            )?;
        }
        Ok(opened)
    }

    /// Sets up the training of a pruned network or of a supernet. The original is the teacher.
    #[must_use]
    pub fn finetuning<'b>(&'b self, settings: &'b FinetuneSettings) -> Finetuning<'b> {
        Finetuning {
            runner: &self.runner,
            dataset: &self.images.training,
            preprocess: &self.preprocess,
            evaluator: &self.evaluator,
            teacher: &self.original,
            settings,
        }
    }

    /// The training images as inputs of a network.
    ///
    /// # Errors
    /// T0001, T0107, T0108 when the network does not take images.
    pub fn training_images(&self, network: &Model) -> Result<Images> {
        Ok(Images::new(network, self.images.training.clone(), &self.preprocess)?)
    }
}

fn runner(config: &PruneConfig) -> Runner {
    Runner { runtime: config.runtime.runtime, options: config.runtime.session(Optimizer::All) }
}

/// Returns a copy of the prepared model with an open batch and the inputs that were opened (none if the batch was open),
/// if the open batch gives the same result for each image. Otherwise returns an unchanged copy and `None`.
///
/// # Errors
/// Errors of rewriting and running the model.
pub fn with_open_batch(
    model: &Model,
    runner: &Runner,
    images: &Dataset,
    preprocess: &Preprocess,
) -> Result<(Model, Option<Vec<String>>)> {
    let few = Images::new(model, images.sample(64, 0), preprocess)?;
    let Some(batch) = few.fixed_batch() else { return Ok((model.clone(), Some(Vec::new()))) };
    // Another input with the size of the batch may have an axis of images, or not.
    let others = few.others().iter().filter(|it| it.dims().len() > 1 && it.dims()[0] == batch);
    let others: Vec<&str> = others.map(OtherInput::name).collect();
    let mut sets = vec![[&[few.input()], others.as_slice()].concat()];
    if !others.is_empty() {
        sets.push(vec![few.input()]);
    }
    for inputs in sets {
        let mut opened = model.clone();
        if surgery::open_batch(&mut opened, &inputs)?
            && is_same_by_image(runner, model, &opened, &few)?
        {
            return Ok((opened, Some(inputs.into_iter().map(str::to_owned).collect())));
        }
    }
    Ok((model.clone(), None))
}

/// The network for images of one size: where the model leaves height or width open, they become those of the images, and
/// those of the constants of other inputs, so that latencies and multiply-adds are those of these inputs. The model that
/// is written leaves them open.
fn of_image_size(mut original: Model, sets: &ImageSets) -> Result<(Model, Option<(usize, usize)>)> {
    let images = Images::new(&original, sets.images.clone(), &sets.preprocess)?;
    let spec = *images.spec();
    for other in images.others() {
        let Some(input) = original.graph.find(other.name()) else { continue };
        for (axis, size) in other.dims().iter().enumerate().skip(usize::from(other.is_repeated())) {
            original.graph.fix_input_dim(input, axis, *size)?;
        }
    }
    let Some(input) = original.graph.find(images.input()) else { return Ok((original, None)) };
    let declared = original.graph.value(input).declared();
    let dims = declared.and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let sizes = spec.row_dims().into_iter().enumerate().map(|(at, size)| (at + 1, size));
    let is_open = |axis: usize| dims.get(axis).is_some_and(|dim| dim.known().is_none());
    let open: Vec<(usize, usize)> = sizes.filter(|(axis, _)| is_open(*axis)).collect();
    if open.is_empty() {
        return Ok((original, None));
    }
    for (axis, size) in open {
        original.graph.fix_input_dim(input, axis, size)?;
    }
    Ok((original, Some((spec.height, spec.width))))
}

fn divide(original: &Model, sets: &ImageSets, config: &PruneConfig) -> Result<DividedImages> {
    let data = &config.data;
    let (training, held_out) = sets.images.split(data.held_out_share, data.seed);
    let macs = ModelSummary::of(original, 0).macs.max(1);
    let default = (PASS_MACS / macs).clamp(500, 4000) as usize;
    let count = data.images.unwrap_or(default);
    let held_out_count = (count / 2).clamp(50, MOST_HELD_OUT);
    let images = |dataset: Dataset| Images::new(original, dataset, &sets.preprocess);
    let calibration = images(training.sample(count, data.seed))?.in_batches(LEAST_BATCHES);
    let held_out = images(held_out.sample(held_out_count, data.seed))?;
    let validation = sets.validation.clone().map(images).transpose()?;
    if calibration.images().min(held_out.images()) < 2 {
        // The smaller part must fill a batch if the model fixes the batch size.
        let share = data.held_out_share.min(1.0 - data.held_out_share);
        let needed = (calibration.least() as f64 / share).ceil() as usize;
        return Err(TrainerError::TooFew { found: sets.images.len(), needed }.into());
    }
    let classes = sets.images.classes().to_vec();
    Ok(DividedImages { calibration, held_out, validation, training, classes })
}

/// The original's outputs for the images, which are kept decoded, in memory or in a file. The outputs are those of
/// `evaluator`.
fn evaluated(
    evaluator: &Evaluator,
    runner: &Runner,
    original: &Model,
    images: &Images,
) -> Result<Evaluator> {
    let (memory, all) = (time_budget::MOST_IMAGE_BYTES, time_budget::MOST_STORED_BYTES);
    Ok(match StoredBatches::of(images, memory, all)? {
        Some(stored) => evaluator.again(runner, original, stored)?,
        None => evaluator.again(runner, original, images.clone())?,
    })
}

/// Whether the images show less than half of the model's classes.
fn shows_few_classes(calibration: &Evaluator) -> bool {
    let seen = calibration.predicted_classes();
    let seen: BTreeSet<usize> = seen.into_iter().flatten().collect();
    calibration.classes().is_some_and(|classes| 2 * seen.len() < classes)
}

/// The data that identify a job. Results of a job with a different key are never used.
#[derive(Serialize)]
struct JobKey<'a> {
    work_version: u32,
    program: &'static str,
    model: String,
    calibration: u64,
    held_out: u64,
    preprocess: &'a Preprocess,
    outputs: &'a OutputWeights,
    shrinks: bool,
    merges_all: bool,
    seed: u64,
    runtime: &'a updp_exec::RuntimeOptions,
}

/// The folder for the results of exactly this job, the key of the job, and the lock of the work folder.
fn checkpoint(
    original: &Model,
    images: &DividedImages,
    sets: &ImageSets,
    config: &PruneConfig,
    observer: &mut dyn Observer,
) -> Result<(Checkpoint, serde_json::Value, Option<WorkLock>)> {
    let Some(work) = &config.work else {
        return Ok((Checkpoint::default(), serde_json::Value::Null, None));
    };
    let key = JobKey {
        work_version: WORK_VERSION,
        program: env!("CARGO_PKG_VERSION"),
        model: format!("{:016x}", Fnv::of(&encode(original)?)),
        calibration: images.calibration.dataset().fingerprint(),
        held_out: images.held_out.dataset().fingerprint(),
        preprocess: &sets.preprocess,
        outputs: &config.outputs,
        shrinks: config.forms.shrink == surgery::Shrink::Auto,
        merges_all: config.passes.merge_all,
        seed: config.data.seed,
        runtime: &config.runtime,
    };
    let folder = work_folder::job(work, &key);
    // A key is a plain struct of numbers and texts, which always serializes.
    let key = serde_json::to_value(&key).unwrap_or_default();
    if matches!(config.goal, Goal::Pick(_)) {
        front::refuse_missing(work, &folder, &key)?;
    }
    let lock = work_folder::enter(work, config.work_wait, observer)?;
    if folder.exists() {
        observer.message(&format!("resuming with the results in {}", work.display()));
    }
    work_folder::enter_job(&folder)?;
    let checkpoint = Checkpoint::open(&folder)?;
    tell_damaged(&damaged(work, &folder)?, observer);
    Ok((checkpoint, key, Some(lock)))
}

/// What was kept for a job and is not what was written, by its name. It is removed, to be made again.
fn damaged(work: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut damaged = checkpoint::remove_damaged(folder)?;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".jsonl");
        if stem.is_some_and(|stem| stem.starts_with("sets") || stem.starts_with("supernet")) {
            let lines = EvaluationCache::open(&entry.path())?.damaged();
            damaged.extend(
                (lines > 0).then(|| format!("{name} ({})", counted(lines, "line", "lines"))),
            );
        }
    }
    let table = work.join(work_folder::LATENCIES);
    if table.is_file() && !latency_table::is_whole(&table) && std::fs::remove_file(&table).is_ok() {
        damaged.push(work_folder::LATENCIES.to_owned());
    }
    if front::is_damaged(folder) {
        damaged.push(front::NAME.to_owned());
    }
    Ok(damaged)
}

fn tell_damaged(damaged: &[String], observer: &mut dyn Observer) {
    let Some(first) = damaged.first() else { return };
    let more = match damaged.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    observer.warning(&format!(
        "the work folder does not hold what was written to it: {first}{more}; this is made again"
    ));
}

/// Encodes a model as bytes, with its tensors inside.
pub(crate) fn encode(model: &Model) -> Result<bytes::Bytes> {
    Ok(model.encode(&DataPlacement::Inline)?.model_to_bytes())
}
