//! Pruning with data: every block is fitted and measured, blocks are chosen for the goal, and the network is fitted.

mod bounds;
mod dry_run;
mod explore;
mod goals;
mod market;
mod start;
mod supernet;
mod train;
mod work;

use std::path::Path;
use std::time::Instant;

use updp_exec::Optimizer;
use updp_ir::Model;
use updp_passes::{pipeline, surgery};
use updp_trainer::checkpoint::Checkpoint;
use updp_trainer::data::{Dataset, Preprocess};
use updp_trainer::error::TrainerError;
use updp_trainer::fit::Settings;
use updp_trainer::hash::Fnv;
use updp_trainer::images::{Images, is_same_by_image};
use updp_trainer::judge::Judge;
use updp_trainer::outcome::{DataOutcome, Outcome, Score, Speed};
use updp_trainer::recovery::{Recovery, hard_loss};
use updp_trainer::run::{Feed, Held, Runner};
use updp_trainer::search;

use crate::cli::{DataArgs, Stage};
use crate::error::CliError;
use crate::prune::{Pruned, Request, StatisticsSource, encode};
use crate::report::counted;
use crate::terminal::{self, Bar};
use goals::Choice;
use market::{Market, chosen};
use start::Start;
pub use supernet::SupernetPlan;
pub use train::Plan;
use train::{Ground, Trained};
use updp_passes::ModelSummary;
pub use work::{mark_work, remove_empty_work, remove_work, work_folder};

/// Multiply-adds that one run over the calibration images takes by default, about a minute's on two cores.
const PASS_MACS: u64 = 4_000_000_000_000;

/// Most held-out images.
const MOST_HELD_OUT: usize = 1000;

/// A run of pruning with data.
pub struct Recover<'a> {
    /// What is to be pruned, and how.
    pub request: &'a Request<'a>,
    /// The images.
    pub images: &'a DataArgs,
    /// Where intermediate results go.
    pub work: Option<&'a Path>,
    /// The supernet that sets of blocks are tried in; `None` = they are tried as they were fitted.
    pub supernet: Option<SupernetPlan<'a>>,
    /// Training after the fit; `None` = the fit is all.
    pub training: Option<Plan<'a>>,
    /// Whether it is only said what would be done.
    pub is_dry: bool,
}

/// The data, opened.
struct Data {
    calibration: Images,
    held_out: Images,
    validation: Option<Images>,
    /// Everything that is not held out.
    rest: Dataset,
    classes: Vec<String>,
}

/// Options of what is asked for, in words and numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Aim {
    Blocks,
    Count(usize),
    Speedup(f64),
    LatencyMs(f64),
    /// This share of the multiply-adds.
    Macs(f64),
    MaxDrop(f64),
}

impl Aim {
    /// The latency that is asked for, of a network that takes `whole` ms; that itself where none is.
    fn latency_ms(self, whole: f64) -> f64 {
        match self {
            Self::Speedup(speedup) => whole / speedup,
            Self::LatencyMs(ms) => ms,
            Self::Blocks | Self::Count(_) | Self::Macs(_) | Self::MaxDrop(_) => whole,
        }
    }
}

