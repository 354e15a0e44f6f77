//! How a camera, its host and its network treat one connection, and what the operator may be told of it.

use std::time::Duration;

use vms_media::ingest::Reason;

use crate::random::Random;

/// One way to misbehave. A camera has some of them in its nature, and shows some of those on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Misdeed {
    // The host and its network.
    Refuse,
    Silent,
    Unreachable,
    Close,
    Reset,
    Vanish,
    Freeze,
    // Answers.
    Mute,
    Slow,
    TooSlow,
    HangUp,
    Forbidden,
    NotFound,
    Busy,
    Overloaded,
    Broken,
    Locked,
    Stale,
    NotRtsp,
    BadSdp,
    NoVideo,
    OtherCodec,
    Datagrams,
    Flood,
    Sloppy,
    OtherChannels,
    Early,
    Redirect,
    Elsewhere,
    Loop,
    Deaf,
    // Media.
    NeverPlays,
    Stall,
    Pause,
    Lose,
    Repeat,
    Corrupt,
    BadVersion,
    Source,
    Jump,
    Time,
    Noise,
    Torn,
    Endless,
    Huge,
    Asks,
    AsksWithoutEnd,
    Foreign,
    Reports,
}

pub(crate) const MISDEEDS: &[Misdeed] = {
    use Misdeed::*;
    &[
        Refuse,
        Silent,
        Unreachable,
        Close,
        Reset,
        Vanish,
        Freeze,
        Mute,
        Slow,
        TooSlow,
        HangUp,
        Forbidden,
        NotFound,
        Busy,
        Overloaded,
        Broken,
        Locked,
        Stale,
        NotRtsp,
        BadSdp,
        NoVideo,
        OtherCodec,
        Datagrams,
        Flood,
        Sloppy,
        OtherChannels,
        Early,
        Redirect,
        Elsewhere,
        Loop,
        Deaf,
        NeverPlays,
        Stall,
        Pause,
        Lose,
        Repeat,
        Corrupt,
        BadVersion,
        Source,
        Jump,
        Time,
        Noise,
        Torn,
        Endless,
        Huge,
        Asks,
        AsksWithoutEnd,
        Foreign,
        Reports,
    ]
};

/// What happens to SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dial {
    #[default]
    Accept,
    Refuse,
    Silent,
    Unreachable,
}

/// How a connection ends from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Reset,
    /// Power cut: nothing gets through any more, and after a while the kernel says so, or never.
    Vanish {
        told: bool,
    },
    /// The camera goes on answering, and sends no more pictures.
    Stall,
    /// As that, for so long.
    Pause(Duration),
    /// Fragments of a picture that never ends.
    Endless,
}

/// What DESCRIBE is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Description {
    #[default]
    Video,
    Rubbish,
    Audio,
    OtherCodec,
}

/// Too much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Line,
    Headers,
    Body,
    Bytes,
}

/// Where DESCRIBE is redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    SameHost,
    OtherHost,
    Loop,
}

/// One in so many packets or pictures; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) lose: u64,
    pub(crate) repeat: u64,
    pub(crate) corrupt: u64,
    pub(crate) bad_version: u64,
    pub(crate) noise: u64,
    pub(crate) torn: u64,
    pub(crate) foreign: u64,
    // Of pictures:
    pub(crate) source: u64,
    pub(crate) jump: u64,
    pub(crate) time: u64,
    pub(crate) huge: u64,
    pub(crate) asks: u64,
}

/// The treatment of one connection. The default is a camera as it should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conduct {
    pub(crate) deeds: Vec<Misdeed>,
    pub(crate) dial: Dial,
    /// Step of the way to PLAY (0 for OPTIONS) that gets no answer, a hang-up, or this status.
    pub(crate) mute: Option<usize>,
    pub(crate) hang_up: Option<usize>,
    pub(crate) status: Option<(usize, u16)>,
    pub(crate) delay: Duration,
    pub(crate) is_locked: bool,
    /// A nonce is good for so many requests.
    pub(crate) nonce_uses: Option<u32>,
    pub(crate) is_not_rtsp: bool,
    pub(crate) description: Description,
    pub(crate) wants_datagrams: bool,
    pub(crate) flood: Option<Flood>,
    /// CSeq missing or wrong, no reason phrase, line feeds only, no Transport, a Session with parameters.
    pub(crate) is_sloppy: bool,
    pub(crate) channel: u8,
    /// Packets come before PLAY is answered.
    pub(crate) is_early: bool,
    pub(crate) redirect: Option<Redirect>,
    /// Keepalives and TEARDOWN get no answer.
    pub(crate) is_deaf: bool,
    pub(crate) freeze: Option<(u32, Duration)>,
    /// After so many pictures.
    pub(crate) end: Option<(u32, End)>,
    pub(crate) rates: Rates,
    pub(crate) asks_without_end: bool,
    /// Sender reports with a clock that is wrong.
    pub(crate) lies_about_time: bool,
}

