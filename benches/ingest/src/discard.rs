//! The floor: what receiving costs when nobody looks at the bytes.
//!
//! It waits as a shard does, [`Pacing`] included, but for one thing: it does not know when a unit is incomplete, and so
//! never holds for the rest of one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use vms_media::io::{Backend, BackendKind, Completion, Config};

use crate::handshake;
use crate::pacing::Pacing;
use crate::report;
use crate::seen::Seen;

/// Receives until it is killed or a camera ends.
pub(crate) fn run(
    farm: SocketAddr,
    urls: Vec<String>,
    kind: BackendKind,
    latency: Duration,
    looks_for_stamps: bool,
) -> anyhow::Result<()> {
    let mut seen = looks_for_stamps.then(Seen::new).transpose()?;
    let mut io = Backend::new(kind, Config::default())?;
    for url in urls {
        let socket = handshake::play(farm, &url).with_context(|| format!("cannot play {url}"))?;
        io.adopt(socket.into())?;
        // Cameras that play must be read while the others are asked.
        io.wait(Some(Duration::ZERO), Duration::ZERO)?;
        drain(&mut io, None)?;
    }
    println!("ready");
    let mut pacing = Pacing::new(latency);
    let mut report_at = report::now();
    loop {
        let now = report::now();
        drain(&mut io, seen.as_mut())?;
        if now >= report_at {
            report_at = now + report::INTERVAL;
            let done = io.counters();
            report::print(&json!({
                "received_bytes": done.received_bytes, "turns": done.turns, "wake_ups": done.sleeps,
                "system_calls": done.enters, "completions": done.completions,
                "out_of_buffers": done.out_of_buffers, "rearms": done.rearms,
                "latency": seen.as_ref().and_then(Seen::percentiles),
            }))?;
        }
        io.wait(Some(report_at.since(report::now())), pacing.hold(now, false))?;
    }
}

/// Takes what was received, and gives the buffers back. Stamps stand behind the padding of a unit, so who looks for one reads all
/// that came; one that lies across two buffers is not seen.
fn drain(io: &mut Backend, mut seen: Option<&mut Seen>) -> anyhow::Result<()> {
    while let Some(completion) = io.next_completion() {
        match completion {
            Completion::Received(_, bytes) => {
                if let Some(seen) = seen.as_deref_mut() {
                    seen.look(&bytes);
                }
            }
            Completion::Closed(_, reason) => bail!("a camera ended: {reason}"),
            Completion::Connected(_)
            | Completion::ConnectFailed(..)
            | Completion::HandedOut(..)
            | Completion::Woken => {}
        }
    }
    Ok(())
}
