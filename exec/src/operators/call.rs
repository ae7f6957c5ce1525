//! The view that our operators have of a run: attributes, tensors of f32, and the runtime's threads.

use std::sync::{Mutex, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};

use crate::quiet;

/// Start of every message of ours, so that it can be told apart from messages of the runtime.
pub(crate) const REFUSED: &str = "updp operator";
/// Start of our message about a panic.
pub(crate) const PANICKED: &str = "updp operator panicked in";

/// Why an operator does not compute.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The attributes or operands do not fit.
    Unfit(String),
    /// One of the threads panicked.
    Panicked(String),
}

impl Refusal {
    fn unfit(detail: impl Into<String>) -> Self {
        Self::Unfit(detail.into())
    }
}

/// A refusal with this reason.
pub(super) fn refuse<T>(detail: &str) -> Result<T, Refusal> {
    Err(Refusal::unfit(detail))
}

impl From<ort::Error> for Refusal {
    fn from(error: ort::Error) -> Self {
        Self::unfit(error.message())
    }
}

/// An operator over tensors of f32.
pub(super) trait Operation: Sized + Send + Sync + 'static {
    /// Its name in the domain.
    const NAME: &'static str;
    /// Number of its operands.
    const OPERANDS: usize;
    /// Number of its results.
    const RESULTS: usize;

    /// Reads a node.
    fn read(attributes: &Attributes<'_>) -> Result<Self, Refusal>;

    /// Computes the results.
    fn run(&self, call: &Call<'_>) -> Result<(), Refusal>;
}

/// The attributes of a node.
pub(super) struct Attributes<'a>(&'a KernelContext<'a>);

impl Attributes<'_> {
    /// A number of at least 0.
    pub fn size(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.0.get::<i64>(name).and_then(|size| usize::try_from(size).ok());
        found.ok_or_else(|| Refusal::unfit(format!("{name} is no size")))
    }

    /// `N` numbers of at least 0.
    pub fn sizes<const N: usize>(&self, name: &str) -> Result<[usize; N], Refusal> {
        let found = self.0.get::<Vec<i64>>(name).unwrap_or_default();
        let found: Result<Vec<usize>, _> = found.into_iter().map(usize::try_from).collect();
        let found = found.ok().and_then(|sizes| sizes.try_into().ok());
        found.ok_or_else(|| Refusal::unfit(format!("{name} is no list of {N} sizes")))
    }

    /// A number.
    pub fn float(&self, name: &str) -> Result<f32, Refusal> {
        self.0.get::<f32>(name).ok_or_else(|| Refusal::unfit(format!("{name} is no number")))
    }
}

/// One run.
pub(super) struct Call<'a>(&'a ComputeContext);

/// An operand.
pub(super) struct Operand<'a> {
    value: ValueRef<'a>,
    dims: Vec<usize>,
}

impl Operand<'_> {
    /// Its dims.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Its elements.
    pub fn values(&self) -> Result<&[f32], Refusal> {
        Ok(self.value.try_extract_tensor::<f32>()?.1)
    }
}

/// A result to be written.
pub(super) struct Made<'a>(ValueRefMut<'a>);

impl Made<'_> {
    /// Its elements; before they are written they can have any value.
    pub fn values(&mut self) -> Result<&mut [f32], Refusal> {
        Ok(self.0.try_extract_tensor_mut::<f32>()?.1)
    }
}

impl Call<'_> {
    /// An operand.
    pub fn operand(&self, slot: usize) -> Result<Operand<'_>, Refusal> {
        let missing = || Refusal::unfit(format!("operand {slot} is missing"));
        let value = self.0.input(slot)?.ok_or_else(missing)?;
        let dims = value.try_extract_tensor::<f32>()?.0;
        let dims = dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
        Ok(Operand { value, dims })
    }

    /// A result with these dims.
    pub fn result(&self, slot: usize, dims: &[usize]) -> Result<Made<'_>, Refusal> {
        let missing = || Refusal::unfit(format!("result {slot} is missing"));
        let dims: Vec<i64> = dims.iter().map(|dim| *dim as i64).collect();
        Ok(Made(self.0.output(slot, dims)?.ok_or_else(missing)?))
    }

    /// Calls `call` for each part of `size` elements, with the number of the part and the part itself. The calls run on
    /// the threads of the session.
    pub fn split<T: Send>(
        &self,
        values: &mut [T],
        size: usize,
        call: impl Fn(usize, &mut [T]) + Sync + Send,
    ) -> Result<(), Refusal> {
        let parts: Vec<Mutex<&mut [T]>> = values.chunks_mut(size.max(1)).map(Mutex::new).collect();
        self.each(parts.len(), |at| {
            let mut part = parts[at].lock().unwrap_or_else(PoisonError::into_inner);
            call(at, &mut part);
        })
    }

    /// Calls `call` with 0, 1, … below `count`, on the threads of the session.
    pub fn each(&self, count: usize, call: impl Fn(usize) + Sync + Send) -> Result<(), Refusal> {
        let panicked = Mutex::new(None);
        let guarded = |at| {
            // A panic must not unwind into the runtime.
            if let Err(detail) = quiet::catch(|| call(at)) {
                *panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(detail);
            }
        };
        if count == 1 {
            guarded(0);
        } else if count > 1 {
            self.0.par_for(count, count, guarded)?;
        }
        match panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(detail) => Err(Refusal::Panicked(detail)),
            None => Ok(()),
        }
    }
}

/// An operation as the runtime sees it.
pub(super) struct Entry<O>(std::marker::PhantomData<O>);

impl<O> Entry<O> {
    pub fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

/// A node of an operation.
pub(super) struct Guarded<O>(O);

impl<O: Operation> Operator for Entry<O> {
    type Kernel<'attr> = Guarded<O>;

    fn name(&self) -> &str {
        O::NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..O::OPERANDS).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..O::RESULTS).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel(&self, context: &KernelContext<'_>) -> ort::Result<Guarded<O>> {
        guard::<O, _>(|| O::read(&Attributes(context))).map(Guarded)
    }
}

impl<O: Operation> Kernel for Guarded<O> {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        guard::<O, _>(|| self.0.run(&Call(context)))
    }
}

/// Runs a call that must not unwind into the runtime, and puts the operator's name into its errors.
fn guard<O: Operation, T>(call: impl FnOnce() -> Result<T, Refusal>) -> ort::Result<T> {
    match quiet::catch(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Refusal::Unfit(detail))) => {
            Err(ort::Error::new(format!("{REFUSED} {}: {detail}", O::NAME)))
        }
        Ok(Err(Refusal::Panicked(detail))) | Err(detail) => {
            Err(ort::Error::new(format!("{PANICKED} {}: {detail}", O::NAME)))
        }
    }
}
