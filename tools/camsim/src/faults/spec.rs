//! A fault as it is asked for: `[CAMERAS:]NAME[=VALUE][@START][+DURATION][/EVERY]`.

use std::fmt;
use std::str::FromStr;

use super::kind::{Kind, Value};
use crate::clock::NS_PER_SECOND;

/// Which fault, on which cameras, when. Made from text: `garbage`, `lose=7`, `cam3,cam5:stall@10s+5s/30s`.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) kind: &'static Kind,
    /// 0 when the kind takes none.
    pub(crate) value: u64,
    /// Names; empty: all cameras.
    pub(crate) cameras: Vec<String>,
    pub(crate) times: Times,
}

/// When a fault holds, in nanoseconds after its origin: the farm's start, or the command that asked for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// 0 unless given.
    pub(crate) start_ns: u64,
    /// `None`: for ever; 0 for what happens at a moment.
    pub(crate) duration_ns: Option<u64>,
    /// From one beginning to the next; `None`: once.
    pub(crate) every_ns: Option<u64>,
}

/// Why a text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// No fault has this name.
    #[error("no fault is called {name:?}; `vms-camsim --fault list` prints all")]
    Unknown {
        /// What stood there.
        name: String,
    },
    /// The value is missing, superfluous, or out of range.
    #[error("{name} takes {expected}")]
    BadValue {
        /// The fault.
        name: &'static str,
        /// What it takes.
        expected: String,
    },
    /// A time that cannot be read.
    #[error("{text:?} is no time; write 10s, 500ms or 2m")]
    BadTime {
        /// What stood there.
        text: String,
    },
    /// A time that does not fit the fault.
    #[error("{name}: {why}")]
    WrongTime {
        /// The fault.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Fault {
    /// A kind that holds from now on.
    pub(crate) const fn now(kind: &'static Kind, cameras: Vec<String>) -> Self {
        let times = Times { start_ns: 0, duration_ns: None, every_ns: None };
        Self { kind, value: 0, cameras, times }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (cameras, text) = text.rsplit_once(':').unwrap_or(("", text));
        let (what, times) = text.split_at(text.find(['@', '+', '/']).unwrap_or(text.len()));
        let (name, value) = what.split_once('=').map_or((what, None), |(name, value)| (name, Some(value)));
        let kind = super::find(name).ok_or_else(|| FaultError::Unknown { name: name.to_owned() })?;
        let value = kind
            .value
            .parse(value)
            .ok_or_else(|| FaultError::BadValue { name: kind.name, expected: kind.value.to_string() })?;
        let times = parse_times(kind, times)?;
        let names = cameras.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != ALL);
        Ok(Self { kind, value, cameras: names.map(str::to_owned).collect(), times })
    }
}

/// What it is, without cameras and times: `lose=7`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind.value {
            Value::None => f.write_str(self.kind.name),
            Value::Word(word) => write!(f, "{}={word}", self.kind.name),
            Value::Number { .. } => write!(f, "{}={}", self.kind.name, self.value),
        }
    }
}

/// `@START`, `+DURATION`, `/EVERY`, in this order.
fn parse_times(kind: &Kind, text: &str) -> Result<Times, FaultError> {
    let wrong = |why| Err(FaultError::WrongTime { name: kind.name, why });
    let (rest, every) = part(text, '/');
    let (rest, duration) = part(rest, '+');
    let (rest, start) = part(rest, '@');
    if !rest.is_empty() {
        return Err(FaultError::BadTime { text: text.to_owned() });
    }
    let [start, duration, every] = [start, duration, every].map(|text| text.map(parse_time).transpose());
    let (start, mut duration, every) = (start?, duration?, every?);
    if kind.is_momentary() {
        if duration.is_some() {
            return wrong("it happens at a moment and takes no +DURATION");
        }
        duration = Some(0);
    }
    if let Some(every) = every
        && duration.is_none_or(|duration| duration >= every)
    {
        return wrong("/EVERY needs a +DURATION that is shorter");
    }
    Ok(Times { start_ns: start.unwrap_or(0), duration_ns: duration, every_ns: every })
}

fn part(text: &str, sign: char) -> (&str, Option<&str>) {
    text.split_once(sign).map_or((text, None), |(before, part)| (before, Some(part)))
}

/// `10s`, `500ms`, `2m`, `1h` in nanoseconds.
fn parse_time(text: &str) -> Result<u64, FaultError> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ns = match unit {
        "ms" => Some(NS_PER_SECOND / 1000),
        "s" => Some(NS_PER_SECOND),
        "m" => Some(60 * NS_PER_SECOND),
        "h" => Some(3600 * NS_PER_SECOND),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number <= TIME_MAX);
    let time = number.zip(unit_ns).and_then(|(number, unit_ns)| number.checked_mul(unit_ns));
    time.ok_or_else(|| FaultError::BadTime { text: text.to_owned() })
}

/// Every camera, by this name in commands.
pub(crate) const ALL: &str = "all";
/// Of any unit. With it no sum of times overflows.
const TIME_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Result<Fault, FaultError> {
        text.parse()
    }

    #[test]
    fn who_what_and_when() {
        let fault = fault("cam3, cam5:lose=7@10s+500ms/2m").unwrap();
        assert_eq!((fault.kind.name, fault.value), ("lose", 7));
        assert_eq!(fault.cameras, ["cam3", "cam5"]);
        let times = Times {
            start_ns: 10_000_000_000,
            duration_ns: Some(500_000_000),
            every_ns: Some(120_000_000_000),
        };
        assert_eq!(fault.times, times);
        assert_eq!(fault.to_string(), "lose=7");
    }

    #[test]
    fn what_is_left_out_is_everybody_for_ever() {
        for text in ["stall", "all:stall"] {
            let fault = fault(text).unwrap();
            assert_eq!((fault.cameras.len(), fault.times), (0, Times::default()), "{text}");
        }
        assert_eq!(fault("close@1s").unwrap().times.duration_ns, Some(0));
        assert_eq!(fault("stall+1s").unwrap().times.duration_ns, Some(NS_PER_SECOND));
        assert_eq!(fault("garbage").unwrap().value, 8);
    }

    #[test]
    fn the_first_spellings_go_on_working() {
        for text in [
            "status=453",
            "no-video",
            "codec=VP8",
            "huge-header",
            "huge-body",
            "endless-header",
            "endless-fu",
            "close-after=5",
            "stall-after=5",
            "garbage",
            "lose=7",
            "no-marker",
            "ssrc-change=3",
            "server-request",
        ] {
            assert!(fault(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_was_expected() {
        for (text, expected) in [
            ("", "--fault list"),
            ("nonsense", "--fault list"),
            ("status", "400 to 599"),
            ("status=200", "400 to 599"),
            ("codec=H264", "=VP8"),
            ("close-after=x", "=UNITS"),
            ("stall=1", "no value"),
            ("lose=0", "1 to"),
            ("stall@10", "10s, 500ms"),
            ("stall@99999999999999s", "10s, 500ms"),
            ("stall+1s@2s", "10s, 500ms"),
            ("close@1s+2s", "moment"),
            ("stall@1s/2s", "DURATION"),
            ("stall@1s+3s/2s", "shorter"),
        ] {
            let error = fault(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
