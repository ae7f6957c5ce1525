//! Writes a [`Model`] as bytes.

use std::io::{self, Write};

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes};
use indexmap::IndexSet;
use prost::Message;

use super::Model;
use crate::error::IrError;
use crate::graph::Graph;
use crate::id::NodeId;
use crate::node::Node;
use crate::proto::{
    GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    tensor_proto::DataLocation,
};
use crate::tensor::Tensor;

/// Largest file that protobuf readers accept.
const MAX_INLINE_BYTES: u64 = 2_147_483_647;
/// Tensors below this size stay in the model file.
const MIN_EXTERNAL_BYTES: usize = 1024;
/// Large tensors start on a page boundary of every platform, so that runtimes can map them.
const PAGE_BYTES: u64 = 65_536;
/// Small tensors start on a cache line.
const LINE_BYTES: u64 = 64;

/// The place of the tensor data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlacement {
    /// All data in the model file.
    Inline,
    /// In a second file with this name beside the model; small tensors stay inline.
    External {
        /// File name, without a folder.
        file_name: String,
    },
}

/// A model ready to be written: its message, and the pieces of its data file.
#[derive(Debug)]
pub struct Encoded {
    proto: ModelProto,
    /// The whole message, where it has fields that the message types do not know.
    whole: Option<Bytes>,
    len: usize,
    /// Offset and bytes of each external tensor, in ascending order.
    pieces: Vec<(u64, Bytes)>,
}

impl Model {
    /// Lays the model out as bytes.
    ///
    /// # Errors
    /// I0006 when an inline model would exceed 2 GB; I0105 for a cyclic graph; I0306 when edits gave one name to
    /// two nodes.
    pub fn encode(&self, placement: &DataPlacement) -> Result<Encoded, IrError> {
        let is_edited = self.graph.edited;
        let mut layout = Layout { placement, is_edited, pieces: Vec::new(), end: 0 };
        let mut proto = self.header.clone();
        proto.graph = Some(layout.graph(&self.graph)?);
        let has_unknown = !self.unknown.is_empty();
        let whole =
            has_unknown.then(|| Bytes::from(self.unknown.added_to_model(&proto.encode_to_vec())));
        let len = whole.as_ref().map_or_else(|| proto.encoded_len(), Bytes::len);
        if len as u64 > MAX_INLINE_BYTES {
            return Err(IrError::TooLargeForOneFile { bytes: len as u64 });
        }
        Ok(Encoded { proto, whole, len, pieces: layout.pieces })
    }

    /// The model as one message with inline data.
    ///
    /// # Errors
    /// I0105 for a cyclic graph; I0306 when edits gave one name to two nodes.
    pub fn to_proto(&self) -> Result<ModelProto, IrError> {
        let placement = DataPlacement::Inline;
        let is_edited = self.graph.edited;
        let mut layout = Layout { placement: &placement, is_edited, pieces: Vec::new(), end: 0 };
        let mut proto = self.header.clone();
        proto.graph = Some(layout.graph(&self.graph)?);
        Ok(proto)
    }
}

impl Encoded {
    /// Size of the model file.
    #[must_use]
    pub fn model_bytes(&self) -> u64 {
        self.len as u64
    }

    /// Whether there is a data file.
    #[must_use]
    pub fn has_data(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Writes the model file; the bytes of large tensors go straight from their source to `sink`.
    ///
    /// # Errors
    /// The errors of `sink`.
    pub fn write_model(&self, sink: &mut dyn Write) -> io::Result<()> {
        if let Some(whole) = &self.whole {
            return sink.write_all(whole);
        }
        let mut buffer = Streaming { sink, chunk: Vec::with_capacity(CHUNK_BYTES), failed: None };
        // `Streaming` never runs out of room, and prost has no other failure.
        let full = self.proto.encode(&mut buffer).is_err();
        buffer.flush();
        match buffer.failed {
            Some(error) => Err(error),
            None if full => Err(io::Error::other("the encoder ran out of room")),
            None => Ok(()),
        }
    }

    /// The model file in memory.
    #[must_use]
    pub fn model_to_bytes(&self) -> Bytes {
        self.whole.clone().unwrap_or_else(|| self.proto.encode_to_vec().into())
    }

    /// Writes the data file.
    ///
    /// # Errors
    /// The errors of `sink`.
    pub fn write_data(&self, sink: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        for (offset, bytes) in &self.pieces {
            let gap = (offset - at) as usize;
            sink.write_all(&vec![0; gap])?;
            sink.write_all(bytes)?;
            at = offset + bytes.len() as u64;
        }
        Ok(())
    }
}

struct Layout<'a> {
    placement: &'a DataPlacement,
    /// Whether any graph of the model was edited. Every graph then gets node names that differ.
    is_edited: bool,
    pieces: Vec<(u64, Bytes)>,
    end: u64,
}

