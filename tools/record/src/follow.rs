//! Follows the daemon's `WatchStreams`: which streams are to be recorded.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use tonic::transport::Endpoint;
use vms_proto::v1;
use vms_proto::v1::media_control_client::MediaControlClient;
use vms_record::recorder::Command;

use crate::Commands;

/// Starts a thread that follows the daemon at `server`, also through its restarts.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start(server: String, commands: Commands) -> anyhow::Result<()> {
    let endpoint =
        Endpoint::from_shared(server.clone()).context("--server")?.connect_timeout(CONNECT_TIMEOUT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut follow = Follow { commands, recorded: BTreeSet::new() };
    let run = move || {
        runtime.block_on(async {
            let mut told = None;
            loop {
                let error = follow.watch(&endpoint).await.err().map(|error| format!("{error:#}"));
                // Once for each reason, not four times a second. A watch that began well was not told of.
                if let Some(error) = error.as_ref().filter(|error| told.as_ref() != Some(*error)) {
                    eprintln!("vms-record: {server}: {error}; trying again");
                }
                told = error;
                tokio::time::sleep(RETRY).await;
            }
        });
    };
    std::thread::Builder::new().name("follow".to_owned()).spawn(run).context("no thread")?;
    Ok(())
}

#[derive(Debug)]
struct Follow {
    commands: Commands,
    /// What the recorder was told to record.
    recorded: BTreeSet<String>,
}

impl Follow {
    /// Watches until the daemon has gone.
    async fn watch(&mut self, endpoint: &Endpoint) -> anyhow::Result<()> {
        let channel = endpoint.connect().await.context("cannot connect")?;
        let mut client = MediaControlClient::new(channel);
        let mut events = client.watch_streams(v1::WatchStreamsRequest::default()).await?.into_inner();
        let mut listed = Some(BTreeSet::new());
        while let Some(event) = events.message().await? {
            let kind = event.r#type();
            match (kind, event.stream) {
                (v1::EventType::Bookmark, _) => {
                    // What was not listed went away while nobody watched.
                    if let Some(listed) = listed.take() {
                        let gone: Vec<String> = self.recorded.difference(&listed).cloned().collect();
                        gone.into_iter().for_each(|id| self.set(id, false));
                    }
                }
                (v1::EventType::Removed, Some(stream)) => self.set(stream.stream_id, false),
                (_, Some(stream)) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(stream.stream_id.clone());
                    }
                    let policy = stream.spec.unwrap_or_default().record.unwrap_or_default();
                    self.set(stream.stream_id, policy.mode() == v1::RecordMode::Continuous);
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, id: String, is_recorded: bool) {
        if is_recorded {
            if self.recorded.insert(id.clone()) {
                self.commands.send(Command::Record(id));
            }
        } else if self.recorded.remove(&id) {
            self.commands.send(Command::Forget(id));
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Short: a restart of the daemon takes less than a second.
const RETRY: Duration = Duration::from_millis(250);
