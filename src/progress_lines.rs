//! Progress as plain lines, for a standard error that is no terminal: a file, a pipe, a build server.
//!
//! A numbered stage gets one line when it starts and one when it ends. In between, [`ProgressLines::tick`] gives a line
//! every 30 seconds, so that nothing is silent for long. The clock is an argument: the time since the program began.

use std::fmt::Write;
use std::time::Duration;

/// Longest time without a line.
const INTERVAL: Duration = Duration::from_secs(30);

/// The current stage and its work.
#[derive(Debug, Default)]
pub struct ProgressLines {
    stage: Option<Stage>,
    work: Option<Work>,
    /// Time of the last line.
    last: Duration,
}

/// A numbered stage.
#[derive(Debug)]
struct Stage {
    /// Its number and its name, such as `[2/6] fitting block forms`.
    label: String,
    /// Its name alone.
    text: String,
    began: Duration,
}

/// A piece of work, which reports its steps.
#[derive(Debug)]
struct Work {
    name: String,
    /// The name with details.
    text: String,
    done: usize,
    /// Number of steps; 0 = unknown.
    total: usize,
    began: Duration,
    /// Steps that were done when the work was first heard of, as after resuming.
    done_before: usize,
}

/// The lines of a change from one stage to the next.
#[derive(Debug, PartialEq, Eq)]
pub struct StageLines {
    /// The end of the stage before; `None` if this is the first.
    pub ended: Option<String>,
    /// The start of the new stage.
    pub started: String,
}

impl ProgressLines {
    /// A numbered stage starts, and the one before ends.
    pub fn stage(&mut self, now: Duration, number: usize, total: usize, text: &str) -> StageLines {
        let ended = self.end(now);
        let label = format!("[{number}/{total}] {text}");
        let started = label.clone();
        self.stage = Some(Stage { label, text: text.to_owned(), began: now });
        self.last = now;
        StageLines { ended, started }
    }

    /// Work called `name` reports its steps; `text` is the name with details.
    pub fn work(&mut self, now: Duration, name: &str, text: &str, done: usize, total: usize) {
        let same = self.work.as_mut().filter(|work| work.name == name && work.total == total);
        if let Some(work) = same {
            text.clone_into(&mut work.text);
            work.done = done;
            return;
        }
        if self.stage.is_none() && self.work.is_none() {
            self.last = now;
        }
        let (name, text) = (name.to_owned(), text.to_owned());
        self.work = Some(Work { name, text, done, total, began: now, done_before: done });
    }

    /// The line that is due, if no line came for 30 seconds.
    pub fn tick(&mut self, now: Duration) -> Option<String> {
        if now < self.last + INTERVAL || (self.stage.is_none() && self.work.is_none()) {
            return None;
        }
        self.last = now;
        Some(self.state(now))
    }

    /// Ends the stage; returns its line. `None` if there is no stage.
    pub fn end(&mut self, now: Duration) -> Option<String> {
        self.work = None;
        let stage = self.stage.take()?;
        Some(format!("{}: took {}", stage.label, words(now.saturating_sub(stage.began))))
    }

    /// The label of the stage, in front of the work.
    #[must_use]
    pub fn titled(&self, text: &str) -> String {
        match &self.stage {
            Some(stage) if stage.text == text => stage.label.clone(),
            Some(stage) => format!("{}: {text}", stage.label),
            None => text.to_owned(),
        }
    }

    /// The work, its steps, and how long it has taken and will take.
    fn state(&self, now: Duration) -> String {
        let began = self.stage.as_ref().map(|stage| stage.began);
        let Some(work) = &self.work else {
            let label = self.stage.as_ref().map_or("", |stage| stage.label.as_str());
            return format!("{label}: {} so far", words(now.saturating_sub(began.unwrap_or(now))));
        };
        let mut line = self.titled(&work.text);
        if work.total > 0 {
            let _ = write!(line, ", {}/{}", work.done, work.total);
        }
        let spent = now.saturating_sub(began.unwrap_or(work.began));
        let _ = write!(line, ", {} so far", words(spent));
        if let Some(left) = work.left(now) {
            let _ = write!(line, ", about {} left", words(left));
        }
        line
    }
}

