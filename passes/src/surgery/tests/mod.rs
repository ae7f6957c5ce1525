//! Tests of surgery.
