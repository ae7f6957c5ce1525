//! Large payloads in memory that two processes share. Elsewhere than on Linux everything goes through the pipes.
//!
//! Each side writes to an [`Outbox`] of its own, and reuses its memory from message to message: fresh memory costs more
//! than the copy. A message that is too large for this gets memory of its own, which vanishes with the message. Runtimes
//! copy a model when they load it, so a model may lie in memory that is used again, too.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where a payload is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Place {
    /// It follows the header.
    Pipe { length: usize },
    /// All of some memory that will not change.
    Once { memory: Memory },
    /// A part of the outbox, which changes with the next message.
    Outbox { memory: Memory, offset: usize, length: usize },
}

/// Memory that a process has open under this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    process: u32,
    descriptor: i32,
    size: usize,
}

/// Payloads below this many bytes go through the pipe.
const LEAST: usize = 1 << 18;

/// The memory of an outbox up to which it is used again, in bytes.
const MOST: usize = 256 << 20;

/// The size of an outbox is a multiple of this, in bytes.
const PAGE: usize = 1 << 12;

/// Payloads start at multiples of this many bytes, so that runtimes can read them in place.
const ALIGNMENT: usize = 64;

/// What one side sends.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    reused: Option<linux::Written>,
    once: Vec<linux::Written>,
}

impl Outbox {
    /// Places for payloads of a message; what the last message held is overwritten.
    pub(super) fn place(&mut self, payloads: &[Bytes]) -> Vec<Place> {
        self.once.clear();
        let is_large = |payload: &&Bytes| payload.len() >= LEAST;
        let rounded = |payload: &Bytes| payload.len().next_multiple_of(ALIGNMENT);
        let size: usize = payloads.iter().filter(is_large).map(rounded).sum();
        let mut offset = 0;
        let has_room = size > 0 && size <= MOST && self.reserve(size).is_some();
        let mut place = |payload: &Bytes| {
            let length = payload.len();
            if length < LEAST {
                return Place::Pipe { length };
            }
            if let Some(written) = self.reused.as_mut().filter(|_| has_room) {
                let start = offset;
                offset += rounded(payload);
                written.write(start, payload);
                return Place::Outbox { memory: written.memory(), offset: start, length };
            }
            let Some(written) = linux::Written::once(payload) else {
                return Place::Pipe { length };
            };
            let memory = written.memory();
            self.once.push(written);
            Place::Once { memory }
        };
        payloads.iter().map(&mut place).collect()
    }

    fn reserve(&mut self, size: usize) -> Option<()> {
        if self.reused.as_ref().is_none_or(|written| written.memory().size < size) {
            // Both sides drop the old memory before the new one is used.
            self.reused = None;
            self.reused = Some(linux::Written::new((size + size / 8).next_multiple_of(PAGE))?);
        }
        Some(())
    }
}

/// What one side has mapped of the other's outbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    known: Option<(Memory, Bytes)>,
}

impl Inbox {
    /// A payload in shared memory. One in an outbox changes with the next message, so it is copied unless `is_lent`.
    pub(super) fn open(&mut self, place: &Place, is_lent: bool) -> io::Result<Bytes> {
        match place {
            Place::Pipe { .. } => Err(io::Error::other("it is in the pipe")),
            Place::Once { memory } => linux::map(*memory),
            Place::Outbox { memory, offset, length } => {
                let all = match &self.known {
                    Some((known, all)) if known == memory => all.clone(),
                    _ => {
                        self.known = None;
                        self.known.insert((*memory, linux::map(*memory)?)).1.clone()
                    }
                };
                let end = offset.checked_add(*length).filter(|end| *end <= all.len());
                let end = end.ok_or_else(|| io::Error::other("outside the outbox"))?;
                let part = all.slice(*offset..end);
                Ok(if is_lent { part } else { Bytes::copy_from_slice(&part) })
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;

    use bytes::Bytes;
    use memmap2::{Mmap, MmapMut};

    use super::Memory;

    /// Shared memory that this process writes.
    #[derive(Debug)]
    pub(super) struct Written {
        file: File,
        size: usize,
        /// `None` if it does not change.
        map: Option<MmapMut>,
    }

    impl Written {
        /// `None` where the system gives no such memory.
        pub(super) fn new(size: usize) -> Option<Self> {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let file = File::from(rustix::fs::memfd_create(c"updp-payload", flags).ok()?);
            // Allocated now: without free memory, writing to the map would end the process.
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size as u64)
                .ok()?;
            #[expect(unsafe_code, reason = "another process reads this memory")]
            // SAFETY: only this value writes it; readers look at it after a message says that it is written.
            let map = unsafe { MmapMut::map_mut(&file).ok()? };
            Some(Self { file, size, map: Some(map) })
        }

        /// Memory with this content, which does not change.
        pub(super) fn once(payload: &[u8]) -> Option<Self> {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::memfd_create(c"updp-payload", flags).ok()?);
            file.write_all(payload).ok()?;
            Some(Self { file, size: payload.len(), map: None })
        }

        pub(super) fn write(&mut self, offset: usize, payload: &[u8]) {
            let end = offset + payload.len();
            if let Some(room) = self.map.as_mut().and_then(|map| map.get_mut(offset..end)) {
                room.copy_from_slice(payload);
            }
        }

        pub(super) fn memory(&self) -> Memory {
            let (process, descriptor) = (std::process::id(), self.file.as_raw_fd());
            Memory { process, descriptor, size: self.size }
        }
    }

    /// All of some memory, without a copy.
    pub(super) fn map(memory: Memory) -> io::Result<Bytes> {
        let file = File::open(format!("/proc/{}/fd/{}", memory.process, memory.descriptor))?;
        #[expect(unsafe_code, reason = "mapped memory of another process could change")]
        // SAFETY: the process that writes this memory waits for the answer to its message, or for the next message.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Bytes::from_owner(map))
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use std::io;

    use bytes::Bytes;

    use super::Memory;

    #[derive(Debug)]
    pub(super) enum Written {}

    impl Written {
        pub(super) fn new(_: usize) -> Option<Self> {
            None
        }

        pub(super) fn once(_: &[u8]) -> Option<Self> {
            None
        }

        pub(super) fn write(&mut self, _: usize, _: &[u8]) {}

        pub(super) fn memory(&self) -> Memory {
            match *self {}
        }
    }

    pub(super) fn map(_: Memory) -> io::Result<Bytes> {
        Err(io::Error::other("this system shares no memory"))
    }
}
