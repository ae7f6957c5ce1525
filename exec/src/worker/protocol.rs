//! What goes through the pipes: a length, a header in JSON, and then the payloads that are not in shared memory.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use updp_ir::proto::TensorProto;
use updp_ir::{DataType, Tensor};

use crate::clock::Clock;
use crate::device::{Device, Optimizer, Runtime};
use crate::error::ExecError;
use crate::executor::Options;
use crate::library::{self, ProbedLibrary};

use super::shared::{Inbox, Outbox, Place};

/// What the program asks of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Load the library of ONNX Runtime, if there is one.
    Prepare(Lookup),
    /// Load the library of ONNX Runtime, and tell what it offers.
    Probe(Lookup),
    /// Load a model; the only payload is the model, unless there is a path.
    Open { path: Option<OsString>, runtime: Runtime, lookup: Lookup, options: SessionOptions },
    /// Run the model; the payloads are the tensors.
    Run { inputs: Vec<Head> },
    /// Run the model this often and tell the times; the payloads are the tensors.
    Time { inputs: Vec<Head>, runs: usize, clock: Clock },
    /// Drop the model.
    Close,
}

/// Where a worker looks for the library.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lookup {
    /// The library that is named.
    named: Option<OsString>,
    /// The folder that [`library::prefer_library_folder`] named in the program.
    preferred: Option<OsString>,
}

impl Lookup {
    /// The lookup of this process, in which a library may be named.
    pub(super) fn of(named: Option<&Path>) -> Self {
        let preferred = library::preferred_folder().map(OsString::from);
        Self { named: named.map(OsString::from), preferred }
    }

    /// Lets this process look at the same places. Returns the library that is named.
    pub(super) fn adopt(self) -> Option<PathBuf> {
        if let Some(folder) = self.preferred {
            library::prefer_library_folder(folder.into());
        }
        self.named.map(PathBuf::from)
    }
}

/// What a worker replies.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Prepared,
    Probed(ProbedLibrary),
    Opened(Opened),
    /// The payloads are the tensors.
    Ran {
        outputs: Vec<Head>,
    },
    /// In milliseconds.
    Timed {
        ms: Vec<f64>,
    },
    Closed,
    Failed(ExecError),
}

/// A loaded model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) computes_on_calling_thread: bool,
    pub(super) fallback_reason: Option<ExecError>,
}

/// [`Options`] without those of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionOptions {
    optimizer: Optimizer,
    threads: Option<NonZeroUsize>,
    device: Device,
    library: Option<OsString>,
    profile: Option<OsString>,
    sleeps: bool,
}

impl From<&Options> for SessionOptions {
    fn from(options: &Options) -> Self {
        let of = |path: &Option<PathBuf>| path.clone().map(OsString::from);
        let Options { optimizer, threads, device, library, profile, worker: _, sleeps } = options;
        let (library, profile) = (of(library), of(profile));
        let (optimizer, threads, device, sleeps) = (*optimizer, *threads, *device, *sleeps);
        Self { optimizer, threads, device, library, profile, sleeps }
    }
}

impl From<SessionOptions> for Options {
    fn from(options: SessionOptions) -> Self {
        let SessionOptions { optimizer, threads, device, library, profile, sleeps } = options;
        let (library, profile) = (library.map(PathBuf::from), profile.map(PathBuf::from));
        Self { optimizer, threads, device, library, profile, worker: None, sleeps }
    }
}

/// Everything about a tensor but its values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    name: String,
    dtype: i32,
    dims: Vec<usize>,
}

/// The parts of tensors that a header holds, and the parts that follow it. Strings follow in JSON.
pub(super) fn split(tensors: &IndexMap<String, Tensor>) -> (Vec<Head>, Vec<Bytes>) {
    let part = |(name, tensor): (&String, &Tensor)| {
        let dtype = tensor.dtype();
        let head = Head { name: name.clone(), dtype: dtype.code(), dims: tensor.dims().to_vec() };
        let payload = match dtype {
            DataType::String => {
                let strings: Vec<&[u8]> = tensor.strings().iter().map(Bytes::as_ref).collect();
                // A list of numbers has no value that JSON lacks.
                Bytes::from(serde_json::to_vec(&strings).unwrap_or_default())
            }
            _ => tensor.bytes().clone(),
        };
        (head, payload)
    };
    tensors.iter().map(part).unzip()
}

