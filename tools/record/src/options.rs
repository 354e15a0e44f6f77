//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use vms_record::disk::How;
use vms_record::retention::Limits;

/// Records streams of a running vms-media into Matroska files.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Where files and catalogue go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The daemon whose policies say what is recorded: unix:PATH or http://ADDR:PORT [default: unix: and control.sock in
    /// $XDG_RUNTIME_DIR/vms-media, or in /run/vms-media for root]
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    /// The daemon's attach socket [default: ring.sock beside the control socket]
    #[arg(long, value_name = "PATH")]
    ring_socket: Option<PathBuf>,
    /// Record this stream, whatever the policies say; may be repeated. The daemon's policies are not asked for then.
    #[arg(long = "stream", value_name = "ID")]
    pub(crate) streams: Vec<String>,
    /// Answer `vms-ctl recordings` and others here, in the form unix:PATH, or `none` [default: unix: and record.sock beside the daemon's
    /// default control socket]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Print a line of JSON for each file that is finished and each gap.
    #[arg(long)]
    pub(crate) json: bool,
    /// Files end at multiples of this in UTC, at the nearest keyframe: 1s to 1day.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = segment)]
    segment: Duration,
    /// Memory for what waits for the disk, in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u16).range(16..))]
    memory: u16,
    /// Delete files that ended so long ago, such as 30days [default: none for their age]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
    /// Delete the oldest files when all together, those that are being written too, are larger: 500G, 2T (powers of 1000) [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    keep_bytes: Option<u64>,
    /// Delete the oldest files when less of the file system is free.
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = bytes)]
    reserve: u64,
    /// How files are written: through io_uring if that can be had, or plainly.
    #[arg(long, default_value = "auto", value_name = "HOW")]
    io: Io,
    /// Write through the page cache, and not past it (O_DIRECT).
    #[arg(long)]
    buffered: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Io {
    /// io_uring, or plainly where that is refused.
    Auto,
    /// Plainly.
    Plain,
}

impl Options {
    pub(crate) fn how(&self) -> How {
        How { uring: matches!(self.io, Io::Auto), direct: !self.buffered }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            age_ns: self.keep.map(|keep| i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX)),
            bytes: self.keep_bytes,
            reserve: self.reserve,
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        usize::from(self.memory) << 20
    }

    pub(crate) fn segment_ns(&self) -> i64 {
        i64::try_from(self.segment.as_nanos()).unwrap_or(i64::MAX)
    }

    pub(crate) fn server(&self) -> anyhow::Result<String> {
        let default = || Ok(format!("unix:{}", run_dir()?.join("control.sock").display()));
        let server = self.server.clone().map_or_else(default, anyhow::Ok)?;
        let is_known = server.starts_with("unix:") || server.starts_with("http://");
        anyhow::ensure!(is_known, "--server: write unix:PATH or http://ADDR:PORT");
        Ok(server)
    }

    /// Where the recorder answers, if anywhere.
    pub(crate) fn listen(&self) -> anyhow::Result<Option<PathBuf>> {
        match self.listen.as_deref() {
            Some("none") => Ok(None),
            Some(address) => {
                Ok(Some(address.strip_prefix("unix:").context("--listen: write unix:PATH")?.into()))
            }
            None => Ok(Some(run_dir()?.join("record.sock"))),
        }
    }

    pub(crate) fn ring_socket(&self) -> anyhow::Result<PathBuf> {
        self.ring_socket.clone().map_or_else(|| Ok(run_dir()?.join("ring.sock")), anyhow::Ok)
    }
}

/// Where the daemon's sockets are by default.
fn run_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::getuid().is_root() {
        return Ok(PathBuf::from("/run/vms-media"));
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR")
        .context("XDG_RUNTIME_DIR is not set: give --server and --ring-socket")?;
    Ok(PathBuf::from(dir).join("vms-media"))
}

/// A number, with k, M, G or T behind it for powers of 1000.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 1,
        "k" | "K" | "kB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        _ => return Err("write bytes as 500G: k, M, G and T are powers of 1000".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write bytes as 500G".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "that is more than there can be".to_owned())
}

fn segment(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    if range.contains(&span) { Ok(span) } else { Err("1s to 1day".to_owned()) }
}
