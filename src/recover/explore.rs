//! Choosing blocks by sets that are tried together, through the searches of [`updp_trainer::search::explore`].

use std::fmt::Write;

use updp_trainer::checkpoint::Checkpoint;
use updp_trainer::hash::Fnv;
use updp_trainer::ledger::Ledger;
use updp_trainer::outcome::SearchOutcome;
use updp_trainer::search::explore::{Archive, Evaluated, Settings, Strategy, explore};
use updp_trainer::search::{self, Genome, Goal, Item};

use super::goals::{Choice, affordable, points};
use super::market::{Market, Offers, candidates};
use crate::cli::{SearchArgs, SearchChoice};
use crate::error::CliError;
use crate::report::counted;
use crate::terminal::Bar;

/// Multiply-adds that trying sets together takes by default.
const SEARCH_MACS: u64 = 24_000_000_000_000;

/// Fewest and most sets tried by default.
const EVALUATIONS: (u64, u64) = (32, 256);

/// A goal that is aimed at anew gets this part of the evaluations again: the archive knows most of what is of use.
const AIMED_AGAIN: usize = 4;

/// What the searches of a run share.
pub(super) struct Search {
    strategy: Option<Strategy>,
    /// Sets tried at most, as asked for.
    pub(super) evaluations: Option<usize>,
    seed: u64,
    archive: Archive,
    ledger: Ledger,
}

impl Search {
    /// A search as the arguments ask for it; what it evaluates is kept beside the fitted blocks.
    pub(super) fn new(
        arguments: &SearchArgs,
        seed: u64,
        (items, offers): (&[Item], &[Offers]),
        checkpoint: &Checkpoint,
    ) -> Result<Self, CliError> {
        let strategy = match arguments.search {
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
        Ok(Self { strategy, evaluations, seed, archive: Archive::new(items), ledger })
    }

    /// The search that is run; `None` = the one by prices of single blocks.
    pub(super) fn strategy(&self) -> Option<Strategy> {
        self.strategy
    }
}

impl Market<'_> {
    /// Which blocks, by trying sets together.
    pub(super) fn explore(
        &mut self,
        goal: Goal,
        is_hard: bool,
        strategy: Strategy,
    ) -> Result<Choice, CliError> {
        let starts = search::solve(&self.items, goal, 4);
        let Self { recovery, offers, items, baseline, search, .. } = self;
        let default = affordable(recovery, SEARCH_MACS, EVALUATIONS);
        let Search { evaluations, seed, archive, ledger, .. } = search;
        let before = archive.entries().len();
        let mut evaluations = evaluations.unwrap_or(default);
        if before > 0 {
            evaluations = evaluations.div_ceil(AIMED_AGAIN);
        }
        let bar = Bar::new("trying blocks together", evaluations);
        let mut joint = |genome: &Genome| -> Result<f64, CliError> {
            let set = words(offers, genome);
            let score = if let Some(known) = ledger.get(&set) {
                known
            } else {
                let score = recovery.together(&candidates(offers, genome))?;
                ledger.put(&set, score)?;
                score
            };
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
            "the {} search tried {} together{all} as the blocks were fitted alone; the one chosen loses {:.2} points before it is fitted as a whole; its prices add up to {:.2}",
            name(strategy),
            counted(found.evaluated, "set", "sets"),
            found.joint_price,
            found.best.price
        );
        Ok(Choice { genome: found.best.genome, tried, explanation: vec![explanation] })
    }

    /// What was searched, for the report; `None` for the search by prices.
    pub(super) fn searched(&self) -> Option<SearchOutcome> {
        let strategy = self.search.strategy?;
        let archive = &self.search.archive;
        let sets = |front: Vec<Evaluated>| {
            front.iter().map(|it| self.tried(&it.solution, Some(it.joint_price))).collect()
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
