//! Output to the terminal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use updp_trainer::evaluator::Score;
use updp_trainer::train::Progress as StepProgress;

use crate::api::{Observer, TrainingEvent};
use crate::error::CliError;
use crate::interrupt;
use crate::paint::{self, Tone};
use crate::progress_lines::ProgressLines;
use crate::untrusted::{on_one_line, visible};

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Results.
    Normal,
    /// Every rewrite.
    Verbose,
}

/// Why standard output took less than it was given; the first reason.
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// Prints to stdout. A closed pipe is not an error: the reader has what it wanted. Any other failure is kept for
/// [`check_output`].
pub fn say(text: &str) {
    print_out(&paint::warnings(&visible(text), has_colour_out()));
}

fn print_out(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
    }
}

/// Fails if anything that was said is lost, for example because the disk is full.
///
/// # Errors
/// C0003.
pub fn check_output() -> Result<(), CliError> {
    let lost = LOST.lock().unwrap_or_else(PoisonError::into_inner).take();
    lost.map_or(Ok(()), |detail| Err(CliError::Write { path: "standard output".into(), detail }))
}

fn has_colour_out() -> bool {
    paint::has_colour(std::io::stdout().is_terminal())
}

fn has_colour_err() -> bool {
    paint::has_colour(std::io::stderr().is_terminal())
}

/// Prints a table whose first line is its head, to stdout or, while stdout carries a model, to stderr.
pub fn table(text: &str, is_piped: bool) {
    let text = visible(text);
    let (head, rows) =
        text.split_once('\n').map_or((&*text, None), |(head, rows)| (head, Some(rows)));
    let has_colour = if is_piped { has_colour_err() } else { has_colour_out() };
    let words = head.trim_start();
    let space = &head[..head.len() - words.len()];
    let mut painted = format!("{space}{}", Tone::Header.paint(words, has_colour));
    if let Some(rows) = rows {
        painted.push('\n');
        painted.push_str(&paint::warnings(rows, has_colour));
    }
    if is_piped { styled(&painted) } else { print_out(&painted) }
}

/// Prints the verdict, in its colour, to stdout or, while stdout carries a model, to stderr.
pub fn verdict(tone: Tone, text: &str, is_piped: bool) {
    let text = visible(text);
    if is_piped {
        styled(&tone.paint(&text, has_colour_err()));
    } else {
        print_out(&tone.paint(&text, has_colour_out()));
    }
}

/// Prints to stderr. It is used for progress, and for everything else while stdout carries a model.
pub fn note(text: &str) {
    styled(&paint::warnings(&visible(text), has_colour_err()));
}

