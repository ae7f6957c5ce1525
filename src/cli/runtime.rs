//! Arguments that say how models are run.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use updp_exec::{Device, Runtime, RuntimeOptions};

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
    #[arg(long, help_heading = "Runtime", value_name = "N")]
    pub threads: Option<NonZeroUsize>,
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
            threads: self.threads,
        }
    }
}
