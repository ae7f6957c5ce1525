//! What a long training keeps in memory.

use std::fs;

use indexmap::IndexMap;
use tempfile::TempDir;
use updp_ir::Tensor;

use super::training::{CLASSES, has_runtime, options, schedule, session};
use super::{INPUT, plain, small};
use crate::error::TrainerError;
use crate::train::{
    Augment, Hooks, Loader, LoaderSettings, Progress, Schedule, TrainOptions, train,
};

/// Resident memory, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split(' ').nth(1).and_then(|it| it.parse::<usize>().ok());
    pages.expect("a number of pages") * 4096
}

/// Looks at the memory after a warm-up and at the end.
struct Memory {
    warm: usize,
    end: usize,
}

impl Hooks for Memory {
    fn progress(&mut self, progress: &Progress) {
        match progress.done {
            1000 => self.warm = resident(),
            10_000 => self.end = resident(),
            _ => {}
        }
    }

    fn validate(
        &mut self,
        state: &IndexMap<String, Tensor>,
        _epoch: u64,
    ) -> Result<Option<f64>, TrainerError> {
        Ok(state["w"].to_f64().map(|weights| weights.iter().sum()))
    }
}

#[test]
fn memory_stays_flat_over_ten_thousand_steps_of_a_training() {
    let name = "memory_stays_flat_over_ten_thousand_steps_of_a_training";
    if !has_runtime(name) {
        return;
    }
    // Tests beside this one would be measured too, so it runs in a process of its own.
    if std::env::var_os("UPDP_MEASURES_MEMORY").is_none() {
        let module = module_path!().split_once("::").expect("the crate comes first").1;
        let own = format!("{module}::{name}");
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &own, "--nocapture"])
            .env("UPDP_MEASURES_MEMORY", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("1 passed"), "{text}");
        return;
    }
    // Images and targets of a step are 3.8 kB, so keeping them all from the warm-up on would take 35 MB.
    let (batch, per_epoch) = (64, 10);
    let (_data, dataset) = small(batch * per_epoch, CLASSES);
    let made =
        LoaderSettings { augment: Augment::light(1), ..LoaderSettings::new(batch, CLASSES, 7) };
    let loader = Loader::new(&dataset, &plain(), &INPUT, made).unwrap();
    let folder = TempDir::new().unwrap();
    let options = TrainOptions { checkpoint_every: 500, ..options(Some(folder.path())) };
    let plan = Schedule { epochs: 1000, ..schedule(per_epoch) };
    let mut memory = Memory { warm: 0, end: 0 };
    let trained = train(&mut session(batch, false), &loader, &plan, &options, &mut memory).unwrap();
    assert_eq!(trained.snapshot.steps, 10_000);
    let Memory { warm, end } = memory;
    assert!(warm > 0 && end > 0);
    assert!(end.saturating_sub(warm) < 12 << 20, "{warm} bytes after 1000 steps, {end} at the end");
}
