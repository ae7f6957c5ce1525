//! Blocks with their forms, each fitted and measured: what the search chooses from.

use std::fmt::Write;

use updp_ir::Model;
use updp_passes::blocks::Block;
use updp_passes::surgery::{self, Fitted, Form, Site};
use updp_passes::{Options, pipeline};
use updp_trainer::checkpoint::Scored;
use updp_trainer::fit::Candidate;
use updp_trainer::hash::Fnv;
use updp_trainer::outcome::{BlockOutcome, OfferOutcome, Score, Tried};
use updp_trainer::recovery::{Part, Recovery, Sequence, price};
use updp_trainer::search::{Genome, Item, Offer, Solution};
use updp_trainer::stage::Stage;

use super::explore::Search;
use super::goals::MACS;
use super::start::Start;
use super::supernet::cheapest;
use super::{Recover, bounds};
use crate::cli::{BlockList, StartChoice};
use crate::error::CliError;
use crate::latency_table::LatencyTable;
use crate::report::counted;
use crate::survey::{Row, Survey, Variant};
use crate::terminal::Bar;

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
    /// How sets of blocks are looked for, and what was found.
    pub(super) search: Search<'a>,
    /// What the network of the chosen blocks may start from.
    start: StartChoice,
    /// Options of the merge.
    pub(super) options: &'a Options,
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
        let mut sites = self.sites(working, &blocks, |_| true);
        let forms = |block: &Block| sites[block.index].iter().map(|site| site.form).collect();
        let survey = self.survey(working, f64::INFINITY);
        let path = request.arguments.latency_table.clone();
        let path = path.or_else(|| self.work.map(|work| work.join("latency.json")));
        let mut table = request.open_table(path.as_deref())?;
        let rows = survey.rows(blocks, forms, Some(&mut table))?;
        table.save()?;
        let mut offers: Vec<Offers> = rows
            .into_iter()
            .map(|row| {
                let own = std::mem::take(&mut sites[row.block.index]);
                let is_wanted = wanted.contains(&row.block.index);
                self.offers(row, &own, is_wanted)
            })
            .collect();
        self.refuse_too_few(&offers)?;
        let baseline = recovery.judge.baseline();
        let count = offers.iter().filter(|offers| !offers.sites.is_empty()).count();
        let mut items = Vec::new();
        let bar = Bar::new("fitting blocks", count);
        let mut stage = Stage::default();
        let fewer = bounds::pricing(&recovery)?;
        let pricing = bounds::with(recovery, fewer.as_ref());
        for offers in &mut offers {
            items.push(offers.priced(&pricing, &mut stage, &baseline)?);
            bar.advance(usize::from(!offers.sites.is_empty()));
        }
        drop(bar);
        let mut compiled = working.clone();
        pipeline::compile(&mut compiled, request.options, &mut |_, _| {})?;
        let options = request.options;
        let (arguments, seed) = (&request.arguments.search, self.images.seed);
        let search = Search::new(arguments, seed, (&items, &offers), recovery.checkpoint)?;
        let start = self.start_choice();
        Ok(Market { recovery, offers, items, table, baseline, search, start, options, compiled })
    }

    /// For each block where it can be fitted in the forms asked for; nowhere where the block is not looked at.
    pub(super) fn sites(
        &self,
        working: &Model,
        blocks: &[Block],
        is_looked_at: impl Fn(&Block) -> bool,
    ) -> Vec<Vec<Site>> {
        let asked = self.request.arguments.form.as_form();
        let is_asked = |form: Form| asked.is_none_or(|asked| asked == form);
        surgery::with_context(working, |cx| {
            let of = |block: &Block| {
                if !is_looked_at(block) {
                    return Vec::new();
                }
                let all = surgery::sites(cx, block, self.request.shrink()).into_iter();
                all.filter(|(form, _)| is_asked(*form)).filter_map(|(_, site)| site.ok()).collect()
            };
            blocks.iter().map(of).collect()
        })
    }

    /// How blocks that are to be fitted are surveyed.
    pub(super) fn survey<'b>(&'b self, working: &'b Model, effort: f64) -> Survey<'b> {
        let request = self.request;
        let (shrink, options) = (request.shrink(), request.options);
        Survey { model: working, shrink, options, is_fitted: true, effort }
    }

    /// What a block offers, not fitted yet.
    fn offers(&self, row: Row, sites: &[Site], is_wanted: bool) -> Offers {
        let mut offers = Offers { row, sites: Vec::new(), scored: Vec::new(), reason: None };
        let row = &offers.row;
        if let Some(refusal) = &row.block.refusal {
            offers.reason = Some(format!("{} ({})", refusal.detail, refusal.reason));
            return offers;
        }
        if !is_wanted {
            offers.reason = Some("not among the blocks asked for".to_owned());
            return offers;
        }
        let is_guarded = self.request.is_guarded();
        let is_fast =
            |variant: &Variant| !is_guarded || variant.time_ms() < row.baseline.time_ms() * FASTER;
        // A form that is merged into the convolution it approximates is worth less and costs as much.
        let dense = sites.iter().any(|site| site.form == Form::Conv).then_some(Form::Conv);
        let dense = dense.and_then(|form| row.variant(form));
        let is_own = |form: Form, variant: &Variant| {
            form == Form::Conv || dense.is_none_or(|dense| !dense.is_same_network(variant))
        };
        let fits = |site: &Site| {
            let variant = row.variant(site.form);
            variant.is_some_and(|variant| is_fast(variant) && is_own(site.form, variant))
        };
        let kept: Vec<Site> = sites.iter().filter(|site| fits(site)).cloned().collect();
        if kept.is_empty() {
            offers.reason = Some(if sites.is_empty() {
                "no form can be fitted to it".to_owned()
            } else {
                row.slower().unwrap_or_else(|| "no form is faster".to_owned())
            });
        }
        offers.sites = kept;
        offers
    }

    /// A number of blocks that cannot be had is refused before anything is fitted; so is a listed block.
    fn refuse_too_few(&self, offers: &[Offers]) -> Result<(), CliError> {
        let prunable = offers.iter().filter(|offers| !offers.sites.is_empty()).count();
        let refusals = |of: &dyn Fn(&Offers) -> bool| {
            let refused = offers.iter().filter(|offers| offers.sites.is_empty() && of(offers));
            refused.map(Offers::refusal).collect::<Vec<_>>().join("; ")
        };
        let arguments = self.request.arguments;
        let detail = match (&arguments.blocks, arguments.prune) {
            (Some(BlockList::Some(list)), _) => {
                refusals(&|offers| list.contains(&offers.row.block.index))
            }
            (None, Some(count)) if prunable > 0 && count.get() > prunable => {
                let blocks = counted(count.get(), "block is", "blocks are");
                let text = format!("{blocks} asked for and {prunable} can be pruned");
                let reasons = refusals(&|_| true);
                if reasons.is_empty() { text } else { format!("{text}; {reasons}") }
            }
            _ if prunable == 0 => refusals(&|_| true),
            _ => return Ok(()),
        };
        if detail.is_empty() { Ok(()) } else { Err(CliError::NothingToPrune { detail }) }
    }
}

