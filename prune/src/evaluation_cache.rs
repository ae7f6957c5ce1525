//! The evaluation cache: scores of sets of blocks, one per line. A killed search reuses them when it resumes. A hash in
//! each line tells whether it is the one that was written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use updp_trainer::error::TrainerError;
use updp_trainer::evaluator::Score;
use updp_trainer::files;
use updp_trainer::hash::Fnv;

use crate::score_bits::ScoreBits;

/// Scores by the description of the scored set. Without a file, the scores last for this run only.
#[derive(Clone, Debug, Default)]
pub struct EvaluationCache {
    known: BTreeMap<String, Score>,
    path: Option<PathBuf>,
    damaged: usize,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    set: String,
    score: ScoreBits,
    hash: u64,
}

impl Line {
    fn of(set: &str, score: Score) -> serde_json::Result<Self> {
        let score = score.into();
        Ok(Self { set: set.to_owned(), score, hash: Self::hash(set, &score)? })
    }

    fn hash(set: &str, score: &ScoreBits) -> serde_json::Result<u64> {
        let mut hash = Fnv::default();
        hash.text(set);
        hash.text(&serde_json::to_string(score)?);
        Ok(hash.value())
    }

    /// The line in the file; `None` if it is not the one that was written.
    fn read(bytes: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(bytes).ok()?;
        let is_whole = Self::hash(&line.set, &line.score).ok()? == line.hash;
        is_whole.then_some(line)
    }
}

impl EvaluationCache {
    /// Opens the scores of a file and appends new ones to it. Skips and removes lines that were not written
    /// completely, or that have changed since.
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
        let mut whole = Vec::new();
        let mut damaged = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_ended = line.ends_with(b"\n");
            match Line::read(line).filter(|_| is_ended) {
                Some(read) => {
                    known.insert(read.set, read.score.into());
                    whole.extend_from_slice(line);
                }
                // A line without an end is the last one of a run that was killed.
                None => damaged += usize::from(is_ended),
            }
        }
        if whole.len() < bytes.len() {
            files::replace_own(path, &whole).map_err(|error| failed(path, &error))?;
        }
        Ok(Self { known, path: Some(path.to_owned()), damaged })
    }

    /// Number of lines that were not those that were written.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.damaged
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
        let line = Line::of(set, score).map_err(|error| failed(path, &error.into()))?;
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
        assert_eq!(last.damaged(), 0, "a torn line is no damage");
        let changed = fs::read_to_string(&path).unwrap().replacen("1 conv", "3 conv", 1);
        fs::write(&path, changed).unwrap();
        let repaired = EvaluationCache::open(&path).unwrap();
        assert_eq!((repaired.damaged(), repaired.get("3 conv")), (1, None));
        assert_eq!(repaired.get("2 drop"), Some(score(0.5)), "the others stay");
        let mut none = EvaluationCache::open(&path).unwrap();
        assert_eq!(none.damaged(), 0, "it is told once");
        let infinite = Score { kl: f64::INFINITY, ..score(0.5) };
        none.put("4 pw", infinite).unwrap();
        assert_eq!(EvaluationCache::open(&path).unwrap().get("4 pw"), Some(infinite));
        let error = EvaluationCache::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), "T0006");
    }
}
