//! What a fault is: its name, what it says about itself, and the one thing that it does.

use std::fmt;
use std::ops::RangeInclusive;

use crate::answer::{Answer, Ask};
use crate::player::Source;
use crate::rng::Rng;
use crate::rtcp::Reports;
use crate::wire::Wire;

/// A kind of misbehaviour: a line of one of the tables in this folder.
pub(crate) struct Kind {
    /// As it is asked for.
    pub(crate) name: &'static str,
    /// What stands behind `=`.
    pub(crate) value: Value,
    /// Rows of `docs/cameras.md` with the cameras that do this; empty for what networks and operators do.
    pub(crate) rows: &'static [u8],
    /// What the camera does, for `--fault list`.
    pub(crate) says: &'static str,
    pub(crate) act: Act,
}

/// Where a fault sets in. Each function gets the fault's value with what it may bend.
pub(crate) enum Act {
    /// The answer to a request, before it is written.
    Answer(On, fn(&Ask<'_>, &mut Answer)),
    /// The stream at PLAY, before its first unit.
    Start(fn(&mut Source)),
    /// The stream, each so many units.
    Source(fn(&mut Source, &mut Rng)),
    /// The packets of every unit.
    Unit(fn(&mut Wire<'_>)),
    /// The packets of a unit, each so many.
    Nth(fn(&mut Wire<'_>)),
    /// Sender reports.
    Report(fn(&mut Reports)),
    /// What takes more than bending one message: see [`Life`] and who asks for it.
    Life(Life),
}

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// All.
    Any,
    /// OPTIONS before PLAY.
    Options,
    /// DESCRIBE.
    Describe,
    /// SETUP.
    Setup,
    /// PLAY.
    Play,
    /// OPTIONS, `GET_PARAMETER` and `SET_PARAMETER` after PLAY.
    Keepalive,
}

/// What a camera, its connections or its power do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its connections are closed, at a moment.
    Close,
    /// The same with RST.
    Reset,
    /// Nobody gets in.
    Refuse,
    /// Its connections are reset, and nobody gets in.
    PowerCut,
    /// No video is sent.
    Stall,
    /// Nothing is sent and nothing answered.
    Mute,
    /// Like [`Self::Close`] after so many units.
    CloseAfter,
    /// Like [`Self::Reset`] after so many units.
    ResetAfter,
    /// Like [`Self::Stall`] after so many units.
    StallAfter,
    /// Answers come so many milliseconds late.
    SlowAnswers,
    /// So many sessions at once, and those that were not torn down count until they time out.
    SessionLimit,
    /// No credentials are good.
    WrongPassword,
    /// A nonce is good for so many seconds.
    StaleNonce,
    /// Video comes before the answer to PLAY.
    EarlyMedia,
    /// Hangs up unless RTCP comes within so many seconds.
    NeedsReports,
    /// Hangs up unless a request comes within so many seconds.
    NeedsKeepalive,
    /// Each so many units the picture has another size.
    ResolutionChange,
}

/// What stands behind `=`.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing.
    None,
    /// This word.
    Word(&'static str),
    /// A number.
    Number {
        /// Of what, in capitals.
        what: &'static str,
        /// When no number is given; `None`: one must be.
        default: Option<u64>,
        range: RangeInclusive<u64>,
    },
}

impl Kind {
    pub(crate) const fn life(
        name: &'static str,
        value: Value,
        rows: &'static [u8],
        says: &'static str,
        life: Life,
    ) -> Self {
        Self { name, value, rows, says, act: Act::Life(life) }
    }

    pub(crate) const fn answer(
        name: &'static str,
        rows: &'static [u8],
        says: &'static str,
        on: On,
        bend: fn(&Ask<'_>, &mut Answer),
    ) -> Self {
        Self { name, value: Value::None, rows, says, act: Act::Answer(on, bend) }
    }

    pub(crate) const fn unit(
        name: &'static str,
        rows: &'static [u8],
        says: &'static str,
        bend: fn(&mut Wire<'_>),
    ) -> Self {
        Self { name, value: Value::None, rows, says, act: Act::Unit(bend) }
    }

    /// Before or in every eighth unit unless another number is given.
    pub(crate) const fn nth(
        name: &'static str,
        rows: &'static [u8],
        says: &'static str,
        bend: fn(&mut Wire<'_>),
    ) -> Self {
        Self { name, value: UNITS, rows, says, act: Act::Nth(bend) }
    }

    pub(crate) const fn source(
        name: &'static str,
        rows: &'static [u8],
        says: &'static str,
        bend: fn(&mut Source, &mut Rng),
    ) -> Self {
        Self { name, value: UNITS, rows, says, act: Act::Source(bend) }
    }

    pub(crate) const fn report(
        name: &'static str,
        rows: &'static [u8],
        says: &'static str,
        bend: fn(&mut Reports),
    ) -> Self {
        Self { name, value: Value::None, rows, says, act: Act::Report(bend) }
    }

    pub(crate) const fn with(mut self, value: Value) -> Self {
        self.value = value;
        self
    }

    /// It happens, and is over.
    pub(crate) const fn is_momentary(&self) -> bool {
        matches!(self.act, Act::Life(Life::Close | Life::Reset))
    }

    /// It bends what happens to logins, and there must be some.
    pub(crate) fn needs_login(&self) -> bool {
        self.says.ends_with(NEEDS_LOGIN)
    }

    /// It changes packets of video.
    pub(crate) const fn bends_units(&self) -> bool {
        matches!(self.act, Act::Unit(_) | Act::Nth(_))
    }
}

impl Value {
    pub(crate) const fn number(what: &'static str, min: u64, max: u64) -> Self {
        Self::Number { what, default: None, range: RangeInclusive::new(min, max) }
    }

    pub(crate) const fn or(self, default: u64) -> Self {
        match self {
            Self::Number { what, range, .. } => Self::Number { what, default: Some(default), range },
            Self::None | Self::Word(_) => self,
        }
    }

    /// The value that `text` stands for.
    pub(crate) fn parse(&self, text: Option<&str>) -> Option<u64> {
        match (self, text) {
            (Self::None, None) => Some(0),
            (Self::Word(word), Some(text)) => (text == *word).then_some(0),
            (Self::Number { default, .. }, None) => *default,
            (Self::Number { range, .. }, Some(text)) => text.parse().ok().filter(|n| range.contains(n)),
            (Self::None, Some(_)) | (Self::Word(_), None) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no value"),
            Self::Word(word) => write!(f, "={word}"),
            Self::Number { what, default, range } => {
                write!(f, "={what}, {} to {}", range.start(), range.end())?;
                default.map_or(Ok(()), |default| write!(f, " ({default} unless given)"))
            }
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How a fault says so.
const NEEDS_LOGIN: &str = "; needs --user";
/// Each so many units.
pub(crate) const UNITS: Value = Value::number("UNITS", 1, COUNT_MAX).or(8);
/// Units, packets, sessions.
pub(crate) const COUNT_MAX: u64 = 1_000_000_000;
