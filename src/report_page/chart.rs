//! The charts as data; the templates draw them. Horizontal sizes are percentages, so the text keeps its size on a
//! narrow screen.

use updp_prune::outcome::{BlockOutcome, CandidateOutcome, Outcome, SetOutcome};
use updp_prune::words::counted;

use super::axis::Axis;
use super::{BlockMacs, after_ms, is_chosen, nats, number};
use crate::report::grouped;

/// Bars under one heading; the macro `bars` of `chart.html` draws them.
pub(crate) struct Group<'a> {
    /// Empty = no heading.
    pub(crate) heading: String,
    /// A name after the heading, in grey; empty = none.
    pub(crate) name: &'a str,
    pub(crate) bars: Vec<Bar>,
    /// A sentence below the bars.
    pub(crate) note: Option<String>,
}

/// One horizontal bar.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) class: &'static str,
    /// In per cent.
    pub(crate) width: f64,
    pub(crate) value: String,
    pub(crate) tip: String,
}

impl Bar {
    /// A bar that covers this part of the width; a part that is not finite gives no bar.
    pub(crate) fn new(
        label: String,
        class: &'static str,
        part: f64,
        value: String,
        tip: String,
    ) -> Self {
        let width = if part.is_finite() { (98.0 * part).max(0.4) } else { 0.0 };
        Self { label, class, width, value, tip }
    }
}

/// Latency of the whole network before and after; `None` if it was not measured.
pub(super) fn latency(outcome: &Outcome) -> Option<Group<'static>> {
    let speed = outcome.speed.as_ref()?;
    let longest = speed.before_ms.max(speed.after_ms);
    let bar = |label: &str, class, ms: f64| {
        let text = format!("{} ms", number(ms));
        Bar::new(label.to_owned(), class, ms / longest, text.clone(), text)
    };
    let bars =
        vec![bar("Before", "fill-was", speed.before_ms), bar("After", "fill-is", speed.after_ms)];
    Some(Group { heading: String::new(), name: "", bars, note: None })
}

/// Multiply-adds of the pruned blocks before and after.
pub(super) fn macs(blocks: &[BlockMacs]) -> Vec<Group<'_>> {
    let most = blocks.iter().map(|block| block.before.max(block.after)).max().unwrap_or(0);
    let bar = |label: &str, class, macs: u64| {
        let text = grouped(macs);
        Bar::new(label.to_owned(), class, macs as f64 / most.max(1) as f64, text.clone(), text)
    };
    let group = |block: &'_ BlockMacs| Group {
        heading: format!("{}\u{a0}{}", block.index, block.name),
        name: "",
        bars: vec![bar("Before", "fill-was", block.before), bar("After", "fill-is", block.after)],
        note: None,
    };
    blocks.iter().map(group).collect()
}

/// The degradation of every candidate when only its block is pruned, in one group for each block.
pub(super) fn degradations(outcome: &Outcome) -> Vec<Group<'static>> {
    let prunable = || outcome.blocks.iter().filter(|block| !block.candidates.is_empty());
    let all = prunable().flat_map(|block| &block.candidates);
    let largest = all.map(|candidate| candidate.degradation.abs()).filter(|it| it.is_finite());
    let largest = largest.fold(0.0, f64::max).max(1e-9);
    let group = |block: &BlockOutcome| Group {
        heading: format!("{}\u{a0}{}", block.index, block.name),
        name: "",
        bars: block.candidates.iter().map(|it| degradation(block, it, largest)).collect(),
        note: None,
    };
    prunable().map(group).collect()
}

fn degradation(block: &BlockOutcome, candidate: &CandidateOutcome, largest: f64) -> Bar {
    let is_it = is_chosen(block, candidate);
    let class = match (candidate.degradation < 0.0, is_it) {
        (true, _) => "fill-gain",
        (false, true) => "fill-is",
        (false, false) => "fill-was",
    };
    let label = format!("{}{}", if is_it { "✓ " } else { "" }, candidate.form);
    let lost = nats(candidate.degradation);
    let tip = format!("{}: {lost} nats, {} ms", candidate.form, number(candidate.latency_ms));
    Bar::new(label, class, candidate.degradation.abs() / largest, lost, tip)
}

