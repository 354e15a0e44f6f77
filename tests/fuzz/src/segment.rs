//! UNSAFE. A sealed memfd that its maker still writes, as a producer does that keeps to no rule.
#![expect(unsafe_code, reason = "plays the other process, which stores into shared memory whatever it likes")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// A segment and its maker's mapping.
#[derive(Debug)]
pub struct Segment {
    /// To be handed to the other side.
    pub fd: OwnedFd,
    map: MmapRaw,
}

impl Segment {
    /// A zeroed segment of `len` bytes; `read_only` for the other side or not.
    pub fn new(len: u64, read_only: bool) -> Self {
        let fd = memfd_create("vms-fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, len).unwrap();
        let map = MmapOptions::new().map_raw(&fd).unwrap();
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let seals = if read_only { seals | SealFlags::FUTURE_WRITE } else { seals };
        fcntl_add_seals(&fd, seals).unwrap();
        Self { fd, map }
    }

    /// Stores `value` at the multiple of 8 at or below `offset`, which is taken modulo the length.
    pub fn put64(&self, offset: u64, value: u64) {
        let at = self.map.as_mut_ptr().wrapping_add(self.inside(offset) & !7).cast::<AtomicU64>();
        // SAFETY: `inside` is less than the mapping's length, a multiple of 8, and `!7` aligns it; the mapping lives as long
        // as `self`; other users of the memory access it by atomics and opaque copies, too.
        unsafe { &*at }.store(value, Ordering::Relaxed);
    }

    /// Stores `value` at the multiple of 4 at or below `offset`, which is taken modulo the length.
    pub fn put32(&self, offset: u64, value: u32) {
        let at = self.map.as_mut_ptr().wrapping_add(self.inside(offset) & !3).cast::<AtomicU32>();
        // SAFETY: as in `put64`, with 4 for 8.
        unsafe { &*at }.store(value, Ordering::Relaxed);
    }

    /// Stores words one after the other.
    pub fn put_words(&self, offset: u64, words: &[u64]) {
        for (n, word) in (0u64..).zip(words) {
            self.put64(offset + n * 8, *word);
        }
    }

    fn inside(&self, offset: u64) -> usize {
        usize::try_from(offset % self.map.len() as u64).unwrap_or(0)
    }
}