impl Conduct {
    pub(crate) fn of(deeds: Vec<Misdeed>, random: &mut Random) -> Self {
        let mut conduct = Self::default();
        for deed in &deeds {
            conduct.add(*deed, random);
        }
        conduct.deeds = deeds;
        conduct
    }

    fn add(&mut self, deed: Misdeed, random: &mut Random) {
        let step = random.size(1, 3);
        let pictures = u32::try_from(random.between(1, 40)).unwrap();
        let rate = random.between(4, 30);
        match deed {
            Misdeed::Refuse => self.dial = Dial::Refuse,
            Misdeed::Silent => self.dial = Dial::Silent,
            Misdeed::Unreachable => self.dial = Dial::Unreachable,
            Misdeed::Close => self.end = Some((pictures, End::Close)),
            Misdeed::Reset => self.end = Some((pictures, End::Reset)),
            Misdeed::Vanish => self.end = Some((pictures, End::Vanish { told: random.percent(60) })),
            Misdeed::Freeze => self.freeze = Some((pictures, random.millis(500, 12_000))),
            Misdeed::Mute => self.mute = Some(random.size(0, 3)),
            Misdeed::Slow => self.delay = random.millis(50, 3500),
            Misdeed::TooSlow => self.delay = random.millis(6000, 9000),
            Misdeed::HangUp => self.hang_up = Some(random.size(0, 3)),
            Misdeed::Forbidden => self.status = Some((step, 403)),
            Misdeed::NotFound => self.status = Some((step, 404)),
            Misdeed::Busy => self.status = Some((step, 453)),
            Misdeed::Overloaded => self.status = Some((step, 503)),
            Misdeed::Broken => {
                self.status = Some((random.size(0, 3), random.pick(&[400, 406, 454, 461, 500, 551])))
            }
            Misdeed::Locked => self.is_locked = true,
            Misdeed::Stale => self.nonce_uses = Some(u32::try_from(random.between(1, 3)).unwrap()),
            Misdeed::NotRtsp => self.is_not_rtsp = true,
            Misdeed::BadSdp => self.description = Description::Rubbish,
            Misdeed::NoVideo => self.description = Description::Audio,
            Misdeed::OtherCodec => self.description = Description::OtherCodec,
            Misdeed::Datagrams => self.wants_datagrams = true,
            Misdeed::Flood => {
                self.flood = Some(random.pick(&[Flood::Line, Flood::Headers, Flood::Body, Flood::Bytes]));
            }
            Misdeed::Sloppy => self.is_sloppy = true,
            Misdeed::OtherChannels => self.channel = random.pick(&[2, 8, 10, 254]),
            Misdeed::Early => self.is_early = true,
            Misdeed::Redirect => self.redirect = Some(Redirect::SameHost),
            Misdeed::Elsewhere => self.redirect = Some(Redirect::OtherHost),
            Misdeed::Loop => self.redirect = Some(Redirect::Loop),
            Misdeed::Deaf => self.is_deaf = true,
            Misdeed::NeverPlays => self.end = Some((0, End::Stall)),
            Misdeed::Stall => self.end = Some((pictures, End::Stall)),
            Misdeed::Pause => self.end = Some((pictures, End::Pause(random.millis(3000, 9000)))),
            Misdeed::Endless => self.end = Some((pictures, End::Endless)),
            Misdeed::Lose => self.rates.lose = rate,
            Misdeed::Repeat => self.rates.repeat = rate,
            Misdeed::Corrupt => self.rates.corrupt = rate,
            Misdeed::BadVersion => self.rates.bad_version = rate,
            Misdeed::Noise => self.rates.noise = rate,
            Misdeed::Torn => self.rates.torn = rate,
            Misdeed::Foreign => self.rates.foreign = rate,
            Misdeed::Source => self.rates.source = rate,
            Misdeed::Jump => self.rates.jump = rate,
            Misdeed::Time => self.rates.time = rate,
            Misdeed::Huge => self.rates.huge = rate,
            Misdeed::Asks => self.rates.asks = rate,
            Misdeed::AsksWithoutEnd => self.asks_without_end = true,
            Misdeed::Reports => self.lies_about_time = true,
        }
    }
}

/// Causes that an attempt was given: the operator is to be told one of them, and no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blame(u32);

impl Blame {
    pub(crate) fn add(&mut self, reasons: &[Reason]) {
        for reason in reasons {
            self.0 |= 1 << reason.number();
        }
    }

    pub(crate) fn allows(self, reason: Reason) -> bool {
        self.0 & 1 << reason.number() != 0
    }
}