impl Offers {
    /// Fits and scores the forms; as an item for the search.
    fn priced(
        &mut self,
        recovery: &Recovery<'_>,
        stage: &mut Stage,
        baseline: &Score,
    ) -> Result<Item, CliError> {
        let baseline_ms = self.row.baseline.time_ms();
        self.scored = bounds::alone(recovery, stage, &self.row, &self.sites)?;
        let offer = |Scored { candidate, score }: &Scored| {
            let latency_ms = self.row.time_ms(candidate.site.form);
            Offer { latency_ms, price: price(baseline, score) }
        };
        Ok(Item { baseline_ms, offers: self.scored.iter().map(offer).collect() })
    }

    /// The item with multiply-adds, in [`MACS`], in place of milliseconds.
    pub(super) fn counted(&self, item: &Item) -> Item {
        let counted = |(scored, offer): (&Scored, &Offer)| {
            let variant = self.row.variant(scored.candidate.site.form);
            let macs = variant.map_or(f64::NAN, |variant| variant.macs as f64 / MACS);
            Offer { latency_ms: macs, price: offer.price }
        };
        let offers = self.scored.iter().zip(&item.offers).map(counted).collect();
        Item { baseline_ms: self.row.baseline.macs as f64 / MACS, offers }
    }

    pub(super) fn refusal(&self) -> String {
        let reason = self.reason.clone().unwrap_or_default();
        format!("block {}: {reason}", self.row.block.index)
    }

