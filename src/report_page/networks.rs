//! The measured sets as a chart and a table.

use updp_prune::outcome::{FrontNetwork, NetworkSpeed, Outcome};

use super::chart::{Axis, Circle, FRAME, Plot};
use super::{nats, number, percent};

/// Latency against degradation of measured sets; `networks.html` draws it.
pub(super) struct Networks {
    pub(super) plot: Plot,
    pub(super) circles: Vec<Circle>,
    pub(super) rows: Vec<Row>,
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
    let before = outcome.speed.as_ref().map(|speed| speed.before_ms);
    let plot = Plot {
        frame: FRAME,
        across: Axis::over(known.iter().map(|(_, speed)| speed.after_ms).chain(before), false),
        up: Axis::over(known.iter().map(|(network, _)| network.score.kl), true),
    };
    let rows: Vec<Row> = known.iter().map(|(network, speed)| row(network, *speed)).collect();
    let circle = |x: f64, y: f64, class, radius, tip| Circle {
        class,
        x: plot.x(x),
        y: plot.y(y),
        radius,
        tip,
    };
    let mut circles: Vec<Circle> = Vec::new();
    circles.extend(
        before.map(|ms| {
            circle(ms, 0.0, "fill-was", 4.0, format!("{} ms: the input model", number(ms)))
        }),
    );
    for ((network, speed), row) in known.iter().zip(&rows) {
        let tip = format!(
            "{}: {} nats, {} ms, {}",
            row.name,
            row.kl,
            number(speed.after_ms),
            row.speedup
        );
        let class = if network.is_beaten { "fill-was" } else { "fill-is" };
        circles.push(circle(speed.after_ms, network.score.kl, class, 4.5, tip));
        if network.is_chosen {
            circles.push(circle(
                speed.after_ms,
                network.score.kl,
                "mark",
                10.0,
                "chosen".to_owned(),
            ));
        }
    }
    Some(Networks { plot, circles, rows })
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
