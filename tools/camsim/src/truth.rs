//! What really happened in the farm, as lines of JSON: for tests and operators to hold beside what a client reports.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;

use serde::Serialize;

use crate::clock;
use crate::link::Gone;

/// Where lines go: facts, when they are wanted, and answers to commands.
pub(crate) struct Truth {
    lines: Option<Box<dyn Write + Send>>,
    tells_facts: bool,
}

/// A change, when it happened. The names are those of the JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "truth", rename_all = "snake_case")]
pub(crate) enum Fact<'a> {
    /// Whether connections are taken at an address: that of one camera, or that of all.
    Listening { address: SocketAddr, camera: Option<&'a str>, on: bool },
    /// A client has connected. `connection` numbers connections from 1.
    Connected { connection: u64, peer: Option<SocketAddr> },
    /// A request was refused, other than by the 401 that asks for a login.
    Refused { connection: u64, camera: Option<&'a str>, method: &'a str, status: u16 },
    /// A login was refused; `stale`: only for the age of its nonce.
    LoginRefused { connection: u64, camera: &'a str, stale: bool },
    /// A session begins: SETUP was granted.
    Session { connection: u64, camera: &'a str },
    /// PLAY was granted.
    Playing { connection: u64, camera: &'a str },
    /// Video begins to flow, or stops, after so many units of the session.
    Video { connection: u64, camera: &'a str, flowing: bool, units: u64 },
    /// The connection is over, after so many units of its last session.
    Closed { connection: u64, camera: Option<&'a str>, by: Gone, units: u64 },
    /// A fault begins, or ends; what takes but a moment only begins.
    Fault { camera: &'a str, fault: &'a str, begins: bool },
}

/// A line with its times: `CLOCK_MONOTONIC`, and since 1970 UTC.
#[derive(Serialize)]
struct Line<T> {
    #[serde(flatten)]
    what: T,
    mono_ns: u64,
    utc_ns: u64,
}

impl Truth {
    /// Tells nobody.
    pub(crate) const fn untold() -> Self {
        Self { lines: None, tells_facts: false }
    }

    pub(crate) fn told_to(lines: Box<dyn Write + Send>, tells_facts: bool) -> Self {
        Self { lines: Some(lines), tells_facts }
    }

    /// Tells a fact.
    pub(crate) fn tell(&mut self, fact: Fact<'_>) {
        if self.tells_facts {
            self.write(fact);
        }
    }

    /// Writes a line, at once. That nobody reads any more is no reason to stop being a camera.
    pub(crate) fn write(&mut self, what: impl Serialize) {
        let Some(lines) = &mut self.lines else { return };
        let line = Line { what, mono_ns: clock::mono_ns(), utc_ns: clock::utc_ns() };
        if let Ok(line) = serde_json::to_string(&line) {
            let _ = writeln!(lines, "{line}").and_then(|()| lines.flush());
        }
    }
}

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Truth").field("tells_facts", &self.tells_facts).finish_non_exhaustive()
    }
}
