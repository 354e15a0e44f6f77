//! Where one file ends and the next begins. Pure.
//!
//! Files are cut at keyframes, each at the one nearest to a multiple of the segment's length in UTC, so that all cameras' files of a
//! minute lie side by side. What a file cannot hold ends it, too: other parameter sets, another timeline, another epoch. Those come
//! with a keyframe as a rule; where one does not, the units up to the next keyframe still go into the old file, because they refer to
//! its pictures.

/// How long files are, and how large at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPolicy {
    /// Files end at multiples of this, in UTC; ns, above 0.
    pub segment_ns: i64,
    /// A file that is this large ends at its next keyframe.
    pub bytes_max: u64,
}

/// What a unit says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitFacts {
    /// Decoding can start here.
    pub is_key: bool,
    /// It comes right behind the last unit that was recorded, by an earlier run of the recorder or into a file that failed.
    pub continues: bool,
    /// Of the stream.
    pub epoch: u64,
    /// Of the media clock.
    pub timeline: u32,
    /// The parameter sets that decode it; 0 unknown.
    pub config_id: u32,
    /// Time of capture, UTC.
    pub wall_utc_ns: i64,
    /// Presentation time in the timeline.
    pub pts_ns: i64,
}

/// Why a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was none.
    First,
    /// A boundary of the clock.
    Boundary,
    /// Other parameter sets.
    Configuration,
    /// The media clock began anew: the camera reconnected, or its timestamps jumped.
    Timeline,
    /// The stream was set up anew, or the daemon was started again.
    Epoch,
    /// The file before is as large as files may be.
    Size,
    /// The recorder was started again, or the disk had failed: what comes first refers to pictures of the file before.
    Resumed,
}

impl Why {
    /// For the catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Boundary => "boundary",
            Self::Configuration => "configuration",
            Self::Timeline => "timeline",
            Self::Epoch => "epoch",
            Self::Size => "size",
            Self::Resumed => "resumed",
        }
    }
}

/// Where a unit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into a new file, of which it is the first unit.
    NewFile(Why),
    /// Into the file that is open.
    OpenFile,
    /// Nowhere: there is no file, and it is no keyframe.
    NoKeyframe,
    /// Nowhere: there is no file, and nobody knows the parameter sets that decode it.
    NoConfiguration,
}

/// Decides for the units of one stream, in their order.
#[derive(Clone, Debug)]
pub struct Cutter {
    policy: CutPolicy,
    open: Option<OpenFile>,
}

#[derive(Clone, Copy, Debug)]
struct OpenFile {
    epoch: u64,
    timeline: u32,
    config_id: u32,
    first_pts_ns: i64,
    /// Where the file is to end, UTC.
    boundary_ns: i64,
    last_key_utc_ns: i64,
}

impl Cutter {
    /// No file is open.
    pub const fn new(policy: CutPolicy) -> Self {
        Self { policy, open: None }
    }

    /// Where a unit goes, if the open file has `file_len` bytes.
    pub fn place(&mut self, unit: &UnitFacts, file_len: u64) -> Place {
        let why = match &self.open {
            None if unit.is_key => Some(Why::First),
            None if unit.continues => Some(Why::Resumed),
            None => return Place::NoKeyframe,
            Some(_) if !unit.is_key => None,
            Some(open) => open.ends(unit, file_len, self.policy),
        };
        if let Some(why) = why {
            if unit.config_id == 0 && self.open.is_none() {
                return Place::NoConfiguration;
            }
            self.open = Some(OpenFile::begin(unit, self.policy));
            return Place::NewFile(why);
        }
        if let Some(open) = self.open.as_mut().filter(|_| unit.is_key) {
            open.last_key_utc_ns = unit.wall_utc_ns;
        }
        Place::OpenFile
    }

    /// The open file was closed: the next one begins at the next keyframe.
    pub const fn close(&mut self) {
        self.open = None;
    }
}

