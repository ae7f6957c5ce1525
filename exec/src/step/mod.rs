//! A training step that runs repeatedly and keeps its state on the device.
//!
//! The step is a plain model. Its inputs are the data of the step and the state (parameters, moments, statistics); its
//! outputs are a few small results (loss, norms) and the next value of each state: `(data, sₜ) ↦ (results, sₜ₊₁)`.
//!
//! The state has two sets of buffers, A and B, and two bindings, A → B and B → A. The steps alternate between the
//! bindings, so no step copies any of the state. A single buffer as both input and output would be smaller but wrong:
//! the runtime does not know of the alias and may still read the old value.

mod recording;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::DynTensor;
use updp_ir::{DataType, Tensor};

use crate::device::{Device, Optimizer};
use crate::error::ExecError;
use crate::executor::{Declared, ModelSource, Options};
use crate::ort::{Purpose, declared, open_session};
use crate::ort_value::{element_type, from_value, unsupported, write_into};
use crate::quiet;
use recording::Recording;

/// One value that is kept from step to step.
#[derive(Clone, Debug)]
pub struct StateSpec {
    /// Input of the model that reads it.
    pub input: String,
    /// Output of the model that gives its next value, with the same dtype and dims.
    pub output: String,
    /// Its first value, which determines dtype and dims.
    pub initial: Tensor,
}

/// A training step in ONNX Runtime.
#[derive(Debug)]
pub struct StepSession {
    runtime: String,
    device: Device,
    /// Inputs that the caller of a step must give, in graph order.
    inputs: Vec<Declared>,
    /// Outputs that a step returns, in graph order.
    outputs: Vec<String>,
    states: Vec<State>,
    /// The buffers of the inputs; a buffer is replaced when the dims of its input change.
    fed: IndexMap<String, DynTensor>,
    /// `bindings[i]` reads the state from `sets[i]` and writes the next one to `sets[1 - i]`.
    bindings: [IoBinding; 2],
    sets: [Vec<DynTensor>; 2],
    /// Index of the set that holds the current state.
    current: usize,
    /// Present where the GPU records the step.
    recording: Option<Recording>,
    session: Session,
}

/// Description of a state, without its value.
#[derive(Debug)]
struct State {
    input: String,
    dtype: DataType,
    dims: Vec<usize>,
}

impl StepSession {
    /// Loads a step and puts its first state on the device.
    ///
    /// `results` are the outputs that a step returns; the model's other outputs are not read. The runtime may rewrite
    /// the graph regardless of `options`, and it computes deterministically where it can.
    ///
    /// # Errors
    /// X0001–X0005 for the library, X0101–X0103 for the model, X0201 for the device; X0302 when a state is not an input
    /// of the model, X0303 when it does not fit that input, X0307 when an output is not the model's, X0308 when an
    /// output does not fit its state, X0309 for a name given twice, X0304 for a state that does not consist of plain
    /// numbers, X0305 for inputs and outputs that are not tensors.
    pub fn open(
        source: ModelSource<'_>,
        options: &Options,
        states: &[StateSpec],
        results: &[&str],
    ) -> Result<Self, ExecError> {
        let options = Options { optimizer: Optimizer::All, ..options.clone() };
        let device = options.device;
        let recorded = || open_session(source, &options, None, Purpose::Recording).ok();
        // A GPU does not record a step if the processor runs a part of it.
        let recorded = (device == Device::Cuda).then(recorded).flatten();
        let is_recorded = recorded.is_some();
        let (runtime, session) = match recorded {
            Some(opened) => opened,
            None => open_session(source, &options, None, Purpose::Training)?,
        };
        let (inputs, outputs) = check_states(&session, states, results)?;
        let made = quiet::catch(|| {
            let (sets, mut bindings) = bind(&runtime, device, &session, states, &outputs)?;
            let recording = is_recorded
                .then(|| Recording::of(&runtime, device, &session, &outputs, &mut bindings))
                .transpose()?;
            Ok::<_, ExecError>((sets, bindings, recording))
        });
        let (sets, bindings, recording) =
            made.map_err(|detail| ExecError::Panicked { runtime: runtime.clone(), detail })??;
        let outputs = outputs.into_iter().map(|declared| declared.name).collect();
        let of = |spec: &StateSpec| State {
            input: spec.input.clone(),
            dtype: spec.initial.dtype(),
            dims: spec.initial.dims().to_vec(),
        };
        Ok(Self {
            runtime,
            device,
            inputs,
            outputs,
            states: states.iter().map(of).collect(),
            fed: IndexMap::new(),
            bindings,
            sets,
            current: 0,
            recording,
            session,
        })
    }

