//! The supernet: every block that can be pruned as it is and in one pruned form, trained with four subnets an update, and sets
//! of blocks tried in it.

use updp_ir::Model;
use updp_passes::surgery::{self, Fitted, Form, Site};
use updp_trainer::hash::Fnv;
use updp_trainer::images::Images;
use updp_trainer::judge::Judge;
use updp_trainer::outcome::{Outcome, Score, SubnetOutcome, SupernetOutcome};
use updp_trainer::recovery::hard_loss;
use updp_trainer::run::Runner;
use updp_trainer::search::{Genome, Offer};
use updp_trainer::supernet;
use updp_trainer::train::End;
use updp_trainer::tune::{TuneSettings, Tuned};

use super::Recover;
use super::market::Market;
use super::start::Subnet;
use super::train::Ground;
use crate::cli::TrainingArgs;
use crate::error::CliError;
use crate::interrupt;
use crate::prune::encode;
use crate::terminal::Bar;
use crate::training::{self, Shown};

/// Points that the unpruned network may lose in the supernet before that is told as a warning.
const MOST_LOST: f64 = 1.0;

/// Its learning rate is this part of that of a training: the gradients of subnets that are far from trained would pull the
/// unpruned network away from the input model.
const RATE: f64 = 0.25;

/// How the supernet is trained.
#[derive(Clone, Copy, Debug)]
pub struct SupernetPlan<'a> {
    /// Settings of the training.
    pub arguments: &'a TrainingArgs,
    /// Epochs.
    pub epochs: usize,
}

/// The trained supernet, open for scoring.
pub(super) struct Supernet<'a> {
    session: supernet::Supernet<'a>,
    /// With the batch of the input model.
    pub(super) model: Model,
    runner: &'a Runner,
    judge: &'a Judge<'a>,
    is_opened: bool,
    /// Of each block its form; `None` = it is not in the supernet. λ has an entry for each of the others, in order.
    forms: Vec<Option<(usize, Form)>>,
}

impl SupernetPlan<'_> {
    /// Settings for a network with λ, nothing kept yet.
    pub(super) fn settings(
        &self,
        network: &Model,
        ground: &Ground<'_>,
        seed: u64,
    ) -> Result<TuneSettings, CliError> {
        let images = Images::new(network, ground.dataset.clone(), ground.preprocess)?;
        let mut settings = self.arguments.settings(network, &images, (self.epochs, seed));
        settings.pruned = vec![1.0; surgery::lambda_entries(network)];
        settings.is_sandwich = true;
        settings.scale_rate(RATE);
        Ok(settings)
    }
}

impl Recover<'_> {
    /// Trains the supernet, where one is asked for, and says how it came out.
    pub(super) fn enter_supernet<'b>(
        &self,
        ground: &Ground<'b>,
        (market, outcome): (&mut Market<'b>, &mut Outcome),
        model: &Model,
    ) -> Result<(), CliError> {
        let Some(plan) = &self.supernet else { return Ok(()) };
        let told = self.train_supernet(plan, ground, market, model)?;
        outcome.explanation.extend(explanation(&told));
        outcome.supernet = Some(told);
        Ok(())
    }

    /// Trains the supernet of all blocks that have an offer, and has the market's sets tried in it.
    ///
    /// Each block is in it in the form of the lowest price, and only these forms are left to choose from.
    fn train_supernet<'b>(
        &self,
        plan: &SupernetPlan<'_>,
        ground: &Ground<'b>,
        market: &mut Market<'b>,
        model: &Model,
    ) -> Result<SupernetOutcome, CliError> {
        market.narrow();
        let mut start = model.clone();
        let fits = market.in_supernet();
        if fits.is_empty() {
            let detail = "no block has a price that is a number".to_owned();
            return Err(CliError::NothingToPrune { detail });
        }
        surgery::blend(&mut start, &fits)?;
        let network = ground.opened(&start)?;
        let mut settings = plan.settings(&network, ground, self.images.seed)?;
        let job = format!("supernet {:x} {:?}", Fnv::of(&encode(&start)?), ground.preprocess);
        settings.folder = self.work.map(|work| training::folder(work, &job, &settings));
        let bar = Bar::new("scoring the supernet", 0);
        let before = ends(ground, &network, fits.len())?;
        drop(bar);
        let mut shown = Shown::supernet(plan.epochs);
        let tuned = ground.tuning(&settings).run(&network, &mut shown)?;
        if tuned.end == End::Stopped || interrupt::is_requested() {
            training::tell_stopped(tuned.steps, self.work);
            return Err(CliError::Interrupted);
        }
        let bar = Bar::new("scoring the supernet", 0);
        let after = ends(ground, &tuned.model, fits.len())?;
        drop(bar);
        let outcome = told((plan, ground), (&tuned, &shown), &fits, (before, after));
        drop(shown);
        let supernet = Supernet {
            session: supernet::Supernet::open(ground.runner, ground.judge, &tuned.model)?,
            model: tuned.put_into(start)?,
            runner: ground.runner,
            judge: ground.judge,
            is_opened: ground.is_opened,
            forms: market.forms_in_supernet(),
        };
        market.enter(supernet, Fnv::of(&encode(&tuned.model)?))?;
        Ok(outcome)
    }

    /// Refuses what training would refuse, of the supernet and of the pruned network, before anything is fitted.
    pub(super) fn check_trainings(&self, ground: &Ground<'_>) -> Result<(), CliError> {
        let Ground { working, .. } = *ground;
        if let Some(plan) = &self.training {
            let images = Images::new(working, ground.dataset.clone(), ground.preprocess)?;
            let times = (plan.epochs, self.images.seed);
            let mut settings = plan.arguments.settings(working, &images, times);
            settings.shrink = plan.shrink();
            ground.tuning(&settings).check(working)?;
        }
        if let Some(plan) = &self.supernet {
            let settings = plan.settings(working, ground, self.images.seed)?;
            ground.tuning(&settings).check(working)?;
        }
        Ok(())
    }
}