impl OpenFile {
    /// A file that begins a little before a boundary, or less than half a segment behind one, is not cut at that boundary's neighbour.
    const fn begin(unit: &UnitFacts, policy: CutPolicy) -> Self {
        let segment_ns = if policy.segment_ns > 0 { policy.segment_ns } else { 1 };
        let nearest = unit.wall_utc_ns.saturating_add(segment_ns / 2).div_euclid(segment_ns);
        Self {
            epoch: unit.epoch,
            timeline: unit.timeline,
            config_id: unit.config_id,
            first_pts_ns: unit.pts_ns,
            boundary_ns: nearest.saturating_add(1).saturating_mul(segment_ns),
            last_key_utc_ns: unit.wall_utc_ns,
        }
    }

    /// Whether the file ends before this keyframe.
    fn ends(&self, key: &UnitFacts, file_len: u64, policy: CutPolicy) -> Option<Why> {
        // Where a wall clock was set back, media time ends the file.
        let media_ns = key.pts_ns.saturating_sub(self.first_pts_ns);
        let is_long = media_ns >= policy.segment_ns.saturating_mul(2);
        match () {
            () if key.epoch != self.epoch => Some(Why::Epoch),
            () if key.timeline != self.timeline => Some(Why::Timeline),
            // An unknown one is no other one.
            () if key.config_id != self.config_id && key.config_id != 0 => Some(Why::Configuration),
            () if is_long || self.is_nearest(key) => Some(Why::Boundary),
            () if file_len >= policy.bytes_max => Some(Why::Size),
            () => None,
        }
    }