/// Prints to stderr what may hold the program's own colours.
fn styled(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Set as soon as the arguments are known.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Suppresses remarks and progress bars from now on.
pub fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// Prints to stderr unless only errors are wanted.
pub fn remark(text: &str) {
    if !IS_QUIET.load(Ordering::Relaxed) {
        note(text);
    }
}

/// A line that shows the current work, its progress and the remaining time. The line disappears when this value is
/// dropped. Nothing is shown if standard error is not a terminal.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Begins work with this number of steps; 0 if the number is unknown.
    #[must_use]
    pub fn new(what: &str, steps: usize) -> Self {
        let is_shown = is_drawn();
        let target =
            if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target((steps > 0).then_some(steps as u64), target);
        bar.set_style(style(steps > 0));
        bar.set_message(on_one_line(what));
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// Sets the text that describes the current work.
    pub fn say(&self, what: &str) {
        self.0.set_message(on_one_line(what));
    }

    /// Prints a line above the progress line; without a terminal it prints to standard error.
    pub fn above(&self, text: &str) {
        if self.0.is_hidden() {
            remark(text);
        } else {
            self.0.println(visible(text));
        }
    }

    /// Sets the text that describes the current work, and the current step.
    pub fn set(&self, what: &str, at: usize) {
        self.0.set_position(at as u64);
        self.say(what);
    }
}

/// Shows the progress of a library call: a bar on a terminal, lines elsewhere. The bar disappears when this value is
/// dropped.
#[derive(Debug)]
pub struct Progress {
    bar: Option<Bar>,
    /// The work that the bar shows, and its number of steps. New work gets a new bar, so that its time starts at 0.
    work: (String, usize),
    /// Prints messages even with `--quiet`, because an option asks for them.
    has_wanted_messages: bool,
    /// The current training.
    training: Option<Training>,
    /// The numbered stage and its work.
    lines: Arc<Mutex<ProgressLines>>,
    /// When this value was made.
    began: Instant,
    /// Prints a line every 30 seconds; `None` on a terminal and with `--quiet`.
    heartbeat: Option<Heartbeat>,
}

/// A thread that prints a line when none came for 30 seconds. It ends when this value is dropped.
#[derive(Debug)]
struct Heartbeat {
    /// Dropping it ends the thread.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    fn start(lines: Arc<Mutex<ProgressLines>>, began: Instant) -> Self {
        let (alive, ended) = mpsc::channel();
        // Where no thread can be started, there is no line of this kind.
        let thread = std::thread::Builder::new().spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let line = held(&lines).tick(began.elapsed());
                if let Some(line) = line {
                    remark(&line);
                }
            }
        });
        Self { alive: Some(alive), thread: thread.ok() }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The lines, also after a thread that held them panicked.
fn held(lines: &Mutex<ProgressLines>) -> MutexGuard<'_, ProgressLines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether progress is drawn as bars.
fn is_drawn() -> bool {
    std::io::stderr().is_terminal() && !IS_QUIET.load(Ordering::Relaxed)
}

/// A training that is shown. While this value exists, an interrupt waits for the current step to end.
#[derive(Debug)]
struct Training {
    epochs: usize,
    has_lambda: bool,
    is_supernet: bool,
    last: Option<StepProgress>,
    /// This value is held but not read. When it is dropped, interrupts can end the program again.
    #[expect(dead_code, reason = "it acts when it is dropped")]
    deferred: interrupt::Deferred,
}

impl Training {
    fn step(&mut self, progress: &StepProgress) -> String {
        self.last = Some(*progress);
        let row = &progress.row;
        let lambda =
            if self.has_lambda { format!(", λ {:.2}", row.lambda) } else { String::new() };
        let accuracy =
            row.accuracy.map_or_else(String::new, |right| format!(", {:.1} %", 100.0 * right));
        format!(
            "epoch {:.1}/{}: loss {:.3}{accuracy}{lambda}, rate {:.1e}, {:.0} images/s",
            row.epoch, self.epochs, row.loss, row.learning_rate, progress.images_per_second
        )
    }

    fn epoch(&self, epoch: u64, score: &Score) -> String {
        let loss = self.last.map_or(f64::NAN, |last| last.row.loss);
        let lambda = self.last.filter(|_| self.has_lambda).map(|last| last.row.lambda);
        let at = lambda.map_or_else(String::new, |lambda| format!(", λ {lambda:.2}"));
        let scored = if self.is_supernet { "every block pruned: " } else { "" };
        format!("  epoch {epoch}/{}: loss {loss:.3}{at}, {scored}{score}", self.epochs)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::with_messages(false)
    }
}

impl Progress {
    /// Prints messages even with `--quiet` if `is_wanted`.
    #[must_use]
    pub fn with_messages(is_wanted: bool) -> Self {
        let (lines, began) = (Arc::<Mutex<ProgressLines>>::default(), Instant::now());
        let is_told = !is_drawn() && !IS_QUIET.load(Ordering::Relaxed);
        Self {
            bar: None,
            work: (String::new(), 0),
            has_wanted_messages: is_wanted,
            training: None,
            heartbeat: is_told.then(|| Heartbeat::start(Arc::clone(&lines), began)),
            lines,
            began,
        }
    }

