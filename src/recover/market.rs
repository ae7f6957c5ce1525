//! Blocks with their forms, each fitted and measured: what the search chooses from.

use std::fmt::Write;

use updp_ir::Model;
use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Form, Site};
use updp_passes::{Options, pipeline};
use updp_trainer::checkpoint::Scored;
use updp_trainer::fit::Candidate;
use updp_trainer::hash::Fnv;
use updp_trainer::outcome::{BlockOutcome, OfferOutcome, Score, Tried};
use updp_trainer::recovery::{Part, Recovery, Sequence, copy_of, price};
use updp_trainer::search::{Genome, Item, Offer, Solution};

use super::Recover;

use crate::error::CliError;
use crate::latency_table::LatencyTable;
use crate::survey::{Row, Survey, Variant};
use crate::terminal;

/// A form must be so much faster than the block to be offered: less is noise.
const FASTER: f64 = 0.98;

/// Seconds to measure a whole network.
pub(super) const WHOLE_SECONDS: f64 = 1.5;

/// The forms of a block that are offered to the search.
pub(super) struct Offers {
    pub(super) row: Row,
    pub(super) sites: Vec<Site>,
    /// In the order of the item's offers.
    pub(super) scored: Vec<Scored>,
    pub(super) reason: Option<String>,
}

/// Everything the search looks at.
pub(super) struct Market<'a> {
    pub(super) recovery: Recovery<'a>,
    pub(super) offers: Vec<Offers>,
    pub(super) items: Vec<Item>,
    pub(super) table: LatencyTable,
    pub(super) baseline: Score,
    /// Options of the merge.
    options: &'a Options,
    /// The original, compiled, for measuring whole networks.
    pub(super) compiled: Model,
}

impl Recover<'_> {
    /// Measures and fits every block in its forms.
    pub(super) fn market<'b>(
        &'b self,
        working: &'b Model,
        recovery: Recovery<'b>,
    ) -> Result<Market<'b>, CliError> {
        let request = self.request;
        let blocks = surgery::blocks_of(working)?;
        if blocks.is_empty() {
            let detail = "no blocks of a known family are in the model".to_owned();
            return Err(CliError::NothingToPrune { detail });
        }
        let wanted = request.wanted(&blocks)?;
        let asked = request.arguments.form.as_form();
        let is_asked = |form: Form| asked.is_none_or(|asked| asked == form);
        let mut sites: Vec<Vec<Site>> = surgery::with_context(working, |cx| {
            let of = |block| surgery::sites(cx, block, request.shrink());
            let asked = blocks.iter().map(|block| of(block).into_iter().filter(|s| is_asked(s.0)));
            asked.map(|sites| sites.filter_map(|(_, site)| site.ok()).collect()).collect()
        });
        let forms = |block: &Block| sites[block.index].iter().map(|site| site.form).collect();
        let survey = Survey {
            model: working,
            shrink: request.shrink(),
            options: request.options,
            is_fitted: true,
            effort: f64::INFINITY,
        };
        let path = request.arguments.latency_table.clone();
        let path = path.or_else(|| self.work.map(|work| work.join("latency.json")));
        let mut table = request.open_table(path.as_deref())?;
        let rows = survey.rows(blocks, forms, Some(&mut table))?;
        table.save()?;
        let baseline = recovery.judge.baseline();
        let mut offers = Vec::new();
        let mut items = Vec::new();
        let count = rows.len();
        for (at, row) in rows.into_iter().enumerate() {
            let is_wanted = wanted.contains(&row.block.index);
            let own = std::mem::take(&mut sites[row.block.index]);
            let (offer, item) =
                self.offers(&recovery, row, own, (at, count, is_wanted), &baseline)?;
            offers.push(offer);
            items.push(item);
        }
        let mut compiled = copy_of(working)?;
        pipeline::compile(&mut compiled, request.options, &mut |_, _| {})?;
        let options = request.options;
        Ok(Market { recovery, offers, items, table, baseline, options, compiled })
    }

    fn offers(
        &self,
        recovery: &Recovery<'_>,
        row: Row,
        mut own: Vec<Site>,
        (at, count, is_wanted): (usize, usize, bool),
        baseline: &Score,
    ) -> Result<(Offers, Item), CliError> {
        let baseline_ms = row.baseline.time_ms();
        let mut item = Item { baseline_ms, offers: Vec::new() };
        let mut offers = Offers { row, sites: Vec::new(), scored: Vec::new(), reason: None };
        if let Some(refusal) = &offers.row.block.refusal {
            offers.reason = Some(format!("{} ({})", refusal.detail, refusal.reason));
            return Ok((offers, item));
        }
        if !is_wanted {
            offers.reason = Some("not among the blocks asked for".to_owned());
            return Ok((offers, item));
        }
        let is_guarded = self.request.is_guarded();
        let latency = |form: Form, row: &Row| row.variant(form).map(Variant::time_ms);
        let all = own.len();
        own.retain(|site| {
            latency(site.form, &offers.row)
                .is_some_and(|ms| !is_guarded || ms < baseline_ms * FASTER)
        });
        if own.is_empty() {
            offers.reason = Some(if all == 0 {
                "no form can be fitted to it".to_owned()
            } else {
                offers.row.slower().unwrap_or_else(|| "no form is faster".to_owned())
            });
            return Ok((offers, item));
        }
        let text = format!("fitting block {} of {count}", at + 1);
        terminal::progress(Some(&text));
        offers.scored = recovery.alone(&own)?;
        for scored in &offers.scored {
            let latency_ms =
                latency(scored.candidate.site.form, &offers.row).unwrap_or(baseline_ms);
            item.offers.push(Offer { latency_ms, price: price(baseline, &scored.score) });
        }
        offers.sites = own;
        Ok((offers, item))
    }
}

