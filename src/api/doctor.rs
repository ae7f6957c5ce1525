//! What this machine has for running models, and what is missing.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use updp_exec::error::{INSTALL, INSTALL_CUDA};
use updp_exec::library::named_library;
use updp_exec::machine::free_space;
use updp_exec::{
    Device, ExecError, FoundLibrary, LibraryPlace, LibrarySearch, Machine, ModelSource,
    OLDEST_LIBRARY, Optimizer, ProbedLibrary, Runtime, RuntimeOptions, TRACT, search_libraries,
};
use updp_ir::builder::ModelBuilder;
use updp_ir::{DataType, Dim, Node, Tensor};

use super::prune::encode;
use super::{Error, Observer};
use crate::shell::quoted;

/// Below this much room for temporary files the report says so: 1 GiB.
const LEAST_ROOM: u64 = 1 << 30;

/// Everything that a look at this machine found.
#[derive(Clone, Debug)]
pub struct DoctorReport {
    /// Version of this program.
    pub version: &'static str,
    /// Name and version of the built-in runtime.
    pub tract: &'static str,
    /// The library of ONNX Runtime that was loaded; `None` if none could be.
    pub library: Option<DoctorLibrary>,
    /// Why ONNX Runtime does not work; `None` if it ran a model.
    pub error: Option<ExecError>,
    /// The execution providers of the library, in its order.
    pub providers: Vec<DoctorProvider>,
    /// Libraries that were found and are not used.
    pub passed_over: Vec<PassedOver>,
    /// The folders that were searched.
    pub searched: Vec<PathBuf>,
    /// The interpreters of Python that were seen on `PATH`.
    pub pythons: Vec<PathBuf>,
    /// The machine.
    pub machine: Machine,
    /// The folder for temporary files.
    pub temporary: PathBuf,
    /// Bytes that can still be written there; `None` where the system does not tell.
    pub temporary_free_bytes: Option<u64>,
    /// What is missing, each with the command that brings it.
    pub cures: Vec<Cure>,
}

/// The library that is used.
#[derive(Clone, Debug)]
pub struct DoctorLibrary {
    /// Its file, links resolved.
    pub path: PathBuf,
    /// Its version, as it tells itself.
    pub version: String,
    /// Where it was found.
    pub place: LibraryPlace,
    /// Why it was taken.
    pub reason: String,
}

/// An execution provider.
#[derive(Clone, Debug)]
pub struct DoctorProvider {
    /// Its name in ONNX Runtime.
    pub name: String,
    /// Whether a session with it opens; `None` for a provider that this program does not use.
    pub is_usable: Option<bool>,
    /// Why no session opens.
    pub detail: Option<String>,
}

/// A library that is not used.
#[derive(Clone, Debug)]
pub struct PassedOver {
    /// Its file.
    pub path: PathBuf,
    /// Its version, if names of files tell it.
    pub version: Option<String>,
    /// Where it was found.
    pub place: LibraryPlace,
    /// Why it is not used.
    pub reason: String,
}

/// What is missing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cure {
    /// What is missing, in words.
    pub what: String,
    /// The command to type.
    pub command: String,
}

/// Looks at this machine: finds and loads ONNX Runtime, runs a model of one node with it, and opens a session with each
/// provider that this program uses. Only `library` and `worker` of the options count; with a worker, a library that
/// crashes ends that process only.
///
/// # Errors
/// I codes if the model of one node cannot be made, which is a bug of this program. That ONNX Runtime does not work is no
/// error: [`DoctorReport::error`] tells it.
pub fn doctor(
    options: &RuntimeOptions,
    observer: &mut dyn Observer,
) -> Result<DoctorReport, Error> {
    let options = RuntimeOptions { runtime: Runtime::Ort, device: Device::Cpu, ..options.clone() };
    observer.progress("looking for ONNX Runtime", 0, 0);
    let search = search_libraries();
    let named = named_library(options.library.as_deref());
    observer.progress("loading ONNX Runtime", 0, 0);
    let model = one_node()?;
    let probed = options.probe();
    let ran = probed.as_ref().map_err(Clone::clone).and_then(|_| run(&options, &model));
    let mut providers = Vec::new();
    for name in probed.iter().flat_map(|probed| &probed.providers) {
        observer.progress(&format!("trying {name}"), 0, 0);
        providers.push(provider(name, &options, &model, ran.as_ref().err()));
    }
    let named = named.ok().flatten();
    let library = probed.as_ref().ok().map(|it| chosen(it, named.as_ref(), &search));
    let temporary = std::env::temp_dir();
    let mut report = DoctorReport {
        version: env!("CARGO_PKG_VERSION"),
        tract: TRACT,
        passed_over: passed_over(probed.as_ref().ok(), library.as_ref(), &search),
        library,
        error: ran.err(),
        providers,
        searched: search.searched.clone(),
        pythons: search.pythons.clone(),
        machine: Machine::of_this_process(),
        temporary_free_bytes: free_space(&temporary),
        temporary,
        cures: Vec::new(),
    };
    report.cures = cures(&report, options.library.as_deref(), &search);
    Ok(report)
}

