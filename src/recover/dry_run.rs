//! What pruning with data would do and how long it would take: blocks are looked at, one of each kind is fitted, a few steps
//! are trained, and nothing is kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use updp_ir::Model;
use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Form, Site};
use updp_trainer::images::Images;
use updp_trainer::recovery::Recovery;
use updp_trainer::run::Feed;
use updp_trainer::stage::Stage;

use super::explore::{EVALUATIONS, SEARCH_MACS};
use super::goals::{self, affordable};
use super::supernet::SupernetPlan;
use super::train::{Ground, Plan};
use super::{Aim, Data, Recover, bounds};
use crate::cli::{Method, StartChoice};
use crate::error::CliError;
use crate::rehearsal::{Rehearsed, about, rehearse};
use crate::survey::{Row, SHORT_EFFORT};
use updp_passes::ModelSummary;

/// Fitting for the estimate ends after this long; blocks not reached are taken from those that were.
const MOST: Duration = Duration::from_secs(30);

/// Of the time that pricing takes, what choosing sets of blocks and fitting one of them as a whole takes on top of it, about.
const CHOOSING: f64 = 1.5;

/// The same of fitting another one.
const ANOTHER: f64 = 0.4;

/// A block with the forms that would be fitted.
struct Candidate {
    row: Row,
    sites: Vec<Site>,
}

impl Candidate {
    /// Blocks of equal keys take about equally long.
    fn key(&self) -> String {
        let forms: Vec<&str> = self.sites.iter().map(|site| site.form.name()).collect();
        let Row { block, input, output, .. } = &self.row;
        format!("{} {input} {output} {}", block.kind.name(), forms.join(" "))
    }

    /// Time of the forms by the cost model: what fitting is taken to be in proportion to.
    fn weight(&self) -> f64 {
        let forms = self.sites.iter().filter_map(|site| self.row.variant(site.form));
        self.row.baseline.estimate_ms + forms.map(|variant| variant.estimate_ms).sum::<f64>()
    }
}

/// Seconds of what pruning does.
struct Times {
    measuring: f64,
    pricing: f64,
    /// Blocks that were fitted for this.
    fitted: usize,
}

