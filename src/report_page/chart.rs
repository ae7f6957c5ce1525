//! The charts of the page. Across they are laid out in per cent, so text keeps its size on a narrow screen.

use updp_trainer::outcome::{BlockOutcome, Outcome, Tried};

use super::{after_ms, escape, is_chosen, number, put};

/// Height of the plot and its margins, in pixels.
const HEIGHT: f64 = 320.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Margins of the plot, in per cent of its width.
const LEFT: f64 = 12.0;
const RIGHT: f64 = 5.0;

/// Bars of the whole network's latency before and after; nothing when it was not measured.
pub(super) fn latency(html: &mut String, outcome: &Outcome) {
    let Some(speed) = &outcome.speed else { return };
    html.push_str("<h2>Latency of the network</h2>\n<div class=\"bars\">\n");
    let longest = speed.before_ms.max(speed.after_ms);
    for (label, class, ms) in
        [("Before", "fill-was", speed.before_ms), ("After", "fill-is", speed.after_ms)]
    {
        let text = format!("{} ms", number(ms));
        bar(html, label, class, ms / longest, &text, &text);
    }
    html.push_str("</div>\n");
}

/// A bar for every form of every block: what it loses when only this block is pruned.
pub(super) fn prices(html: &mut String, outcome: &Outcome) {
    let offering: Vec<_> = outcome.blocks.iter().filter(|block| !block.offers.is_empty()).collect();
    if offering.is_empty() {
        return;
    }
    put(
        html,
        format_args!(
            "<h2>Price of every form</h2>\n<p class=\"dim\">Points of {} lost when only this block is pruned. Green: \
             chosen; an outline: a gain.</p>\n<div class=\"bars\">\n",
            escape(&outcome.metric)
        ),
    );
    let all = offering.iter().flat_map(|block| &block.offers);
    let largest = all.map(|offer| offer.price.abs()).filter(|it| it.is_finite());
    let largest = largest.fold(0.0, f64::max).max(1e-9);
    for block in offering {
        put(html, format_args!("<h3>{}\u{a0}{}</h3>\n", block.index, escape(&block.name)));
        for offer in &block.offers {
            let is_it = is_chosen(block, offer);
            let class = match (offer.price < 0.0, is_it) {
                (true, _) => "fill-gain",
                (false, true) => "fill-is",
                (false, false) => "fill-was",
            };
            let label = format!("{}{}", if is_it { "✓ " } else { "" }, offer.form);
            let price = number(offer.price);
            let tip = format!("{}: {price} points, {} ms", offer.form, number(offer.latency_ms));
            bar(html, &label, class, offer.price.abs() / largest, &price, &tip);
        }
    }
    html.push_str("</div>\n");
}

/// One line of bars; `part` of the whole width.
pub(crate) fn bar(html: &mut String, label: &str, class: &str, part: f64, value: &str, tip: &str) {
    let width = if part.is_finite() { (98.0 * part).max(0.4) } else { 0.0 };
    put(
        html,
        format_args!(
            "<span>{}</span><svg width=\"100%\" height=\"16\" role=\"img\" aria-label=\"{tip}\">\
             <rect class=\"bar {class}\" x=\"1\" y=\"1\" width=\"{width:.2}%\" height=\"14\"><title>{tip}</title></rect>\
             </svg><i>{value}</i>\n",
            escape(label),
            tip = escape(tip)
        ),
    );
}

/// Latency against price: the front, the sets that were tried together, and the chosen one.
pub(super) fn front(html: &mut String, outcome: &Outcome) {
    let chosen = chosen(outcome);
    let sets = || outcome.front.iter().chain(&outcome.tried).chain([&chosen]);
    let prices = sets().flat_map(|it| [Some(it.price), it.joint_price]).flatten();
    let plot = Plot {
        across: Axis::over(sets().map(|it| it.latency_ms), false),
        up: Axis::over(prices, true),
    };
    if outcome.front.is_empty() && outcome.tried.is_empty() {
        return;
    }
    html.push_str(
        "<h2>Latency against price</h2>\n<p class=\"dim\">Across: sum of the blocks' latencies, ms. Up: points \
         lost. Left and low is good.</p>\n",
    );
    put(
        html,
        format_args!(
            "<svg width=\"100%\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"latency against price\">\n"
        ),
    );
    plot.grid(html);
    for pair in outcome.front.windows(2) {
        plot.line(html, "front", (&pair[0], pair[0].price), (&pair[1], pair[1].price));
    }
    for set in &outcome.front {
        plot.circle(html, "fill-is", 3.5, set, set.price);
    }
    for (set, joint) in outcome.tried.iter().filter_map(|it| Some((it, it.joint_price?))) {
        plot.line(html, "tie", (set, set.price), (set, joint));
        plot.circle(html, "ring", 5.0, set, joint);
    }
    plot.circle(html, "mark", 10.0, &chosen, chosen.joint_price.unwrap_or(chosen.price));
    html.push_str("</svg>\n<ul class=\"key\">");
    for (class, radius, text) in [
        ("fill-is", 3.5, "best sums of single prices"),
        ("ring", 5.0, "tried: lost together"),
        ("mark", 7.0, "chosen"),
    ] {
        put(
            html,
            format_args!(
                "<li><svg width=\"18\" height=\"18\"><circle class=\"{class}\" cx=\"9\" cy=\"9\" r=\"{radius}\" />\
                 </svg>{text}</li>"
            ),
        );
    }
    html.push_str("</ul>\n");
}

