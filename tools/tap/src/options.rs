//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ring_abi::join;

/// Reads streams from the rings of a running vms-media; prints, writes or verifies them.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Streams to read; they share one session.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Attach socket of the daemon [default: $XDG_RUNTIME_DIR/vms-media/ring.sock, or /run/vms-media/ring.sock for root]
    #[arg(long, value_name = "PATH")]
    ring_socket: Option<PathBuf>,
    /// Write the payloads to FILE as one elementary stream (- for standard output); with several IDs FILE must hold
    /// {id}, and each stream gets its own.
    #[arg(long, value_name = "FILE")]
    pub(crate) annexb: Option<String>,
    /// Print one line of JSON for each record, and a last line of type "summary".
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the last line of --json only.
    #[arg(long, conflicts_with_all = ["json", "every"])]
    pub(crate) summary: bool,
    /// Stop after this many records, all streams taken together.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Where to enter: live, keyframe, oldest, preroll=SECONDS or after=EPOCH:SEQ.
    #[arg(long, default_value = "live", value_name = "WHERE")]
    pub(crate) from: Entry,
    /// Hold nothing back to wait for a keyframe, neither at the start nor after a loss: for streams that have none. What
    /// was encoded with reference to units from before is not whole.
    #[arg(long)]
    pub(crate) everything: bool,
    /// Print a table of all streams every so often.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "json")]
    pub(crate) every: Option<Duration>,
    /// Stop when no record came for this long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) idle_exit: Option<Duration>,
    /// Stop after this long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Be woken at most once in this long, 100 at most: saves the daemon wake-ups, costs latency.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) bell_interval: u64,
    /// Go on when a stream ends or the daemon goes away: attach again as soon as it is back, behind the last record if the
    /// stream is the same, else at its oldest. With --json a line of type "attached" tells the stream's new epoch.
    #[arg(long)]
    pub(crate) reattach: bool,
    /// Verify the stamp that vms-camsim puts into each unit: counted without gap, checksum, latency.
    /// Signal USR1 has latencies counted anew, so that those of the start can be left out.
    #[arg(long)]
    pub(crate) stamp: bool,
}

/// An option that contradicts the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    /// `--annexb` would write two streams to one file.
    #[error("--annexb FILE must hold {{id}} when there are several IDs")]
    OneFileForAll,
    /// An ID with a slash leaves the directory of the file.
    #[error("an ID with a slash cannot be part of a file's name")]
    SlashInFileName,
    /// Both would go to standard output.
    #[error("--json and --annexb - both write to standard output")]
    OutputTwice,
}

impl Options {
    /// The attach socket.
    pub(crate) fn ring_socket(&self) -> PathBuf {
        self.ring_socket.clone().unwrap_or_else(|| {
            let root = rustix::process::geteuid().is_root();
            let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !root);
            directory.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("vms-media/ring.sock")
        })
    }

    /// Where the payloads of stream `id` go: `None` for nowhere.
    pub(crate) fn annexb_file(&self, id: &str) -> Result<Option<PathBuf>, OptionsError> {
        let Some(template) = &self.annexb else { return Ok(None) };
        let has_id = template.contains(ID_PLACE);
        match () {
            () if !has_id && self.ids.len() > 1 => Err(OptionsError::OneFileForAll),
            () if has_id && id.contains('/') => Err(OptionsError::SlashInFileName),
            () if template == STANDARD_OUTPUT && (self.json || self.summary) => {
                Err(OptionsError::OutputTwice)
            }
            () => Ok(Some(template.replace(ID_PLACE, id).into())),
        }
    }
}

/// Where the reader enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) join::From);

impl FromStr for Entry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(Self(match (name, value) {
            ("live", "") => join::From::Live,
            ("keyframe", "") => join::From::Keyframe,
            ("oldest", "") => join::From::Oldest,
            ("preroll", _) => {
                let age = seconds(value)?;
                join::From::Preroll { ns: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX) }
            }
            ("after", _) => {
                let (epoch, seq) = value.split_once(':').ok_or(WHERE)?;
                let number = |text: &str| text.parse().map_err(|_| WHERE);
                join::From::After { epoch: number(epoch)?, seq: number(seq)? }
            }
            _ => return Err(WHERE),
        }))
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "expected seconds, such as 2 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected seconds, such as 2 or 0.5")
}

/// `--annexb -`.
pub(crate) const STANDARD_OUTPUT: &str = "-";
const ID_PLACE: &str = "{id}";
const WHERE: &str = "expected live, keyframe, oldest, preroll=SECONDS or after=EPOCH:SEQ";

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["vms-tap"], arguments].concat()).unwrap()
    }

    #[test]
    fn entries() {
        assert_eq!("live".parse(), Ok(Entry(join::From::Live)));
        assert_eq!("preroll=1.5".parse(), Ok(Entry(join::From::Preroll { ns: 1_500_000_000 })));
        assert_eq!(
            "after=18446744073709551615:7".parse(),
            Ok(Entry(join::From::After { epoch: u64::MAX, seq: 7 }))
        );
        for bad in ["", "live=1", "preroll", "preroll=-1", "after=1", "after=1:x"] {
            assert!(bad.parse::<Entry>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_for_each_stream() {
        let one = options(&["a", "--annexb", "x.h264"]);
        assert_eq!(one.annexb_file("a"), Ok(Some("x.h264".into())));
        let two = options(&["a", "b", "--annexb", "x-{id}.h264"]);
        assert_eq!(two.annexb_file("b"), Ok(Some("x-b.h264".into())));
        assert_eq!(options(&["a", "b", "--annexb", "x"]).annexb_file("a"), Err(OptionsError::OneFileForAll));
        assert_eq!(
            options(&["../a", "--annexb", "{id}"]).annexb_file("../a"),
            Err(OptionsError::SlashInFileName)
        );
        assert_eq!(
            options(&["a", "--json", "--annexb", "-"]).annexb_file("a"),
            Err(OptionsError::OutputTwice)
        );
        assert!(Options::try_parse_from(["vms-tap"]).is_err());
    }
}
