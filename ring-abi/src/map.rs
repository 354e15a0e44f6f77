//! UNSAFE. Mapped segments and the only doors to their bytes: atomic words and opaque copies.
//!
//! Invariant: every word and byte range handed out was compared with the mapping's length when it was made, and keeps the
//! mapping alive by an `Arc`. No Rust reference to plain bytes in shared memory ever exists: another process may change
//! them at any time. Words are atomics, which may change under a reference; ranges are copied by [`copy`]'s functions,
//! which the compiler cannot see into or which are atomic byte for byte.
#![expect(unsafe_code, reason = "this file is the door to memory that is shared with other processes")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::thread::futex;

use crate::cursor::{Add, AtomicU32, AtomicU64, Load, Ordering, Store};
#[cfg(test)]
use crate::tests::steps::{half, step};

/// Called after each access; where tests stop a process between any two.
#[cfg(not(test))]
const fn step() {}

/// Where to split a copy of `len` bytes, so that tests can stop a process within.
#[cfg(not(test))]
const fn half(_len: usize) -> Option<usize> {
    None
}

/// Bytes of a huge page.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// Marks what this process may only read.
#[derive(Debug)]
pub(crate) enum ReadOnly {}

/// Marks what this process may write.
#[derive(Debug)]
pub(crate) enum ReadWrite {}

/// A mapped segment.
pub(crate) struct Mapping<Access> {
    raw: Arc<MmapRaw>,
    /// Bytes that are the segment's: at most those that are mapped.
    len: u64,
    access: PhantomData<Access>,
}

