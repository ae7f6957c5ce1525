//! Arguments that say how models are run.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use updp_exec::{Device, Runtime, RuntimeOptions, WorkerOptions};

use super::values::{amount, up_to};
use crate::terminal::remark;

/// The program that serves as a worker.
static WORKER: OnceLock<PathBuf> = OnceLock::new();

/// Whether it was said that there are fewer cores than threads.
static HAS_TOLD: AtomicBool = AtomicBool::new(false);

/// Lets commands run models in processes of `program`, which calls [`updp_exec::worker::serve`] when its first argument
/// is [`updp_exec::worker::ARGUMENT`]. Without this call they run in the process of the command.
pub fn use_workers(program: PathBuf) {
    // A second call changes nothing.
    let _ = WORKER.set(program);
}

/// Which runtime runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeChoice {
    /// ONNX Runtime where it is found, else tract
    Auto,
    /// ONNX Runtime
    Ort,
    /// The built-in tract
    Tract,
}

/// Which device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// Processor
    Cpu,
    /// NVIDIA, CUDA provider
    Cuda,
    /// NVIDIA, TensorRT provider
    Tensorrt,
    /// AMD, MIGraphX provider
    #[value(alias = "migraphx")]
    Rocm,
}

/// How models are run.
#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Runtime to run models with
    #[arg(long, help_heading = "Runtime", value_enum, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Device that ONNX Runtime computes on
    #[arg(long, help_heading = "Runtime", value_enum, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Path of the ONNX Runtime library (libonnxruntime)
    #[arg(long, help_heading = "Runtime", value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Threads inside an operator [default: the cores that this process may use]
    #[arg(long, help_heading = "Runtime", value_name = "N", value_parser = up_to::<4096>)]
    pub threads: Option<NonZeroUsize>,
    /// Most seconds for loading a model, and for each run of it
    #[arg(long, help_heading = "Runtime", value_name = "SECONDS", default_value = "600", value_parser = amount::<31_536_000>)]
    pub run_timeout: NonZeroU32,
    /// Most memory for running a model, in MiB [default: what is free]
    #[arg(long, help_heading = "Runtime", value_name = "MIB", value_parser = amount::<1_073_741_824>)]
    pub run_memory: Option<NonZeroU32>,
    /// Run models in this process, not in worker processes: a crash of a runtime ends the program
    #[arg(long, help_heading = "Runtime", conflicts_with_all = ["run_timeout", "run_memory"])]
    pub in_process: bool,
}

impl RuntimeArgs {
    /// As the executors take it.
    #[must_use]
    pub fn options(&self) -> RuntimeOptions {
        RuntimeOptions {
            runtime: match self.runtime {
                RuntimeChoice::Auto => Runtime::Auto,
                RuntimeChoice::Ort => Runtime::Ort,
                RuntimeChoice::Tract => Runtime::Tract,
            },
            device: match self.device {
                DeviceChoice::Cpu => Device::Cpu,
                DeviceChoice::Cuda => Device::Cuda,
                DeviceChoice::Tensorrt => Device::TensorRt,
                DeviceChoice::Rocm => Device::MiGraphX,
            },
            library: self.ort_lib.clone(),
            threads: self.threads(),
            worker: self.worker(),
        }
    }

    /// Threads inside an operator: no more than this process has cores, because more of them only wait for each other.
    #[must_use]
    pub fn threads(&self) -> Option<NonZeroUsize> {
        let asked = self.threads?;
        let cores = std::thread::available_parallelism().unwrap_or(asked);
        if asked > cores && !HAS_TOLD.swap(true, Ordering::Relaxed) {
            remark(&format!(
                "--threads {asked}: this process may use {cores} cores, so {cores} it is"
            ));
        }
        Some(asked.min(cores))
    }

    fn worker(&self) -> Option<WorkerOptions> {
        if self.in_process {
            return None;
        }
        let memory = self.run_memory.map(|mib| u64::from(mib.get()) << 20);
        let time = Duration::from_secs(self.run_timeout.get().into());
        Some(WorkerOptions { memory, ..worker(time)? })
    }
}

/// A worker with this limit of time; `None` where [`use_workers`] was not called.
pub(super) fn worker(time: Duration) -> Option<WorkerOptions> {
    Some(WorkerOptions { program: WORKER.get()?.clone(), memory: None, time, is_fresh: false })
}