impl Supernet<'_> {
    /// λ of a genome.
    fn lambda(&self, genome: &Genome) -> Vec<bool> {
        let in_it = self.forms.iter().zip(genome).filter(|(form, _)| form.is_some());
        in_it.map(|(_, choice)| choice.is_some()).collect()
    }

    /// The score of a set of blocks, on the held-out images.
    pub(super) fn score(&mut self, genome: &Genome) -> Result<Score, CliError> {
        let lambda: Vec<f32> = self.lambda(genome).into_iter().map(f32::from).collect();
        Ok(self.session.score(&lambda)?)
    }

    /// The subnet of a set of blocks as a network of its own.
    pub(super) fn cut(&self, genome: &Genome) -> Result<Subnet, CliError> {
        let mut model = self.model.clone();
        surgery::subnet(&mut model, &self.lambda(genome))?;
        let mut network = model.clone();
        if self.is_opened {
            surgery::open_batch(&mut network)?;
        }
        let score = self.judge.score(self.runner, &network)?;
        let chosen = self.forms.iter().zip(genome).filter(|(_, choice)| choice.is_some());
        let pruned = chosen.filter_map(|(form, _)| *form).collect();
        Ok(Subnet { model, network, score, pruned })
    }
}

/// Scores with nothing pruned and with every block pruned.
fn ends(ground: &Ground<'_>, network: &Model, blocks: usize) -> Result<[Score; 2], CliError> {
    let mut session = supernet::Supernet::open(ground.runner, ground.judge, network)?;
    Ok([session.score(&vec![0.0; blocks])?, session.score(&vec![1.0; blocks])?])
}

/// The training for the report.
fn told(
    (plan, ground): (&SupernetPlan<'_>, &Ground<'_>),
    (tuned, shown): (&Tuned, &Shown),
    fits: &[(&Site, &Fitted)],
    (before, after): ([Score; 2], [Score; 2]),
) -> SupernetOutcome {
    let of = |at: usize| SubnetOutcome { before: before[at], after: after[at] };
    SupernetOutcome {
        epochs: plan.epochs,
        steps: tuned.steps,
        images: ground.dataset.len(),
        images_per_second: shown.images_per_second(),
        blocks: fits.iter().map(|(site, _)| (site.block, site.form.name().to_owned())).collect(),
        baseline: of(0),
        all_pruned: of(1),
        history: shown.history.clone(),
        course: shown.course(),
        start: None,
    }
}

/// How the supernet came out, in sentences.
fn explanation(outcome: &SupernetOutcome) -> Vec<String> {
    let SupernetOutcome { baseline, all_pruned, .. } = outcome;
    let words = training::words;
    let mut told = vec![format!(
        "the supernet of {} blocks: nothing pruned {} before its training, {} after; every block pruned {}, {}",
        outcome.blocks.len(),
        words(&baseline.before),
        words(&baseline.after),
        words(&all_pruned.before),
        words(&all_pruned.after)
    )];
    let lost = 100.0 * hard_loss(&baseline.before, &baseline.after);
    if lost > MOST_LOST {
        told.push(format!(
            "WARNING: with nothing pruned the supernet is {lost:.2} points below the input model: what is tried in it says less about the input model's blocks; a lower --lr keeps it nearer"
        ));
    }
    told
}

/// The form of the lowest price, none counting as less than 0; of equal ones the fastest.
pub(super) fn cheapest(offers: &[Offer]) -> Option<usize> {
    let finite = |offer: &Offer| offer.price.is_finite() && offer.latency_ms.is_finite();
    let all = offers.iter().enumerate().filter(|(_, offer)| finite(offer));
    let key = |offer: &Offer| (offer.price.max(0.0), offer.latency_ms);
    let best = all.min_by(|(_, a), (_, b)| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1))
    });
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_in_the_supernet_loses_least_and_is_the_fastest_of_those_that_lose_nothing() {
        let offer = |price: f64, latency_ms: f64| Offer { latency_ms, price };
        assert_eq!(cheapest(&[offer(3.0, 0.1), offer(1.0, 0.5), offer(1.0, 0.4)]), Some(2));
        assert_eq!(cheapest(&[offer(-0.4, 0.3), offer(0.0, 0.2), offer(-0.1, 0.9)]), Some(1));
        assert_eq!(cheapest(&[offer(f64::NAN, 0.1), offer(9.0, 0.2)]), Some(1));
        assert_eq!(cheapest(&[offer(f64::NAN, 0.1)]), None);
        assert_eq!(cheapest(&[]), None);
    }
}
