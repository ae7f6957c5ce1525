//! One image of a data set: pixels, or floats that are already the model's input.

use updp_exec::quiet;
use updp_ir::{DataType, Tensor};

use super::decode::{Pixels, decode};
use super::store::{Content, Entries, Rows, Store, read_file, read_range};

/// The stored form of one image of a data set.
pub(super) enum Raw {
    /// 8-bit pixels of any size, grey or RGB.
    Pixels(Pixels),
    /// The little-endian f32 of one row of the input.
    Floats(Vec<u8>),
}

/// Reads and decodes one image; `channels` 1 requests grey if the image has no colour.
///
/// # Errors
/// Describes the problem of the image in words; a panic of a decoder is also an error.
pub(super) fn read(store: &Store, index: usize, channels: usize) -> Result<Raw, String> {
    let work = || match &store.entries {
        Entries::Files(files) => decode(&read_file(&files[index].path)?, channels).map(Raw::Pixels),
        Entries::Members { shards, members } => {
            let member = &members[index];
            let encoded = read_range(&shards[member.shard], member.offset, member.bytes)?;
            decode(&encoded, channels).map(Raw::Pixels)
        }
        Entries::Rows(rows) => array_row(rows, index),
    };
    quiet::catch(work).unwrap_or_else(|_| Err("its decoder failed".to_owned()))
}

fn array_row(rows: &Rows, index: usize) -> Result<Raw, String> {
    let bytes = rows.read(index)?;
    Ok(match rows.content {
        Content::ChannelLast { height, width, channels: 4 } => {
            let bytes = bytes.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]);
            Raw::Pixels(Pixels { height, width, channels: 3, bytes: bytes.collect() })
        }
        Content::ChannelLast { height, width, channels } => {
            Raw::Pixels(Pixels { height, width, channels, bytes: bytes.to_vec() })
        }
        Content::ChannelFirst { height, width, channels } => {
            let plane = height * width;
            let at = |at: usize| bytes[(at % channels) * plane + at / channels];
            let bytes = (0..plane * channels).map(at).collect();
            Raw::Pixels(Pixels { height, width, channels, bytes })
        }
        Content::Ready if rows.dtype == DataType::Float => finite(bytes.to_vec())?,
        Content::Ready => {
            let tensor = Tensor::new(rows.dtype, rows.row_dims().to_vec(), bytes)
                .map_err(|error| error.to_string())?;
            let values = tensor.to_f64().unwrap_or_default();
            finite(values.into_iter().flat_map(|v| (v as f32).to_le_bytes()).collect())?
        }
    })
}

/// The floats of an image, which no network can use if one of them is no number.
fn finite(bytes: Vec<u8>) -> Result<Raw, String> {
    let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    match values.enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(Raw::Floats(bytes)),
        Some((at, value)) => Err(format!("its value {at} is {value}, which is not finite")),
    }
}