pub(super) const FRAME: Frame =
    Frame { height: 320.0, top: 12.0, bottom: 44.0, left: 12.0, right: 5.0 };

/// Latency against degradation; `front.html` draws the plot.
pub(super) struct Front {
    pub(super) plot: Plot,
    /// The Pareto front by sums of single-block degradations, and the lines between adjacent points.
    pub(super) sums: Vec<Circle>,
    pub(super) links: Vec<Line>,
    /// The sets that were tried together, each with a line to its sum.
    pub(super) tried: Vec<(Option<Line>, Circle)>,
    pub(super) chosen: Circle,
    /// What the points above the vertical axis are; `None` if there are none.
    pub(super) beyond: Option<String>,
}

/// The Pareto front, the sets that were tried together and the chosen set; `None` if there is neither a front nor a
/// tried set.
pub(super) fn front(outcome: &Outcome) -> Option<Front> {
    if outcome.front.is_empty() && outcome.tried.is_empty() {
        return None;
    }
    let chosen = chosen(outcome);
    let sets = || outcome.front.iter().chain(&outcome.tried).chain([&chosen]);
    let points = sets().flat_map(|it| [Some(it.degradation), it.joint_degradation]).flatten();
    let at = chosen.joint_degradation.unwrap_or(chosen.degradation);
    let plot = Plot {
        frame: FRAME,
        across: Axis::over(sets().map(|it| it.latency_ms)),
        up: Axis::near(points, at),
    };
    let sums = outcome.front.iter().map(|set| plot.set("fill-is", 3.5, set, set.degradation));
    let sums: Vec<Circle> = sums.collect();
    let links = outcome.front.windows(2);
    let links = links
        .filter_map(|it| {
            plot.line("front", (&it[0], it[0].degradation), (&it[1], it[1].degradation))
        })
        .collect();
    let tried = outcome.tried.iter().filter_map(|set| {
        let joint = set.joint_degradation?;
        let tie = plot.line("tie", (set, set.degradation), (set, joint));
        Some((tie, plot.set("ring", 5.0, set, joint)))
    });
    let tried: Vec<(Option<Line>, Circle)> = tried.collect();
    let beyond = beyond(sums.iter().chain(tried.iter().map(|it| &it.1)));
    let mark = plot.set("mark", 10.0, &chosen, at);
    Some(Front { plot, sums, links, tried, chosen: mark, beyond })
}

/// A sentence about the points above the vertical axis; `None` if there are none.
pub(super) fn beyond<'a>(circles: impl Iterator<Item = &'a Circle>) -> Option<String> {
    let count = circles.filter(|it| it.is_beyond).count();
    let points = counted(count, "point is", "points are");
    (count > 0).then(|| {
        format!(
            "Triangles at the upper edge: {points} above the axis. The tooltips have the values."
        )
    })
}

/// Class, radius and meaning of each kind of circle.
pub(super) const KEY: [(&str, f64, &str); 3] = [
    ("fill-is", 3.5, "best sums of single-block degradations"),
    ("ring", 5.0, "tried: degradation of the whole set"),
    ("mark", 7.0, "chosen"),
];

