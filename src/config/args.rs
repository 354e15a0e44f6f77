//! The words of the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use super::file::Settings;
use super::given::Given;
use super::{IoBackend, LATENCY_US_MAX};
use crate::ingest::Policy;

/// The words of the command line.
#[derive(Debug, Parser)]
#[command(name = "vms-media", version, about = "RTSP cameras in, access units out through shared memory")]
pub struct Args {
    /// The configuration file. Options given here come before what it says. `--print-config` documents it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print a configuration file with every key, its meaning and its default, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Where the control plane listens: `unix:PATH`, or `tcp:ADDR` with a loopback address. May be repeated.
    /// Default: `unix:` and control.sock in $XDG_RUNTIME_DIR/vms-media, or in /run/vms-media for root.
    #[arg(long, value_name = "unix:PATH|tcp:ADDR")]
    listen: Vec<String>,
    /// Where readers attach. Default: ring.sock beside control.sock.
    #[arg(long, value_name = "PATH")]
    ring_socket: Option<PathBuf>,
    /// Mode of the socket that readers attach at: 0600 (the default), 0660 or 0666. Who connects and is neither the
    /// daemon's user nor root must be named by a stream's access list.
    #[arg(long, value_name = "MODE")]
    ring_socket_mode: Option<String>,
    /// Shards: threads that carry streams, one a core. Default: the cores this process may use.
    #[arg(long, value_name = "N")]
    pub(super) shards: Option<NonZeroUsize>,
    /// How shards do input and output. Default: auto.
    #[arg(long, value_enum)]
    io: Option<IoBackend>,
    /// How long a busy shard may gather before it wakes, in microseconds; 0: never. Default: 500. More costs latency and
    /// saves processor time. Busy is who would wake more than 2,000 times a second; above 500, more than once in this time.
    /// Who is not gathers 200 at most, while a picture is incomplete.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(LATENCY_US_MAX)))]
    latency_us: Option<u32>,
    /// How many cameras are connected to at once, over all shards; default: 64. After a power cut the others wait for their
    /// turn. An attempt that takes longer than 2 s no longer counts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connects_at_once: Option<u16>,
    /// Where metrics and health are told over HTTP (GET /metrics, /healthz, /readyz): a loopback address such as 127.0.0.1:9464.
    /// Default: nowhere.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Reader programs of this project to start, by commas. Only `none` is available yet; others are named in the
    /// configuration file, `[reader.NAME]`.
    #[arg(long, value_name = "LIST", default_value = "none")]
    pub(super) readers: String,
    /// Where streams are kept, with their passwords, so that they outlive the daemon: a directory that only its user can use.
    /// Default: $STATE_DIRECTORY, as systemd sets it; else nothing is kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Args {
    /// What they say.
    pub(super) fn settings(self) -> Settings {
        Settings {
            listen: self.listen.into_iter().map(|text| Given::option("--listen", text)).collect(),
            ring_socket: self.ring_socket.map(|path| Given::path("--ring-socket", path)),
            state_dir: self.state_dir,
            ring_socket_mode: self.ring_socket_mode.map(|mode| Given::option("--ring-socket-mode", mode)),
            shards: self.shards.map(|shards| u32::try_from(shards.get()).unwrap_or(u32::MAX)),
            io: self.io,
            latency_us: self.latency_us,
            connects_at_once: self.connects_at_once,
            http: self.http.map(|address| Given::option("--http", address)),
            policy: Policy::default(),
            readers: Vec::new(),
            streams: Vec::new(),
        }
    }
}