impl Offers {
    pub(super) fn refusal(&self) -> String {
        let reason = self.reason.clone().unwrap_or_default();
        format!("block {}: {reason}", self.row.block.index)
    }

    pub(super) fn outcome(&self, market: &Market<'_>, sequence: &Sequence) -> BlockOutcome {
        let block = &self.row.block;
        let placed = sequence.pruned.iter().find(|(index, _)| *index == block.index);
        let offers = self.scored.iter().map(|Scored { candidate, score }| {
            let form = candidate.site.form;
            OfferOutcome {
                form: form.name().to_owned(),
                latency_ms: self.row.variant(form).map_or(f64::NAN, Variant::time_ms),
                output_error: candidate.output_error,
                ridge: candidate.ridge,
                score: *score,
                price: price(&market.baseline, score),
            }
        });
        BlockOutcome {
            index: block.index,
            name: block.name.clone(),
            kind: block.kind.name().to_owned(),
            baseline_ms: self.row.baseline.time_ms(),
            offers: offers.collect(),
            chosen: placed.map(|(_, form)| form.name().to_owned()),
            reason: self.reason.clone(),
        }
    }
}

impl Market<'_> {
    /// Fits the chosen blocks one after the other.
    pub(super) fn fit(&self, genome: &Genome) -> Result<Sequence, CliError> {
        let mut forms = String::new();
        let (parts, head) = surgery::with_context(self.recovery.original, |cx| {
            let parts: Vec<Part> = self
                .offers
                .iter()
                .zip(genome)
                .map(|(offers, choice)| match choice {
                    Some(choice) => {
                        let own = offers.scored[*choice].candidate.site.form;
                        let keeps = |site: &&Site| site.form == own || site.form == Form::Drop;
                        let sites: Vec<Site> = offers.sites.iter().filter(keeps).cloned().collect();
                        for site in &sites {
                            let _ = write!(forms, "{} {},", site.block, site.form.name());
                        }
                        Part::Pruned(sites)
                    }
                    None => Part::Kept(surgery::layers(cx, &offers.row.block)),
                })
                .collect();
            (parts, surgery::head(cx))
        });
        let name = format!("set{:016x}", Fnv::of(forms.as_bytes()));
        let mut progress = |what: &str, at: usize, of: usize| {
            terminal::progress(Some(&format!("{what} block {} of {of}", at + 1)));
        };
        let sequence = self.recovery.sequence(&parts, head.as_ref(), &name, &mut progress)?;
        terminal::progress(None);
        Ok(sequence)
    }

    /// Latency of a network and of the original, both compiled and measured in turns: `(original, network)`.
    pub(super) fn latencies(&mut self, mut network: Model) -> Result<(f64, f64), CliError> {
        pipeline::compile(&mut network, self.options, &mut |_, _| {})?;
        let times = self.table.latencies_in(&[&self.compiled, &network], WHOLE_SECONDS)?;
        self.table.save()?;
        Ok((times[0], times[1]))
    }

    pub(super) fn tried(&self, solution: &Solution, joint_price: Option<f64>) -> Tried {
        let blocks = self.offers.iter().zip(&solution.genome).filter_map(|(offers, choice)| {
            let site = &offers.scored[(*choice)?].candidate.site;
            Some((site.block, site.form.name().to_owned()))
        });
        Tried {
            blocks: blocks.collect(),
            latency_ms: solution.latency_ms,
            price: solution.price,
            joint_price,
        }
    }
}

/// The candidates a genome stands for.
pub(super) fn candidates<'a>(offers: &'a [Offers], genome: &Genome) -> Vec<&'a Candidate> {
    let pairs = offers.iter().zip(genome);
    pairs.filter_map(|(offers, choice)| Some(&offers.scored[(*choice)?].candidate)).collect()
}

/// The rows of the pruned blocks with their forms.
pub(super) fn chosen(market: &mut Market<'_>, sequence: &Sequence) -> Vec<(Row, Form)> {
    let offers = std::mem::take(&mut market.offers);
    let form = |index: usize| sequence.pruned.iter().find(|(at, _)| *at == index).map(|(_, f)| *f);
    offers
        .into_iter()
        .filter_map(|offers| {
            let form = form(offers.row.block.index)?;
            Some((offers.row, form))
        })
        .collect()
}
