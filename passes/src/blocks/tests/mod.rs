//! Tests of block detection.
