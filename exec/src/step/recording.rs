//! A step whose kernels the GPU launches together.

use indexmap::IndexMap;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::DynTensor;
use updp_ir::{DataType, Tensor};

use super::{allocator, buffer, failed, has_dims};
use crate::device::Device;
use crate::error::ExecError;
use crate::executor::Declared;
use crate::ort_value::{element_type, unsupported};

/// The data of a recorded step: every buffer that it reads or writes keeps its address.
pub(super) struct Recording {
    /// Options that name the record of each binding.
    pub options: [RunOptions; 2],
    /// The inputs on the device; `fed` holds the data that is copied there.
    inputs: IndexMap<String, DynTensor>,
    /// The results on the device, in graph order.
    pub results: Vec<DynTensor>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Recording {
    /// Binds buffers of the device to the results. The results are numbers, so unknown dims are taken as 1.
    pub fn of(
        runtime: &str,
        device: Device,
        session: &Session,
        outputs: &[Declared],
        bindings: &mut [IoBinding; 2],
    ) -> Result<Self, ExecError> {
        let failed = |error: ort::Error| failed(runtime, &error);
        let allocator = allocator(device, session).map_err(failed)?;
        let options = |id: &str| -> ort::Result<RunOptions> {
            let mut options = RunOptions::new()?;
            options.set("gpu_graph_id", id)?;
            Ok(options)
        };
        let options = [options("1").map_err(failed)?, options("2").map_err(failed)?];
        let mut results = Vec::new();
        for declared in outputs {
            let name = &declared.name;
            let dtype = declared.dtype.unwrap_or(DataType::Float);
            // Missing dims mean that the value is a number.
            let dims: Vec<usize> =
                declared.dims.iter().flatten().map(|dim| dim.unwrap_or(1)).collect();
            let ty = element_type(dtype).ok_or_else(|| unsupported(runtime, name, dtype))?;
            let mut value = DynTensor::new(&allocator, ty, dims).map_err(failed)?;
            for binding in bindings.iter_mut() {
                binding.bind_output(name.as_str(), &mut value).map_err(failed)?;
            }
            results.push(value);
        }
        Ok(Self { options, inputs: IndexMap::new(), results })
    }

    /// Copies an input from the host to the place where the record reads it.
    pub fn feed(
        &mut self,
        (runtime, device): (&str, Device),
        session: &Session,
        bindings: &mut [IoBinding; 2],
        (name, tensor): (&str, &Tensor),
        host: &DynTensor,
    ) -> Result<(), ExecError> {
        let failed = |error: ort::Error| failed(runtime, &error);
        if !self.inputs.contains_key(name) {
            let allocator = allocator(device, session).map_err(failed)?;
            let value = buffer(runtime, name, &allocator, tensor)?;
            for binding in bindings.iter_mut() {
                binding.bind_input(name, &value).map_err(failed)?;
            }
            self.inputs.insert(name.to_owned(), value);
        }
        match self.inputs.get_mut(name) {
            Some(value) if has_dims(value, tensor) => host.copy_into(value).map_err(failed),
            _ => Err(ExecError::RunFailed {
                runtime: runtime.to_owned(),
                detail: format!("the dims of {name:?} changed, and the step is recorded"),
            }),
        }
    }
}
