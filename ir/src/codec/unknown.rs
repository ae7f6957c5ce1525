//! Keeps the protobuf fields that our schema does not know.
//!
//! The generated message types drop them. So they are collected from the bytes of the file, message by message, and
//! put back into the bytes that are written. A message is known again by its name, a node by its operator and its
//! results; fields of messages that an edit removed or replaced go with them.

use indexmap::IndexMap;

/// One message type of the schema.
struct Message {
    full_name: &'static str,
    /// The field that names it; 0 = none.
    name: u32,
    /// Known fields: the number, and the index of the type of a message.
    fields: &'static [(u32, Option<usize>)],
}

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

const MODEL: &str = ".onnx.ModelProto";
const NODE: &str = ".onnx.NodeProto";
/// Fields of a `NodeProto`.
const NODE_RESULT: u32 = 2;
const NODE_OPERATOR: u32 = 4;
/// Wire type of a field with a length.
const LENGTH: u64 = 2;
/// Deepest nesting that is searched, as in the decoder.
const MAX_DEPTH: usize = 100;

/// The unknown fields of a message and of the messages in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Its own unknown fields, as they stand in the file.
    own: Vec<u8>,
    /// The messages in it that have some: number of the field, and what tells the message apart.
    inner: IndexMap<(u32, Vec<u8>), Self>,
}

impl Unknown {
    /// The unknown fields of a model file.
    pub fn of_model(bytes: &[u8]) -> Self {
        let model = MESSAGES.iter().position(|message| message.full_name == MODEL);
        model.map(|model| Self::of(bytes, model, 0)).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.inner.is_empty()
    }

    /// The bytes of a model with these fields added.
    pub fn added_to_model(&self, bytes: &[u8]) -> Vec<u8> {
        let model = MESSAGES.iter().position(|message| message.full_name == MODEL);
        model.map_or_else(|| bytes.to_vec(), |model| self.added_to(bytes, model))
    }

    fn of(bytes: &[u8], message: usize, depth: usize) -> Self {
        let mut found = Self::default();
        let mut keys = Keys::default();
        for field in Fields::of(bytes) {
            match known(message, field.number) {
                None => found.own.extend_from_slice(field.whole),
                Some(Some(inner)) if field.has_length && depth < MAX_DEPTH => {
                    let unknown = Self::of(field.value, inner, depth + 1);
                    let key = keys.of(field, inner);
                    if !unknown.is_empty() {
                        found.inner.insert(key, unknown);
                    }
                }
                Some(_) => {}
            }
        }
        found
    }

    fn added_to(&self, bytes: &[u8], message: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.own.len());
        let mut keys = Keys::default();
        let has_inner = |number: u32| self.inner.keys().any(|(known, _)| *known == number);
        for field in Fields::of(bytes) {
            let inner = known(message, field.number).flatten();
            let inner = inner.filter(|_| field.has_length && has_inner(field.number));
            let unknown =
                inner.and_then(|inner| Some((inner, self.inner.get(&keys.of(field, inner))?)));
            let Some((inner, unknown)) = unknown else {
                out.extend_from_slice(field.whole);
                continue;
            };
            let value = unknown.added_to(field.value, inner);
            put_varint(&mut out, u64::from(field.number) << 3 | LENGTH);
            put_varint(&mut out, value.len() as u64);
            out.extend_from_slice(&value);
        }
        out.extend_from_slice(&self.own);
        out
    }
}

/// What tells the messages of one message apart: equal ones are counted.
#[derive(Default)]
struct Keys(IndexMap<(u32, Vec<u8>), u32>);

impl Keys {
    fn of(&mut self, field: Field<'_>, message: usize) -> (u32, Vec<u8>) {
        let message = &MESSAGES[message];
        let mut key = Vec::new();
        for inner in Fields::of(field.value) {
            let is_part = if message.full_name == NODE {
                matches!(inner.number, NODE_RESULT | NODE_OPERATOR)
            } else {
                message.name != 0 && inner.number == message.name
            };
            if is_part {
                key.extend_from_slice(inner.whole);
            }
        }
        let same = (field.number, key);
        let count = self.0.entry(same.clone()).or_default();
        *count += 1;
        let (number, mut key) = same;
        key.extend_from_slice(&count.to_le_bytes());
        (number, key)
    }
}

/// Whether a message has a field, and the type of the messages in it.
#[expect(clippy::option_option, reason = "an unknown field and a plain one are different answers")]
fn known(message: usize, number: u32) -> Option<Option<usize>> {
    MESSAGES[message].fields.iter().find(|(known, _)| *known == number).map(|(_, of)| *of)
}

/// One field as it stands in a message.
#[derive(Clone, Copy)]
struct Field<'a> {
    number: u32,
    has_length: bool,
    /// With its tag.
    whole: &'a [u8],
    /// The bytes after the length, if it has one.
    value: &'a [u8],
}

/// The fields of a message; ends at bytes that are no field.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.rest;
        let mut rest = start;
        let tag = take_varint(&mut rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = skip(&mut rest, number, tag & 7, 0)?;
        self.rest = rest;
        let whole = &start[..start.len() - rest.len()];
        Some(Field { number, has_length: tag & 7 == LENGTH, whole, value })
    }
}

/// Takes the value of a field off the front.
fn skip<'a>(rest: &mut &'a [u8], number: u32, wire: u64, depth: usize) -> Option<&'a [u8]> {
    let size = match wire {
        0 => {
            take_varint(rest)?;
            0
        }
        1 => 8,
        LENGTH => usize::try_from(take_varint(rest)?).ok()?,
        3 if depth < MAX_DEPTH => loop {
            let tag = take_varint(rest)?;
            if tag & 7 == 4 {
                break (tag >> 3 == u64::from(number)).then_some(0)?;
            }
            skip(rest, u32::try_from(tag >> 3).ok()?, tag & 7, depth + 1)?;
        },
        5 => 4,
        _ => return None,
    };
    let (value, after) = rest.split_at_checked(size)?;
    *rest = after;
    Some(value)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}
