//! Whether a daemon runs and answers, and whether one could put its sockets where it would.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::time::timeout;
use vms_proto::v1;

use super::finding::Finding;
use crate::client;
use crate::view::Info;

/// How long a daemon may take to answer until it is said that it does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// What happened when the daemon was asked what it is.
#[derive(Debug)]
pub(super) enum Asked {
    /// It answered.
    Answered(Box<Info>),
    /// Nobody listens.
    Nobody,
    /// It is not for us to ask.
    Forbidden,
    /// Somebody listens and does not answer as a daemon does, in these words.
    Silent(String),
}

/// Asks the daemon at `server`.
pub(super) async fn ask(server: &str) -> Asked {
    if let Some(path) = server.strip_prefix("unix:") {
        match UnixStream::connect(path).map_err(|error| error.kind()) {
            Ok(_) => {}
            Err(ErrorKind::PermissionDenied) => return Asked::Forbidden,
            Err(_) => return Asked::Nobody,
        }
    }
    let answer = async {
        let mut client =
            client::connect(Some(server.to_owned())).await.map_err(|problem| problem.to_string())?;
        let answer = client.get_server_info(v1::GetServerInfoRequest {}).await;
        answer.map_err(|status| status.message().to_owned())
    };
    match timeout(PATIENCE, answer).await {
        Ok(Ok(info)) => Asked::Answered(Box::new(Info::from(info.into_inner()))),
        Ok(Err(_)) if !server.starts_with("unix:") => Asked::Nobody,
        Ok(Err(why)) => Asked::Silent(why),
        Err(_) => Asked::Silent(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// What came of it.
pub(super) fn found(server: &str, asked: &Asked) -> Finding {
    const CHECK: &str = "daemon";
    match asked {
        Asked::Nobody => Finding::ok(CHECK, format!("none runs at {server}")),
        Asked::Forbidden => Finding::warn(CHECK, format!("the socket at {server} is not for this user"))
            .why("a daemon may run there, but this user cannot ask it")
            .fix("run vms-ctl as the daemon's user, or as root"),
        Asked::Silent(why) => {
            Finding::fail(CHECK, format!("something listens at {server} and does not answer: {why}"))
                .why("no stream can be set up or watched")
                .fix("see the daemon's log (journalctl -u vms-media), then start it anew")
        }
        Asked::Answered(info) => {
            let Info { version, io_backend, shards, streams, streams_max, .. } = &**info;
            let found = format!(
                "vms-media {version} runs at {server}: io {io_backend}, {shards} shards, {streams} of at most {streams_max} streams"
            );
            match info.io_backend_reason.as_str() {
                "" => Finding::ok(CHECK, found),
                why => Finding::warn(CHECK, found)
                    .why("it fell back to epoll, which takes four times as many system calls")
                    .fix(why),
            }
        }
    }
}

/// Where a daemon's control socket would be; `None` where it is no unix socket.
pub(super) fn socket_path(server: &str) -> Option<PathBuf> {
    server.strip_prefix("unix:").map(PathBuf::from)
}

/// Whether a socket can be made at `path`: in its directory, or in the nearest one above that is there.
pub(super) fn socket_directory(path: &Path) -> Finding {
    let above =
        path.ancestors().skip(1).map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part });
    let Some(directory) = above.into_iter().find(|part| part.exists()) else {
        return Finding::fail("sockets", format!("{} has no directory", path.display()));
    };
    match access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok("sockets", format!("{} can be written", directory.display())),
        Err(errno) => Finding::fail("sockets", format!("{} cannot be written ({errno})", directory.display()))
            .why("callers and readers come to the daemon by sockets there")
            .fix("vms-media --listen unix:/some/dir/control.sock --ring-socket /some/dir/ring.sock, or run it as another user"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_a_daemon_says_is_told_and_its_silence_is_a_failure() {
        let info = |reason: &str| {
            let info = v1::ServerInfo {
                version: "1.2.3".into(),
                io_backend: "epoll".into(),
                io_backend_reason: reason.into(),
                shards: 2,
                ..Default::default()
            };
            found("unix:/x", &Asked::Answered(Box::new(Info::from(info))))
        };
        assert_eq!((info("").level, info("forbidden").level), (Level::Ok, Level::Warn));
        assert!(info("").found.contains("1.2.3") && info("").found.contains("2 shards"));
        assert_eq!(found("unix:/x", &Asked::Nobody).level, Level::Ok);
        assert_eq!(found("unix:/x", &Asked::Forbidden).level, Level::Warn);
        assert_eq!(found("unix:/x", &Asked::Silent("no".into())).level, Level::Fail);
    }

    #[test]
    fn a_directory_that_will_be_made_counts_by_the_one_above() {
        let made_later = std::env::temp_dir().join("vms-doctor-not-there/a/control.sock");
        assert_eq!(socket_directory(&made_later).level, Level::Ok);
        assert_eq!(socket_directory(Path::new("/proc/1/x/control.sock")).level, Level::Fail);
        assert_eq!(socket_path("http://127.0.0.1:1"), None);
    }
}
