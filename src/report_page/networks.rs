//! The measured sets as charts and a table.

use updp_prune::outcome::{FrontNetwork, NetworkSpeed, Outcome};
use updp_trainer::evaluator::Score;

use super::axis::Axis;
use super::chart::{Circle, FRAME, Plot, beyond};
use super::{nats, number, percent};

/// The measured sets; `networks.html` shows them.
pub(super) struct Networks {
    pub(super) charts: Vec<NetworkChart>,
    pub(super) rows: Vec<Row>,
}

/// Latency against one number of each set.
pub(super) struct NetworkChart {
    /// What the vertical axis shows.
    pub(super) up: &'static str,
    pub(super) plot: Plot,
    pub(super) circles: Vec<Circle>,
    /// What the points above the vertical axis are; `None` if there are none.
    pub(super) beyond: Option<String>,
}

/// A row of the table.
pub(super) struct Row {
    /// The number, with a mark at the chosen set.
    pub(super) name: String,
    /// Speed-up with its interval.
    pub(super) speedup: String,
    pub(super) macs: String,
    pub(super) kl: String,
    pub(super) answers: String,
    pub(super) blocks: String,
}

/// The sets with a measured speed; `None` if there are fewer than two.
pub(super) fn networks(outcome: &Outcome) -> Option<Networks> {
    let known: Vec<(&FrontNetwork, NetworkSpeed)> =
        outcome.networks.iter().filter_map(|it| Some((it, it.speed?))).collect();
    if known.len() < 2 {
        return None;
    }
    let rows: Vec<Row> = known.iter().map(|(network, speed)| row(network, *speed)).collect();
    let before = outcome.speed.as_ref().map(|speed| speed.before_ms);
    let points = Points { known: &known, rows: &rows, before };
    let chosen = known.iter().find(|(network, _)| network.is_chosen);
    let chosen = chosen.map_or(0.0, |(network, _)| network.score.kl);
    let lost = Axis::near(known.iter().map(|(network, _)| network.score.kl), chosen);
    let lost = points.chart("degradation (KL, nats)", lost, Some(0.0), |score| Some(score.kl));
    let baseline = &outcome.held_out_baseline;
    let charts = [Some(lost), points.shares(baseline)].into_iter().flatten().collect();
    Some(Networks { charts, rows })
}

/// The measured sets, with their rows of the table and the latency of the input model.
struct Points<'a> {
    known: &'a [(&'a FrontNetwork, NetworkSpeed)],
    rows: &'a [Row],
    before: Option<f64>,
}

impl Points<'_> {
    /// Latency against accuracy, or against agreement without labels; `None` if a set has neither.
    fn shares(&self, baseline: &Score) -> Option<NetworkChart> {
        let (up, share): (&'static str, fn(&Score) -> Option<f64>) = if baseline.accuracy.is_some()
        {
            ("accuracy, %", |score| score.accuracy.map(|it| 100.0 * it))
        } else {
            ("agreement with the input model, %", |score| score.agreement.map(|it| 100.0 * it))
        };
        let known: Option<Vec<f64>> =
            self.known.iter().map(|(network, _)| share(&network.score)).collect();
        let start = share(baseline);
        let axis = Axis::within(known?.into_iter().chain(start), 100.0);
        Some(self.chart(up, axis, start, share))
    }

    /// One chart; `start` is the value of the input model.
    fn chart(
        &self,
        up: &'static str,
        axis: Axis,
        start: Option<f64>,
        of: fn(&Score) -> Option<f64>,
    ) -> NetworkChart {
        let across = self.known.iter().map(|(_, speed)| speed.after_ms).chain(self.before);
        let plot = Plot { frame: FRAME, across: Axis::over(across), up: axis };
        let mut circles: Vec<Circle> = Vec::new();
        circles.extend(self.before.zip(start).map(|(ms, value)| {
            plot.point("fill-was", 4.0, (ms, value), format!("{} ms: the input model", number(ms)))
        }));
        for ((network, speed), row) in self.known.iter().zip(self.rows) {
            let Some(value) = of(&network.score) else { continue };
            let tip = format!(
                "{}: {} nats, {}, {} ms, {}",
                row.name,
                row.kl,
                row.answers,
                number(speed.after_ms),
                row.speedup
            );
            let class = if network.is_beaten { "fill-was" } else { "fill-is" };
            let at = (speed.after_ms, value);
            circles.push(plot.point(class, 4.5, at, tip));
            if network.is_chosen {
                circles.push(plot.point("mark", 10.0, at, "chosen".to_owned()));
            }
        }
        let beyond = beyond(circles.iter().filter(|it| it.class != "mark"));
        NetworkChart { up, plot, circles, beyond }
    }
}

fn row(network: &FrontNetwork, speed: NetworkSpeed) -> Row {
    let score = &network.score;
    let answers = [("accuracy", score.accuracy), ("agreement", score.agreement)];
    let told =
        answers.iter().filter_map(|(name, share)| Some(format!("{name} {}", percent((*share)?))));
    let told: Vec<String> = told.collect();
    Row {
        name: format!("{}{}", if network.is_chosen { "✓ " } else { "" }, network.number),
        speedup: format!(
            "×\u{a0}{} ({}–{})",
            number(speed.speedup),
            number(speed.low),
            number(speed.high)
        ),
        macs: percent(network.macs_share),
        kl: nats(score.kl),
        answers: if told.is_empty() {
            format!("overlap {}", number(score.overlap))
        } else {
            told.join(", ")
        },
        blocks: crate::front_table::blocks(network),
    }
}