impl Work {
    /// The time that the remaining steps take at the speed so far; `None` if no step is done or their number is unknown.
    fn left(&self, now: Duration) -> Option<Duration> {
        let done = self.done.checked_sub(self.done_before).filter(|done| *done > 0)?;
        let left = self.total.checked_sub(self.done).filter(|_| self.total > 0)?;
        Some(now.saturating_sub(self.began).mul_f64(left as f64 / done as f64))
    }
}

/// A time for people: `4.2 s`, `3 min 05 s`, `2 h 10 min`.
#[must_use]
pub fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stage_has_a_line_at_its_start_and_one_at_its_end() {
        let mut lines = ProgressLines::default();
        let first = lines.stage(at(0), 1, 2, "reading data");
        assert_eq!(first, StageLines { ended: None, started: "[1/2] reading data".into() });
        let second = lines.stage(at(75), 2, 2, "fitting block forms");
        assert_eq!(second.ended.as_deref(), Some("[1/2] reading data: took 1 min 15 s"));
        assert_eq!(second.started, "[2/2] fitting block forms");
        let end = lines.end(Duration::from_millis(79_500));
        assert_eq!(end.as_deref(), Some("[2/2] fitting block forms: took 4.5 s"));
        assert_eq!(lines.end(at(90)), None);
    }

    #[test]
    fn every_30_seconds_a_line_tells_the_steps_and_the_time_left() {
        let mut lines = ProgressLines::default();
        lines.stage(at(10), 3, 6, "fitting block forms");
        lines.work(at(10), "fitting blocks", "fitting blocks", 0, 38);
        assert_eq!(lines.tick(at(39)), None);
        lines.work(at(35), "fitting blocks", "fitting blocks", 10, 38);
        let due = "[3/6] fitting block forms: fitting blocks, 10/38, 30.0 s so far, about 1 min 24 s left";
        assert_eq!(lines.tick(at(40)).as_deref(), Some(due));
        assert_eq!(lines.tick(at(69)), None);
        // The work reports nothing for a minute, and the lines still come.
        assert!(lines.tick(at(70)).is_some_and(|line| line.contains("10/38, 1 min 00 s so far")));
        assert!(lines.tick(at(100)).is_some());
        // A new stage is a line, so the next one is due 30 seconds after it.
        lines.stage(at(110), 4, 6, "measuring");
        assert_eq!(lines.tick(at(131)), None);
        assert_eq!(lines.tick(at(140)).as_deref(), Some("[4/6] measuring: 30.0 s so far"));
    }

    #[test]
    fn what_was_done_before_resuming_does_not_make_the_time_left_shorter() {
        let mut lines = ProgressLines::default();
        lines.work(at(0), "training", "epoch 9.0/10", 900, 1000);
        lines.work(at(30), "training", "epoch 9.1/10", 910, 1000);
        let line = lines.tick(at(30)).expect("30 seconds are over");
        assert_eq!(line, "epoch 9.1/10, 910/1000, 30.0 s so far, about 4 min 30 s left");
    }

    #[test]
    fn without_work_nothing_is_told() {
        let mut lines = ProgressLines::default();
        assert_eq!(lines.tick(at(1000)), None);
        // Work without a stage starts its own 30 seconds.
        lines.work(at(1000), "verifying the result", "verifying the result", 0, 0);
        assert_eq!(lines.tick(at(1029)), None);
        let line = lines.tick(at(1030));
        assert_eq!(line.as_deref(), Some("verifying the result, 30.0 s so far"));
    }

    #[test]
    fn times_are_told_in_the_fitting_unit() {
        assert_eq!(words(Duration::from_millis(59_990)), "59.9 s");
        assert_eq!(words(at(3599)), "59 min 59 s");
        assert_eq!(words(at(7860)), "2 h 11 min");
    }
}