    /// Whether the GPU launches the kernels of a step together.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// The runtime, its version and the device, for example `ONNX Runtime 1.31.1 (cpu)`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} ({})", self.runtime, self.device)
    }

    /// Names of the inputs that the caller of a step must give, in graph order.
    #[must_use]
    pub fn input_names(&self) -> Vec<&str> {
        self.inputs.iter().map(|declared| declared.name.as_str()).collect()
    }

    /// Names of the results that a step returns, in graph order.
    #[must_use]
    pub fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(String::as_str).collect()
    }

    /// Names of the states, in the order given.
    pub fn state_names(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|state| state.input.as_str())
    }

    /// Runs one step, makes its next state the current state, and returns its results in graph order.
    ///
    /// Each input is copied once, into a buffer that stays. An error leaves the state unchanged.
    ///
    /// # Errors
    /// X0301–X0303, X0309 for inputs that do not fit, X0304, X0305 for outputs, X0401 when the runtime fails, X0402
    /// when it panics.
    pub fn step(
        &mut self,
        inputs: &[(&str, &Tensor)],
    ) -> Result<IndexMap<String, Tensor>, ExecError> {
        self.check_inputs(inputs)?;
        let runtime = self.runtime.clone();
        let results = quiet::catch(|| self.run(inputs))
            .map_err(|detail| ExecError::Panicked { runtime, detail })??;
        self.current = 1 - self.current;
        Ok(results)
    }

    /// A copy of the current state, by input name in the order given.
    ///
    /// # Errors
    /// X0401, X0402 when it cannot be copied from the device.
    pub fn state(&self) -> Result<IndexMap<String, Tensor>, ExecError> {
        self.read(&self.sets[self.current])
    }

    /// A copy of the state that the last step read. It has no meaning before the first step and after
    /// [`Self::set_state`].
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn previous_state(&self) -> Result<IndexMap<String, Tensor>, ExecError> {
        self.read(&self.sets[1 - self.current])
    }

    fn read(&self, set: &[DynTensor]) -> Result<IndexMap<String, Tensor>, ExecError> {
        let read = || {
            let values = self.states.iter().zip(set);
            values
                .map(|(state, value)| {
                    let (runtime, name) = (&self.runtime, &state.input);
                    let tensor = if value.memory_info().is_cpu_accessible() {
                        from_value(runtime, name, value)?
                    } else {
                        let copy = value.to(AllocationDevice::CPU, 0);
                        from_value(runtime, name, &copy.map_err(|e| failed(runtime, &e))?)?
                    };
                    Ok((name.clone(), tensor))
                })
                .collect()
        };
        quiet::catch(read).map_err(|detail| self.panicked(detail))?
    }

    /// Replaces the state; every state must be given, in any order.
    ///
    /// # Errors
    /// X0301–X0303 when the states do not match those of the session; then nothing has changed. X0401, X0402 when
    /// they cannot be copied to the device; then part of the state is lost.
    pub fn set_state(&mut self, state: &IndexMap<String, Tensor>) -> Result<(), ExecError> {
        for name in state.keys() {
            if !self.states.iter().any(|own| own.input == *name) {
                let known = self.state_names().map(str::to_owned).collect();
                return Err(ExecError::InputUnknown { name: name.clone(), known });
            }
        }
        for own in &self.states {
            let name = &own.input;
            let given =
                state.get(name).ok_or_else(|| ExecError::InputMissing { name: name.clone() })?;
            own.declared().check(given)?;
        }
        let set = &mut self.sets[self.current];
        let (runtime, states) = (&self.runtime, &self.states);
        let write = || {
            states
                .iter()
                .zip(set)
                .try_for_each(|(own, value)| put(runtime, &own.input, value, &state[&own.input]))
        };
        quiet::catch(write).map_err(|detail| self.panicked(detail))?
    }

    fn check_inputs(&self, inputs: &[(&str, &Tensor)]) -> Result<(), ExecError> {
        let mut seen = BTreeSet::new();
        for (name, tensor) in inputs {
            let Some(declared) = self.inputs.iter().find(|declared| declared.name == *name) else {
                let known = self.inputs.iter().map(|d| d.name.clone()).collect();
                return Err(ExecError::InputUnknown { name: (*name).to_owned(), known });
            };
            if !seen.insert(*name) {
                return Err(ExecError::NamedTwice { name: (*name).to_owned() });
            }
            declared.check(tensor)?;
        }
        let missing = self.inputs.iter().find(|declared| !seen.contains(declared.name.as_str()));
        missing.map_or(Ok(()), |d| Err(ExecError::InputMissing { name: d.name.clone() }))
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<IndexMap<String, Tensor>, ExecError> {
        let Self { runtime, device, fed, bindings, current, session, outputs, recording, .. } =
            self;
        for (name, tensor) in inputs {
            let value = match fed.get_mut(*name) {
                Some(value) if has_dims(value, tensor) => value,
                _ => {
                    let value = buffer(runtime, name, &Allocator::default(), tensor)?;
                    fed.entry((*name).to_owned()).insert_entry(value).into_mut()
                }
            };
            write_into(runtime, name, value, tensor)?;
            if let Some(recording) = recording {
                recording.feed((runtime, *device), session, bindings, (name, tensor), value)?;
            } else {
                // Where the device has its own memory, binding makes the copy.
                let bound = bindings[*current].bind_input(*name, &*value);
                bound.map_err(|error| failed(runtime, &error))?;
            }
        }
        let binding = &bindings[*current];
        let mut found = IndexMap::new();
        if let Some(recording) = recording {
            let ran = session.run_binding_with_options(binding, &recording.options[*current]);
            drop(ran.map_err(|error| failed(runtime, &error))?);
            for (name, value) in outputs.iter().zip(&recording.results) {
                let copy = value.to(AllocationDevice::CPU, 0);
                let copy = copy.map_err(|error| failed(runtime, &error))?;
                found.insert(name.clone(), from_value(runtime, name, &copy)?);
            }
            return Ok(found);
        }
        let mut results = session.run_binding(binding).map_err(|error| failed(runtime, &error))?;
        for name in outputs.iter() {
            if let Some(value) = results.remove(name) {
                found.insert(name.clone(), from_value(runtime, name, &value)?);
            }
        }
        Ok(found)
    }

    fn panicked(&self, detail: String) -> ExecError {
        ExecError::Panicked { runtime: self.runtime.clone(), detail }
    }
}

