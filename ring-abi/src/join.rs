//! Where a reader enters a stream and what it wants of it: values that both sides and the handshake share. Pure.

use crate::layout::Class;

/// Where a reader enters a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// At the next keyframe that is committed.
    Live,
    /// At the newest retained keyframe: a picture at once.
    #[default]
    Keyframe,
    /// At the oldest retained keyframe.
    Oldest,
    /// At the newest retained keyframe that is at least this old, else the oldest.
    Preroll {
        /// Age in nanoseconds, by receive time, counted back from the newest unit.
        ns: u64,
    },
    /// Behind a unit that an earlier attachment had seen; at the oldest when that is no longer possible.
    After {
        /// Epoch of the earlier attachment.
        epoch: u64,
        /// The last unit that was dealt with.
        seq: u64,
    },
}

/// What the producer does with damaged video units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Damaged {
    /// They are passed, flagged.
    #[default]
    Pass,
    /// They are withheld with all that follow until an undamaged keyframe.
    SkipToKeyframe,
}

/// What is withheld from a reader, by the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Video units other than keyframes are withheld.
    pub keyframes_only: bool,
    /// Damaged units.
    pub damaged: Damaged,
    /// Bit n: track n is wanted.
    pub tracks: u64,
    /// Nothing is held back to wait for a keyframe, neither at the start nor after a loss, by neither side.
    pub everything: bool,
}

impl Filters {
    /// The defaults of a class: archives take damaged units, live views skip to the next keyframe.
    pub const fn of_class(class: Class) -> Self {
        let damaged = match class {
            Class::Live => Damaged::SkipToKeyframe,
            Class::Archive => Damaged::Pass,
        };
        Self { keyframes_only: false, damaged, tracks: u64::MAX, everything: false }
    }
}

/// All that a reader says when it attaches to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Where it enters.
    pub from: From,
    /// What it prefers when it cannot keep up.
    pub class: Class,
    /// What it does not want.
    pub filters: Filters,
    /// Slots of its descriptor ring; rounded up to a power of two within the limits.
    pub ring_slots: u32,
    /// A live reader further behind than this jumps to the newest keyframe; ns.
    pub lag_max_ns: u64,
}

impl Join {
    /// Slots of a descriptor ring unless asked for otherwise.
    pub const RING_SLOTS_DEFAULT: u32 = 128;
    /// Lag after which a live reader jumps unless asked for otherwise, ns.
    pub const LAG_MAX_NS_DEFAULT: u64 = 3_000_000_000;

    /// The defaults of a class, entering at `from`.
    pub const fn new(class: Class, from: From) -> Self {
        Self {
            from,
            class,
            filters: Filters::of_class(class),
            ring_slots: Self::RING_SLOTS_DEFAULT,
            lag_max_ns: Self::LAG_MAX_NS_DEFAULT,
        }
    }
}

impl Default for Join {
    /// A live reader that wants a picture at once.
    fn default() -> Self {
        Self::new(Class::Live, From::Keyframe)
    }
}
