//! The command line.

use std::path::PathBuf;

use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};
use vms_proto::v1;

use crate::patience::Patience;
use crate::recordings::Question;

/// Adds, removes and shows the cameras of a vms-media daemon.
#[derive(Debug, Parser)]
#[command(name = "vms-ctl", version)]
pub(crate) struct Args {
    /// The daemon: unix:PATH or http://ADDR:PORT. Default: unix: and control.sock in $XDG_RUNTIME_DIR/vms-media,
    /// or in /run/vms-media for root.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) server: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a camera. Adding it again is no error, and touches nothing.
    Setup(Setup),
    /// Say which users of this machine may read a stream, beside the daemon's own and root. The list replaces the one before;
    /// readers that it no longer names are cut off.
    Access {
        /// The stream's name.
        id: String,
        #[command(flatten)]
        access: ReaderList,
    },
    /// Change whether a camera is recorded, or how patient the daemon is with it. What is not named stays; neither camera nor readers
    /// notice.
    Update(Update),
    /// Carry a camera by another shard. Neither it nor its readers notice.
    Move {
        /// The stream's name.
        id: String,
        /// Which, from 0.
        shard: u32,
    },
    /// Try a camera at once, whatever its stream waits for: after a password was corrected in the camera, say.
    Restart {
        /// The stream's name.
        id: String,
    },
    /// Remove a camera. Removing it again is no error.
    Teardown {
        /// The stream's name.
        id: String,
    },
    #[command(flatten)]
    Recorded(Question),
    /// Show one camera in full.
    Get {
        /// The stream's name.
        id: String,
    },
    /// Show all cameras.
    List,
    /// Show how cameras are in numbers: rates, losses, failures by their reasons; of one also each reader and what it missed.
    Stats {
        /// The stream's name. Default: all.
        id: Option<String>,
    },
    /// Show all cameras, and then each change as it happens.
    Watch {
        /// Show what happened after this revision instead of everything.
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        from: u64,
    },
    /// Show what the daemon is.
    Info,
    /// Look at this machine, at the daemon if one runs, and at a camera if a URL is given: what is well, what is not, and what to do.
    /// No daemon is needed. The camera is asked to play for some seconds, and told the password once.
    Doctor(Doctor),
}

/// A camera to add.
#[derive(Arguments)]
pub(crate) struct Setup {
    /// The stream's name: lower-case letters, digits, '.', '_', '-'.
    pub(crate) id: String,
    /// rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH. Other users of this machine see a password that is written here:
    /// use --user and --password-file.
    pub(crate) url: String,
    /// How RTP is carried.
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    pub(crate) transport: Transport,
    /// Have it recorded, always.
    #[arg(long)]
    pub(crate) record: bool,
    /// A note to keep with the stream; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) access: ReaderList,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// The camera's user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// A file whose first line is the camera's password; `-` for standard input.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

/// A camera whose stream is to change.
#[derive(Arguments, Debug)]
pub(crate) struct Update {
    /// The stream's name.
    pub(crate) id: String,
    /// Forget what was asked for before: what is not named here is then as the daemon's configuration says.
    #[arg(long)]
    pub(crate) defaults: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// When it is recorded.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) record: Option<Record>,
}

/// What to look at.
#[derive(Arguments)]
pub(crate) struct Doctor {
    /// A camera: rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH. Other users of this machine see a password that is written here: use
    /// --user and --password-file.
    pub(crate) url: Option<String>,
    /// How many streams this machine is to carry.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) streams: u32,
    /// How long the camera's video is measured; twice as long when no second key frame has come by then.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60), requires = "url")]
    pub(crate) seconds: u32,
    /// The camera's user.
    #[arg(long, requires = "url")]
    pub(crate) user: Option<String>,
    /// A file whose first line is the camera's password; `-` for standard input.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Who may read a stream.
#[derive(Arguments, Clone, Debug)]
pub(crate) struct ReaderList {
    /// A user id that may read the stream; may be repeated.
    #[arg(long = "uid", value_name = "N")]
    pub(crate) uids: Vec<u32>,
    /// A group id whose members (by primary group) may read the stream; may be repeated.
    #[arg(long = "gid", value_name = "N")]
    pub(crate) gids: Vec<u32>,
}

impl From<ReaderList> for v1::AccessPolicy {
    fn from(ReaderList { uids, gids }: ReaderList) -> Self {
        Self { uids, gids }
    }
}

/// The URL may hold a password.
impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The URL may hold a password.
impl std::fmt::Debug for Doctor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doctor").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// How RTP is carried.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Transport {
    /// The daemon chooses.
    Auto,
    /// In the RTSP connection.
    Tcp,
    /// UDP.
    Udp,
}

/// When a stream is recorded.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Record {
    /// Never.
    Off,
    /// Always.
    Continuous,
}

impl From<Record> for v1::RecordPolicy {
    fn from(record: Record) -> Self {
        let mode = match record {
            Record::Off => v1::RecordMode::Off,
            Record::Continuous => v1::RecordMode::Continuous,
        };
        Self { mode: mode.into() }
    }
}

impl From<Transport> for v1::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Auto => Self::Auto,
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_prints_no_secret() {
        Args::command().debug_assert();
        let args = Args::try_parse_from([
            "vms-ctl",
            "setup",
            "a",
            "rtsp://u:canary@h/",
            "--label",
            "k=v=w",
            "--json",
        ])
        .unwrap();
        assert!(!format!("{args:?}").contains("canary"));
        assert!(args.json);
        let doctor = Args::try_parse_from(["vms-ctl", "doctor", "rtsp://u:canary@h/"]).unwrap();
        assert!(!format!("{doctor:?}").contains("canary"));
        assert!(Args::try_parse_from(["vms-ctl", "doctor", "--user", "u"]).is_err(), "whose user?");
        let fixed = ["vms-ctl", "update", "a", "--retry-every", "5s", "--retry-max", "9s"];
        assert!(Args::try_parse_from(fixed).is_err(), "which of the two?");
        assert!(Args::try_parse_from(&fixed[..5]).is_ok());
        let Command::Setup(setup) = args.command else { panic!("not setup") };
        assert_eq!(setup.labels, [("k".to_owned(), "v=w".to_owned())]);
        assert!(
            Args::try_parse_from(["vms-ctl", "setup", "a", "rtsp://h/", "--password-file", "-"]).is_err()
        );
    }
}
