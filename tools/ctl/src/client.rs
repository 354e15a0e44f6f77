//! The way to the daemon.

use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use vms_proto::v1::media_control_client::MediaControlClient;

use crate::problem::Problem;

/// How long the daemon may take to accept, and then to begin each answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// A page of 1000 streams with all their labels.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// Connects to `server`, or to where the daemon listens by default.
pub(crate) async fn connect(server: Option<String>) -> Result<MediaControlClient<Channel>, Problem> {
    let server = server.map_or_else(default_server, Ok)?;
    if !server.starts_with("unix:") && !server.starts_with("http://") {
        return Err(Problem::Usage("--server: write unix:PATH or http://ADDR:PORT".to_owned()));
    }
    let unreachable = |source| Problem::Unreachable { server: server.clone(), source };
    let endpoint = Endpoint::from_shared(server.clone()).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect().await.map_err(unreachable)?;
    Ok(MediaControlClient::new(channel).max_decoding_message_size(ANSWER_LEN_MAX))
}

/// Where the daemon listens by default.
pub(crate) fn default_server() -> Result<String, Problem> {
    Ok(format!("unix:{}", run_dir("--server")?.join("control.sock").display()))
}

/// Where sockets are by default; `option` says where they are otherwise.
pub(crate) fn run_dir(option: &str) -> Result<PathBuf, Problem> {
    let directory = if rustix::process::getuid().is_root() {
        PathBuf::from("/run")
    } else {
        let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        directory.ok_or_else(|| Problem::Usage(format!("XDG_RUNTIME_DIR is not set: give {option}")))?
    };
    Ok(directory.join("vms-media"))
}
