//! Integration tests: micro-models, fixtures, full-size networks, the command line.

mod compile;
mod micro;