/// A model of one node: `y = Relu(x)`, both `[2]` in f32.
fn one_node() -> Result<Bytes, Error> {
    let mut builder = ModelBuilder::new(17);
    let dims = [Dim::Known(2)];
    builder.input("x", DataType::Float, &dims).output("y", DataType::Float, Some(&dims));
    builder.node(Node::new("Relu"), &["x"], &["y"]);
    encode(&builder.build()?)
}

/// Runs the model of one node.
fn run(options: &RuntimeOptions, model: &Bytes) -> Result<(), ExecError> {
    let mut executor = options.open(ModelSource::Bytes(model), Optimizer::Off)?;
    let runtime = executor.name();
    let failed = |detail: String| ExecError::RunFailed { runtime, detail };
    let values = match Tensor::from_f32(vec![2], &[-1.0, 2.0]) {
        Ok(values) => values,
        Err(error) => return Err(failed(error.to_string())),
    };
    let found = executor.run(&IndexMap::from([("x".to_owned(), values)]))?;
    let found = found.get("y").and_then(Tensor::to_f64);
    if found.as_deref() == Some(&[0.0, 2.0]) {
        return Ok(());
    }
    Err(failed(format!("Relu of -1 and 2 is {found:?} instead of 0 and 2")))
}

/// Opens a session with a provider.
fn provider(
    name: &str,
    options: &RuntimeOptions,
    model: &Bytes,
    of_processor: Option<&ExecError>,
) -> DoctorProvider {
    let device = match name {
        "CPUExecutionProvider" => Some(Device::Cpu),
        "CUDAExecutionProvider" => Some(Device::Cuda),
        "TensorrtExecutionProvider" => Some(Device::TensorRt),
        "MIGraphXExecutionProvider" => Some(Device::MiGraphX),
        _ => None,
    };
    let error = device.map(|device| {
        if device == Device::Cpu {
            return of_processor.cloned();
        }
        run(&RuntimeOptions { device, ..options.clone() }, model).err()
    });
    DoctorProvider {
        name: name.to_owned(),
        is_usable: error.as_ref().map(Option::is_none),
        detail: error.flatten().map(|error| error.to_string()),
    }
}

/// The library that was loaded, and why.
fn chosen(
    probed: &ProbedLibrary,
    named: Option<&FoundLibrary>,
    search: &LibrarySearch,
) -> DoctorLibrary {
    let is_it = |it: &&FoundLibrary| is_same(&it.path, &probed.path);
    let found = named.or_else(|| search.usable.iter().find(is_it));
    let place = found.map_or(LibraryPlace::System, |it| it.place);
    let same = search.usable.iter().filter(|it| it.place.rank() == place.rank()).count();
    let reason = match place {
        LibraryPlace::Named | LibraryPlace::Variable => "it is named".to_owned(),
        _ if same > 1 => format!("the newest of {same}"),
        _ if search.usable.len() > 1 => "this place comes before the others".to_owned(),
        _ => "the only one".to_owned(),
    };
    let (path, version) = (probed.path.clone(), probed.version.clone());
    DoctorLibrary { path, version, place, reason }
}

