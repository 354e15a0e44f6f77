//! Receivers to hold the daemon's ingest beside, one a process: the floor and a peer. `benches/ingest.py` runs them.
//!
//! ```text
//!  discard   plays every camera, then only receives: the daemon's own `io` and wake-up policy, no user copy, no parsing
//!  retina    plays every camera with retina 0.4.21 on one thread, assembles access units and drops them
//! ```
//! Both play `/cam0` … `/camN-1` over interleaved TCP, say "ready", and then tell once a second, as a line of JSON, what
//! they have done since they began.

mod discard;
mod handshake;
#[path = "../../../src/shard/pacing.rs"]
mod pacing;
mod peer;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use vms_media::io::BackendKind;
// Where `pacing` looks for it.
use vms_media::time;

/// Receives from a farm of simulated cameras until it is killed.
#[derive(Debug, Parser)]
struct Options {
    /// Who receives.
    what: What,
    /// Where the cameras are.
    farm: SocketAddr,
    /// How many.
    cameras: u32,
    /// How `discard` receives.
    #[arg(long, value_enum, default_value_t = Io::Uring)]
    io: Io,
    /// How long `discard` may gather, as the daemon's option.
    #[arg(long, default_value_t = 500)]
    latency_us: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Discard,
    Retina,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Io {
    Uring,
    Epoll,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let urls = (0..options.cameras).map(|camera| format!("rtsp://{}/cam{camera}", options.farm)).collect();
    let kind = match options.io {
        Io::Uring => BackendKind::Uring,
        Io::Epoll => BackendKind::Epoll,
    };
    match options.what {
        What::Discard => discard::run(options.farm, urls, kind, Duration::from_micros(options.latency_us)),
        What::Retina => peer::run(urls),
    }
}
