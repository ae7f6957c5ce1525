//! The evaluation cache: scores of sets of blocks, one per line. A killed search reuses them when it resumes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::Score;

use crate::files;

/// Scores by the description of the scored set. Without a file, the scores last for this run only.
#[derive(Clone, Debug, Default)]
pub struct EvaluationCache {
    known: BTreeMap<String, Score>,
    path: Option<PathBuf>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    set: String,
    score: Score,
}

impl EvaluationCache {
    /// Opens the scores of a file and appends new ones to it. Skips and removes a line that was not written completely.
    ///
    /// # Errors
    /// T0006 when the file exists but cannot be read, or cannot be repaired.
    pub fn open(path: &Path) -> Result<Self, TrainerError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(path, &error)),
        };
        let mut known = BTreeMap::new();
        let mut whole = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_ended = line.ends_with(b"\n");
            let Some(read) = serde_json::from_slice::<Line>(line).ok().filter(|_| is_ended) else {
                break;
            };
            known.insert(read.set, read.score);
            whole += line.len();
        }
        if whole < bytes.len() {
            files::replace(path, &bytes[..whole]).map_err(|error| failed(path, &error))?;
        }
        Ok(Self { known, path: Some(path.to_owned()) })
    }

    /// The score of a set, if it is known.
    #[must_use]
    pub fn get(&self, set: &str) -> Option<Score> {
        self.known.get(set).copied()
    }

    /// Stores the score of a set.
    ///
    /// # Errors
    /// T0006 when the file cannot be written.
    pub fn put(&mut self, set: &str, score: Score) -> Result<(), TrainerError> {
        self.known.insert(set.to_owned(), score);
        let Some(path) = &self.path else { return Ok(()) };
        let line = Line { set: set.to_owned(), score };
        let mut text = serde_json::to_string(&line).map_err(|error| failed(path, &error.into()))?;
        text.push('\n');
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> TrainerError {
    TrainerError::Work { folder: path.display().to_string(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(share: f64) -> Score {
        Score {
            images: 3,
            accuracy: Some(share),
            top5: None,
            agreement: None,
            overlap: share / 3.0,
            kl: share / 7.0,
        }
    }

    #[test]
    fn scores_are_read_back_to_the_last_bit_and_a_torn_line_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sets.jsonl");
        let mut cache = EvaluationCache::open(&path).unwrap();
        cache.put("1 conv", score(0.1 + 0.2)).unwrap();
        cache.put("2 drop", score(1.0 / 3.0)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 4]).unwrap();
        let mut again = EvaluationCache::open(&path).unwrap();
        assert_eq!(again.get("1 conv"), Some(score(0.1 + 0.2)));
        assert_eq!(again.get("2 drop"), None);
        again.put("2 drop", score(0.5)).unwrap();
        let last = EvaluationCache::open(&path).unwrap();
        assert_eq!(
            (last.get("1 conv"), last.get("2 drop")),
            (Some(score(0.1 + 0.2)), Some(score(0.5)))
        );
        let error = EvaluationCache::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), "T0006");
    }
}
