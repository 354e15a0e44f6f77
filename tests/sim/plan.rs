//! What a seed decides before anything happens: cameras, their natures, readers, what the operator does.

use std::time::Duration;

use ring_abi::join::{Damaged, From, Join};
use ring_abi::layout::Class;
use vms_media::codec::Codec;

use crate::conduct::{Conduct, MISDEEDS, Misdeed};
use crate::random::Random;
use crate::video::{Dressing, Sizes};

/// One run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// When everything is stopped.
    pub(crate) end: Duration,
    /// The first is healthy.
    pub(crate) cameras: Vec<CameraPlan>,
    /// Steps of the daemon's wall clock, ns.
    pub(crate) wall_steps: Vec<(Duration, i64)>,
}

/// One camera, its network, its stream's readers and what the operator does with it.
#[derive(Clone, Debug)]
pub(crate) struct CameraPlan {
    /// Of the lanes of random numbers, and in the camera's address.
    pub(crate) number: u8,
    pub(crate) codec: Codec,
    pub(crate) sizes: Sizes,
    pub(crate) frame: Duration,
    pub(crate) dressing: Dressing,
    pub(crate) sends_markers: bool,
    pub(crate) reports: bool,
    pub(crate) login: Login,
    pub(crate) has_name: bool,
    /// Delay of the network and how much of it varies.
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// Most pieces that a write arrives in.
    pub(crate) pieces: usize,
    /// How late the shard is, at most.
    pub(crate) lateness: Duration,
    pub(crate) nature: Vec<Misdeed>,
    /// Percent of the connections, and of the look-ups, on which it shows.
    pub(crate) mischief: u64,
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) readers: Vec<ReaderPlan>,
}

/// How the camera asks who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    Basic,
    Digest,
}

/// What the operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Restart,
    Stop,
}

/// A reader that does as it likes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReaderPlan {
    pub(crate) join: Join,
    pub(crate) comes: Duration,
    pub(crate) goes: Option<Duration>,
    /// It looks every so often, and takes so many units at most.
    pub(crate) nap: Duration,
    pub(crate) takes: usize,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::lane(seed, 0);
        // Back-off of an hour takes hours: cameras that send video are stopped early in such a run.
        let is_long = random.one_in(10);
        let end = if is_long { random.millis(3_600_000, 14_400_000) } else { random.millis(8_000, 45_000) };
        let others = u8::try_from(random.between(1, 2)).unwrap();
        let cameras = (0..=others).map(|number| CameraPlan::of(seed, number, end, is_long)).collect();
        let wall_steps = (0..random.between(0, 3))
            .map(|_| {
                let step_s = i64::try_from(random.between(0, 14_400)).unwrap() - 7200;
                (random.millis(0, 40_000), step_s * 1_000_000_000 + 123)
            })
            .collect();
        Self { seed, end, cameras, wall_steps }
    }

    /// The same without the other cameras.
    pub(crate) fn alone(&self) -> Self {
        let cameras = self.cameras[..1].to_vec();
        Self { seed: self.seed, end: self.end, cameras, wall_steps: self.wall_steps.clone() }
    }
}

impl CameraPlan {
    fn of(seed: u64, number: u8, end: Duration, is_long: bool) -> Self {
        let mut random = Random::lane(seed, 10 + u64::from(number));
        let is_healthy = number == 0;
        let nature: Vec<Misdeed> = if is_healthy {
            Vec::new()
        } else {
            (0..random.between(1, 4)).map(|_| random.pick(MISDEEDS)).collect()
        };
        let nature = if is_long && !is_healthy { vec![random.pick(FRUITLESS)] } else { nature };
        let end_ms = u64::try_from(end.as_millis()).unwrap();
        let mut acts = Vec::new();
        if is_long && is_healthy {
            acts.push((random.millis(5_000, 20_000), Act::Stop));
        } else if !is_healthy {
            for _ in 0..random.pick(&[0, 0, 0, 1, 2]) {
                acts.push((random.millis(0, end_ms), Act::Restart));
            }
            if random.one_in(5) {
                acts.push((random.millis(0, end_ms), Act::Stop));
            }
        }
        Self {
            number,
            codec: random.pick(&[Codec::H264, Codec::H265]),
            sizes: Sizes {
                key: random.size(60, 2500),
                delta: random.size(20, 900),
                packet: random.size(100, 1400),
                slices: random.pick(&[1, 1, 2, 3]),
                gop: u32::try_from(random.between(2, 20)).unwrap(),
            },
            frame: random.millis(120, 1000),
            dressing: random.pick(&[
                Dressing::Plain,
                Dressing::Plain,
                Dressing::Extension,
                Dressing::Sources,
                Dressing::Padding,
            ]),
            sends_markers: !random.one_in(12),
            reports: random.percent(50),
            login: random.pick(&[Login::None, Login::Basic, Login::Digest]),
            has_name: random.one_in(3),
            delay: random.millis(0, 40),
            jitter: random.millis(0, 30),
            pieces: random.size(1, 6),
            lateness: if random.percent(50) { Duration::ZERO } else { random.millis(0, 5) },
            mischief: match (is_healthy, is_long) {
                (true, _) => 0,
                (false, true) => 100,
                (false, false) => random.pick(&[20, 60, 90, 100]),
            },
            nature,
            acts,
            readers: (0..random.between(0, 2))
                .map(|_| ReaderPlan::of(&mut random, end_ms.min(40_000)))
                .collect(),
        }
    }

    /// What the camera and the network do with the next connection.
    pub(crate) fn conduct(&self, random: &mut Random) -> Conduct {
        let shown = self.nature.iter().copied().filter(|_| random.percent(self.mischief)).collect();
        Conduct::of(shown, random)
    }
}

/// Natures that send no video at all, for runs of hours.
const FRUITLESS: &[Misdeed] = {
    use Misdeed::*;
    &[
        Refuse, Silent, Forbidden, NotFound, Busy, Overloaded, Locked, NoVideo, OtherCodec, Datagrams,
        BadSdp, NotRtsp, Elsewhere,
    ]
};

impl ReaderPlan {
    fn of(random: &mut Random, end_ms: u64) -> Self {
        let class = random.pick(&[Class::Live, Class::Archive]);
        let from =
            random.pick(&[From::Live, From::Keyframe, From::Oldest, From::Preroll { ns: 3_000_000_000 }]);
        let mut join = Join { ring_slots: random.pick(&[8, 16, 64]), ..Join::new(class, from) };
        join.filters.keyframes_only = random.one_in(6);
        join.filters.everything = random.one_in(6) && !join.filters.keyframes_only;
        if random.one_in(4) {
            join.filters.damaged = random.pick(&[Damaged::Pass, Damaged::SkipToKeyframe]);
        }
        let comes = random.millis(0, end_ms);
        let stays = random.millis(100, end_ms);
        Self {
            join,
            comes,
            goes: random.percent(60).then_some(comes + stays),
            nap: random.millis(20, 8000),
            takes: random.size(1, 40),
        }
    }
}
