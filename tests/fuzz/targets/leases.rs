//! A reader that writes anything into its release ring, at any time, against `lease`; an honest reader of another ring.
#![no_main]

use std::os::fd::OwnedFd;

use libfuzzer_sys::fuzz_target;
use ring_abi::layout::{Lease, RELEASE_HEAD_LEN};
use ring_abi::lease::{Holder, Pool, Releaser, Releases};
use rustix::io::pwrite;
use vms_fuzz::{Result, Unstructured, number};

const BUDGET: u32 = 3;
/// Of the producer, of both readers, and the newest.
const SLOTS: u32 = 1 + 2 * BUDGET + 1;
/// Offset of the ring's tail.
const TAIL_OFF: u64 = 128;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    // Ends with the input.
    let _ = world.run(&mut Unstructured::new(data));
    world.end();
});

struct World {
    pool: Pool,
    honest: Reader,
    releaser: Releaser,
    hostile: Option<Reader>,
    /// Releases that the hostile reader has claimed, were it honest.
    claimed: u64,
    /// What each slot holds: its frame's generation.
    memory: [u32; SLOTS as usize],
}

/// A reader, seen from the producer.
struct Reader {
    holder: Holder,
    releases: Releases,
    fd: OwnedFd,
    /// Lent and not taken back, as far as an honest reader goes.
    held: Vec<Lease>,
    is_evicted: bool,
}

impl Reader {
    fn attach(pool: &mut Pool) -> Self {
        let holder = pool.attach(BUDGET).expect("there is room for two");
        let releases = Releases::create(1, 2, holder, BUDGET).unwrap();
        let fd = releases.fd().try_clone_to_owned().unwrap();
        Self { holder, releases, fd, held: Vec::new(), is_evicted: false }
    }
}

impl World {
    fn new() -> Self {
        let mut pool = Pool::new(SLOTS, 1, 0);
        let honest = Reader::attach(&mut pool);
        let releaser = Releaser::open(&honest.fd).unwrap();
        let hostile = Some(Reader::attach(&mut pool));
        Self { pool, honest, releaser, hostile, claimed: 0, memory: [0; SLOTS as usize] }
    }

    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            match input.int_in_range(0..=7)? {
                0 | 1 => self.publish(),
                2 | 3 => self.claim(input)?,
                4 => self.scribble(input)?,
                5 => {
                    let held = &mut self.honest.held;
                    if !held.is_empty() {
                        self.releaser.release(held.remove(input.choose_index(held.len())?));
                    }
                }
                6 => self.collect(),
                _ => match self.hostile.take() {
                    Some(gone) => self.pool.detach(gone.holder),
                    None => {
                        self.hostile = Some(Reader::attach(&mut self.pool));
                        self.claimed = 0;
                    }
                },
            }
            for lease in &self.honest.held {
                assert_eq!(self.memory[lease.slot as usize], lease.generation, "{lease:?} was written over");
            }
        }
        Ok(())
    }

    /// Whatever the readers hold, there is a slot, and the honest reader has room or waits.
    fn publish(&mut self) {
        let slot = self.pool.begin().expect("the producer has what it needs");
        self.memory[slot as usize] = self.pool.generation() + 1;
        let (honest, hostile) = (&mut self.honest, &mut self.hostile);
        let lease = self.pool.publish(slot, |holder, lease| {
            if holder == honest.holder {
                honest.held.push(lease);
            } else {
                let hostile = hostile.as_mut().filter(|hostile| !hostile.is_evicted);
                hostile.expect("nobody else is lent anything").held.push(lease);
            }
        });
        assert_eq!(lease, Some(Lease { slot, generation: self.memory[slot as usize] }));
        self.pool.let_go(slot);
    }

    /// The hostile reader claims to give back what it holds, or anything.
    fn claim(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Some(hostile) = &mut self.hostile else { return Ok(()) };
        let word = if !hostile.held.is_empty() && input.ratio(9, 10)? {
            let at = input.choose_index(hostile.held.len())?;
            let lease = if input.ratio(9, 10)? { hostile.held.remove(at) } else { hostile.held[at] };
            lease.to_word()
        } else {
            number(input, u64::from(SLOTS))?
        };
        let at = RELEASE_HEAD_LEN + self.claimed % 4 * 8;
        self.claimed += 1;
        pwrite(&hostile.fd, &word.to_le_bytes(), at).unwrap();
        pwrite(&hostile.fd, &self.claimed.to_le_bytes(), TAIL_OFF).unwrap();
        Ok(())
    }

    fn scribble(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let at = if input.arbitrary()? { TAIL_OFF } else { input.int_in_range(0..=4096 / 8 - 1)? * 8 };
        let word = number(input, self.claimed)?;
        if let Some(hostile) = &self.hostile {
            pwrite(&hostile.fd, &word.to_le_bytes(), at).unwrap();
        }
        Ok(())
    }

    fn collect(&mut self) {
        let held = &mut self.honest.held;
        self.honest.releases.collect(&mut self.pool, |lease| held.push(lease)).expect("it is honest");
        if let Some(hostile) = self.hostile.as_mut().filter(|hostile| !hostile.is_evicted) {
            let (mut steps, held) = (0, &mut hostile.held);
            let result = hostile.releases.collect(&mut self.pool, |lease| {
                steps += 1;
                held.push(lease);
            });
            assert!(steps <= 4, "{steps} steps for a ring of 4");
            hostile.is_evicted = result.is_err();
        }
    }

    /// The honest reader gives all back: it gets the newest frame and every later one.
    fn end(mut self) {
        self.collect();
        for lease in std::mem::take(&mut self.honest.held) {
            self.releaser.release(lease);
            self.collect();
        }
        self.honest.held.clear();
        self.publish();
        let newest = self.honest.held.last().map(|lease| lease.generation);
        assert_eq!(newest, Some(self.pool.generation()));
    }
}