impl Mapping<ReadWrite> {
    /// Maps all of `fd` for reading and writing and touches every page, so that no later write takes a page fault, or, when
    /// there is no memory for the page, a SIGBUS. Pages of 2 MiB where they can be had: with
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` at `advise` or above. Readers' mappings then have them, too.
    ///
    /// # Errors
    /// What the system says, also when it has no memory for all pages: `MAP_POPULATE` would not tell.
    pub(crate) fn read_write(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let raw = MmapOptions::new().len(len).map_raw(&fd.as_fd())?;
        // Whole ones only: the rest of the last would be memory that is not the segment's, which some settings give unasked.
        // Where the kernel has none for shared memory it refuses, or does nothing.
        let whole = len - len % HUGE_PAGE_LEN;
        let _ = raw.advise_range(Advice::HugePage, 0, whole);
        let _ = raw.advise_range(Advice::NoHugePage, whole, len - whole);
        raw.advise(Advice::PopulateWrite)?;
        Ok(Self { raw: Arc::new(raw), len: len as u64, access: PhantomData })
    }
}

impl Mapping<ReadOnly> {
    /// Maps `len` bytes of `fd` for reading. The caller has checked seals and size, so no access faults later.
    pub(crate) fn read_only(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let raw = MmapOptions::new().len(len).map_raw_read_only(&fd.as_fd())?;
        Ok(Self { raw: Arc::new(raw), len: len as u64, access: PhantomData })
    }
}

impl<Access> Mapping<Access> {
    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The same memory, nothing of which behind its first `len` bytes is handed out.
    pub(crate) fn shortened(self, len: u64) -> Self {
        Self { len: len.min(self.len), ..self }
    }

    /// The 32-bit word at `offset`; `None` when it is outside or misaligned.
    pub(crate) fn word32(&self, offset: u64) -> Option<Word<AtomicU32, Access>> {
        self.word(offset)
    }

    /// The 64-bit word at `offset`; `None` when it is outside or misaligned.
    pub(crate) fn word64(&self, offset: u64) -> Option<Word<AtomicU64, Access>> {
        self.word(offset)
    }

    /// `len` bytes at `offset`; `None` when not all of them are inside or `offset` is no multiple of 8.
    pub(crate) fn bytes(&self, offset: u64, len: u64) -> Option<Bytes<Access>> {
        let start = self.inside(offset, len, 8)?;
        Some(Bytes {
            start: self.raw.as_mut_ptr().wrapping_add(start),
            len: usize::try_from(len).ok()?,
            owner: Arc::clone(&self.raw),
            access: PhantomData,
        })
    }

    fn word<Atomic>(&self, offset: u64) -> Option<Word<Atomic, Access>> {
        let start = self.inside(offset, size_of::<Atomic>() as u64, align_of::<Atomic>() as u64)?;
        let at = self.raw.as_mut_ptr().wrapping_add(start).cast::<Atomic>();
        Some(Word { at, owner: Arc::clone(&self.raw), access: PhantomData })
    }

    /// `offset` as an index if `len` bytes from it are inside and it is a multiple of `align`. Mappings begin at a page.
    fn inside(&self, offset: u64, len: u64, align: u64) -> Option<usize> {
        let end = offset.checked_add(len)?;
        (end <= self.len() && offset.is_multiple_of(align)).then(|| usize::try_from(offset).ok())?
    }
}

/// One atomic word of a mapping.
pub(crate) struct Word<Atomic, Access> {
    at: *const Atomic,
    owner: Arc<MmapRaw>,
    access: PhantomData<Access>,
}

impl<Atomic, Access> Word<Atomic, Access> {
    /// The atomic. Private: only a [`ReadWrite`] word offers stores.
    fn atomic(&self) -> &Atomic {
        // SAFETY: `Mapping::word` compared offset, size and alignment with the mapping that `owner` keeps mapped for as
        // long as `self`; the memory is initialised (a file), and atomics may change under a shared reference.
        unsafe { &*self.at }
    }
}

macro_rules! word_access {
    ($atomic:ty, $int:ty) => {
        impl<Access> Load<$int> for Word<$atomic, Access> {
            fn load(&self, order: Ordering) -> $int {
                let value = self.atomic().load(order);
                step();
                value
            }
        }

        impl Store<$int> for Word<$atomic, ReadWrite> {
            fn store(&self, value: $int, order: Ordering) {
                self.atomic().store(value, order);
                step();
            }
        }

        impl Add<$int> for Word<$atomic, ReadWrite> {
            fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                let before = self.atomic().fetch_add(value, order);
                step();
                before
            }
        }
    };
}

word_access!(AtomicU32, u32);
word_access!(AtomicU64, u64);

impl<Access> Word<AtomicU32, Access> {
    /// Sleeps while the word is `seen`, at most for `timeout`. Returns on a wake, a time-out or a signal alike: the
    /// caller looks again. The futex is shared between processes.
    pub(crate) fn futex_wait(&self, seen: u32, timeout: Duration) {
        let timeout = futex::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // Every outcome means the same: look again.
        let _ = futex::wait(self.atomic(), futex::Flags::empty(), seen, Some(&timeout));
    }

    /// The word's address, for a futex operation through io_uring.
    pub(crate) fn address(&self) -> *const u32 {
        self.at.cast()
    }
}

impl Word<AtomicU32, ReadWrite> {
    /// Wakes one sleeper, in whatever process.
    pub(crate) fn futex_wake(&self) {
        // Fails only for an address that is not mapped, which `owner` excludes.
        let _ = futex::wake(self.atomic(), futex::Flags::empty(), 1);
    }
}

/// A range of bytes of a mapping.
pub(crate) struct Bytes<Access> {
    start: *mut u8,
    len: usize,
    owner: Arc<MmapRaw>,
    access: PhantomData<Access>,
}

impl<Access> Bytes<Access> {
    /// Copies `to.len()` bytes from `offset`; false, and nothing copied, when they are not all inside.
    ///
    /// The copy may be torn when the other side writes at the same time; `cursor::still_valid` tells.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) -> bool {
        if let Some((first, second)) = half(to.len()).and_then(|half| to.split_at_mut_checked(half)) {
            return self.read(offset, first) && self.read(offset.saturating_add(first.len() as u64), second);
        }
        let Some(start) = self.inside(offset, to.len()) else { return false };
        // SAFETY: `inside` compared the range with `len`, which `Mapping::bytes` compared with the mapping that `owner`
        // keeps; `to` is a distinct, writable slice of the same length.
        unsafe { copy::opaque(self.start.wrapping_add(start), to.as_mut_ptr(), to.len()) }
        step();
        true
    }

    /// As [`Self::read`], of 32-bit numbers.
    #[must_use]
    pub(crate) fn read_u32s(&self, offset: u64, to: &mut [u32]) -> bool {
        let len = size_of_val(to);
        let Some(start) = self.inside(offset, len) else { return false };
        // SAFETY: as in `read`: `len` is the slice's size in bytes, and any bytes are numbers.
        unsafe { copy::opaque(self.start.wrapping_add(start), to.as_mut_ptr().cast(), len) }
        step();
        true
    }

    /// Loads `N` words from `offset`, a multiple of 8; `None` when they are not all inside.
    #[inline(always)]
    #[must_use]
    pub(crate) fn read_words<const N: usize>(&self, offset: u64) -> Option<[u64; N]> {
        let start = self.inside(offset, N * 8).filter(|start| start.is_multiple_of(8))?;
        let first = self.start.wrapping_add(start).cast::<AtomicU64>();
        step();
        Some(std::array::from_fn(|n| {
            // SAFETY: `inside` holds for all N words and `start` is a multiple of 8, as is the range's begin (`bytes`).
            let word = unsafe { &*first.wrapping_add(n) };
            word.load(Ordering::Relaxed)
        }))
    }

    fn inside(&self, offset: u64, len: usize) -> Option<usize> {
        let start = usize::try_from(offset).ok()?;
        (start.checked_add(len)? <= self.len).then_some(start)
    }
}

impl Bytes<ReadWrite> {
    /// Writes `from` at `offset`; false, and nothing written, when it does not fit.
    #[must_use]
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> bool {
        if let Some((first, second)) = half(from.len()).and_then(|half| from.split_at_checked(half)) {
            return self.write(offset, first)
                && self.write(offset.saturating_add(first.len() as u64), second);
        }
        let Some(start) = self.inside(offset, from.len()) else { return false };
        // SAFETY: as in `read`, and the mapping is writable (`ReadWrite`).
        unsafe { copy::opaque(from.as_ptr(), self.start.wrapping_add(start), from.len()) }
        step();
        true
    }

    /// Stores `words` at `offset`, a multiple of 8; false when they do not fit.
    #[inline(always)]
    #[must_use]
    pub(crate) fn write_words<const N: usize>(&self, offset: u64, words: &[u64; N]) -> bool {
        let start = self.inside(offset, N * 8).filter(|start| start.is_multiple_of(8));
        let Some(start) = start else { return false };
        let first = self.start.wrapping_add(start).cast::<AtomicU64>();
        for (n, word) in words.iter().enumerate() {
            // SAFETY: as in `read_words`, and the mapping is writable (`ReadWrite`).
            let slot = unsafe { &*first.wrapping_add(n) };
            slot.store(*word, Ordering::Relaxed);
            step();
        }
        true
    }

    /// As [`Self::write`], of 32-bit numbers.
    #[must_use]
    pub(crate) fn write_u32s(&self, offset: u64, from: &[u32]) -> bool {
        let len = size_of_val(from);
        let Some(start) = self.inside(offset, len) else { return false };
        // SAFETY: as in `write`: `len` is the slice's size in bytes, and numbers have no padding.
        unsafe { copy::opaque(from.as_ptr().cast(), self.start.wrapping_add(start), len) }
        step();
        true
    }

    /// Copies `len` bytes within the range; false when either side is not inside or they overlap.
    #[must_use]
    pub(crate) fn copy_within(&self, from: u64, to: u64, len: usize) -> bool {
        let (Some(from), Some(to)) = (self.inside(from, len), self.inside(to, len)) else { return false };
        if from.abs_diff(to) < len {
            return false;
        }
        // SAFETY: both ranges are inside (`inside`), do not overlap (the line above), and the mapping is writable.
        unsafe { copy::opaque(self.start.wrapping_add(from), self.start.wrapping_add(to), len) }
        step();
        true
    }
}

// SAFETY: a mapping's memory is shared with other processes anyway; all access to it is atomic or an opaque copy whose result
// is validated, so nothing changes when the accessor is used from another thread. `owner` is `Send + Sync`.
unsafe impl<Atomic, Access> Send for Word<Atomic, Access> {}
// SAFETY: see `Send`.
unsafe impl<Atomic, Access> Sync for Word<Atomic, Access> {}
// SAFETY: see `Send`.
unsafe impl<Access> Send for Bytes<Access> {}
// SAFETY: see `Send`.
unsafe impl<Access> Sync for Bytes<Access> {}
// SAFETY: see `Send`; the marker types are uninhabited.
unsafe impl<Access> Send for Mapping<Access> {}
// SAFETY: see `Send`.
unsafe impl<Access> Sync for Mapping<Access> {}

impl<Access> fmt::Debug for Mapping<Access> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len).finish()
    }
}

impl<Atomic, Access> fmt::Debug for Word<Atomic, Access> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word").field("mapping", &self.owner.len()).finish_non_exhaustive()
    }
}

impl<Access> fmt::Debug for Bytes<Access> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes")
            .field("len", &self.len)
            .field("mapping", &self.owner.len())
            .finish_non_exhaustive()
    }
}

mod copy {
    //! Copies that may race with another process.

    /// From here on `rep movsb` is the faster one.
    #[cfg(all(target_arch = "x86_64", not(sanitize_copies)))]
    const LARGE: usize = 1024;

    /// Copies `len` bytes. The compiler must assume that any memory was read and written.
    ///
    /// # Safety
    /// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
    #[cfg(all(target_arch = "x86_64", not(sanitize_copies)))]
    pub(super) unsafe fn opaque(from: *const u8, to: *mut u8, len: usize) {
        if len < LARGE {
            // SAFETY: the caller's promise is handed on.
            unsafe { small(from, to, len) }
        } else {
            // SAFETY: as above.
            unsafe { large(from, to, len) }
        }
    }

    #[cfg(all(target_arch = "x86_64", not(sanitize_copies)))]
    unsafe fn large(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: `rep movsb` reads and writes exactly the ranges that the caller vouches for; the direction flag is clear
        // by the ABI. It keeps flags and uses no stack.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// `rep movsb` takes 4 to 10 ns to begin with, which is most of what a NAL index or a small payload costs.
    #[cfg(all(target_arch = "x86_64", not(sanitize_copies)))]
    unsafe fn small(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: 64 bytes at a time, then words, then 4, 2 and 1 as the length's low bits say. That adds up to `len`, and each
        // step reads and writes as many bytes as it goes forward, so exactly the ranges that the caller vouches for. SSE2 belongs to the
        // architecture. It uses no stack.
        unsafe {
            std::arch::asm!(
                "test {lines}, {lines}",
                "jz 3f",
                "2:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "dec {lines}",
                "jnz 2b",
                "3:",
                "test {words}, {words}",
                "jz 5f",
                "4:",
                "mov {word}, [{from}]",
                "mov [{to}], {word}",
                "add {from}, 8",
                "add {to}, 8",
                "dec {words}",
                "jnz 4b",
                "5:",
                "test {len:l}, 4",
                "jz 6f",
                "mov {word:e}, [{from}]",
                "mov [{to}], {word:e}",
                "add {from}, 4",
                "add {to}, 4",
                "6:",
                "test {len:l}, 2",
                "jz 7f",
                "mov {word:x}, [{from}]",
                "mov [{to}], {word:x}",
                "add {from}, 2",
                "add {to}, 2",
                "7:",
                "test {len:l}, 1",
                "jz 8f",
                "mov {word:l}, [{from}]",
                "mov [{to}], {word:l}",
                "8:",
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                lines = inout(reg) len / 64 => _,
                words = inout(reg) len % 64 / 8 => _,
                len = in(reg) len,
                word = out(reg_abcd) _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack)
            );
        }
    }

    /// Copies `len` bytes, byte for byte with relaxed atomics.
    ///
    /// # Safety
    /// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
    #[cfg(not(all(target_arch = "x86_64", not(sanitize_copies))))]
    pub(super) unsafe fn opaque(from: *const u8, to: *mut u8, len: usize) {
        use std::sync::atomic::{AtomicU8, Ordering};
        for n in 0..len {
            // SAFETY: `n < len`, for which the caller vouches; bytes have no alignment.
            let source = unsafe { &*from.wrapping_add(n).cast::<AtomicU8>() };
            // SAFETY: as above.
            let target = unsafe { &*to.wrapping_add(n).cast::<AtomicU8>() };
            target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::opaque;

        #[test]
        fn every_length_and_alignment_is_copied_and_nothing_beside_it() {
            let source: Vec<u8> = (0..2200u32).map(|n| (n % 251 + 1).to_le_bytes()[0]).collect();
            for len in (0..300).chain([511, 512, 1016, 1023, 1024, 1025, 2048]) {
                for (skip, shift) in [(0, 0), (1, 0), (0, 3), (7, 5), (16, 33)] {
                    let mut target = vec![0u8; 2200];
                    let from = source.as_ptr().wrapping_add(skip);
                    let to = target.as_mut_ptr().wrapping_add(shift);
                    // SAFETY: at most 2048 + 33 of 2200 bytes of each; they are two allocations.
                    unsafe { opaque(from, to, len) }
                    assert_eq!(target[shift..shift + len], source[skip..skip + len], "{len} {skip} {shift}");
                    let beside = target[..shift].iter().chain(&target[shift + len..]);
                    assert_eq!(beside.filter(|byte| **byte != 0).count(), 0, "{len} {skip} {shift}");
                }
            }
        }
    }
}
