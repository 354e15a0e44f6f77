//! Configuration entries: a copy that counts is whole, and an accepted unit had its configuration (SPEC.md §4).

use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU32, AtomicU64, Ordering};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    OddStoredAfterContent,
    NoFenceBehindOdd,
    EvenStoredRelaxed,
    EvenLoadedRelaxed,
    OddNotRefused,
    NoFenceBehindCopy,
    GenerationNotComparedAgain,
    EntryReusedBeforeReclaim,
    CopiedAfterValidation,
}
use Broken::*;

/// An entry whose content is its id, twice, and the track it belongs to.
#[derive(Default)]
struct Track {
    generation: AtomicU32,
    id: AtomicU32,
    content: [AtomicU32; 2],
    reclaim_pos: AtomicU64,
}

/// Writes entry `id` over its predecessor: an entry's generation is twice its id.
fn write_entry(track: &Track, id: u32, broken: Broken) {
    let generation = &track.generation;
    let before = (id - 1) * 2;
    let content = || {
        track.content.iter().for_each(|word| word.store(id, Ordering::Relaxed));
        track.id.store(id, Ordering::Relaxed);
    };
    if broken == OddStoredAfterContent {
        content();
    }
    match broken {
        NoFenceBehindOdd => generation.store(before + 1, Ordering::Relaxed),
        _ => cursor::begin_entry(generation, before),
    }
    if broken != OddStoredAfterContent {
        content();
    }
    match broken {
        EvenStoredRelaxed => generation.store(before + 2, Ordering::Relaxed),
        _ => cursor::end_entry(generation, before),
    }
}

/// The content of entry `id`, if it was whole and is that entry.
fn copy_entry(track: &Track, id: u32, broken: Broken) -> Option<[u32; 2]> {
    let generation = &track.generation;
    let before = match broken {
        EvenLoadedRelaxed => Some(generation.load(Ordering::Relaxed)).filter(|before| before % 2 == 0),
        OddNotRefused => Some(generation.load(Ordering::Acquire)),
        _ => cursor::observe_entry(generation),
    }?;
    let found = track.id.load(Ordering::Relaxed);
    let content = track.content.each_ref().map(|word| word.load(Ordering::Relaxed));
    let unchanged = match broken {
        NoFenceBehindCopy => generation.load(Ordering::Relaxed) == before,
        GenerationNotComparedAgain => true,
        _ => cursor::entry_unchanged(generation, before),
    };
    (found == id && unchanged).then_some(content)
}

/// A reader looks for entry 1 or 2 while 2 is written over 1.
fn copy_while_written(looks_for: u32, broken: Broken) {
    loom::model(move || {
        let track = Arc::new(Track::default());
        write_entry(&track, 1, Nothing);
        let theirs = Arc::clone(&track);
        let producer = thread::spawn(move || write_entry(&theirs, 2, broken));
        if let Some(content) = copy_entry(&track, looks_for, broken) {
            assert_eq!(content, [looks_for; 2], "a torn configuration was taken");
        }
        producer.join().unwrap();
    });
}

/// A unit at position 0 refers to entry 1, whose place the producer needs for entry 2.
fn unit_and_its_entry(broken: Broken) {
    loom::model(move || {
        let track = Arc::new(Track::default());
        write_entry(&track, 1, Nothing);
        let theirs = Arc::clone(&track);
        let producer = thread::spawn(move || {
            if broken == EntryReusedBeforeReclaim {
                write_entry(&theirs, 2, broken);
            }
            cursor::reclaim(&theirs.reclaim_pos, &mut 0, 64);
            if broken != EntryReusedBeforeReclaim {
                write_entry(&theirs, 2, broken);
            }
        });
        let copy = || copy_entry(&track, 1, broken);
        let (entry, accepted) = if broken == CopiedAfterValidation {
            let accepted = cursor::still_valid(&track.reclaim_pos, 0);
            (copy(), accepted)
        } else {
            (copy(), cursor::still_valid(&track.reclaim_pos, 0))
        };
        assert!(!accepted || entry == Some([1; 2]), "a unit was accepted without its configuration");
        producer.join().unwrap();
    });
}

#[test]
fn a_configuration_that_is_taken_is_whole() {
    copy_while_written(1, Nothing);
    copy_while_written(2, Nothing);
}

#[test]
fn an_accepted_unit_has_its_configuration() {
    unit_and_its_entry(Nothing);
}

/// 1. R: generation 2; id 1.
/// 2. P: content = 2, 2, and is interrupted before the generation is odd.
/// 3. R: content 2, 2; generation 2: takes it as entry 1.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_the_generation_is_odd_only_after_the_content() {
    copy_while_written(1, OddStoredAfterContent);
}

/// 1. P: generation = 3; content = 2, 2. Nothing orders the two; the content becomes visible first.
/// 2. R: generation 2; id 1; content 2, 2; acquire fence; generation still 2: takes it as entry 1.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_no_fence_behind_the_odd_generation() {
    copy_while_written(1, NoFenceBehindOdd);
}

/// 1. P: generation = 3; content = 2, 2; id = 2; generation = 4, relaxed: generation and id become visible first.
/// 2. R: generation 4; id 2; content 1, 1; generation 4: takes it as entry 2.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_the_even_generation_is_stored_relaxed() {
    copy_while_written(2, EvenStoredRelaxed);
}

/// 1. R: loads content 1, 1 ahead of the generation that nothing orders it behind.
/// 2. P: writes entry 2; generation = 4 (release).
/// 3. R: generation 4; id 2; generation 4: takes it as entry 2.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_the_even_generation_is_loaded_relaxed() {
    copy_while_written(2, EvenLoadedRelaxed);
}

/// 1. P: generation = 3; content = 2, and is interrupted.
/// 2. R: generation 3; id 1; content 2, 1; generation 3, as before: takes it.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_an_odd_generation_is_not_refused() {
    copy_while_written(1, OddNotRefused);
}

/// 1. R: loads the generation twice, the second time ahead of the copy that nothing orders it behind: 2, 2.
/// 2. P: generation = 3; release fence; content = 2, 2.
/// 3. R: id 1; content 2, 2: takes it as entry 1.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_no_fence_behind_the_copy_of_an_entry() {
    copy_while_written(1, NoFenceBehindCopy);
}

/// 1. R: generation 2; id 1.
/// 2. P: generation = 3; content = 2, 2.
/// 3. R: content 2, 2: takes it as entry 1.
#[test]
#[should_panic(expected = "a torn configuration was taken")]
fn mutant_the_generation_is_not_compared_again() {
    copy_while_written(1, GenerationNotComparedAgain);
}

/// 1. P: writes entry 2 over entry 1, and is interrupted before it stores `reclaim_pos`.
/// 2. R: finds no entry 1; `reclaim_pos` 0 ≤ 0: accepted.
#[test]
#[should_panic(expected = "a unit was accepted without its configuration")]
fn mutant_an_entry_is_written_over_before_its_units_are_reclaimed() {
    unit_and_its_entry(EntryReusedBeforeReclaim);
}

/// 1. R: `reclaim_pos` 0 ≤ 0: accepted.
/// 2. P: `reclaim_pos` = 64; writes entry 2 over entry 1.
/// 3. R: finds no entry 1.
#[test]
#[should_panic(expected = "a unit was accepted without its configuration")]
fn mutant_the_entry_is_copied_after_the_unit_was_validated() {
    unit_and_its_entry(CopiedAfterValidation);
}