fn passed_over(
    probed: Option<&ProbedLibrary>,
    library: Option<&DoctorLibrary>,
    search: &LibrarySearch,
) -> Vec<PassedOver> {
    let entry = |found: &FoundLibrary, reason: String| {
        let FoundLibrary { path, place, version } = found.clone();
        PassedOver { path, version, place, reason }
    };
    let others = search
        .usable
        .iter()
        .filter(|it| library.is_none_or(|library| !is_same(&it.path, &library.path)));
    let mut found: Vec<PassedOver> = others
        .map(|it| {
            let failed = probed.iter().flat_map(|probed| &probed.passed_over);
            let failed = failed.filter(|(path, _)| is_same(&it.path, Path::new(path)));
            let reason = failed.map(|(_, reason)| reason.clone()).next();
            entry(it, reason.unwrap_or_else(|| unused(it, library)))
        })
        .collect();
    let old = |it| entry(it, format!("older than {OLDEST_LIBRARY}"));
    found.extend(search.too_old.iter().map(old));
    found
}

/// Why a library that is new enough is not used.
fn unused(found: &FoundLibrary, library: Option<&DoctorLibrary>) -> String {
    match library.map(|library| library.place) {
        None => "it could not be tried, or cannot be loaded".to_owned(),
        Some(LibraryPlace::Named | LibraryPlace::Variable) => "another one is named".to_owned(),
        Some(place) if place.rank() < found.place.rank() => {
            format!("{} comes first", place.words())
        }
        Some(_) if found.version.is_none() => "its version is not known".to_owned(),
        Some(_) => "it is not newer".to_owned(),
    }
}

fn is_same(first: &Path, second: &Path) -> bool {
    first == second
        || first.canonicalize().is_ok_and(|it| second.canonicalize().is_ok_and(|other| it == other))
}

/// What to type for everything that is missing.
fn cures(report: &DoctorReport, explicit: Option<&Path>, search: &LibrarySearch) -> Vec<Cure> {
    let cure = |what: &str, command: String| Cure { what: what.to_owned(), command };
    let mut cures = Vec::new();
    match &report.error {
        None => {}
        Some(_) if explicit.is_some() => {
            let what =
                "the library that --ort-lib names does not work; without it others are tried";
            cures.push(cure(what, "updp-compile doctor".to_owned()));
        }
        Some(_) if std::env::var_os("ORT_DYLIB_PATH").is_some_and(|it| !it.is_empty()) => {
            let what =
                "the library that ORT_DYLIB_PATH names does not work; without it others are tried";
            cures.push(cure(what, "unset ORT_DYLIB_PATH".to_owned()));
        }
        Some(ExecError::LibraryNotFound { .. }) => {
            cures.push(cure("ONNX Runtime is missing", INSTALL.to_owned()));
            let path = "export ORT_DYLIB_PATH=/path/to/libonnxruntime.so";
            cures.push(cure("or name a library that is somewhere else", path.to_owned()));
        }
        Some(ExecError::LibraryTooOld { .. }) => {
            let command = INSTALL.replacen("install", "install --upgrade", 1);
            cures.push(cure("ONNX Runtime is too old", command));
        }
        Some(_) => {
            let next = search.usable.get(1).map(|it| quoted(&it.path.display().to_string()));
            if let Some(next) = next {
                let what = "this library does not work; another one may";
                cures.push(cure(what, format!("export ORT_DYLIB_PATH={next}")));
            }
            let command = INSTALL.replacen("install", "install --force-reinstall", 1);
            cures.push(cure("this library does not work; install it again", command));
        }
    }
    let has_gpu = ["/dev/nvidia0", "/proc/driver/nvidia/version"];
    let has_gpu = has_gpu.iter().any(|path| Path::new(path).exists());
    let is_cuda = |it: &&DoctorProvider| it.name == "CUDAExecutionProvider";
    let cuda = report.providers.iter().find(is_cuda);
    if has_gpu && cuda.is_none_or(|it| it.is_usable != Some(true)) {
        let what = "there is a GPU of NVIDIA, and ONNX Runtime cannot use it";
        cures.push(cure(what, INSTALL_CUDA.to_owned()));
    }
    if report.temporary_free_bytes.is_some_and(|free| free < LEAST_ROOM) {
        let what = "there is little room for temporary files";
        cures.push(cure(what, "export TMPDIR=/a/folder/with/room".to_owned()));
    }
    cures
}