    /// Whether no keyframe to come is nearer to the boundary, if they come as they did.
    const fn is_nearest(&self, key: &UnitFacts) -> bool {
        let before_ns = self.boundary_ns.saturating_sub(key.wall_utc_ns);
        let interval_ns = key.wall_utc_ns.saturating_sub(self.last_key_utc_ns);
        before_ns <= interval_ns.saturating_sub(before_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const POLICY: CutPolicy = CutPolicy { segment_ns: 60 * S, bytes_max: 1000 };
    /// A multiple of a minute.
    const NOON: i64 = 1_700_006_400 * S;

    /// A unit so long after noon.
    fn unit(after_ns: i64, is_key: bool) -> UnitFacts {
        UnitFacts {
            is_key,
            continues: false,
            epoch: 1,
            timeline: 1,
            config_id: 1,
            wall_utc_ns: NOON + after_ns,
            pts_ns: after_ns,
        }
    }

    /// When files begin, if a keyframe comes so often, from `from_ns` on for 10 minutes.
    fn begins(from_ns: i64, interval_ns: i64) -> Vec<i64> {
        let mut cutter = Cutter::new(POLICY);
        let keys = (0..).map(|n| from_ns + n * interval_ns).take_while(|at| *at < from_ns + 600 * S);
        keys.filter(|at| matches!(cutter.place(&unit(*at, true), 0), Place::NewFile(_))).collect()
    }

    #[test]
    fn files_begin_at_the_keyframe_nearest_to_a_minute() {
        for interval_ns in [S / 25, S, 2 * S, 7 * S, 50 * S] {
            for from_ns in [0, 10 * S, 29 * S, 31 * S, 59 * S] {
                let begins = begins(from_ns, interval_ns);
                assert!(begins.len() >= 7, "{interval_ns} {from_ns}: {begins:?}");
                for at in &begins[1..] {
                    let off = (at + 30 * S).rem_euclid(60 * S) - 30 * S;
                    assert!(off.abs() * 2 <= interval_ns, "{interval_ns} {from_ns}: {off} in {begins:?}");
                }
            }
        }
    }

    #[test]
    fn keyframes_further_apart_than_a_segment_make_files_of_their_own() {
        assert_eq!(begins(0, 90 * S), [0, 90 * S, 180 * S, 270 * S, 360 * S, 450 * S, 540 * S]);
    }

    #[test]
    fn nothing_begins_without_a_keyframe_and_its_parameter_sets() {
        let mut cutter = Cutter::new(POLICY);
        assert_eq!(cutter.place(&unit(0, false), 0), Place::NoKeyframe);
        assert_eq!(cutter.place(&UnitFacts { config_id: 0, ..unit(0, true) }, 0), Place::NoConfiguration);
        assert_eq!(cutter.place(&unit(0, false), 0), Place::NoKeyframe);
        assert_eq!(cutter.place(&unit(0, true), 0), Place::NewFile(Why::First));
        assert_eq!(cutter.place(&unit(S, false), 0), Place::OpenFile);
        assert_eq!(cutter.place(&UnitFacts { config_id: 0, ..unit(2 * S, true) }, 0), Place::OpenFile);
        cutter.close();
        assert_eq!(cutter.place(&unit(3 * S, false), 0), Place::NoKeyframe);
    }

    #[test]
    fn what_comes_right_behind_what_was_recorded_needs_no_keyframe() {
        let mut cutter = Cutter::new(POLICY);
        assert_eq!(
            cutter.place(&UnitFacts { continues: true, ..unit(0, false) }, 0),
            Place::NewFile(Why::Resumed)
        );
        assert_eq!(cutter.place(&unit(S, true), 0), Place::OpenFile);
    }

    #[test]
    fn what_a_file_cannot_hold_ends_it_at_the_next_keyframe() {
        let changes = [
            (UnitFacts { epoch: 2, ..unit(S, true) }, Why::Epoch),
            (UnitFacts { timeline: 2, ..unit(S, true) }, Why::Timeline),
            (UnitFacts { config_id: 2, ..unit(S, true) }, Why::Configuration),
        ];
        for (changed, why) in changes {
            let mut cutter = Cutter::new(POLICY);
            cutter.place(&unit(0, true), 0);
            let before = UnitFacts { is_key: false, ..changed };
            assert_eq!(cutter.place(&before, 0), Place::OpenFile, "it refers to pictures of this file");
            assert_eq!(cutter.place(&changed, 0), Place::NewFile(why));
            assert_eq!(cutter.place(&UnitFacts { wall_utc_ns: NOON + 2 * S, ..changed }, 0), Place::OpenFile);
        }
        let mut cutter = Cutter::new(POLICY);
        cutter.place(&unit(0, true), 0);
        assert_eq!(cutter.place(&unit(S, true), 999), Place::OpenFile);
        assert_eq!(cutter.place(&unit(2 * S, true), 1000), Place::NewFile(Why::Size));
    }

    #[test]
    fn a_wall_clock_that_is_set_does_not_stretch_files() {
        let mut cutter = Cutter::new(POLICY);
        let mut begins = Vec::new();
        for n in 0..1000 {
            // After 100 s it is set back by an hour, after 500 s ahead by a day.
            let step = match n {
                0..100 => 0,
                100..500 => -3600,
                _ => 86_400,
            };
            let key = UnitFacts { wall_utc_ns: NOON + (n + step) * S, ..unit(n * S, true) };
            if matches!(cutter.place(&key, 0), Place::NewFile(_)) {
                begins.push(n);
            }
        }
        let longest = begins.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest <= Some(120), "{begins:?}");
    }

    #[test]
    fn no_clock_is_too_strange() {
        for wall_utc_ns in [i64::MIN, -1, 0, i64::MAX] {
            for segment_ns in [i64::MIN, 0, 1, i64::MAX] {
                let mut cutter = Cutter::new(CutPolicy { segment_ns, bytes_max: 0 });
                for pts_ns in [0, i64::MIN, i64::MAX] {
                    cutter.place(&UnitFacts { wall_utc_ns, pts_ns, ..unit(0, true) }, 0);
                }
            }
        }
    }
}