/// Undoes [`split`].
pub(super) fn join(heads: Vec<Head>, payloads: Vec<Bytes>) -> io::Result<IndexMap<String, Tensor>> {
    if heads.len() != payloads.len() {
        return Err(io::Error::other("tensors without values"));
    }
    let tensor = |(head, payload): (Head, Bytes)| {
        let made = match DataType::from_code(head.dtype) {
            DataType::String => {
                let strings: Vec<Vec<u8>> = serde_json::from_slice(&payload)?;
                Tensor::from_proto(text_message(&head.dims, strings), None)
            }
            dtype => Tensor::new(dtype, head.dims, payload),
        };
        Ok((head.name, made.map_err(io::Error::other)?))
    };
    heads.into_iter().zip(payloads).map(tensor).collect()
}

fn text_message(dims: &[usize], strings: Vec<Vec<u8>>) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: Some(DataType::String.code()),
        string_data: strings.into_iter().map(Bytes::from).collect(),
        ..TensorProto::default()
    }
}

/// A header and where its payloads are.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    header: T,
    payloads: Vec<Place>,
}

/// Sends a header and its payloads. What the outbox held before is overwritten.
pub(super) fn send(
    to: &mut impl Write,
    header: &impl Serialize,
    payloads: &[Bytes],
    outbox: &mut Outbox,
) -> io::Result<()> {
    let places = outbox.place(payloads);
    let envelope = Envelope { header, payloads: places };
    let text = serde_json::to_vec(&envelope)?;
    to.write_all(&(text.len() as u64).to_le_bytes())?;
    to.write_all(&text)?;
    for (payload, place) in payloads.iter().zip(&envelope.payloads) {
        if matches!(place, Place::Pipe { .. }) {
            to.write_all(payload)?;
        }
    }
    to.flush()
}

/// Receives what [`send`] sent. With `is_lent` the payloads are valid until the next message only.
pub(super) fn receive<T: DeserializeOwned>(
    from: &mut impl Read,
    inbox: &mut Inbox,
    is_lent: bool,
) -> io::Result<(T, Vec<Bytes>)> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let text = read(from, usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?)?;
    let Envelope { header, payloads } = serde_json::from_slice(&text)?;
    let payload = |place: Place| match place {
        Place::Pipe { length } => read(from, length),
        place => inbox.open(&place, is_lent),
    };
    let payloads = payloads.into_iter().map(payload).collect::<io::Result<_>>()?;
    Ok((header, payloads))
}

fn read(from: &mut impl Read, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length);
    if from.take(length as u64).read_to_end(&mut bytes)? != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let strings = text_message(&[2], vec![b"a".to_vec(), vec![0xff]]);
        let tensors = IndexMap::from([
            ("x".to_owned(), Tensor::from_f32(vec![1, 3], &[1.0, f32::NAN, -0.0]).expect("ok")),
            ("large".to_owned(), Tensor::from_f32(vec![1 << 20], &vec![0.5; 1 << 20]).expect("ok")),
            ("none".to_owned(), Tensor::from_f32(vec![0, 3], &[]).expect("ok")),
            ("text".to_owned(), Tensor::from_proto(strings, None).expect("ok")),
        ]);
        let (inputs, payloads) = split(&tensors);
        let (mut pipe, mut outbox, mut inbox) = (Vec::new(), Outbox::default(), Inbox::default());
        for _ in 0..3 {
            let request = Request::Run { inputs: split(&tensors).0 };
            send(&mut pipe, &request, &payloads, &mut outbox).expect("sent");
            let (request, payloads) =
                receive(&mut pipe.as_slice(), &mut inbox, false).expect("received");
            pipe.clear();
            let Request::Run { inputs } = request else { panic!("another request: {request:?}") };
            let found = join(inputs, payloads).expect("whole");
            same(&found, &tensors);
        }
        send(&mut pipe, &Request::Run { inputs }, &payloads[1..], &mut outbox).expect("ok");
        send(&mut pipe, &Request::Close, &[], &mut outbox).expect("sent");
        let mut whole = pipe.as_slice();
        assert!(receive::<Request>(&mut whole, &mut inbox, true).is_ok());
        let cut = &whole[..whole.len() - 1];
        assert!(receive::<Request>(&mut &*cut, &mut inbox, true).is_err(), "a cut message");
        assert!(matches!(receive(&mut whole, &mut inbox, true), Ok((Request::Close, _))));
    }

    fn same(found: &IndexMap<String, Tensor>, tensors: &IndexMap<String, Tensor>) {
        assert_eq!(found.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
        for (name, tensor) in tensors {
            assert_eq!(found[name].dims(), tensor.dims());
            assert_eq!(found[name].bytes(), tensor.bytes());
            assert_eq!(found[name].strings(), tensor.strings());
        }
    }
}
