//! UNSAFE: writes through io_uring, from registered blocks. The kernel reads a block between submission and completion; meanwhile this
//! file owns it.

#![expect(unsafe_code, reason = "operations carry addresses that the kernel reads later")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};

use crate::volume::{Block, Blocks, FileId};

/// A ring, and the writes that are under way in it.
#[derive(Debug)]
pub(super) struct UringWrites {
    ring: Ring,
    /// Whether the kernel knows the blocks beforehand.
    is_registered: bool,
    /// By block: each has one write at most.
    in_flight: Vec<Option<InFlight>>,
    count: usize,
}

struct Ring(IoUring);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct InFlight {
    file: FileId,
    block: Block,
    len: usize,
    /// Open as long as the kernel may write to it.
    _fd: Arc<OwnedFd>,
}

/// A write that is complete.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: FileId,
    pub(super) block: Block,
    pub(super) result: io::Result<()>,
}

impl UringWrites {
    /// A ring for these blocks, whose completions make `event` readable.
    ///
    /// # Errors
    /// When io_uring is not to be had.
    pub(super) fn new(blocks: &Blocks, event: &OwnedFd) -> io::Result<Self> {
        let entries = u32::try_from(blocks.count()).unwrap_or(u32::MAX).clamp(1, ENTRIES_MAX);
        let ring = IoUring::builder().setup_clamp().build(entries.next_power_of_two())?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let mut by_index: Vec<&Block> = blocks.iter().collect();
        by_index.sort_unstable_by_key(|block| block.index());
        let vectors: Vec<libc::iovec> = by_index
            .iter()
            .map(|block| libc::iovec {
                iov_base: block.bytes().as_ptr().cast_mut().cast(),
                iov_len: block.bytes().len(),
            })
            .collect();
        // Refused where not so much memory may be pinned (RLIMIT_MEMLOCK): the kernel then pins a block for each write.
        // SAFETY: the callee demands addresses that stay mapped while they are registered. The kernel pins the pages here, so it never
        // reads through the addresses afterwards; and a block's memory is a mapping of its own that is unmapped as a whole, so that no
        // other memory takes the place of a part of it.
        let is_registered = unsafe { ring.submitter().register_buffers(&vectors) }.is_ok();
        let in_flight = (0..by_index.len()).map(|_| None).collect();
        Ok(Self { ring: Ring(ring), is_registered, in_flight, count: 0 })
    }

    /// Queues a write of the block's first `len` bytes.
    pub(super) fn write(
        &mut self,
        file: FileId,
        fd: &Arc<OwnedFd>,
        at: u64,
        block: Block,
        len: usize,
    ) -> Result<(), Written> {
        let index = block.index();
        let target = types::Fd(fd.as_fd().as_raw_fd());
        let address = block.bytes().as_ptr();
        let Ok(len_u32) = u32::try_from(len.min(block.bytes().len())) else {
            return Err(Written { file, block, result: Err(io::ErrorKind::InvalidInput.into()) });
        };
        let entry = if self.is_registered {
            opcode::WriteFixed::new(target, address, len_u32, index).offset(at).build()
        } else {
            opcode::Write::new(target, address, len_u32).offset(at).build()
        };
        let Some(place) = self.in_flight.get_mut(usize::from(index)).filter(|place| place.is_none()) else {
            return Err(Written { file, block, result: Err(io::ErrorKind::InvalidInput.into()) });
        };
        // In place before the kernel knows of it: from here on only `completed` takes the block out again.
        *place = Some(InFlight { file, block, len, _fd: Arc::clone(fd) });
        self.count += 1;
        self.push(&entry.user_data(index.into())).map_err(|error| {
            self.take(index).unwrap_or_else(|| unreachable!("just put there")).done(Err(error))
        })
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the callee demands that what the entry points to is valid until the operation is complete: block and descriptor
            // are held in `in_flight` until `completed` has seen the completion, and leaked if it never comes.
            if unsafe { self.ring.0.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            // Full: what is there goes first.
            self.ring.0.submit()?;
        }
    }

    /// Hands what is queued to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        match self.ring.0.submit() {
            Ok(_) => Ok(()),
            // It has no memory for more at the moment, or completions have to be taken first: the next call.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A write that is complete, if there is one.
    pub(super) fn completed(&mut self) -> Option<Written> {
        loop {
            let completion = self.ring.0.completion().next()?;
            let index = u16::try_from(completion.user_data()).ok();
            let Some(done) = index.and_then(|index| self.take(index)) else { continue };
            let result = match usize::try_from(completion.result()) {
                Ok(written) if written == done.len => Ok(()),
                // There was room for so much and no more.
                Ok(_) => Err(io::ErrorKind::StorageFull.into()),
                Err(_) => Err(io::Error::from_raw_os_error(completion.result().saturating_neg())),
            };
            return Some(done.done(result));
        }
    }

    fn take(&mut self, index: u16) -> Option<InFlight> {
        let taken = self.in_flight.get_mut(usize::from(index))?.take();
        self.count -= usize::from(taken.is_some());
        taken
    }
}

impl InFlight {
    fn done(self, result: io::Result<()>) -> Written {
        Written { file: self.file, block: self.block, result }
    }
}

impl Drop for UringWrites {
    /// A disk that does not answer must not keep the program from ending; the kernel may still read, so the memory stays.
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.in_flight));
    }
}

const ENTRIES_MAX: u32 = 1024;
