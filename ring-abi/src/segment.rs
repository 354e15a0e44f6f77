//! Making and opening segments: memfds, sizes, seals, headers.
//!
//! Order of making: create, `ftruncate`, map and populate, header, seals; only then may the descriptor leave. With
//! `F_SEAL_FUTURE_WRITE` (Linux 5.1) the mapping that exists keeps its right to write and no other can be made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use crate::layout::{HeaderError, SegmentHeader, SegmentKind};
use crate::map::{Mapping, ReadOnly, ReadWrite};

/// Seals of a segment that its readers may only read.
const SEALS_READ_ONLY: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
/// Seals of a segment that its reader writes.
const SEALS_CURSOR: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why a segment was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("a segment could not be mapped: {0}")]
    Io(io::Error),
    /// The file lacks seals, so its size or content could be changed by others.
    #[error("a segment lacks seals")]
    Unsealed,
    /// The header is not what it must be.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// By hand and not by `#[from]`: the error's words are in ours, and who prints the chain would read them twice.
impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A segment of this process: its descriptor, to be handed out, and its mapping.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) fd: OwnedFd,
    pub(crate) map: Mapping<ReadWrite>,
}

impl Segment {
    /// Makes a segment with `header` that nobody else can write.
    pub(crate) fn create(name: &str, header: &SegmentHeader) -> io::Result<Self> {
        Self::create_sealed(name, header, SEALS_READ_ONLY)
    }

    /// Makes a segment with `header` that the other side may write, too.
    pub(crate) fn create_cursor(name: &str, header: &SegmentHeader) -> io::Result<Self> {
        Self::create_sealed(name, header, SEALS_CURSOR)
    }

    fn create_sealed(name: &str, header: &SegmentHeader, seals: SealFlags) -> io::Result<Self> {
        let len = usize::try_from(header.size).map_err(|_| io::ErrorKind::InvalidInput)?;
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, header.size)?;
        let map = Mapping::read_write(&fd, len)?;
        let head = map.bytes(0, 64).ok_or(io::ErrorKind::InvalidInput)?;
        if !head.write_words(0, &header.to_words()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fcntl_add_seals(&fd, seals)?;
        Ok(Self { fd, map })
    }

    /// The descriptor, to be sent to a reader.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a read-only segment that came from the producer.
///
/// # Errors
/// [`OpenError`] unless seals, size and header are as they must be.
pub(crate) fn open_read_only(
    fd: &OwnedFd,
    kind: SegmentKind,
) -> Result<(Mapping<ReadOnly>, SegmentHeader), OpenError> {
    let len = checked_len(fd, SEALS_READ_ONLY)?;
    let map = Mapping::read_only(fd, len)?;
    let header = read_header(&map, kind)?;
    Ok((map.shortened(header.size), header))
}

/// Opens the session cursor, which this reader writes.
///
/// # Errors
/// [`OpenError`] unless seals, size and header are as they must be.
pub(crate) fn open_cursor(fd: &OwnedFd) -> Result<(Mapping<ReadWrite>, SegmentHeader), OpenError> {
    open_read_write(fd, SegmentKind::SessionCursor)
}

/// Opens a segment that came from the producer and that this reader writes.
///
/// # Errors
/// [`OpenError`] unless seals, size and header are as they must be.
pub(crate) fn open_read_write(
    fd: &OwnedFd,
    kind: SegmentKind,
) -> Result<(Mapping<ReadWrite>, SegmentHeader), OpenError> {
    let len = checked_len(fd, SEALS_CURSOR)?;
    let map = Mapping::read_write(fd, len)?;
    let header = read_header(&map, kind)?;
    Ok((map.shortened(header.size), header))
}

fn checked_len(fd: &OwnedFd, need: SealFlags) -> Result<usize, OpenError> {
    let seals = fcntl_get_seals(fd).map_err(io::Error::from)?;
    if !seals.contains(need) {
        return Err(OpenError::Unsealed);
    }
    let size = usize::try_from(fstat(fd).map_err(io::Error::from)?.st_size).unwrap_or(0);
    // An empty file has no magic bytes and cannot even be mapped.
    if size < size_of::<SegmentHeader>() { Err(HeaderError::Magic.into()) } else { Ok(size) }
}

fn read_header<Access>(map: &Mapping<Access>, kind: SegmentKind) -> Result<SegmentHeader, OpenError> {
    let head = map.bytes(0, 64).ok_or(HeaderError::Magic)?;
    let words = head.read_words(0).ok_or(HeaderError::Magic)?;
    let header = SegmentHeader::from_words(&words);
    header.check(kind, map.len())?;
    Ok(header)
}