impl Recover<'_> {
    /// Says what would be done. `pass` is how long the held-out images took through the model.
    pub(super) fn dry_run(
        &self,
        (data, aim): (&Data, Aim),
        ground: &Ground<'_>,
        recovery: &Recovery<'_>,
        pass: Duration,
    ) -> Result<String, CliError> {
        let candidates = self.candidates(ground.working)?;
        let prunable: Vec<&Candidate> =
            candidates.iter().filter(|it| !it.sites.is_empty()).collect();
        if prunable.is_empty() {
            let detail = "no block that was asked for has a form that can be fitted".to_owned();
            return Err(CliError::NothingToPrune { detail });
        }
        let mut text = format!(
            "dry run: nothing is written\n  goal: {}\n  blocks: {} found, {} with forms to fit\n",
            self.goal_text(aim),
            candidates.len(),
            prunable.len()
        );
        for Candidate { row, sites } in &candidates {
            let forms: Vec<&str> = sites.iter().map(|site| site.form.name()).collect();
            let what = match (&row.block.refusal, forms.is_empty()) {
                (Some(refusal), _) => format!("{} ({})", refusal.detail, refusal.reason),
                (None, true) => "not among the blocks asked for, or no form".to_owned(),
                (None, false) => forms.join(", "),
            };
            let _ =
                writeln!(text, "    {:>3} {:<18} {what}", row.block.index, row.block.kind.name());
        }
        let held_out = data.held_out.images();
        let _ = writeln!(
            text,
            "  images: {} to fit with, {held_out} held out, {} of --val; one pass of those held out takes {:.2} s",
            data.calibration.images(),
            data.validation.as_ref().map_or(0, Feed::images),
            pass.as_secs_f64()
        );
        let times = self.times(recovery, &prunable)?;
        let is_subnet = self.supernet.is_some() && self.start_choice() == StartChoice::Supernet;
        let finalists = if is_subnet || matches!(aim, Aim::MaxDrop(_)) {
            1
        } else {
            goals::finalists(self.request.arguments.search.shortlist, recovery)
        };
        let choosing = (CHOOSING + ANOTHER * (finalists - 1) as f64) * times.pricing;
        let _ = writeln!(
            text,
            "  measuring blocks: {}\n  pricing blocks: {} ({} of {} fitted for this, the others after those of their kind or the cost model)\n  \
             choosing and fitting the network: {}, by experience",
            about(times.measuring),
            about(times.pricing),
            times.fitted,
            prunable.len(),
            about(choosing)
        );
        let mut seconds = times.measuring + times.pricing + choosing + 2.0 * pass.as_secs_f64();
        if let Some(plan) = &self.supernet {
            let (rehearsed, searching) = self.rehearsed_supernet(plan, ground, &prunable, pass)?;
            seconds += rehearsed.seconds() + searching;
            let _ = writeln!(
                text,
                "  {}\n  trying sets in it: {}",
                rehearsed.words("supernet"),
                about(searching)
            );
        }
        if let Some(plan) = &self.training {
            let rehearsed = self.rehearsed(plan, ground, &prunable, aim)?;
            seconds += rehearsed.seconds();
            let _ = writeln!(text, "  {}", rehearsed.words("training"));
            text.push_str(match plan.method {
                Method::Fit => "  (steps of the network with all of its blocks; pruned it is faster)\n",
                Method::Blend => "  (steps without the fitted operators beside the blocks; with them a little slower)\n",
                Method::Progressive | Method::Direct => "",
            });
        }
        let _ = write!(
            text,
            "  in all {}; what a work folder holds already is not counted",
            about(seconds)
        );
        Ok(text)
    }

    /// The blocks with the forms that can be fitted; none for those not asked for.
    fn candidates(&self, working: &Model) -> Result<Vec<Candidate>, CliError> {
        let blocks = surgery::blocks_of(working)?;
        let wanted = self.request.wanted(&blocks)?;
        let mut sites = self.sites(working, &blocks, |block| {
            block.refusal.is_none() && wanted.contains(&block.index)
        });
        let forms = |block: &Block| sites[block.index].iter().map(|site| site.form).collect();
        let rows = self.survey(working, SHORT_EFFORT).rows(blocks, forms, None)?;
        let pairs = rows.into_iter().map(|row| {
            let sites = std::mem::take(&mut sites[row.block.index]);
            Candidate { row, sites }
        });
        Ok(pairs.collect())
    }

    /// Fits one block of each kind, in the order the data pass them, while there is time.
    fn times(&self, recovery: &Recovery<'_>, blocks: &[&Candidate]) -> Result<Times, CliError> {
        let mut known: BTreeMap<String, f64> = BTreeMap::new();
        let (mut measured, mut weight) = (0.0, 0.0);
        let fewer = bounds::pricing(recovery)?;
        let pricing = bounds::with(*recovery, fewer.as_ref());
        let (start, mut stage) = (Instant::now(), Stage::default());
        for block in blocks {
            let key = block.key();
            if known.contains_key(&key) || (start.elapsed() > MOST && !known.is_empty()) {
                continue;
            }
            let from = Instant::now();
            bounds::alone(&pricing, &mut stage, &block.row, &block.sites)?;
            let seconds = from.elapsed().as_secs_f64();
            known.insert(key, seconds);
            measured += seconds;
            weight += block.weight();
        }
        let rate = measured / f64::max(weight, 1e-9);
        let of =
            |block: &&Candidate| known.get(&block.key()).copied().unwrap_or(rate * block.weight());
        let kinds =
            blocks.iter().map(|block| block.key()).collect::<std::collections::BTreeSet<_>>();
        // Beside the blocks whole networks are measured: once for the goal, once at the end.
        let measuring = self.request.arguments.probe_seconds * kinds.len() as f64 + 3.0;
        Ok(Times { measuring, pricing: blocks.iter().map(of).sum(), fitted: known.len() })
    }

    /// A few steps of a supernet like the one that would be trained, and the seconds that trying sets in it takes.
    fn rehearsed_supernet(
        &self,
        plan: &SupernetPlan<'_>,
        ground: &Ground<'_>,
        blocks: &[&Candidate],
        pass: Duration,
    ) -> Result<(Rehearsed, f64), CliError> {
        // Mostly the form that loses least.
        let conv = |it: &&Candidate| {
            let conv = it.sites.iter().find(|site| site.form == Form::Conv);
            conv.or(it.sites.first()).cloned()
        };
        let sites: Vec<Site> = blocks.iter().filter_map(conv).collect();
        let stand_ins = sites.iter().map(surgery::stand_in).collect::<Result<Vec<_>, _>>()?;
        let mut network = ground.working.clone();
        surgery::blend(&mut network, &sites.iter().zip(&stand_ins).collect::<Vec<_>>())?;
        let settings = plan.settings(&network, ground, self.images.seed)?;
        let rehearsed = rehearse(&ground.tuning(&settings), &network)?;
        let default = affordable(&network, ground.judge.images(), SEARCH_MACS, EVALUATIONS);
        let sets = self.request.arguments.search.evaluations.map_or(default, usize::from);
        let [whole, plain] =
            [&network, ground.working].map(|it| ModelSummary::of(it, 0).macs.max(1));
        Ok((rehearsed, pass.as_secs_f64() * sets as f64 * whole as f64 / plain as f64))
    }

    /// A few steps of a network like the one that would be trained.
    fn rehearsed(
        &self,
        plan: &Plan<'_>,
        ground: &Ground<'_>,
        blocks: &[&Candidate],
        aim: Aim,
    ) -> Result<Rehearsed, CliError> {
        let mut network = ground.working.clone();
        if matches!(plan.method, Method::Progressive | Method::Direct) {
            let count = if let Aim::Count(count) = aim { count } else { blocks.len() };
            let choices: Vec<surgery::Choice> = blocks
                .iter()
                .filter(|it| surgery::forms(&it.row.block).contains(&Form::Conv))
                .take(count)
                .map(|it| surgery::Choice { block: it.row.block.clone(), form: Form::Conv })
                .collect();
            let shrink = self.request.shrink();
            plan.move_geometry(&mut network, &choices, shrink)?;
            surgery::expand(&mut network, &choices, shrink)?;
        }
        let images = Images::new(&network, ground.dataset.clone(), ground.preprocess)?;
        let mut settings = plan.settings(&network, &images, self.images.seed);
        settings.pruned = vec![1.0; surgery::lambda_entries(&network)];
        rehearse(&ground.tuning(&settings), &network)
    }
}
