//! What a farm consists of, checked: read once, never looked at as text again.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use crate::clock::NS_PER_SECOND;
use crate::faults::spec::Fault;

/// A farm of simulated cameras.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The clips, each a path of its own; empty: the two built-in clips as `/h264` and `/h265`.
    pub media: Vec<MediaSpec>,
    /// Further paths `/cam0` … `/cam(N-1)`; camera i shows clip i mod the number of clips.
    pub cameras: u32,
    /// Pad each clip to this mean bit rate, in bits per second.
    pub bitrate: Option<u64>,
    /// Who may watch; everybody when `None`.
    pub access: Option<Access>,
    /// The session timeout that SETUP announces, in seconds. It ends no session, but [session limits](Fault) know it.
    pub session_timeout_s: u64,
    /// Put a stamp into each access unit.
    pub stamp: bool,
    /// Show the clip once, send BYE and close; else loop for ever.
    pub once: bool,
    /// How access units are handed to the kernel.
    pub write: WriteMode,
    /// How this farm misbehaves.
    pub faults: Vec<Fault>,
    /// A port for each camera as well, chosen by the system: such a camera can refuse connections by itself.
    pub own_ports: bool,
    /// Source of phases, session ids, nonces and first sequence numbers.
    pub seed: u64,
}

impl Config {
    /// A farm that behaves: the built-in clips with stamps, looping, open to everybody.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            media: Vec::new(),
            cameras: 0,
            bitrate: None,
            access: None,
            session_timeout_s: 60,
            stamp: true,
            once: false,
            write: WriteMode::Unit,
            faults: Vec::new(),
            own_ports: false,
            seed: 1,
        }
    }
}

/// One clip: `NAME=FILE[:FPS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSpec {
    /// Path of the camera that shows it.
    pub name: String,
    /// Annex B elementary stream; the extension tells the codec.
    pub file: PathBuf,
    /// Pictures per second.
    pub fps: Fps,
}

impl FromStr for MediaSpec {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, rest) = text.split_once('=').ok_or(ParseError("expected NAME=FILE[:FPS]"))?;
        if name.is_empty() || name.contains(['/', '?']) || rest.is_empty() {
            return Err(ParseError("expected NAME=FILE[:FPS], NAME without / and ?"));
        }
        // A file may have a colon in its name: only what parses as a rate is one.
        let (file, fps) = match rest.rsplit_once(':') {
            Some((file, fps)) => fps.parse().map_or((rest, Fps::default()), |fps| (file, fps)),
            None => (rest, Fps::default()),
        };
        Ok(Self { name: name.to_owned(), file: file.into(), fps })
    }
}

/// Pictures per second as a fraction: `25` or `30000/1001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fps {
    /// Pictures in [`denominator`](Self::denominator) seconds.
    pub numerator: NonZeroU32,
    /// Seconds.
    pub denominator: NonZeroU32,
}

impl Fps {
    /// When unit number `position` is due, in nanoseconds after the first.
    pub(crate) fn due_ns(self, position: u64) -> u64 {
        self.scale(position, NS_PER_SECOND)
    }

    /// RTP time of unit number `position` in ticks of 90 kHz after the first.
    pub(crate) fn ticks(self, position: u64) -> u64 {
        self.scale(position, CLOCK_RATE.into())
    }

    /// Truncated to 64 bits; at 1000 pictures a second that is after half a million years.
    #[expect(clippy::cast_possible_truncation, reason = "wraps when nobody is left to watch")]
    fn scale(self, position: u64, per_second: u64) -> u64 {
        let units = u128::from(position) * u128::from(per_second) * u128::from(self.denominator.get());
        (units / u128::from(self.numerator.get())) as u64
    }
}

impl Default for Fps {
    fn default() -> Self {
        const DEFAULT: NonZeroU32 = NonZeroU32::new(25).expect("25 is not 0");
        Self { numerator: DEFAULT, denominator: NonZeroU32::MIN }
    }
}

impl FromStr for Fps {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        let parse =
            |part: &str| part.parse().map_err(|_| ParseError("expected a rate such as 25 or 30000/1001"));
        Ok(Self { numerator: parse(numerator)?, denominator: parse(denominator)? })
    }
}

/// Bits per second: `500k`, `4M`, `1200000`.
///
/// # Errors
/// Anything else, and what does not fit 64 bits.
pub fn parse_bitrate(text: &str) -> Result<u64, ParseError> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or(ParseError("expected bits per second such as 500k, 4M or 1200000"))
}

/// Who may watch, and how that is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// User name.
    pub user: String,
    /// Password; a test password, printed by `Debug`.
    pub password: String,
    /// Which scheme the farm demands.
    pub scheme: Scheme,
    /// After this many seconds a nonce is refused as stale; `None`: never.
    pub nonce_lifetime_s: Option<u64>,
}

/// Authentication scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 7617.
    Basic,
    /// RFC 7616 with MD5.
    DigestMd5,
    /// RFC 7616 with SHA-256.
    DigestSha256,
}

/// How an access unit is handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// In one write, as far as the socket takes it.
    Unit,
    /// In pieces of 1448 bytes, a full TCP segment on Ethernet, one write each.
    Segment,
}

/// A word on the command line that means nothing; the text says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) &'static str);

/// RTP clock of both codecs, in hertz (RFC 6184 8.1, RFC 7798 7.1).
pub(crate) const CLOCK_RATE: u32 = 90_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_specs() {
        let spec: MediaSpec = "a=/x/b:c.h264:30000/1001".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.file.to_str()), ("a", Some("/x/b:c.h264")));
        assert_eq!(spec.fps.denominator.get(), 1001);
        let spec: MediaSpec = "a=b:c.h264".parse().unwrap();
        assert_eq!((spec.file.to_str(), spec.fps), (Some("b:c.h264"), Fps::default()));
        for bad in ["", "a", "=b", "a/b=c", "a="] {
            assert!(bad.parse::<MediaSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bit_rates() {
        assert_eq!(parse_bitrate("4M"), Ok(4_000_000));
        assert_eq!(parse_bitrate("500k"), Ok(500_000));
        assert_eq!(parse_bitrate("7"), Ok(7));
        assert!(
            parse_bitrate("").is_err()
                && parse_bitrate("M").is_err()
                && parse_bitrate("99999999999999M").is_err()
        );
    }

    #[test]
    fn times_do_not_drift() {
        let ntsc: Fps = "30000/1001".parse().unwrap();
        assert_eq!(ntsc.ticks(30_000), 1001 * 90_000);
        assert_eq!(ntsc.due_ns(30_000), 1001 * NS_PER_SECOND);
        assert!("0".parse::<Fps>().is_err() && "25/0".parse::<Fps>().is_err());
    }
}
