//! Which pages a segment lies on. The machine's setting decides, so what can be held everywhere is that no page is of another's memory.

use crate::producer::{Producer, TrackSpec};

const ARENA_LEN: u64 = 8 << 20;
const HUGE_PAGE_LEN: u64 = 2 << 20;

#[test]
fn a_segment_takes_its_own_length_of_memory_and_huge_pages_only_where_they_are_given() {
    let spec = TrackSpec::video(ARENA_LEN);
    let producer = Producer::create(0x7061_6765, 1, &[spec]).unwrap();
    let len = Producer::segment_len(&[spec]).unwrap();
    let stat = rustix::fs::fstat(producer.fd()).unwrap();

    assert_eq!(
        u64::try_from(stat.st_blocks).unwrap() * 512,
        len.next_multiple_of(4096),
        "no page behind its end"
    );
    let huge = mapped_huge(stat.st_ino);
    println!("{huge} bytes of {len} on huge pages");
    assert!(huge.is_multiple_of(HUGE_PAGE_LEN) && huge <= len);
    // Where it follows the global setting and that is `advise`, they can be had unless memory is in pieces.
    match setting().as_str() {
        "advise" | "always" => assert!(huge > 0, "none of them, though the kernel is set to give them"),
        "never" => assert_eq!(huge, 0),
        _ => {}
    }
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

/// The global setting, where this size of pages follows it.
fn setting() -> String {
    let chosen = |path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map_or(String::new(), |it| it.0.to_owned())
    };
    match chosen("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled").as_str() {
        "inherit" => chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        _ => String::new(),
    }
}
