//! Choosing blocks by sets that are tried together, through the searches of [`updp_trainer::search::explore`].

use std::fmt::Write;
use std::num::NonZeroUsize;

use updp_trainer::checkpoint::Checkpoint;
use updp_trainer::hash::Fnv;
use updp_trainer::ledger::Ledger;
use updp_trainer::outcome::{Score, SearchOutcome};
use updp_trainer::recovery::Recovery;
use updp_trainer::search::explore::{Archive, Evaluated, Settings, Strategy, explore};
use updp_trainer::search::{self, Genome, Goal, Item};

use super::goals::{Choice, affordable, points};
use super::market::{Market, Offers, candidates};
use super::supernet::Supernet;
use crate::cli::{SearchArgs, SearchChoice};
use crate::error::CliError;
use crate::report::counted;
use crate::terminal::Bar;

/// Multiply-adds that trying sets together takes by default.
pub(super) const SEARCH_MACS: u64 = 24_000_000_000_000;

/// Fewest and most sets tried by default.
pub(super) const EVALUATIONS: (u64, u64) = (32, 256);

/// A goal that is aimed at anew gets this part of the evaluations again: the archive knows most of what is of use.
const AIMED_AGAIN: usize = 4;

/// What the searches of a run share.
pub(super) struct Search<'a> {
    strategy: Option<Strategy>,
    /// Sets tried at most, as asked for.
    pub(super) evaluations: Option<usize>,
    /// Sets fitted as a whole at most, as asked for.
    pub(super) finalists: Option<NonZeroUsize>,
    seed: u64,
    archive: Archive,
    pub(super) trials: Trials<'a>,
}

/// Where sets are tried together, and what is known of them.
pub(super) struct Trials<'a> {
    ledger: Ledger,
    /// `None` = sets are tried as the blocks were fitted alone.
    supernet: Option<Supernet<'a>>,
}

impl Trials<'_> {
    /// The score of a set, tried unless it is known.
    pub(super) fn score(
        &mut self,
        recovery: &Recovery<'_>,
        offers: &[Offers],
        genome: &Genome,
    ) -> Result<Score, CliError> {
        let set = words(offers, genome);
        if let Some(known) = self.ledger.get(&set) {
            return Ok(known);
        }
        let score = match &mut self.supernet {
            Some(supernet) => supernet.score(genome)?,
            None => recovery.together(&candidates(offers, genome))?,
        };
        self.ledger.put(&set, score)?;
        Ok(score)
    }

    /// Where sets are tried, in words.
    pub(super) fn place(&self) -> &'static str {
        if self.supernet.is_some() { "in the supernet" } else { "as the blocks were fitted alone" }
    }
}

impl<'a> Search<'a> {
    /// A search as the arguments ask for it; what it evaluates is kept beside the fitted blocks.
    pub(super) fn new(
        arguments: &SearchArgs,
        seed: u64,
        (items, offers): (&[Item], &[Offers]),
        checkpoint: &Checkpoint,
    ) -> Result<Self, CliError> {
        let strategy = match arguments.choice() {
            SearchChoice::Fit => None,
            SearchChoice::Genetic => Some(Strategy::Genetic),
            SearchChoice::Random => Some(Strategy::Random),
            SearchChoice::Greedy => Some(Strategy::Greedy),
        };
        // How a form is fitted depends on the other forms of its block that are offered.
        let mut forms = String::new();
        for site in offers.iter().flat_map(|offers| &offers.sites) {
            let _ = write!(forms, "{} {} {},", site.block, site.form.name(), site.output);
        }
        let name = format!("sets{:016x}.jsonl", Fnv::of(forms.as_bytes()));
        let ledger = match checkpoint.folder().filter(|_| strategy.is_some()) {
            Some(folder) => Ledger::open(&folder.join(name))?,
            None => Ledger::default(),
        };
        let evaluations = arguments.evaluations.map(usize::from);
        let finalists = arguments.shortlist;
        let trials = Trials { ledger, supernet: None };
        Ok(Self { strategy, evaluations, finalists, seed, archive: Archive::new(items), trials })
    }