    /// Shows work at one of its steps; `text` is its name with details.
    fn show(&mut self, name: &str, text: &str, done: usize, total: usize) {
        let titled = {
            let mut lines = held(&self.lines);
            lines.work(self.began.elapsed(), name, text, done, total);
            lines.titled(text)
        };
        if self.bar.is_none() || self.work.0 != name || self.work.1 != total {
            // The old line is removed before the new one appears.
            self.bar = None;
            self.bar = Some(Bar::new(&titled, total));
            self.work = (name.to_owned(), total);
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| total > 0) {
            bar.set(&titled, done);
        }
    }

    /// Prints a line above the bar, or as a remark.
    fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.above(text),
            None => remark(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.heartbeat = None;
        let ended = held(&self.lines).end(self.began.elapsed());
        if let Some(line) = ended {
            self.tell(&line);
        }
    }
}

impl Observer for Progress {
    fn stage(&mut self, number: usize, total: usize, text: &str) {
        let told = held(&self.lines).stage(self.began.elapsed(), number, total, text);
        if let Some(line) = &told.ended {
            self.tell(line);
        }
        self.bar = None;
        if is_drawn() {
            self.bar = Some(Bar::new(&told.started, 0));
            self.work = (String::new(), 0);
        } else {
            remark(&told.started);
        }
    }

    fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.show(what, what, done, total);
    }

    fn message(&mut self, text: &str) {
        // A message is one line, unless its first line announces more.
        let has_more = text.lines().next().is_some_and(|first| first.ends_with(':'));
        let line = if has_more { text.to_owned() } else { on_one_line(text) };
        let text = line.as_str();
        match &self.bar {
            Some(bar) => bar.above(text),
            None if self.has_wanted_messages => note(text),
            None => remark(text),
        }
    }

    fn warning(&mut self, text: &str) {
        self.message(&format!("warning: {}", on_one_line(text)));
    }

    fn training(&mut self, event: TrainingEvent<'_>) {
        match event {
            TrainingEvent::Started { epochs, has_lambda, is_supernet } => {
                self.progress("training", 0, 0);
                let deferred = interrupt::defer();
                self.training =
                    Some(Training { epochs, has_lambda, is_supernet, last: None, deferred });
            }
            TrainingEvent::Step(step) => {
                if let Some(text) = self.training.as_mut().map(|training| training.step(step)) {
                    self.show("training", &text, step.done as usize, step.steps as usize);
                }
            }
            TrainingEvent::Evaluating => {}
            TrainingEvent::Epoch { epoch, score } => {
                if let Some(text) = self.training.as_ref().map(|it| it.epoch(epoch, score)) {
                    self.message(&text);
                }
            }
            TrainingEvent::Ended => self.training = None,
        }
    }

    fn is_cancelled(&mut self) -> bool {
        interrupt::is_requested()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(is_counted: bool) -> ProgressStyle {
    let template = if is_counted {
        "{msg} {wide_bar} {pos}/{len}, {elapsed}, {eta} left"
    } else {
        "{msg} {spinner} {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Prints an error with its code and the remedy.
pub fn complain(error: &CliError) {
    let head = Tone::Bad.paint(&format!("error[{}]", error.code()), has_colour_err());
    // The error stays on one line, whatever a nested message contains.
    styled(&format!("{head}: {}", on_one_line(&error.to_string())));
    if let Some(help) = error.help() {
        note(&format!("help: {}", on_one_line(&help)));
    }
}

/// Makes one line of a panic, which is a bug of this program, in every thread. `RUST_BACKTRACE` adds what Rust says.
pub fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.map_or_else(String::new, |text| format!(" ({})", on_one_line(text)));
        styled(&format!(
            "error[C0000]: internal error{place}{text}; this is a bug of updp-compile"
        ));
        note("help: please report it with the model and this line; RUST_BACKTRACE=1 says more");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(info);
        }
    }));
}
