//! What a reader may do with the descriptors it gets: read.

use std::os::fd::{AsFd, OwnedFd};

use memmap2::MmapOptions;
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate};
use rustix::io::{Errno, write};

use super::Rig;
use crate::join::{From, Join};
use crate::layout::{Class, Flags, SegmentHeader, SegmentKind};
use crate::map::Mapping;
use crate::producer::ReaderRing;
use crate::segment::{OpenError, Segment, open_read_only};

fn read_only_descriptors() -> Vec<OwnedFd> {
    let rig = Rig::new(1 << 16, 64);
    let join = Join::new(Class::Live, From::Live);
    let (_ring, ring_fd) = ReaderRing::create(1, 2, &join, &rig.session, 0).unwrap();
    let [session, _] = rig.session.fds().map(|fd| fd.try_clone_to_owned().unwrap());
    vec![rig.producer.fd().as_fd().try_clone_to_owned().unwrap(), ring_fd, session]
}

#[test]
fn a_reader_can_neither_write_nor_resize_nor_punch() {
    for fd in read_only_descriptors() {
        assert!(MmapOptions::new().map_raw(&fd).is_err(), "no writable mapping");
        assert_eq!(write(&fd, b"x"), Err(Errno::PERM));
        assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&fd, 1 << 30), Err(Errno::PERM));
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&fd, punch, 0, 4096), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
        let map = MmapOptions::new().map_raw_read_only(&fd).unwrap();
        assert!(mprotect_to_writable(&map).is_err());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let reopened = std::fs::OpenOptions::new().write(true).open(path);
        assert!(reopened.is_err() || MmapOptions::new().map_raw(&reopened.unwrap()).is_err());
    }
}

#[test]
fn pages_that_cannot_be_had_are_an_error_and_no_sigbus() {
    use rustix::fs::{MemfdFlags, memfd_create};
    let short = memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&short, 4096).unwrap();
    assert!(Mapping::read_write(&short, 2 * 4096).is_err(), "the second page would be a SIGBUS");
    assert!(Mapping::read_write(&short, 4096).is_ok());
}

#[test]
fn unsealed_or_foreign_segments_are_not_mapped() {
    use rustix::fs::{MemfdFlags, memfd_create};
    let plain = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&plain, 4096).unwrap();
    assert!(matches!(open_read_only(&plain, SegmentKind::Stream), Err(OpenError::Unsealed)));
    let header = SegmentHeader::new(SegmentKind::Session, 4096, 1, 1);
    let other = Segment::create("other", &header).unwrap();
    assert!(matches!(open_read_only(&other.fd, SegmentKind::Stream), Err(OpenError::Header(_))));
    let lying = Segment::create("lying", &SegmentHeader { epoch: 9, ..header }).unwrap();
    let head = lying.map.bytes(0, 64).unwrap();
    assert!(head.write_words(0, &SegmentHeader { size: 1 << 40, ..header }.to_words()));
    assert!(matches!(open_read_only(&lying.fd, SegmentKind::Session), Err(OpenError::Header(_))));
}

#[test]
fn the_producer_still_writes_after_sealing() {
    let mut rig = Rig::new(1 << 16, 64);
    let mut tap = rig.attach(0, &Join::new(Class::Live, From::Live));
    rig.commit(10, Flags::KEY);
    assert_eq!(tap.seqs(), [1]);
}

#[expect(unsafe_code, reason = "the attack under test is a raw system call")]
fn mprotect_to_writable(map: &memmap2::MmapRaw) -> rustix::io::Result<()> {
    use rustix::mm::{MprotectFlags, mprotect};
    // SAFETY: the range is exactly the mapping; the call is expected to fail, and nothing is written through it if not.
    unsafe { mprotect(map.as_mut_ptr().cast(), map.len(), MprotectFlags::READ | MprotectFlags::WRITE) }
}