impl Recover<'_> {
    /// Prunes and fits; `None` when it was only said what would be done, or when it was to stop early.
    ///
    /// # Errors
    /// C0001 for a missing goal; C0013, C0014 for blocks; T codes for data and fitting.
    pub fn prune(&self, mut model: Model) -> Result<Option<Pruned>, CliError> {
        let aim = self.aim()?;
        let threads = self.request.runtime.threads;
        updp_trainer::use_threads(threads);
        let (runtime, options) = self.request.runtime.split(Optimizer::All);
        let runner = Runner { runtime, options };
        pipeline::prepare(&mut model)?;
        let bar = Bar::new("reading data", 0);
        let preprocess = Preprocess::parse(&self.images.preprocess)?;
        let images = Dataset::open(self.images.data.as_deref().unwrap_or_else(|| Path::new("")))?;
        let (working, is_opened) = working(&model, &runner, &images, &preprocess)?;
        let data = self.data(&working, &images, &preprocess)?;
        let checkpoint = self.checkpoint(&working, &data, &preprocess)?;
        let settings = Settings { seed: self.images.seed, ..Settings::default() };
        let held = Held::of(&data.held_out)?;
        bar.say("running the model");
        let start = Instant::now();
        let judge = Judge::new(&runner, &working, &held)?;
        let pass = start.elapsed();
        let kept = Held::within(&data.calibration, 1, bounds::MOST_IMAGE_BYTES)?;
        let recovery = Recovery {
            runner: &runner,
            original: &working,
            calibration: match &kept {
                Some(held) => held,
                None => &data.calibration,
            },
            judge: &judge,
            settings: &settings,
            checkpoint: &checkpoint,
        };
        let validation = match &data.validation {
            Some(images) => Some(Judge::new(&runner, &working, images)?),
            None => None,
        };
        let validation = validation.as_ref().unwrap_or(&judge);
        let ground = Ground {
            runner: &runner,
            dataset: &data.rest,
            preprocess: &preprocess,
            judge: &judge,
            validation,
            working: &working,
            is_opened,
        };
        self.check_trainings(&ground)?;
        drop(bar);
        if self.is_dry {
            terminal::say(&self.dry_run((&data, aim), &ground, &recovery, pass)?);
            return Ok(None);
        }
        self.carry_out(&ground, recovery, (&data, aim), &model)
    }

    /// Prices, choice, training, measuring; `None` when it was to stop early. `prepared` is the input model.
    fn carry_out(
        &self,
        ground: &Ground<'_>,
        recovery: Recovery<'_>,
        (data, aim): (&Data, Aim),
        prepared: &Model,
    ) -> Result<Option<Pruned>, CliError> {
        let Ground { runner, validation, is_opened, .. } = *ground;
        let mut market = self.market(ground.working, recovery)?;
        let mut outcome = self.start(&market, data, ground.judge, aim)?;
        if !is_opened {
            outcome
                .explanation
                .push("the batch of the model is fixed, and it is run so".to_owned());
        }
        self.enter_supernet(ground, (&mut market, &mut outcome), prepared)?;
        if self.stops_after(Stage::Supernet, &outcome.explanation) {
            return Ok(None);
        }
        let (choice, start) = choose(&mut market, aim)?;
        self.tell_start(&mut outcome, &market, &start);
        if self.stops_after(Stage::Search, &goals::told(&choice, &start)) {
            return Ok(None);
        }
        let bar = Bar::new("measuring the result", 0);
        outcome.before = validation.baseline();
        outcome.after = validation.score(runner, start.network())?;
        drop(bar);
        let trained = match &self.training {
            Some(plan) if !start.pruned().is_empty() => {
                Some(self.train(plan, ground, &market, prepared, &start)?)
            }
            _ => None,
        };
        if self.stops_after(Stage::Train, &[]) {
            return Ok(None);
        }
        let bar = Bar::new("measuring the result", 0);
        let written = trained.as_ref().filter(|trained| trained.outcome.is_written);
        let network = written.map_or(start.network(), |trained| &trained.network);
        outcome.speed = Some(self.speed(&mut market, network)?);
        drop(bar);
        let model = written_of(trained, &start, prepared, &mut outcome)?;
        self.finish(&mut outcome, &market, &choice, &start, aim);
        let bytes = encode(&model)?;
        let found = market.offers.len();
        let chosen = chosen(&mut market, &start);
        let statistics = StatisticsSource::NotNeeded;
        let (left, outcome) = (Vec::new(), Some(outcome));
        Ok(Some(Pruned { bytes, chosen, left, found, statistics, outcome }))
    }

    fn aim(&self) -> Result<Aim, CliError> {
        let arguments = self.request.arguments;
        let drop = arguments.max_drop;
        Ok(match (arguments.prune, arguments.speedup, arguments.latency_ms, arguments.macs) {
            _ if arguments.blocks.is_some() => Aim::Blocks,
            (Some(count), ..) => Aim::Count(count.get()),
            (_, Some(speedup), ..) => Aim::Speedup(speedup),
            (.., Some(latency_ms), _) => Aim::LatencyMs(latency_ms),
            (.., Some(share)) => Aim::Macs(share),
            _ => Aim::MaxDrop(drop.ok_or_else(|| CliError::Usage {
                detail: "--data needs a goal: --prune N, --blocks LIST, --speedup X, --latency-ms T, --macs SHARE or --max-drop P".into(),
            })?),
        })
    }

    fn data(
        &self,
        working: &Model,
        all: &Dataset,
        preprocess: &Preprocess,
    ) -> Result<Data, CliError> {
        let seed = self.images.seed;
        let (rest, held_out) = all.split(self.images.val_split, seed);
        let macs = ModelSummary::of(working, 0).macs.max(1);
        let default = (PASS_MACS / macs).clamp(500, 4000) as usize;
        let count = self.images.images.map_or(default, usize::from);
        let held_count = (count / 2).clamp(50, MOST_HELD_OUT);
        let images = |dataset: Dataset| Images::new(working, dataset, preprocess);
        let calibration = images(rest.sample(count, seed))?;
        let held_out = images(held_out.sample(held_count, seed))?;
        let validation = match &self.images.val {
            Some(path) => Some(images(Dataset::open(path)?)?),
            None => None,
        };
        if calibration.images().min(held_out.images()) < 2 {
            // The smaller part must fill a batch that the model fixes.
            let share = self.images.val_split.min(1.0 - self.images.val_split);
            let needed = (calibration.least() as f64 / share).ceil() as usize;
            return Err(TrainerError::TooFew { found: all.len(), needed }.into());
        }
        Ok(Data { calibration, held_out, validation, rest, classes: all.classes().to_vec() })
    }

    /// Where results of this very job are kept.
    fn checkpoint(
        &self,
        working: &Model,
        data: &Data,
        preprocess: &Preprocess,
    ) -> Result<Checkpoint, CliError> {
        let Some(work) = self.work else { return Ok(Checkpoint::default()) };
        let arguments = self.request.arguments;
        let text = format!(
            "{} {:x} {:x} {:x} {:?} {:?} {:?} {} {:?}",
            env!("CARGO_PKG_VERSION"),
            Fnv::of(&encode(working)?),
            data.calibration.dataset().fingerprint(),
            data.held_out.dataset().fingerprint(),
            preprocess,
            arguments.shrink,
            self.request.options.merge_all,
            self.images.seed,
            self.request.runtime,
        );
        let folder = work.join(format!("{:016x}", Fnv::of(text.as_bytes())));
        if folder.exists() {
            terminal::remark(&format!("going on with what {} holds", work.display()));
        }
        let checkpoint = Checkpoint::open(&folder)?;
        mark_work(work)?;
        Ok(checkpoint)
    }

    /// What is known before anything is chosen.
    fn start(
        &self,
        market: &Market<'_>,
        data: &Data,
        judge: &Judge<'_>,
        aim: Aim,
    ) -> Result<Outcome, CliError> {
        let mut skipped = data.calibration.skipped()?.to_vec();
        skipped.extend_from_slice(data.held_out.skipped()?);
        let classes = judge.classes();
        let mut explanation = Vec::new();
        if !data.classes.is_empty() && !judge.has_labels() {
            explanation.push(format!(
                "the data have {} classes and the model {}: labels are not used",
                data.classes.len(),
                classes.map_or_else(|| "no class head".to_owned(), |count| count.to_string())
            ));
        } else if judge.has_labels() && classes.is_some_and(|count| count != data.classes.len()) {
            explanation.push(format!(
                "the data have {} classes and the model {}: class numbers may not be the model's",
                data.classes.len(),
                classes.unwrap_or(0)
            ));
        }
        if let (Some(accuracy), Some(classes)) = (market.baseline.accuracy, classes)
            && accuracy < 2.0 / classes as f64
        {
            explanation.push(format!(
                "WARNING: the model itself has only {:.1} % on these data, near chance; a wrong --preprocess is the usual cause, and the order of the classes the next",
                100.0 * accuracy
            ));
        }
        let metric = match classes {
            Some(_) if judge.has_labels() => "accuracy",
            Some(_) => "agreement",
            None => "overlap",
        };
        Ok(Outcome {
            data: DataOutcome {
                calibration: data.calibration.images(),
                held_out: data.held_out.images(),
                validation: data.validation.as_ref().map_or(0, Feed::images),
                classes: if judge.has_labels() { data.classes.clone() } else { Vec::new() },
                skipped,
            },
            metric: metric.to_owned(),
            goal: self.goal_text(aim),
            before: Score::default(),
            after: Score::default(),
            training: None,
            speed: None,
            blocks: Vec::new(),
            front: Vec::new(),
            tried: Vec::new(),
            supernet: None,
            search: None,
            explanation,
            missed: Vec::new(),
        })
    }

    fn goal_text(&self, aim: Aim) -> String {
        let main = match aim {
            Aim::Blocks => "the blocks asked for".to_owned(),
            Aim::Count(count) => counted(count, "block", "blocks"),
            Aim::Speedup(speedup) => format!("{speedup} times as fast"),
            Aim::LatencyMs(ms) => format!("{ms} ms"),
            Aim::Macs(share) => format!("{share} of the multiply-adds"),
            Aim::MaxDrop(points) => return format!("as fast as {points} points allow"),
        };
        match self.request.arguments.max_drop {
            Some(points) => format!("{main}, at most {points} points lost"),
            None => main,
        }
    }

    fn speed(&self, market: &mut Market<'_>, network: &Model) -> Result<Speed, CliError> {
        let (before_ms, after_ms) = market.latencies(network.clone())?;
        Ok(Speed {
            before_ms,
            after_ms,
            speedup: before_ms / after_ms,
            batch: self.request.arguments.batch.get(),
            runtime: market.table.runtime().to_owned(),
        })
    }

    /// Fills in what was chosen and which gates were missed.
    fn finish(
        &self,
        outcome: &mut Outcome,
        market: &Market<'_>,
        choice: &Choice,
        start: &Start,
        aim: Aim,
    ) {
        let sequence = &start.sequence;
        outcome.blocks = market.offers.iter().map(|o| o.outcome(market, start)).collect();
        outcome.front =
            search::front(&market.items).iter().map(|s| market.tried(s, None, None)).collect();
        for (genome, joint) in &choice.tried {
            if let Some(solution) = search::sum(&market.items, genome) {
                let fitted = choice.fitted_price(genome);
                outcome.tried.push(market.tried(&solution, Some(*joint), fitted));
            }
        }
        outcome.search = market.searched();
        outcome.explanation.extend(choice.explanation.iter().cloned());
        if sequence.adjusted > 0 && !start.is_subnet {
            outcome.explanation.push(format!(
                "{} behind pruned blocks solved for anew, to make up for what is lost further up",
                counted(sequence.adjusted, "layer was", "layers were")
            ));
        }
        if sequence.left > 0 && !start.is_subnet {
            outcome.explanation.push(format!(
                "the layers of {} farther behind stay as they are, to bound the time",
                counted(sequence.left, "kept block", "kept blocks")
            ));
        }
        if let Some(speed) = outcome.speed.as_ref().filter(|speed| speed.speedup < 1.0)
            && !start.pruned().is_empty()
        {
            outcome.explanation.push(format!(
                "WARNING: the pruned network is slower than the original, {:.3} ms instead of {:.3}; without --force such blocks are left as they are",
                speed.after_ms, speed.before_ms
            ));
        }
        let speed = outcome.speed.as_ref().map(|speed| (speed.speedup, speed.after_ms));
        match (aim, speed) {
            (Aim::Speedup(wanted), Some((found, _))) if found < wanted => {
                outcome.missed.push(format!("{found:.3} times as fast instead of {wanted}"));
            }
            (Aim::LatencyMs(wanted), Some((_, found))) if found > wanted => {
                outcome.missed.push(format!("{found:.3} ms instead of {wanted}"));
            }
            _ => {}
        }
        if let (Aim::Macs(wanted), Some(found)) = (aim, choice.macs_share)
            && found > wanted
        {
            outcome
                .missed
                .push(format!("{found:.3} of the multiply-adds are left instead of {wanted}"));
        }
        let lost = 100.0 * hard_loss(&outcome.before, &outcome.after);
        if let Some(most) = self.request.arguments.max_drop
            && lost > most
        {
            let missed =
                format!("{lost:.2} points of {} are lost instead of {most}", outcome.metric);
            outcome.missed.push(missed);
        }
        if matches!(aim, Aim::MaxDrop(_)) && start.pruned().is_empty() {
            outcome.missed.push("nothing can be pruned within that bound".to_owned());
        }
    }
}