impl Layout<'_> {
    fn graph(&mut self, graph: &Graph) -> Result<GraphProto, IrError> {
        let mut proto = graph.header.clone();
        if graph.edited {
            proto.value_info.retain(|info| graph.find(info.name()).is_some());
        }
        proto.input = graph.inputs.iter().map(|(_, info)| info.clone()).collect();
        proto.output = graph.outputs.iter().map(|(_, info)| info.clone()).collect();
        for id in graph.initializers() {
            let value = graph.value(id);
            if let Some(tensor) = &value.tensor {
                proto.initializer.push(self.tensor(&value.name, tensor));
            } else if let Some(sparse) = &value.sparse {
                proto.sparse_initializer.push((**sparse).clone());
            }
        }
        // An untouched graph keeps its order, even if it is not topological.
        let order = if graph.edited { crate::order::topological(graph)? } else { graph.nodes() };
        proto.node.reserve(order.len());
        for id in order {
            proto.node.push(self.node(graph, id)?);
        }
        if self.is_edited {
            tell_nodes_apart(graph, &mut proto.node)?;
        }
        Ok(proto)
    }

    fn node(&mut self, graph: &Graph, id: NodeId) -> Result<NodeProto, IrError> {
        let node: &Node = graph.node(id);
        let mut proto = node.proto.clone();
        let names = |slots: Vec<Option<crate::ValueId>>| -> Vec<String> {
            slots
                .into_iter()
                .map(|slot| slot.map_or_else(String::new, |v| graph.value(v).name.clone()))
                .collect()
        };
        proto.input = names(graph.operands(id));
        proto.output = names(graph.results(id));
        for (slot, body) in &node.bodies {
            let body = self.graph(body)?;
            let attribute = &mut proto.attribute[slot.attribute];
            match slot.item {
                None => attribute.g = Some(body),
                Some(_) => attribute.graphs.push(body),
            }
        }
        Ok(proto)
    }

    /// The message of an initializer, with its data moved to its place.
    fn tensor(&mut self, name: &str, tensor: &Tensor) -> TensorProto {
        let source = tensor.proto();
        let was_external = source.data_location() == DataLocation::External;
        let outside = match self.placement {
            DataPlacement::External { file_name } if tensor.bytes().len() >= MIN_EXTERNAL_BYTES => {
                Some(file_name.clone())
            }
            _ => None,
        };
        let mut proto = if outside.is_some() || was_external {
            TensorProto {
                dims: source.dims.clone(),
                data_type: source.data_type,
                doc_string: source.doc_string.clone(),
                metadata_props: source.metadata_props.clone(),
                segment: source.segment,
                ..TensorProto::default()
            }
        } else {
            source.clone()
        };
        proto.name = Some(name.to_owned());
        if let Some(file_name) = outside {
            proto.data_location = Some(DataLocation::External as i32);
            proto.external_data = self.place(tensor.bytes(), file_name);
        } else if was_external {
            proto.raw_data = Some(tensor.bytes().clone());
        }
        proto
    }

    fn place(&mut self, bytes: &Bytes, file_name: String) -> Vec<StringStringEntryProto> {
        let align = if bytes.len() as u64 >= PAGE_BYTES { PAGE_BYTES } else { LINE_BYTES };
        let offset = self.end.next_multiple_of(align);
        self.end = offset + bytes.len() as u64;
        self.pieces.push((offset, bytes.clone()));
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        vec![
            entry("location", file_name),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ]
    }
}

/// Numbers the nodes that had one name in the file already, from the second on.
fn tell_nodes_apart(graph: &Graph, nodes: &mut [NodeProto]) -> Result<(), IrError> {
    let mut seen = IndexSet::new();
    for node in nodes {
        let name = node.name().to_owned();
        if name.is_empty() || seen.insert(name.clone()) {
            continue;
        }
        if !graph.node_names.repeated.contains(&name) {
            return Err(IrError::NodeNameTwice { node: name });
        }
        let numbered = (1_u32..).map(|number| format!("{name}_{number}"));
        let mut free = numbered.filter(|name| graph.node_names.count(name) == 0);
        node.name = free.find(|name| seen.insert(name.clone()));
    }
    Ok(())
}

const CHUNK_BYTES: usize = 64 * 1024;

/// A `BufMut` over a writer: it gathers small fields and passes large ones through.
struct Streaming<'a> {
    sink: &'a mut dyn Write,
    chunk: Vec<u8>,
    failed: Option<io::Error>,
}

impl Streaming<'_> {
    fn flush(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.sink.write_all(&self.chunk)
        {
            self.failed = Some(error);
        }
        self.chunk.clear();
    }

    fn pass(&mut self, bytes: &[u8]) {
        if self.chunk.len() + bytes.len() > CHUNK_BYTES {
            self.flush();
        }
        if bytes.len() <= CHUNK_BYTES {
            self.chunk.extend_from_slice(bytes);
        } else if self.failed.is_none()
            && let Err(error) = self.sink.write_all(bytes)
        {
            self.failed = Some(error);
        }
    }
}

#[expect(unsafe_code, reason = "BufMut is an unsafe trait; room is delegated to Vec's own BufMut")]
// SAFETY: `chunk_mut` and `advance_mut` are those of `Vec<u8>`, which upholds the trait's contract.
unsafe impl BufMut for Streaming<'_> {
    fn remaining_mut(&self) -> usize {
        usize::MAX
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller initialized `count` bytes of the slice `chunk_mut` gave out.
        unsafe { self.chunk.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.chunk.len() == self.chunk.capacity() {
            self.flush();
        }
        self.chunk.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T)
    where
        Self: Sized,
    {
        while source.has_remaining() {
            let len = source.chunk().len();
            self.pass(source.chunk());
            source.advance(len);
        }
    }

    fn put_slice(&mut self, bytes: &[u8]) {
        self.pass(bytes);
    }

    fn put_u8(&mut self, byte: u8) {
        self.pass(&[byte]);
    }
}