impl State {
    fn declared(&self) -> Declared {
        Declared {
            name: self.input.clone(),
            dtype: Some(self.dtype),
            dims: Some(self.dims.iter().map(|dim| Some(*dim)).collect()),
        }
    }
}

/// Checks the states and results against the model; returns the remaining inputs, and the results in graph order.
fn check_states(
    session: &Session,
    states: &[StateSpec],
    results: &[&str],
) -> Result<(Vec<Declared>, Vec<Declared>), ExecError> {
    let mut inputs: Vec<_> =
        session.inputs().iter().map(declared).collect::<Result<_, ExecError>>()?;
    let mut outputs: Vec<_> =
        session.outputs().iter().map(declared).collect::<Result<_, ExecError>>()?;
    let known = |all: &[Declared]| all.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    let (known_inputs, known_outputs) = (known(&inputs), known(&outputs));
    let mut seen = BTreeSet::new();
    for StateSpec { input, output, initial } in states {
        if !seen.insert((true, input)) || !seen.insert((false, output)) {
            return Err(ExecError::NamedTwice { name: input.clone() });
        }
        let Some(at) = inputs.iter().position(|declared| declared.name == *input) else {
            return Err(ExecError::InputUnknown { name: input.clone(), known: known_inputs });
        };
        inputs.remove(at).check(initial)?;
        let Some(at) = outputs.iter().position(|declared| declared.name == *output) else {
            return Err(ExecError::OutputUnknown { name: output.clone(), known: known_outputs });
        };
        let next = outputs.remove(at);
        if !next.fits(initial) {
            return Err(ExecError::StateMismatch {
                input: input.clone(),
                output: output.clone(),
                expected: format!("{} {:?}", initial.dtype(), initial.dims()),
                found: next.to_string(),
            });
        }
    }
    for name in results {
        if !outputs.iter().any(|declared| declared.name == *name) {
            let known = known(&outputs);
            return Err(ExecError::OutputUnknown { name: (*name).to_owned(), known });
        }
    }
    outputs.retain(|declared| results.contains(&declared.name.as_str()));
    Ok((inputs, outputs))
}

