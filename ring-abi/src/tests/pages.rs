//! Which pages a segment lies on. What this machine's setting does not allow cannot be seen here; the rest holds for every setting.

use crate::producer::{Producer, TrackSpec};

const ARENA_LEN: u64 = 8 << 20;
const HUGE_PAGE_LEN: u64 = 2 << 20;

#[test]
fn a_segment_takes_its_own_length_of_memory_and_huge_pages_where_they_are_given() {
    let spec = TrackSpec::video(ARENA_LEN);
    let producer = Producer::create(0x7061_6765, 1, &[spec]).unwrap();
    let len = Producer::segment_len(&[spec]).unwrap();

    let taken = rustix::fs::fstat(producer.fd()).unwrap().st_blocks * 512;
    assert_eq!(u64::try_from(taken).unwrap(), len.next_multiple_of(4096), "no page behind its end");

    let huge = mapped_huge(rustix::fs::fstat(producer.fd()).unwrap().st_ino);
    let is_given = setting().contains("[advise]") || setting().contains("[always]");
    assert_eq!(huge, if is_given { len / HUGE_PAGE_LEN * HUGE_PAGE_LEN } else { 0 });
}

/// Bytes of huge pages in this process's mappings of the file.
fn mapped_huge(inode: u64) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_ours = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.clone().nth(3)) {
            (Some("ShmemPmdMapped:"), _) if is_ours => kib += words.next().unwrap().parse::<u64>().unwrap(),
            (Some(first), Some(number)) if !first.ends_with(':') => is_ours = number == inode.to_string(),
            _ => {}
        }
    }
    kib * 1024
}

fn setting() -> String {
    let of = |path| std::fs::read_to_string(path).unwrap_or_default();
    match of("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled") {
        own if own.contains("[inherit]") || own.is_empty() => {
            of("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
        }
        own => own,
    }
}
