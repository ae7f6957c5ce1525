//! The compiled-in runtime tract: pure Rust, on the processor, with one thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use tract_onnx::Onnx;
use tract_onnx::pb;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, TVec,
    TractError, TractResult, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;
use updp_ir::{DataType, Tensor};

use crate::device::{Device, Optimizer};
use crate::error::ExecError;
use crate::executor::{Declared, Executor, ModelSource, Options, check_inputs};
use crate::quiet;
use crate::tract_value::{datum_type, dtype_of, from_tract, to_tract};

/// The compiled-in runtime: tract and the version in Cargo.lock. A test compares the two.
pub const TRACT: &str = NAME;

const NAME: &str = "tract 0.23.9";

/// Number of plans that are kept for earlier input shapes.
const PLANS: usize = 4;

/// Operators of the `com.microsoft` domain that tract implements with the meaning of that domain.
const CONTRIBUTED: &[&str] = &[
    "BiasGelu",
    "FastGelu",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Dtypes and dims of the inputs that a plan was made for.
type Signature = Vec<(DataType, Vec<usize>)>;

/// A model in tract; each new set of input shapes gets its own plan.
///
/// An initializer that is also a graph input counts as a constant.
#[derive(Debug)]
pub struct TractExecutor {
    model: InferenceModel,
    inputs: Vec<Declared>,
    outputs: Vec<String>,
    optimizer: Optimizer,
    /// The plans; the latest is the last.
    plans: Vec<(Signature, Arc<TypedRunnableModel>)>,
    fallback_reason: Option<ExecError>,
}

impl TractExecutor {
    /// Reads the model; the first run determines the shapes.
    ///
    /// # Errors
    /// X0101–X0103 when the model cannot be read or has operators that tract does not know, X0201 for
    /// any device other than the processor, X0402 when tract panics.
    pub fn open(source: ModelSource<'_>, options: &Options) -> Result<Self, ExecError> {
        if options.device != Device::Cpu {
            return Err(ExecError::DeviceUnavailable {
                runtime: NAME.to_owned(),
                device: options.device,
                detail: "tract runs on the processor only".to_owned(),
            });
        }
        if let ModelSource::Path(path) = source
            && let Err(error) = std::fs::metadata(path)
        {
            let detail = error.to_string();
            return Err(ExecError::ModelFile { path: path.to_path_buf(), detail });
        }
        let (model, outputs) = guarded(|| read(source))??;
        let inputs = (0..model.inputs.len())
            .map(|slot| declared(&model, slot))
            .collect::<TractResult<_>>()
            .map_err(|error| rejected(&error))?;
        Ok(Self {
            model,
            inputs,
            outputs,
            optimizer: options.optimizer,
            plans: Vec::new(),
            fallback_reason: None,
        })
    }

    /// Records why another runtime was not used.
    pub(crate) fn with_fallback_reason(mut self, reason: ExecError) -> Self {
        self.fallback_reason = Some(reason);
        self
    }

    /// tract's names for the operators of the latest plan.
    #[cfg(test)]
    pub(crate) fn planned_operators(&self) -> Vec<String> {
        let plan = self.plans.last().map(|(_, plan)| plan.model().nodes().iter());
        plan.into_iter().flatten().map(|node| node.op.name().into_owned()).collect()
    }

    fn plan(&mut self, signature: Signature) -> Result<Arc<TypedRunnableModel>, ExecError> {
        if let Some(at) = self.plans.iter().position(|(known, _)| *known == signature) {
            let known = self.plans.remove(at);
            let plan = Arc::clone(&known.1);
            self.plans.push(known);
            return Ok(plan);
        }
        let planned = guarded(|| typed(&self.model, &signature, self.optimizer)?.into_runnable())
            .and_then(|result| result.map_err(|error| rejected(&error)));
        let plan = planned.map_err(|tract| match &self.fallback_reason {
            Some(ort) if ort.is_model_refused() => {
                ExecError::NoRuntimeLoads { ort: Box::new(ort.clone()), tract: Box::new(tract) }
            }
            _ => tract,
        })?;
        if self.plans.len() == PLANS {
            self.plans.remove(0);
        }
        self.plans.push((signature, Arc::clone(&plan)));
        Ok(plan)
    }
}

impl Executor for TractExecutor {
    fn name(&self) -> String {
        format!("{NAME} (cpu)")
    }

    fn input_names(&self) -> Vec<String> {
        self.inputs.iter().map(|declared| declared.name.clone()).collect()
    }

    fn output_names(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<IndexMap<String, Tensor>, ExecError> {
        check_inputs(&self.inputs, &[], inputs)?;
        let mut signature = Signature::with_capacity(self.inputs.len());
        let mut values = TVec::with_capacity(self.inputs.len());
        for declared in &self.inputs {
            let Some(tensor) = inputs.get(&declared.name) else { continue };
            signature.push((tensor.dtype(), tensor.dims().to_vec()));
            values.push(to_tract(NAME, &declared.name, tensor)?.into_tvalue());
        }
        let plan = self.plan(signature)?;
        let results = guarded(|| plan.run(values))?.map_err(|error| ExecError::RunFailed {
            runtime: NAME.to_owned(),
            detail: format!("{error:#}"),
        })?;
        self.outputs
            .iter()
            .zip(&results)
            .map(|(name, tensor)| Ok((name.clone(), from_tract(NAME, name, tensor)?)))
            .collect()
    }

    fn computes_on_calling_thread(&self) -> bool {
        true
    }

    fn fallback_reason(&self) -> Option<&ExecError> {
        self.fallback_reason.as_ref()
    }
}

/// Runs `call` and reports a panic in it as a fault of tract.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, ExecError> {
    quiet::catch(call).map_err(|detail| ExecError::Panicked { runtime: NAME.to_owned(), detail })
}

fn rejected(error: &TractError) -> ExecError {
    ExecError::ModelRejected { runtime: NAME.to_owned(), detail: format!("{error:#}") }
}

/// The untyped model and the names of its outputs.
fn read(source: ModelSource<'_>) -> Result<(InferenceModel, Vec<String>), ExecError> {
    // Exporters leave shapes of one batch size in value_info, and tract would enforce them.
    let onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true);
    let (proto, folder) = match source {
        ModelSource::Bytes(bytes) => (onnx.proto_model_for_read(&mut bytes.as_ref()), None),
        ModelSource::Path(path) => (onnx.proto_model_for_path(path), Some(folder_of(path))),
    };
    let proto = proto.map_err(|error| rejected(&error))?;
    let folder = folder.as_deref().map(|folder| {
        folder.to_str().ok_or_else(|| ExecError::ModelFile {
            path: folder.to_path_buf(),
            detail: "tract needs a path in UTF-8".to_owned(),
        })
    });
    let folder = folder.transpose()?;
    let graph = proto.graph.as_ref().ok_or_else(|| ExecError::ModelRejected {
        runtime: NAME.to_owned(),
        detail: "the model has no graph".to_owned(),
    })?;
    check_operators(&onnx, &proto, graph)?;
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let parsed = onnx.parse(&proto, folder).map_err(|error| rejected(&error))?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        return Err(ExecError::ModelRejected {
            runtime: NAME.to_owned(),
            detail: format!("nothing defines value {name:?}"),
        });
    }
    Ok((parsed.model, outputs))
}

