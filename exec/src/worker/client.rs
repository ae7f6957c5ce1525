//! An executor whose model is in a worker process.

use std::ffi::OsString;
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use updp_ir::Tensor;

use super::WorkerOptions;
use super::process::{CLOSING, End, Key, Process};
use super::protocol::{Lookup, Opened, Reply, Request, join, split};
use crate::clock::Clock;
use crate::device::Runtime;
use crate::error::ExecError;
use crate::executor::{Executor, ModelSource, Options};
use crate::library::ProbedLibrary;

/// A model in a worker process.
#[derive(Debug)]
pub(crate) struct WorkerExecutor {
    /// `None` once the worker has died.
    process: Option<Process>,
    opened: Opened,
    limit: Duration,
    /// The model, for messages.
    model: String,
    writes_profile: bool,
}

impl WorkerExecutor {
    /// Loads a model in a worker process: in an idle one, or in a new one if `is_fresh`.
    ///
    /// # Errors
    /// Errors of [`crate::open()`], X0404 to X0407 of the worker.
    pub(crate) fn open(
        source: ModelSource<'_>,
        runtime: Runtime,
        options: &Options,
        worker: &WorkerOptions,
    ) -> Result<Self, ExecError> {
        let key = Key::of(options, worker);
        let mut process =
            if worker.is_fresh { Process::start(&key)? } else { Process::take(&key)? };
        let (path, payloads, model) = match source {
            ModelSource::Bytes(bytes) => {
                (None, vec![Bytes::clone(bytes)], format!("a model of {} bytes", bytes.len()))
            }
            ModelSource::Path(path) => {
                (Some(OsString::from(path)), Vec::new(), path.display().to_string())
            }
        };
        let lookup = Lookup::of(options.library.as_deref());
        let request = Request::Open { path, runtime, lookup, options: options.into() };
        let limit = worker.time;
        let reply = process.ask(&request, &payloads, limit);
        let opened = match reply.map_err(|end| ended(end, "loaded", &model))?.0 {
            Reply::Opened(opened) => opened,
            reply => {
                let error = unexpected(reply, process.memory(), &model);
                process.retire();
                return Err(error);
            }
        };
        let writes_profile = options.profile.is_some();
        Ok(Self { process: Some(process), opened, limit, model, writes_profile })
    }

    fn ask(
        &mut self,
        request: &Request,
        payloads: &[Bytes],
        runs: usize,
    ) -> Result<(Reply, Vec<Bytes>), ExecError> {
        let limit = self.limit.saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX));
        let gone = || ExecError::WorkerBroken { detail: "it has ended before".to_owned() };
        let process = self.process.as_mut().ok_or_else(gone)?;
        match process.ask(request, payloads, limit) {
            Ok((Reply::Failed(error), _)) => Err(error.or_memory(process.memory(), &self.model)),
            Ok(reply) => Ok(reply),
            Err(end) => {
                self.process = None;
                Err(ended(end, "ran", &self.model))
            }
        }
    }
}

impl Executor for WorkerExecutor {
    fn name(&self) -> String {
        self.opened.name.clone()
    }

    fn input_names(&self) -> Vec<String> {
        self.opened.inputs.clone()
    }

    fn output_names(&self) -> Vec<String> {
        self.opened.outputs.clone()
    }

    fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, ExecError> {
        let (inputs, payloads) = split(inputs);
        match self.ask(&Request::Run { inputs }, &payloads, 1)? {
            (Reply::Ran { outputs }, payloads) => join(outputs, payloads)
                .map_err(|error| ExecError::WorkerBroken { detail: error.to_string() }),
            (reply, _) => Err(unexpected(reply, 0, &self.model)),
        }
    }

    fn time(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
        runs: usize,
        clock: Clock,
    ) -> Result<Vec<f64>, ExecError> {
        let (inputs, payloads) = split(inputs);
        match self.ask(&Request::Time { inputs, runs, clock }, &payloads, runs)? {
            (Reply::Timed { ms }, _) => Ok(ms),
            (reply, _) => Err(unexpected(reply, 0, &self.model)),
        }
    }

    fn computes_on_calling_thread(&self) -> bool {
        self.opened.computes_on_calling_thread
    }

    fn fallback_reason(&self) -> Option<&ExecError> {
        self.opened.fallback_reason.as_ref()
    }
}

impl Drop for WorkerExecutor {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if !self.writes_profile {
            process.close();
            return;
        }
        // The reply shows that the profile is written.
        if process.ask(&Request::Close, &[], CLOSING).is_ok() {
            process.retire();
        }
    }
}

/// Loads the library in a new worker, which ends then.
///
/// # Errors
/// X0001 to X0005 of the library, X0404 to X0407 of the worker.
pub(crate) fn probe(options: &Options, worker: &WorkerOptions) -> Result<ProbedLibrary, ExecError> {
    const WHAT: &str = "the library of ONNX Runtime";
    let mut process = Process::start(&Key::of(options, worker))?;
    let request = Request::Probe(Lookup::of(options.library.as_deref()));
    let reply = process.ask(&request, &[], worker.time);
    match reply.map_err(|end| ended(end, "loaded", WHAT))?.0 {
        Reply::Probed(found) => Ok(found),
        reply => Err(unexpected(reply, process.memory(), WHAT)),
    }
}

/// The error for a worker that ended while it `did` something with a model.
fn ended(end: End, did: &str, model: &str) -> ExecError {
    let (did, model) = (did.to_owned(), model.to_owned());
    match end {
        End::Late(limit) => ExecError::WorkerTime { did, model, seconds: limit.as_secs() },
        End::Memory(limit) => ExecError::WorkerMemory { model, mib: limit >> 20 },
        End::Died(how) => ExecError::WorkerDied { did, model, how },
    }
}

/// The error for a reply that brings no result. A runtime may report by itself that memory is missing.
fn unexpected(reply: Reply, memory: u64, model: &str) -> ExecError {
    match reply {
        Reply::Failed(error) => error.or_memory(memory, model),
        other => ExecError::WorkerBroken { detail: format!("unexpected reply {other:?}") },
    }
}
