//! A score that a command of the user prints: for tasks whose measure no general distance can tell, such as mAP.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::CliError;

/// The place of the model's path in the command.
pub const PLACE: &str = "{model}";

/// Bytes of an output that are kept.
const KEPT: usize = 64 << 10;

/// A command that prints the score of a model as the last word of its output. Higher is better.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreCommand {
    /// The command, for the shell; `{model}` stands for the path of the model.
    pub command: String,
    /// Most time for one run.
    pub timeout: Duration,
    /// The score that the result may lose, in the unit of the score. `None` = any.
    pub max_drop: Option<f64>,
}

impl ScoreCommand {
    /// Runs the command for a model.
    ///
    /// # Errors
    /// C0022 when the command fails, takes too long, or prints no number.
    pub fn score(&self, model: &Path) -> Result<f64, CliError> {
        let failed = |detail: String| CliError::ScoreCommand {
            command: self.command.clone(),
            model: model.to_path_buf(),
            detail,
        };
        let path = quoted(model).ok_or_else(|| failed("the path is no text".to_owned()))?;
        let mut command = shell(&self.command.replace(PLACE, &path));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let output = child.stdout.take().and_then(reading);
        let errors = child.stderr.take().and_then(reading);
        let status = self.wait(&mut child).map_err(|error| failed(error.to_string()))?;
        let Some(status) = status else {
            return Err(failed(format!("it took more than {} s", self.timeout.as_secs())));
        };
        let text = |thread: Option<std::thread::JoinHandle<Vec<u8>>>| {
            let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (output, errors) = (text(output), text(errors));
        if !status.success() {
            let said =
                errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(failed(format!("{status}; it said {said:?}")));
        }
        let word = output.split_whitespace().next_back().unwrap_or_default();
        let number = word.parse().ok().filter(|score: &f64| score.is_finite());
        number.ok_or_else(|| failed(format!("its last word is no number: {word:?}")))
    }

    /// Waits for the command; `None` if it took too long and was ended.
    fn wait(&self, child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if begin.elapsed() >= self.timeout {
                end(child);
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends a command and everything that it started.
fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Score of the input model and of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ScorePair {
    /// The command.
    pub command: String,
    /// Score of the input model.
    pub before: f64,
    /// Score of the result.
    pub after: f64,
    /// The score that the result may lose.
    pub max_drop: Option<f64>,
}

impl ScorePair {
    /// Whether the result loses more than it may.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.max_drop.is_some_and(|most| self.before - self.after > most)
    }

    /// Both scores, in words.
    #[must_use]
    pub fn words(&self) -> String {
        format!("score {} -> {} (--score-command)", self.before, self.after)
    }
}

/// A thread that reads to the end. `None` where none can be started: then the pipe is closed.
fn reading<R: Read + Send + 'static>(pipe: R) -> Option<std::thread::JoinHandle<Vec<u8>>> {
    std::thread::Builder::new().spawn(move || last(pipe)).ok()
}

/// The last bytes of a pipe.
fn last(mut pipe: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    kept
}

#[cfg(unix)]
fn shell(text: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(text);
    // A group of its own, so that a command that takes too long ends with all that it started.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

#[cfg(not(unix))]
fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/C").arg(text);
    command
}

/// A path as one word of the shell; `None` if it is no text.
fn quoted(path: &Path) -> Option<String> {
    let text = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let text = text.to_str()?;
    Some(if cfg!(unix) {
        format!("'{}'", text.replace('\'', "'\\''"))
    } else {
        format!("\"{text}\"")
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn score(command: &str) -> Result<f64, String> {
        let timeout = Duration::from_secs(2);
        let command = ScoreCommand { command: command.to_owned(), timeout, max_drop: None };
        command.score(Path::new("it's a model.onnx")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_word_is_the_score_and_the_path_stays_one_word() {
        assert_eq!(score("echo loading; echo 'mAP:' 0.5"), Ok(0.5));
        assert_eq!(
            score("basename {model} | wc -w | tr -d ' '; basename {model} | wc -c"),
            Ok(18.0)
        );
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let of = |command: &str| score(command).expect_err("no score");
        assert!(of("echo no such file >&2; exit 3").contains("no such file"));
        assert!(of("echo nan").contains("no number"));
        assert!(of("true").contains("no number"));
        let begin = Instant::now();
        assert!(of("sleep 60 | sleep 60").contains("more than 2 s"));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
