//! The choices a caller makes for a run: runtime, device, and whether the runtime may rewrite the graph.

use std::fmt;

/// Whether the runtime may rewrite the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Optimizer {
    /// No graph rewriting; verification uses this.
    #[default]
    Off,
    /// Every rewrite that the runtime has; latencies are measured with this.
    All,
}

/// The device that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA, CUDA provider.
    Cuda,
    /// NVIDIA, TensorRT provider; the CUDA provider runs the nodes that TensorRT does not accept.
    TensorRt,
    /// AMD, MIGraphX provider.
    MiGraphX,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::MiGraphX => "rocm",
        })
    }
}

/// The runtime that runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Runtime {
    /// ONNX Runtime if its library is found and loads the model, otherwise tract.
    #[default]
    Auto,
    /// ONNX Runtime or an error.
    Ort,
    /// tract, on the processor, single-threaded.
    Tract,
}
