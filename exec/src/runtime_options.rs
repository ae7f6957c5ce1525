//! How models are run; the user chooses this once for a whole program.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Serialize;

use crate::device::{Device, Optimizer, Runtime};
use crate::error::ExecError;
use crate::executor::{Executor, ModelSource, Options};
use crate::library::{self, ProbedLibrary};
use crate::open::open;
use crate::ort;
use crate::worker::{self, WorkerOptions};

/// Runtime, device, threads and library. The graph optimizer is not included: verification turns it off, and
/// measurements turn it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuntimeOptions {
    /// Which runtime runs models.
    pub runtime: Runtime,
    /// The device that computes; tract supports only the processor.
    pub device: Device,
    /// The library of ONNX Runtime; `None` searches for it.
    pub library: Option<PathBuf>,
    /// Threads inside an operator; `None` means as many as the process may use.
    pub threads: Option<NonZeroUsize>,
    /// Runs models in worker processes; with `None` they run in this process. It changes no result.
    #[serde(skip)]
    pub worker: Option<WorkerOptions>,
}

impl RuntimeOptions {
    /// Options of one session.
    #[must_use]
    pub fn session(&self, optimizer: Optimizer) -> Options {
        Options {
            optimizer,
            threads: self.threads,
            device: self.device,
            library: self.library.clone(),
            profile: None,
            worker: self.worker.clone(),
            // Times are measured with the optimizer on.
            sleeps: optimizer == Optimizer::Off,
        }
    }

    /// Loads a model.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(
        &self,
        source: ModelSource<'_>,
        optimizer: Optimizer,
    ) -> Result<Box<dyn Executor>, ExecError> {
        open(source, self.runtime, &self.session(optimizer))
    }

    /// Loads the library of ONNX Runtime and tells what it offers, in a worker process if models run in those.
    ///
    /// # Errors
    /// X0001 to X0005 for the library, X0404 to X0407 for the worker.
    pub fn probe(&self) -> Result<ProbedLibrary, ExecError> {
        library::probe(&self.session(Optimizer::Off))
    }

    /// Starts a worker in the background if models run in workers, so that the first model waits less.
    pub fn prepare(&self) {
        worker::prepare(&self.session(Optimizer::Off));
    }

    /// Loads a model in a process of its own, if models run in worker processes: where the system puts a process in
    /// memory changes its speed by several percent.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open_fresh(
        &self,
        source: ModelSource<'_>,
        optimizer: Optimizer,
    ) -> Result<Box<dyn Executor>, ExecError> {
        let mut options = self.session(optimizer);
        options.worker = options.worker.map(|worker| WorkerOptions { is_fresh: true, ..worker });
        open(source, self.runtime, &options)
    }

    /// Number of threads that a session really gets; 0 where it is not known.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        ort::threads(self.threads).map_or(0, usize::from)
    }
}
