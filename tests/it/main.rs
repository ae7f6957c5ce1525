//! Integration tests: micro-models, fixtures, full-size networks, the command line.

mod command_line;
mod compile;
mod fixtures;
mod micro;
mod nothing_lost;
mod second_reader;
mod zoo;