/// What is written, told in `outcome`: what was trained, or what it started from.
fn written_of(
    trained: Option<Trained>,
    start: &Start,
    prepared: &Model,
    outcome: &mut Outcome,
) -> Result<Model, CliError> {
    let Some(Trained { model, outcome: told, refused, .. }) = trained else {
        return start.model(prepared);
    };
    let is_written = told.is_written;
    if is_written {
        outcome.after = told.after;
    }
    outcome.training = Some(told);
    outcome.explanation.extend(refused);
    if is_written { Ok(model) } else { start.model(prepared) }
}

/// Chooses the blocks and fits them.
fn choose(market: &mut Market<'_>, aim: Aim) -> Result<(Choice, Start), CliError> {
    match aim {
        Aim::Blocks => {
            market.count(market.items.iter().filter(|item| !item.offers.is_empty()).count())
        }
        Aim::Count(count) => market.count(count),
        Aim::Speedup(_) | Aim::LatencyMs(_) => market.fast(aim),
        Aim::Macs(share) => market.light(share),
        Aim::MaxDrop(points) => market.cheap(points),
    }
}

/// A copy of the prepared model that takes any batch, where that gives the same; else one as it is.
pub(crate) fn working(
    model: &Model,
    runner: &Runner,
    images: &Dataset,
    preprocess: &Preprocess,
) -> Result<(Model, bool), CliError> {
    let mut opened = model.clone();
    if !surgery::open_batch(&mut opened)? {
        return Ok((opened, true));
    }
    let few = Images::new(model, images.sample(64, 0), preprocess)?;
    if is_same_by_image(runner, model, &opened, &few)? {
        return Ok((opened, true));
    }
    Ok((model.clone(), false))
}