    pub(super) fn outcome(&self, market: &Market<'_>, start: &Start) -> BlockOutcome {
        let block = &self.row.block;
        let placed = start.pruned().iter().find(|(index, _)| *index == block.index);
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
    /// A block by its index.
    pub(super) fn block(&self, index: usize) -> Option<&Block> {
        self.offers.iter().map(|offers| &offers.row.block).find(|block| block.index == index)
    }

    /// Leaves one form of each block to choose from, the one it has in a supernet.
    pub(super) fn narrow(&mut self) {
        for (offers, item) in self.offers.iter_mut().zip(&mut self.items) {
            let best = cheapest(&item.offers);
            item.offers = best.map(|best| item.offers[best]).into_iter().collect();
            if let Some(best) = best {
                // The item's offers come first.
                offers.scored[..=best].rotate_right(1);
            }
        }
    }

    /// The fitted form of each block that is in the supernet, in order.
    pub(super) fn in_supernet(&self) -> Vec<(&Site, &Fitted)> {
        let offers = self.offers.iter().zip(&self.items);
        let offers = offers.filter(|(_, item)| !item.offers.is_empty());
        let first = offers.filter_map(|(offers, _)| offers.scored.first());
        first.map(|it| (&it.candidate.site, &it.candidate.fitted)).collect()
    }

    /// Of each block its index and its form in the supernet; `None` where it is not in it.
    pub(super) fn forms_in_supernet(&self) -> Vec<Option<(usize, Form)>> {
        let form = |(offers, item): (&Offers, &Item)| {
            let first = offers.scored.first().filter(|_| !item.offers.is_empty())?;
            Some((first.candidate.site.block, first.candidate.site.form))
        };
        self.offers.iter().zip(&self.items).map(form).collect()
    }

    /// Whether the network of the chosen blocks is cut out of the supernet in any case.
    pub(super) fn is_subnet_set(&self) -> bool {
        self.search.supernet().is_some() && self.start == StartChoice::Supernet
    }

    /// The network of the chosen blocks: fitted, or cut out of the supernet.
    pub(super) fn start(&self, genome: &Genome) -> Result<Start, CliError> {
        let sequence = self.fit(genome)?;
        let supernet = self.search.supernet().filter(|_| self.start != StartChoice::Fit);
        // The unpruned network is the input model, not what the supernet made of it.
        let Some(supernet) = supernet.filter(|_| genome.iter().any(Option::is_some)) else {
            return Ok(Start::fitted(sequence));
        };
        Ok(Start::of(sequence, supernet.cut(genome)?, &self.baseline, self.is_subnet_set()))
    }

    /// Fits the chosen blocks one after the other.
    fn fit(&self, genome: &Genome) -> Result<Sequence, CliError> {
        let mut forms = String::new();
        let (mut parts, head) = surgery::with_context(self.recovery.original, |cx| {
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
        let macs: Vec<u64> = self.offers.iter().map(|offers| offers.row.baseline.macs).collect();
        let left = bounds::leave(&mut parts, &macs, &self.recovery);
        let name = format!("set{:016x}", Fnv::of(forms.as_bytes()));
        let bar = Bar::new("fitting the network", 0);
        let mut progress = |what: &str, at: usize, of: usize| bar.set(what, at, of);
        let mut found = self.recovery.sequence(&parts, head.as_ref(), &name, &mut progress)?;
        found.left = left;
        Ok(found)
    }

    /// Latency of a network and of the original, both compiled and measured in turns: `(original, network)`.
    pub(super) fn latencies(&mut self, mut network: Model) -> Result<(f64, f64), CliError> {
        pipeline::compile(&mut network, self.options, &mut |_, _| {})?;
        let times = self.table.latencies_in(&[&self.compiled, &network], WHOLE_SECONDS)?;
        self.table.save()?;
        Ok((times[0], times[1]))
    }

    pub(super) fn tried(
        &self,
        solution: &Solution,
        joint_price: Option<f64>,
        fitted_price: Option<f64>,
    ) -> Tried {
        let blocks = self.offers.iter().zip(&solution.genome).filter_map(|(offers, choice)| {
            let site = &offers.scored[(*choice)?].candidate.site;
            Some((site.block, site.form.name().to_owned()))
        });
        Tried {
            blocks: blocks.collect(),
            latency_ms: solution.latency_ms,
            price: solution.price,
            joint_price,
            fitted_price,
        }
    }
}

/// The candidates a genome stands for.
pub(super) fn candidates<'a>(offers: &'a [Offers], genome: &Genome) -> Vec<&'a Candidate> {
    let pairs = offers.iter().zip(genome);
    pairs.filter_map(|(offers, choice)| Some(&offers.scored[(*choice)?].candidate)).collect()
}

/// The rows of the pruned blocks with their forms.
pub(super) fn chosen(market: &mut Market<'_>, start: &Start) -> Vec<(Row, Form)> {
    let offers = std::mem::take(&mut market.offers);
    let form = |index: usize| start.pruned().iter().find(|(at, _)| *at == index).map(|(_, f)| *f);
    offers
        .into_iter()
        .filter_map(|offers| {
            let form = form(offers.row.block.index)?;
            Some((offers.row, form))
        })
        .collect()
}