    /// Goes by the costs of these items from now on, with what was evaluated before.
    pub(super) fn count_by(&mut self, items: &[Item]) {
        self.archive = self.archive.over(items);
    }

    /// The trained supernet; `None` without one.
    pub(super) fn supernet(&self) -> Option<&Supernet<'a>> {
        self.trials.supernet.as_ref()
    }

    /// The search that is run; `None` = the one by prices of single blocks.
    pub(super) fn strategy(&self) -> Option<Strategy> {
        self.strategy
    }
}

impl<'a> Market<'a> {
    /// Has sets tried in a supernet from now on; `hash` tells it from others.
    pub(super) fn enter(&mut self, supernet: Supernet<'a>, hash: u64) -> Result<(), CliError> {
        let ledger = match self.recovery.checkpoint.folder() {
            Some(folder) => Ledger::open(&folder.join(format!("supernet{hash:016x}.jsonl")))?,
            None => Ledger::default(),
        };
        self.search.archive = Archive::new(&self.items);
        self.search.trials = Trials { ledger, supernet: Some(supernet) };
        Ok(())
    }

    /// Sets that can be tried together with so many multiply-adds, within bounds.
    pub(super) fn affordable(&self, macs: u64, bounds: (u64, u64)) -> usize {
        let supernet = self.search.supernet();
        let network = supernet.map_or(self.recovery.original, |supernet| &supernet.model);
        affordable(network, self.recovery.judge.images(), macs, bounds)
    }

    /// Which blocks, by trying sets together.
    pub(super) fn explore(
        &mut self,
        goal: Goal,
        is_hard: bool,
        strategy: Strategy,
    ) -> Result<Choice, CliError> {
        let starts = search::solve(&self.items, goal, 4);
        let default = self.affordable(SEARCH_MACS, EVALUATIONS);
        let Self { recovery, offers, items, baseline, search, .. } = self;
        let Search { evaluations, seed, archive, trials, .. } = search;
        let before = archive.entries().len();
        let mut evaluations = evaluations.unwrap_or(default);
        if before > 0 {
            evaluations = evaluations.div_ceil(AIMED_AGAIN);
        }
        let bar = Bar::new("trying blocks together", evaluations);
        let mut joint = |genome: &Genome| -> Result<f64, CliError> {
            let score = trials.score(recovery, offers, genome)?;
            bar.advance(1);
            Ok(points(baseline, &score, is_hard))
        };
        let settings = Settings { strategy, evaluations, seed: *seed };
        let found = explore(items, goal, &starts, settings, archive, &mut joint)?;
        drop(bar);
        let new = &archive.entries()[before..];
        let tried = new.iter().map(|it| (it.solution.genome.clone(), it.joint_price)).collect();
        let all = if found.is_exhaustive { ", which are all that reach the goal," } else { "" };
        let explanation = format!(
            "the {} search tried {} together{all} {}; the one chosen loses {:.2} points before it is fitted as a whole; its prices add up to {:.2}",
            name(strategy),
            counted(found.evaluated, "set", "sets"),
            trials.place(),
            found.joint_price,
            found.best.price
        );
        Ok(Choice::new(found.best.genome, tried, vec![explanation]))
    }

    /// What was searched, for the report; `None` for the search by prices.
    pub(super) fn searched(&self) -> Option<SearchOutcome> {
        let strategy = self.search.strategy?;
        let archive = &self.search.archive;
        let sets = |front: Vec<Evaluated>| {
            front.iter().map(|it| self.tried(&it.solution, Some(it.joint_price), None)).collect()
        };
        Some(SearchOutcome {
            strategy: name(strategy).to_owned(),
            seed: self.search.seed,
            evaluated: archive.entries().len(),
            by_latency: sets(archive.front_by_latency()),
            by_count: sets(archive.front_by_count()),
        })
    }
}

/// A genome in words: blocks with their forms.
fn words(offers: &[Offers], genome: &Genome) -> String {
    let chosen = candidates(offers, genome).into_iter();
    let words = chosen.map(|it| format!("{} {}", it.site.block, it.site.form.name()));
    words.collect::<Vec<_>>().join(", ")
}

fn name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Genetic => "genetic",
        Strategy::Greedy => "greedy",
        Strategy::Random => "random",
    }
}
