//! Runs a plan: a queue of events, and a clock that jumps from one to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use vms_media::publish::Bells;
use vms_media::time::{Mono, Now, UnixNanos};

use crate::plan::{Act, Plan};
use crate::readers::{Auditor, Guesting, Porter};
use crate::site::{Site, What};
use crate::tally::Tally;

/// The daemon's clocks when a run begins.
pub(crate) const START: Mono = Mono(5_000_000_000_000);
const START_WALL: i64 = 1_700_005_000_000_000_000;

/// How long streams have to end in order.
const END_MAX: Duration = Duration::from_secs(2);

/// Events in the order of their times, and at one time in the order in which they were planned.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Mono, u64), Event>,
    planned: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Site { place: usize, what: What },
    Reader { number: usize, does: Does },
    WallStep { ns: i64 },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Come,
    Look,
    Go,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Mono, place: usize, what: What) {
        self.plan(at, Event::Site { place, what });
    }

    fn plan(&mut self, at: Mono, event: Event) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// All that came out of the healthy camera's stream, in one number.
    pub(crate) digest: u64,
}

struct World {
    now: Now,
    queue: Queue,
    sites: Vec<Site>,
    readers: Vec<Guesting>,
    auditor: Auditor,
    bells: Bells,
    events: u64,
}

/// Runs `plan` to its end. Panics where something does not hold; `at` then has the time.
pub(crate) fn run(plan: &Plan, porter: &Porter, is_traced: bool, at: &mut Mono) -> Outcome {
    let mut world = World::new(plan, porter, is_traced);
    // Until a time that does not depend on who is there.
    let end = START + plan.end + END_MAX;
    while let Some(((time, _), event)) = world.queue.events.pop_first().filter(|((time, _), _)| *time <= end)
    {
        *at = time;
        world.advance(time);
        world.step(event);
    }
    world.advance(end);
    world.finish()
}

impl World {
    fn new(plan: &Plan, porter: &Porter, is_traced: bool) -> Self {
        let now = Now { mono: START, wall: UnixNanos(START_WALL) };
        let mut sites: Vec<Site> = (0..)
            .zip(&plan.cameras)
            .map(|(place, camera)| Site::new(camera, place, plan.seed, now, is_traced))
            .collect();
        let auditor = Auditor::new(porter, &mut sites, now);
        let mut queue = Queue::default();
        let mut readers = Vec::new();
        for (place, camera) in plan.cameras.iter().enumerate() {
            for (after, act) in std::iter::once(&(Duration::ZERO, Act::Restart)).chain(&camera.acts) {
                queue.push(START + *after, place, What::Act(*act));
            }
            for reader in &camera.readers {
                let number = readers.len();
                queue.plan(START + reader.comes, Event::Reader { number, does: Does::Come });
                if let Some(goes) = reader.goes {
                    queue.plan(START + goes, Event::Reader { number, does: Does::Go });
                }
                readers.push(Guesting::new(porter, number as u64 + 2, *reader, place));
            }
        }
        for (after, ns) in &plan.wall_steps {
            queue.plan(START + *after, Event::WallStep { ns: *ns });
        }
        queue.plan(START + plan.end, Event::End);
        Self { now, queue, sites, readers, auditor, bells: Bells::new(), events: 0 }
    }

    fn advance(&mut self, to: Mono) {
        let step = to.since(self.now.mono);
        self.now.mono = to;
        self.now.wall.0 += i64::try_from(step.as_nanos()).unwrap();
    }

    fn step(&mut self, event: Event) {
        self.events += 1;
        match event {
            Event::Site { place, what } => {
                self.sites[place].handle(what, self.now, &mut self.queue);
                self.end_turn(place);
            }
            Event::Reader { number, does } => self.reader(number, does),
            Event::WallStep { ns } => self.now.wall.0 += ns,
            Event::End => {
                for place in 0..self.sites.len() {
                    self.queue.push(self.now.mono, place, What::Act(Act::Stop));
                }
            }
        }
    }

    /// What a shard does at the end of a turn, and then what must hold.
    fn end_turn(&mut self, place: usize) {
        self.sites[place].daemon.feed(self.now, &mut self.bells);
        let units = self.auditor.drain(&mut self.sites, self.now);
        let others =
            units.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, count)| count).sum::<usize>();
        assert_eq!(others, 0, "units of a stream in another's turn");
        self.sites[place].settle(self.now, units[place], &mut self.queue);
        let came = units[place] > 0 || self.sites[place].daemon.is_over;
        for number in (0..self.readers.len()).filter(|_| came) {
            if self.readers[number].site == place {
                self.wake(number);
            }
        }
    }

    fn reader(&mut self, number: usize, does: Does) {
        let reader = &mut self.readers[number];
        let place = reader.site;
        let site = &mut self.sites[place];
        match does {
            Does::Come if site.daemon.is_over => {}
            Does::Come => {
                reader.come(site, self.now);
                self.wake(number);
            }
            Does::Look => {
                reader.is_awake = false;
                if reader.is_there() && reader.look(site, reader.plan().takes) {
                    self.wake(number);
                }
            }
            Does::Go => reader.go(site, self.now),
        }
        self.end_turn(place);
    }

    fn wake(&mut self, number: usize) {
        let reader = &mut self.readers[number];
        if reader.is_there() && !std::mem::replace(&mut reader.is_awake, true) {
            let at = self.now.mono + reader.plan().nap;
            self.queue.plan(at, Event::Reader { number, does: Does::Look });
        }
    }

    fn finish(mut self) -> Outcome {
        assert!(self.sites.iter().all(|site| site.daemon.is_over), "streams that were stopped went on");
        self.end_readers();
        let mut tally = Tally { events: self.events, ..Tally::default() };
        for site in &mut self.sites {
            site.tally.units = site.truth.published.len() as u64;
            site.tally.damaged = site.truth.damaged;
            site.tally.heap_most = site.daemon.heap_most;
            tally.add(&site.tally);
        }
        let healthy = &mut self.sites[0];
        for reader in self.readers.iter().filter(|reader| reader.site == 0) {
            healthy.digest.add(&reader.digest.value());
        }
        Outcome { tally, digest: healthy.digest.value() }
    }

    /// Readers that are still there take what they have, and are given the rest, until they are told of the end.
    fn end_readers(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut has_more = false;
            for reader in self.readers.iter_mut().filter(|reader| reader.is_there()) {
                has_more |= reader.look(&mut self.sites[reader.site], 1000);
            }
            self.now.mono = self.now.mono + Duration::from_millis(200);
            self.sites.iter_mut().for_each(|site| site.daemon.feed(self.now, &mut self.bells));
            if !has_more && self.sites.iter().all(|site| site.daemon.sink.publisher.is_drained()) {
                break;
            }
        }
        for reader in self.readers.iter_mut().filter(|reader| reader.is_there()) {
            let site = &mut self.sites[reader.site];
            reader.look(site, 1000);
            reader.check_end(site);
            reader.go(site, self.now);
        }
    }
}

/// Readers of an ended stream have all that is retained after so many looks.
const ROUNDS_MAX: usize = 100;
