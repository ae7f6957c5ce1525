//! Message types generated from the official `proto/onnx.proto` (IR version 14).

#![allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));

/// The newest IR version that the vendored schema describes; a newer file would lose fields.
pub const NEWEST_IR_VERSION: i64 = Version::IrVersion as i64;