/// The folder that paths of external data are relative to.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Refuses operators that tract does not know. tract looks operators up only by name, so an operator
/// of another domain or a model-local function would run as the standard operator of the same name.
fn check_operators(
    onnx: &Onnx,
    model: &pb::ModelProto,
    graph: &pb::GraphProto,
) -> Result<(), ExecError> {
    for node in &graph.node {
        let local = model
            .functions
            .iter()
            .any(|function| function.name() == node.op_type && function.domain() == node.domain);
        let known = match node.domain.as_str() {
            _ if local => false,
            "" | "ai.onnx" | "ai.onnx.ml" => onnx.op_register.0.contains_key(&node.op_type),
            "com.microsoft" => CONTRIBUTED.contains(&node.op_type.as_str()),
            _ => false,
        };
        if !known {
            let op = if node.domain.is_empty() {
                node.op_type.clone()
            } else {
                format!("{}:{}", node.domain, node.op_type)
            };
            let what = if local { "model-local function of" } else { "used by" };
            let detail = format!("{what} node {:?}", node.name);
            return Err(ExecError::OperatorUnsupported { runtime: NAME.to_owned(), op, detail });
        }
        for attribute in &node.attribute {
            for body in attribute.g.iter().chain(&attribute.graphs) {
                check_operators(onnx, model, body)?;
            }
        }
    }
    Ok(())
}

fn declared(model: &InferenceModel, slot: usize) -> TractResult<Declared> {
    let outlet = model.inputs[slot];
    let fact = model.input_fact(slot)?;
    let dims = fact.shape.rank().concretize().map(|_| {
        fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok())).collect()
    });
    Ok(Declared {
        name: model.node(outlet.node).name.clone(),
        dtype: fact.datum_type.concretize().and_then(dtype_of),
        dims,
    })
}

/// The model for these shapes, either only typed or with all of tract's optimizations.
fn typed(
    model: &InferenceModel,
    signature: &Signature,
    optimizer: Optimizer,
) -> TractResult<TypedModel> {
    let mut model = model.clone();
    for (slot, (dtype, dims)) in signature.iter().enumerate() {
        let fact = match datum_type(*dtype) {
            Some(datum_type) => InferenceFact::dt_shape(datum_type, dims),
            None => InferenceFact::default(),
        };
        model.set_input_fact(slot, fact)?;
    }
    match optimizer {
        Optimizer::Off => model.into_typed(),
        Optimizer::All => model.into_optimized(),
    }
}