/// The chosen set, with its latency from the table and with its joint degradation if it was tried.
fn chosen(outcome: &Outcome) -> SetOutcome {
    let (joint_degradation, fitted_degradation) = (None, None);
    let mut sum = SetOutcome {
        blocks: Vec::new(),
        latency_ms: 0.0,
        degradation: 0.0,
        joint_degradation,
        fitted_degradation,
    };
    for block in &outcome.blocks {
        sum.latency_ms += after_ms(block);
        sum.degradation +=
            super::chosen(block).map_or(0.0, |candidate| candidate.degradation.max(0.0));
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

/// Height and margins of a plot: vertically in pixels, horizontally in per cent of the width.
pub(super) struct Frame {
    pub(super) height: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Frame {
    /// Right end of the plot, in per cent.
    pub(super) fn end(&self) -> f64 {
        100.0 - self.right
    }

    /// Lower end of the plot, in pixels.
    pub(super) fn floor(&self) -> f64 {
        self.height - self.bottom
    }

    /// In per cent.
    pub(super) fn width(&self) -> f64 {
        self.end() - self.left
    }

    /// In pixels.
    pub(super) fn depth(&self) -> f64 {
        self.floor() - self.top
    }
}

/// A plot: its position and the ranges that it covers.
pub(super) struct Plot {
    pub(super) frame: Frame,
    pub(super) across: Axis,
    pub(super) up: Axis,
}

/// A tick of an axis: its position, in pixels or per cent, and its label.
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// A circle of a chart, with a tooltip; `x` in per cent, `y` in pixels. A point above the vertical axis is a triangle at
/// the upper edge.
pub(super) struct Circle {
    pub(super) class: &'static str,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) radius: f64,
    pub(super) tip: String,
    pub(super) is_beyond: bool,
}

/// A line of a chart from its first to its second point; `x` in per cent, `y` in pixels.
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

impl Plot {
    /// In per cent.
    pub(super) fn x(&self, value: f64) -> f64 {
        self.frame.left + self.frame.width() * self.across.part(value)
    }

    /// In pixels.
    pub(super) fn y(&self, value: f64) -> f64 {
        self.frame.floor() - self.frame.depth() * self.up.part(value)
    }

    /// The ticks of the vertical axis.
    pub(super) fn rows(&self) -> Vec<Tick> {
        let tick = |value| Tick { at: self.y(value), label: self.up.label(value) };
        self.up.ticks().map(tick).collect()
    }

    /// The ticks of the horizontal axis.
    pub(super) fn columns(&self) -> Vec<Tick> {
        let tick = |value| Tick { at: self.x(value), label: self.across.label(value) };
        self.across.ticks().map(tick).collect()
    }

    /// The point at these coordinates, with a tooltip.
    pub(super) fn point(
        &self,
        class: &'static str,
        radius: f64,
        (across, up): (f64, f64),
        tip: String,
    ) -> Circle {
        let is_beyond = self.up.is_below(up);
        Circle { class, x: self.x(across), y: self.y(up), radius, tip, is_beyond }
    }

    /// The part of a line that lies inside of the plot; `None` if all of it is above the vertical axis.
    fn line(
        &self,
        class: &'static str,
        from: (&SetOutcome, f64),
        to: (&SetOutcome, f64),
    ) -> Option<Line> {
        let (first, second) = ((from.0.latency_ms, from.1), (to.0.latency_ms, to.1));
        let most = self.up.most();
        if self.up.is_below(first.1) && self.up.is_below(second.1) {
            return None;
        }
        // Where the line crosses the upper edge.
        let inside = |it: (f64, f64), other: (f64, f64)| {
            let part = (most - other.1) / (it.1 - other.1);
            let is_cut = self.up.is_below(it.1) && part.is_finite();
            if is_cut { (other.0 + part * (it.0 - other.0), most) } else { it }
        };
        let (first, second) = (inside(first, second), inside(second, first));
        Some(Line {
            class,
            x: (self.x(first.0), self.x(second.0)),
            y: (self.y(first.1), self.y(second.1)),
        })
    }

    /// A point for a set at this degradation.
    fn set(&self, class: &'static str, radius: f64, set: &SetOutcome, points: f64) -> Circle {
        let blocks: Vec<_> = set.blocks.iter().map(|(at, form)| format!("{at} {form}")).collect();
        let blocks =
            if blocks.is_empty() { "nothing pruned".to_owned() } else { blocks.join(", ") };
        let joint =
            set.joint_degradation.map_or(String::new(), |it| format!(", together {}", nats(it)));
        let tip = format!(
            "{} ms, sum {} nats{joint}: {blocks}",
            number(set.latency_ms),
            nats(set.degradation)
        );
        self.point(class, radius, (set.latency_ms, points), tip)
    }
}
