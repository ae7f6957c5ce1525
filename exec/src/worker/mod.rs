//! Runs models in worker processes, so that a runtime that dies does not end this program.
//!
//! A worker is this program again, started with a hidden argument ([`serve`]). It holds at most one model. Requests
//! and replies go through pipes, large tensors through shared memory. An idle worker serves the next model. A worker ends
//! as soon as its pipe is closed, so none outlives this program.
//!
//! A crash, a run above the time limit and a demand above the memory limit become X0404 to X0406.

mod client;
mod process;
mod protocol;
mod server;
mod shared;
pub(crate) mod wire;

use std::path::PathBuf;
use std::time::Duration;

use crate::executor::Options;

pub(crate) use client::{WorkerExecutor, probe};
pub use server::serve;

/// The first argument of a program that is to serve as a worker.
pub const ARGUMENT: &str = "__run-models";

/// How models are run in worker processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerOptions {
    /// The program that calls [`serve`] when its first argument is [`ARGUMENT`].
    pub program: PathBuf,
    /// Most memory of a worker, in bytes; `None` means [`available_memory`] at the time it starts. It binds on Linux
    /// only, and with [`Device::Cpu`](crate::Device::Cpu) only: the driver of a GPU reserves far more than it uses.
    pub memory: Option<u64>,
    /// Whether each model gets a new process. Where the system puts a process in memory changes its speed by several
    /// percent, so a measurement takes several processes.
    pub is_fresh: bool,
    /// Most time for loading a model, and for each run.
    pub time: Duration,
}

/// Starts a worker in the background, so that the first model with these options waits less. Without a worker in the
/// options it does nothing.
pub(crate) fn prepare(options: &Options) {
    if let Some(worker) = &options.worker {
        process::Process::prepare(process::Key::of(options, worker));
    }
}

/// Whether a message of a runtime, or of a process that aborts, says that an allocation failed.
pub(crate) fn says_no_memory(text: &str) -> bool {
    let signs = ["bad_alloc", "bad allocation", "memory allocation of", "ailed to allocate"];
    signs.iter().any(|sign| text.contains(sign))
}

/// Ends the idle workers and waits for them. A program calls it before it ends, so that nothing of it is left for the
/// system to collect.
pub fn end_idle() {
    process::end_idle();
}

/// The file of this program.
///
/// # Errors
/// The system does not tell where the program is.
pub fn this_program() -> std::io::Result<PathBuf> {
    // This link stays right when the file is replaced or removed while the program runs.
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe() }
}

/// Memory that can be used without swapping, in bytes: of the machine, or of the container where that is less.
#[must_use]
pub fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    usable(system.available_memory(), system.cgroup_limits())
}

/// The lesser of what the machine and the container have, in bytes.
fn usable(machine: u64, container: Option<sysinfo::CGroupLimits>) -> u64 {
    // Of a container only what its processes hold counts. `free_memory` leaves out the pages of files that were read, which the
    // system gives back when memory is asked for.
    let free = |limits: sysinfo::CGroupLimits| limits.total_memory.saturating_sub(limits.rss);
    container.map_or(machine, |limits| machine.min(free(limits)))
}

#[cfg(test)]
mod tests {
    use sysinfo::CGroupLimits;

    use super::usable;

    #[test]
    fn files_that_were_read_count_as_free() {
        // As seen in a container of 24 GB whose processes hold 1 GB, after 18 GB of files were read.
        let limits = |total_memory, free_memory| CGroupLimits {
            total_memory,
            free_memory,
            free_swap: 0,
            rss: 1 << 30,
        };
        assert_eq!(usable(22 << 30, Some(limits(24 << 30, 5 << 30))), 22 << 30);
        assert_eq!(usable(22 << 30, Some(limits(4 << 30, 1 << 30))), 3 << 30);
        assert_eq!(usable(22 << 30, None), 22 << 30);
    }
}
