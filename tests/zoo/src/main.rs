//! `updp-zoo`: writes the networks of the zoo to files.

use std::fs::File;
use std::io::{BufWriter, Error, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use updp_ir::DataPlacement;
use updp_zoo::{Dialect, Network, Options};

/// Write full-size networks with seeded weights, as torch's exporters would.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory to write NAME.DIALECT.onnx to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Exporter to imitate; may be repeated [default: every one that makes a difference]
    #[arg(long = "dialect", value_name = "D", value_parser = parse_dialect)]
    dialects: Vec<Dialect>,
    /// Make the batch a symbol instead of 1 (NAME.DIALECT-dyn.onnx)
    #[arg(long)]
    dynamic: bool,
    /// Print networks and dialects
    #[arg(long)]
    list: bool,
    /// Write every network
    #[arg(long)]
    all: bool,
    /// Networks to write
    #[arg(value_name = "NAME", value_parser = parse_network,
          required_unless_present_any = ["all", "list"])]
    networks: Vec<Network>,
}

fn parse_dialect(name: &str) -> Result<Dialect, String> {
    Dialect::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Dialect::ALL.into_iter().map(Dialect::name).collect();
        format!("not one of {}", known.join(", "))
    })
}

fn parse_network(name: &str) -> Result<Network, String> {
    Network::from_name(name).ok_or_else(|| "see --list".to_owned())
}

fn write(directory: &Path, network: Network, options: &Options) -> Result<(), Error> {
    let model = network.build(options).map_err(Error::other)?;
    let encoded = model.encode(&DataPlacement::Inline).map_err(Error::other)?;
    let path = directory.join(network.file_name(options));
    let mut sink = BufWriter::new(File::create(&path)?);
    encoded.write_model(&mut sink)?;
    sink.flush()?;
    println!("{} {}", encoded.model_bytes(), path.display());
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    if arguments.list {
        for network in Network::ALL {
            let dialects: Vec<&str> = network.dialects().map(Dialect::name).collect();
            println!("{}: {}", network.name(), dialects.join(" "));
        }
        return Ok(());
    }
    std::fs::create_dir_all(&arguments.out)?;
    let chosen: &[Network] = if arguments.all { &Network::ALL } else { &arguments.networks };
    for network in chosen {
        let wanted = |dialect: &Dialect| {
            arguments.dialects.is_empty() || arguments.dialects.contains(dialect)
        };
        for dialect in network.dialects().filter(wanted) {
            let options = Options { dialect, seed: arguments.seed, dynamic: arguments.dynamic };
            write(&arguments.out, *network, &options)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
