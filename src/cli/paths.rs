//! The paths that each command reads and writes.

use std::path::Path;

use super::{BenchArgs, CompileArgs, DataArgs, EvaluateArgs, InspectArgs, RuntimeArgs, TrainArgs};
use crate::paths::{Kind, Paths};

impl RuntimeArgs {
    fn paths(&self, paths: Paths) -> Paths {
        paths.reads("--ort-lib", &self.ort_lib)
    }
}

/// The file of `--preprocess`; `None` for the name of a preset.
fn preprocess(given: &str) -> Option<&Path> {
    let file = given.split(',').next().map(Path::new);
    file.filter(|path| path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json")))
}

/// The files of `--input-data`: `FILE`, or `NAME:FILE`.
fn input_data(given: &[String]) -> impl Iterator<Item = &Path> {
    given.iter().map(|argument| {
        let is_file = Path::new(argument).exists();
        let named = argument.split_once(':').filter(|_| !is_file);
        Path::new(named.map_or(argument.as_str(), |(_, file)| file))
    })
}

/// The files of `--input NAME=FILE.npy`.
fn constants(given: &[String]) -> impl Iterator<Item = &Path> {
    given.iter().filter_map(|argument| Some(Path::new(argument.rsplit_once('=')?.1)))
}

impl DataArgs {
    fn paths(&self, paths: Paths) -> Paths {
        let paths = paths.reads("--data", &self.data).reads("--val", &self.val);
        paths.reads("--preprocess", preprocess(&self.preprocess))
    }
}

impl CompileArgs {
    /// The paths of compiling or pruning `input` to `target`.
    #[must_use]
    pub fn paths(&self, input: &Path, target: &Path) -> Paths {
        let has_images = self.images.data.is_some();
        let work = self.images.work_folder(target).filter(|_| has_images && !self.dry_run);
        let paths = Paths::default()
            .in_place(self.in_place)
            .model(input)
            .reads("--input-data", input_data(&self.input_data))
            .reads("--input", constants(&self.inputs.constants))
            .reads("--config", &self.config)
            .writes("-o", Kind::Model, [target])
            .writes("--report", Kind::File, &self.report)
            .writes("--front", Kind::File, &self.prune.front)
            .writes("--latency-table", Kind::Table, &self.prune.latency_table)
            .writes("--test-vectors", Kind::Vectors, &self.test_vectors)
            .writes("--work", Kind::Work, work);
        self.runtime.paths(self.images.paths(paths))
    }
}

impl TrainArgs {
    /// The paths of a training whose result goes to `target`.
    #[must_use]
    pub fn paths(&self, target: Option<&Path>) -> Paths {
        let work = target.and_then(|target| self.images.work_folder(target));
        let description = self.emit_step.as_ref().map(|path| path.with_extension("json"));
        let paths = Paths::default()
            .in_place(self.in_place)
            .model(&self.model)
            .reads("--config", &self.config)
            .writes("-o", Kind::Model, target)
            .writes("--report", Kind::File, &self.report)
            .writes("--emit-step", Kind::File, &self.emit_step)
            .writes("--emit-step", Kind::File, description)
            .writes("--work", Kind::Work, work.filter(|_| !self.dry_run));
        self.runtime.paths(self.images.paths(paths))
    }
}

impl InspectArgs {
    /// The paths of the command.
    #[must_use]
    pub fn paths(&self) -> Paths {
        let paths = Paths::default()
            .model(&self.model)
            .reads("--config", &self.config)
            .writes("--map", Kind::File, &self.map)
            .writes("--latency-table", Kind::Table, &self.latency_table);
        self.runtime.paths(paths)
    }
}

impl EvaluateArgs {
    /// The paths of the command.
    #[must_use]
    pub fn paths(&self) -> Paths {
        let models = [Some(&self.model), self.other.as_ref()].into_iter().flatten();
        let paths = models
            .fold(Paths::default(), |paths, model| paths.model(model))
            .reads("--data", [&self.data])
            .reads("--preprocess", preprocess(&self.preprocess))
            .reads("--input", constants(&self.inputs.constants))
            .reads("--config", &self.config)
            .writes("--report", Kind::File, &self.report);
        self.runtime.paths(paths)
    }
}

impl BenchArgs {
    /// The paths of the command.
    #[must_use]
    pub fn paths(&self) -> Paths {
        let models = [Some(&self.model), self.other.as_ref()].into_iter().flatten();
        let paths = models
            .fold(Paths::default(), |paths, model| paths.model(model))
            .reads("--config", &self.config)
            .writes("--latency-table", Kind::Table, &self.latency_table)
            .writes("--report", Kind::File, &self.report);
        self.runtime.paths(paths)
    }
}