/// Two sets of buffers, the first with the initial state, and the two bindings between them.
fn bind(
    runtime: &str,
    device: Device,
    session: &Session,
    states: &[StateSpec],
    outputs: &[Declared],
) -> Result<([Vec<DynTensor>; 2], [IoBinding; 2]), ExecError> {
    let allocator = allocator(device, session).map_err(|error| failed(runtime, &error))?;
    let set = || -> Result<Vec<DynTensor>, ExecError> {
        let buffers = states.iter();
        buffers.map(|spec| buffer(runtime, &spec.input, &allocator, &spec.initial)).collect()
    };
    let mut sets = [set()?, set()?];
    for (spec, value) in states.iter().zip(&mut sets[0]) {
        put(runtime, &spec.input, value, &spec.initial)?;
    }
    let [a, b] = &mut sets;
    let between = |from: &[DynTensor], to: &mut [DynTensor]| -> ort::Result<IoBinding> {
        let mut binding = session.create_binding()?;
        for ((spec, from), to) in states.iter().zip(from).zip(to) {
            binding.bind_input(spec.input.as_str(), from)?;
            binding.bind_output(spec.output.as_str(), to)?;
        }
        let host =
            MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        for declared in outputs {
            binding.bind_output_to_device(declared.name.as_str(), &host)?;
        }
        Ok(binding)
    };
    let bindings = between(a, b).and_then(|there| Ok([there, between(b, a)?]));
    Ok((sets, bindings.map_err(|error| failed(runtime, &error))?))
}

/// Memory that the device computes in.
fn allocator(device: Device, session: &Session) -> ort::Result<Allocator> {
    let place = match device {
        Device::Cpu => return Ok(Allocator::default()),
        Device::Cuda | Device::TensorRt => AllocationDevice::CUDA,
        Device::MiGraphX => AllocationDevice::HIP,
    };
    let info = MemoryInfo::new(place, 0, AllocatorType::Device, MemoryType::Default)?;
    Allocator::new(session, info)
}

/// A buffer with the dtype and dims of `tensor`, filled with zeros where the processor can access it.
fn buffer(
    runtime: &str,
    name: &str,
    allocator: &Allocator,
    tensor: &Tensor,
) -> Result<DynTensor, ExecError> {
    let ty =
        element_type(tensor.dtype()).ok_or_else(|| unsupported(runtime, name, tensor.dtype()))?;
    DynTensor::new(allocator, ty, tensor.dims().to_vec()).map_err(|error| failed(runtime, &error))
}

/// Copies a tensor into a buffer in any memory.
fn put(runtime: &str, name: &str, value: &mut DynTensor, tensor: &Tensor) -> Result<(), ExecError> {
    if value.memory_info().is_cpu_accessible() {
        return write_into(runtime, name, value, tensor);
    }
    let mut host = buffer(runtime, name, &Allocator::default(), tensor)?;
    write_into(runtime, name, &mut host, tensor)?;
    host.copy_into(value).map_err(|error| failed(runtime, &error))
}

/// Whether a buffer has the dtype and dims of a tensor.
fn has_dims(value: &DynTensor, tensor: &Tensor) -> bool {
    element_type(tensor.dtype()) == Some(*value.data_type())
        && value.shape().iter().map(|dim| *dim as usize).eq(tensor.dims().iter().copied())
}

fn failed(runtime: &str, error: &ort::Error) -> ExecError {
    ExecError::of_run(runtime, error.message())
}
