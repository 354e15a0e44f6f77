//! `--reattach`: what to do when a stream has ended, or the daemon has gone.

use std::io::{self, Write};

use ring_abi::consumer::Retry;
use ring_abi::join::Join;
use serde::Serialize;

use crate::tap::Tap;

/// The line of `--json` that tells of a stream that was attached again.
#[derive(Debug, Serialize)]
struct Attached<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    /// Of the stream: another than before when it was set up anew, by another daemon or the same.
    epoch: u64,
    /// Of the daemon's run.
    daemon_epoch: u64,
    /// Whether this is another stream than before: its numbers begin anew.
    is_new: bool,
}

impl Tap {
    /// Takes note that the producer has gone.
    pub(crate) fn lose_producer(&mut self, now_ns: u64) {
        eprintln!("the producer has gone; attaching again when it is back");
        let mut retry = Retry::default();
        self.lost = Some((later(now_ns, &mut retry), retry));
        for stream in &mut self.streams {
            let Some(key) = stream.key else { continue };
            stream.detached(self.reader.counts(key).unwrap_or_default());
        }
    }

    /// Tries what is due: the session first, then the streams that are not attached.
    pub(crate) fn reattach(&mut self, now_ns: u64, json: bool) -> io::Result<()> {
        if let Some((due_ns, retry)) = &mut self.lost {
            if now_ns < *due_ns {
                return Ok(());
            }
            if self.reader.reconnect().is_err() {
                *due_ns = later(now_ns, retry);
                return Ok(());
            }
            self.lost = None;
        }
        let Self { reader, streams, join, out, .. } = self;
        let daemon_epoch = reader.daemon_epoch();
        for stream in streams.iter_mut().filter(|stream| stream.key.is_none() && stream.due_ns <= now_ns) {
            let join = Join { from: stream.entry(join.from), ..*join };
            // It may not be set up yet. A session that has ended is found out by the next look at its rings.
            let Ok((key, answer)) = reader.attach(&stream.id, &join) else {
                stream.due_ns = later(now_ns, &mut stream.retry);
                continue;
            };
            let (epoch, is_new) = (answer.epoch, stream.attached(key, answer.epoch));
            eprintln!("{}: attached again, epoch {epoch:#x}", stream.id);
            if json {
                let line = Attached { kind: "attached", id: &stream.id, epoch, daemon_epoch, is_new };
                serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}

fn later(now_ns: u64, retry: &mut Retry) -> u64 {
    now_ns.saturating_add(u64::try_from(retry.wait().as_nanos()).unwrap_or(u64::MAX))
}
