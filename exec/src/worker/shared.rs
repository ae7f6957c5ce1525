//! Large payloads in memory that two processes share. Elsewhere than on Linux everything goes through the pipes.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where a payload is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Place {
    /// It follows the header.
    Pipe { length: usize },
    /// Memory that this process has open under this number.
    Shared { process: u32, descriptor: i32 },
}

/// A payload in shared memory. It lives until this value is dropped and no process maps it.
#[derive(Debug)]
pub(super) struct Shared {
    #[cfg(target_os = "linux")]
    memory: std::os::fd::OwnedFd,
}

/// Payloads below this many bytes go through the pipe; the memory of larger ones is worth its set-up.
#[cfg(target_os = "linux")]
const LEAST: usize = 1 << 20;

#[cfg(target_os = "linux")]
impl Shared {
    /// Copies a large payload; `None` for a small one, and where the system gives no such memory.
    pub(super) fn of(payload: &Bytes) -> Option<Self> {
        use std::io::Write;
        if payload.len() < LEAST {
            return None;
        }
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create(c"updp-payload", flags).ok()?;
        let mut file = std::fs::File::from(memory);
        file.write_all(payload).ok()?;
        Some(Self { memory: file.into() })
    }

    pub(super) fn place(&self) -> Place {
        use std::os::fd::AsRawFd;
        Place::Shared { process: std::process::id(), descriptor: self.memory.as_raw_fd() }
    }
}

/// A payload that another process shares, without a copy.
#[cfg(target_os = "linux")]
pub(super) fn map(process: u32, descriptor: i32) -> io::Result<Bytes> {
    let file = std::fs::File::open(format!("/proc/{process}/fd/{descriptor}"))?;
    #[expect(unsafe_code, reason = "mapped memory of another process could change")]
    // SAFETY: the process that made this memory writes it before it sends its number, and never afterwards.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(not(target_os = "linux"))]
impl Shared {
    pub(super) fn of(_: &Bytes) -> Option<Self> {
        None
    }

    pub(super) fn place(&self) -> Place {
        Place::Pipe { length: 0 }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn map(_: u32, _: i32) -> io::Result<Bytes> {
    Err(io::Error::other("this system shares no memory"))
}
