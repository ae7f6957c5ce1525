//! Integration tests: micro-models, fixtures, full-size networks, the command line.

mod action;
mod browser;
mod cases;
mod command_line;
mod compile;
mod deploy;
mod docs;
#[cfg(unix)]
mod doctor;
mod error_codes;
mod evaluate;
mod examples;
mod fit;
mod fixtures;
mod fuzz_replay;
mod house;
mod input_check;
#[cfg(unix)]
mod interrupted;
mod library;
mod links;
mod micro;
mod nothing_lost;
mod pages;
mod paths;
mod planted;
mod prune;
#[cfg(unix)]
mod release;
#[cfg(unix)]
mod robust;
mod schemas;
mod score_command;
mod second_reader;
mod snippets;
mod steps;
mod subcommands;
mod unknown_fields;
mod verification;
mod weights;
mod workers;
mod zoo;
