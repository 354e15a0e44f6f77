//! UNSAFE. Memory that two processes map: words, records, and the plain copies that the floor is made of.
//!
//! A bench's own memory: both sides are this program, and the protocols above never read what is being written.
#![expect(unsafe_code, reason = "the floor is a ring in shared memory without any layer above it")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, Mode, OFlags, fstat, ftruncate, memfd_create, open};

/// Words of a record: 128 bytes, as large as a descriptor of the ring ABI.
pub(crate) const RECORD_WORDS: usize = 16;

/// A memfd, mapped and with every page touched.
pub(crate) struct Region {
    fd: OwnedFd,
    map: MmapRaw,
}

impl Region {
    /// Makes a region of `len` bytes.
    pub(crate) fn create(len: usize) -> io::Result<Self> {
        let fd = memfd_create("ring-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, len as u64)?;
        Self::map(fd, len)
    }

    /// Maps the region that another process named by [`Self::path`].
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let fd = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let len = usize::try_from(fstat(&fd)?.st_size).map_err(|_| io::ErrorKind::InvalidData)?;
        Self::map(fd, len)
    }

    fn map(fd: OwnedFd, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(&fd)?;
        map.advise(Advice::PopulateWrite)?;
        Ok(Self { fd, map })
    }

    /// Where children find it, as long as this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()).into()
    }

    /// The 64-bit word at `offset`.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, 8, 8).cast::<AtomicU64>();
        // SAFETY: `at` checked bounds and alignment; the mapping lives as long as `self`; atomics may be shared.
        unsafe { &*at }
    }

    /// The 32-bit word at `offset`.
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4, 4).cast::<AtomicU32>();
        // SAFETY: as in `word`.
        unsafe { &*at }
    }

    /// `memcpy` into the region.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len(), 1);
        // SAFETY: `at` checked the range; `from` is private memory, so they do not overlap. The reader looks at the
        // range only after a tail that is stored (release) behind this.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    /// `memcpy` out of the region.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len(), 1);
        // SAFETY: as in `write`, the other way round.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    /// Writes a record.
    pub(crate) fn write_record(&self, offset: usize, record: &[u64; RECORD_WORDS]) {
        let to = self.at(offset, RECORD_WORDS * 8, 8).cast::<[u64; RECORD_WORDS]>();
        // SAFETY: `at` checked range and alignment; the reader gave the slot back (head, acquire) or never had it.
        unsafe { to.write(*record) }
    }

    /// Reads a record.
    pub(crate) fn read_record(&self, offset: usize) -> [u64; RECORD_WORDS] {
        let from = self.at(offset, RECORD_WORDS * 8, 8).cast::<[u64; RECORD_WORDS]>();
        // SAFETY: `at` checked range and alignment; the writer is done with the slot (tail, acquire).
        unsafe { from.read() }
    }

    fn at(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(align) && offset + len <= self.map.len(), "{offset}+{len} is outside");
        self.map.as_mut_ptr().wrapping_add(offset)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.map.len()).finish_non_exhaustive()
    }
}