/// The chosen set by the table, with its joint price where it was tried.
fn chosen(outcome: &Outcome) -> Tried {
    let (joint_price, fitted_price) = (None, None);
    let mut sum =
        Tried { blocks: Vec::new(), latency_ms: 0.0, price: 0.0, joint_price, fitted_price };
    for block in &outcome.blocks {
        sum.latency_ms += after_ms(block);
        sum.price += super::chosen(block).map_or(0.0, |offer| offer.price.max(0.0));
        sum.blocks.extend(form_of(block));
    }
    let mut pruned = sum.blocks.clone();
    pruned.sort();
    let same = outcome.tried.iter().find(|set| {
        let mut blocks = set.blocks.clone();
        blocks.sort();
        blocks == pruned
    });
    same.cloned().unwrap_or(sum)
}

fn form_of(block: &BlockOutcome) -> Option<(usize, String)> {
    block.chosen.clone().map(|form| (block.index, form))
}

/// A range of numbers with round ticks.
pub(super) struct Axis {
    least: f64,
    most: f64,
    step: f64,
}

impl Axis {
    /// Over the finite values, and 0 when asked to; 0 to 1 when there are none.
    pub(super) fn over(values: impl Iterator<Item = f64>, has_zero: bool) -> Self {
        let zero = has_zero.then_some(0.0);
        let all: Vec<f64> = values.filter(|it| it.is_finite()).chain(zero).collect();
        let least = all.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let most = all.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let span = if most - least > 1e-9 { most - least } else { most.abs().max(1.0) };
        let rough = span / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0].map(|it| it * power).into_iter().find(|it| *it >= rough);
        let step = step.unwrap_or(10.0 * power);
        let most = if most - least > 1e-9 { most } else { least + step };
        Self { least: (least / step).floor() * step, most: (most / step).ceil() * step, step }
    }

    /// 0 to 1.
    pub(super) fn part(&self, value: f64) -> f64 {
        let part = (value - self.least) / (self.most - self.least);
        if part.is_finite() { part } else { 0.0 }
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.most - self.least) / self.step).round() as i64;
        (0..=count).map(|at| self.least + at as f64 * self.step)
    }

    /// As many decimals as the step needs.
    pub(super) fn label(&self, value: f64) -> String {
        let decimals = (2.0 - self.step.log10()).floor().max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        if text == "-0" { "0".to_owned() } else { text.replace('-', "−") }
    }
}

struct Plot {
    across: Axis,
    up: Axis,
}

impl Plot {
    /// Per cent.
    fn x(&self, latency_ms: f64) -> f64 {
        LEFT + (100.0 - LEFT - RIGHT) * self.across.part(latency_ms)
    }

    /// Pixels.
    fn y(&self, price: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.up.part(price)
    }

    fn grid(&self, html: &mut String) {
        let floor = HEIGHT - BOTTOM;
        for tick in self.up.ticks() {
            put(
                html,
                format_args!(
                    "<line x1=\"{LEFT}%\" x2=\"{}%\" y1=\"{y:.1}\" y2=\"{y:.1}\" />\
                     <text x=\"{}%\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                    100.0 - RIGHT,
                    LEFT - 1.5,
                    self.y(tick) + 4.0,
                    self.up.label(tick),
                    y = self.y(tick)
                ),
            );
        }
        for tick in self.across.ticks() {
            put(
                html,
                format_args!(
                    "<line x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"{floor}\" y2=\"{}\" />\
                     <text x=\"{x:.2}%\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                    floor + 5.0,
                    floor + 19.0,
                    self.across.label(tick),
                    x = self.x(tick)
                ),
            );
        }
        put(
            html,
            format_args!(
                "<text x=\"{}%\" y=\"{}\" text-anchor=\"end\">ms</text>\n",
                100.0 - RIGHT,
                HEIGHT - 6.0
            ),
        );
    }

    fn line(&self, html: &mut String, class: &str, from: (&Tried, f64), to: (&Tried, f64)) {
        let (a, b) = (self.x(from.0.latency_ms), self.x(to.0.latency_ms));
        let (c, d) = (self.y(from.1), self.y(to.1));
        put(
            html,
            format_args!(
                "<line class=\"{class}\" x1=\"{a:.2}%\" x2=\"{b:.2}%\" y1=\"{c:.1}\" y2=\"{d:.1}\" />\n"
            ),
        );
    }

    fn circle(&self, html: &mut String, class: &str, radius: f64, set: &Tried, price: f64) {
        let blocks: Vec<_> = set.blocks.iter().map(|(at, form)| format!("{at} {form}")).collect();
        let blocks =
            if blocks.is_empty() { "nothing pruned".to_owned() } else { blocks.join(", ") };
        let joint =
            set.joint_price.map_or(String::new(), |it| format!(", together {}", number(it)));
        let tip = format!(
            "{} ms, sum {} points{joint}: {blocks}",
            number(set.latency_ms),
            number(set.price)
        );
        put(
            html,
            format_args!(
                "<circle class=\"{class}\" cx=\"{:.2}%\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>\n",
                self.x(set.latency_ms),
                self.y(price),
                escape(&tip)
            ),
        );
    }
}
