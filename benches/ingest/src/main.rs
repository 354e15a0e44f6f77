//! Receivers to hold the daemon's ingest beside, one a process: the floor and a peer. `benches/ingest.py` runs them.
//!
//! ```text
//!  discard   plays every camera, then only receives: the daemon's own `io` and wake-up policy, no user copy, no parsing
//!  retina    plays every camera with retina 0.4.21 on one thread, assembles access units and drops them
//!  wake      receives nothing: what it costs on this machine to sleep, and to wake a thread on another core
//! ```
//! The first two play `/cam0` … `/camN-1` over interleaved TCP, say "ready", and then tell once a second, as a line of JSON, what
//! they have done since they began. With `--stamps` also the latency of what they saw, since SIGUSR1 if that was sent.

mod discard;
mod handshake;
#[path = "../../../tools/tap/src/latency.rs"]
#[expect(dead_code, reason = "vms-tap adds one to another")]
mod latency;
#[path = "../../../src/shard/pacing.rs"]
mod pacing;
mod peer;
mod report;
mod seen;
mod wake;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use vms_media::io::BackendKind;
// Where `pacing` looks for it.
use vms_media::time;

#[derive(Debug, Parser)]
enum Command {
    /// The floor.
    Discard {
        #[command(flatten)]
        cameras: Cameras,
        /// How to receive.
        #[arg(long, value_enum, default_value_t = Io::Uring)]
        io: Io,
        /// How long to gather, as the daemon's option.
        #[arg(long, default_value_t = 500)]
        latency_us: u64,
        /// Tell how long after their sending units came. It costs a look at each byte.
        #[arg(long)]
        stamps: bool,
    },
    /// The peer.
    Retina {
        #[command(flatten)]
        cameras: Cameras,
        /// Tell how long after their sending units came. It costs a look at each byte.
        #[arg(long)]
        stamps: bool,
    },
    /// The machine.
    Wake {
        /// The core of who wakes.
        own: usize,
        /// The core of who sleeps.
        other: usize,
    },
}

/// Whom to receive from, until killed.
#[derive(Debug, clap::Args)]
struct Cameras {
    /// Where the farm is.
    farm: SocketAddr,
    /// How many cameras it has.
    cameras: u32,
}

impl Cameras {
    fn urls(&self) -> Vec<String> {
        (0..self.cameras).map(|camera| format!("rtsp://{}/cam{camera}", self.farm)).collect()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Io {
    Uring,
    Epoll,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Discard { cameras, io, latency_us, stamps } => {
            let kind = match io {
                Io::Uring => BackendKind::Uring,
                Io::Epoll => BackendKind::Epoll,
            };
            let latency = Duration::from_micros(latency_us);
            discard::run(cameras.farm, cameras.urls(), kind, latency, stamps)
        }
        Command::Retina { cameras, stamps } => peer::run(cameras.urls(), stamps),
        Command::Wake { own, other } => wake::run(own, other),
    }
}
