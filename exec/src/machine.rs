//! What this machine has for running models: processor, threads, memory, room for temporary files.

use std::path::Path;

use sysinfo::{CpuRefreshKind, System};

use crate::worker::available_memory;

/// The machine as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name of the processor; empty if the system does not tell it.
    pub processor: String,
    /// Architecture, such as `x86_64`.
    pub architecture: &'static str,
    /// Number of cores.
    pub cores: usize,
    /// Number of threads that the cores run at the same time.
    pub hardware_threads: usize,
    /// Number of threads that this process may run at the same time: an affinity or the quota of a container may be
    /// lower than `hardware_threads`.
    pub usable_threads: usize,
    /// Sets of vector instructions of the processor, the widest last.
    pub vectors: Vec<&'static str>,
    /// Memory of the machine, or of the container where that is less, in bytes.
    pub memory_bytes: u64,
    /// Memory that can be used without swapping, in bytes.
    pub available_memory_bytes: u64,
}

impl Machine {
    /// Looks at the machine.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let total = system.total_memory();
        let limit = system.cgroup_limits().map(|limits| limits.total_memory);
        // On Linux this number knows the quota of a container too.
        let allowed =
            std::thread::available_parallelism().map_or_else(|_| num_cpus::get(), usize::from);
        Self {
            processor: system.cpus().first().map_or("", |it| it.brand()).trim().to_owned(),
            architecture: std::env::consts::ARCH,
            cores: num_cpus::get_physical(),
            hardware_threads: system.cpus().len().max(allowed),
            usable_threads: allowed,
            vectors: vectors(),
            memory_bytes: limit.filter(|limit| *limit > 0).map_or(total, |limit| total.min(limit)),
            available_memory_bytes: available_memory(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let known = [
        ("SSE4.2", has!("sse4.2")),
        ("AVX", has!("avx")),
        ("AVX2", has!("avx2")),
        ("FMA", has!("fma")),
        ("AVX-512F", has!("avx512f")),
        ("AVX-512 VNNI", has!("avx512vnni")),
        ("AVX-512 BF16", has!("avx512bf16")),
    ];
    known.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    let known = [("NEON", has!("neon")), ("dot products", has!("dotprod")), ("SVE", has!("sve"))];
    known.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectors() -> Vec<&'static str> {
    Vec::new()
}

/// Bytes that this user may still write into a folder; `None` where the system does not tell.
#[cfg(unix)]
#[must_use]
pub fn free_space(folder: &Path) -> Option<u64> {
    let known = rustix::fs::statvfs(folder).ok()?;
    known.f_bavail.checked_mul(known.f_frsize)
}

/// Bytes that this user may still write into a folder; `None` where the system does not tell.
#[cfg(not(unix))]
#[must_use]
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_runs_this_test_is_described() {
        let found = Machine::of_this_process();
        assert!(found.cores > 0 && found.usable_threads > 0, "{found:?}");
        assert!(found.usable_threads <= found.hardware_threads, "{found:?}");
        assert!(found.available_memory_bytes <= found.memory_bytes, "{found:?}");
        assert!(found.memory_bytes > 1 << 20, "{found:?}");
        #[cfg(target_arch = "x86_64")]
        assert!(found.vectors.contains(&"SSE4.2") || found.vectors.is_empty(), "{found:?}");
        #[cfg(unix)]
        assert!(
            free_space(Path::new("/")).is_some() && free_space(Path::new("/no/such")).is_none()
        );
    }
}
