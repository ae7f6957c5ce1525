//! Every row of the table of fusions (peers.md §1.1), one test a row, and its variants.

mod affine;
mod boundary;
mod chain;
mod company;
mod form;
mod kept;
mod names;
mod parallel;
mod peers;
mod stay;
mod token;
