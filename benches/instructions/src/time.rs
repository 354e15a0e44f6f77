//! How long a camera's unit takes outside the kernel, by the wall clock and in medians, with caches as cold as a daemon finds them: many cameras take turns.
//!
//! The bytes lie in one buffer that was just written, as a receive buffer is; each camera's machine and arena were last used a
//! round ago. Measured back to back, and after a sleep: a core that was idle has nothing of this program left in its caches and
//! branch predictors, and a shard that waits for the next unit mostly comes from there.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::camera::{Camera, Received};
use crate::phases::UNIT_LEN;

const CAMERAS: usize = 64;
/// Twice round each arena.
const WARM_UP_ROUNDS: usize = 800;
const ROUNDS: usize = 100;
/// About what is between two units of 64 cameras.
const NAP: Duration = Duration::from_micros(600);

/// A table.
pub(crate) fn table() -> Result<String> {
    let mut cameras = (0..CAMERAS).map(|_| Camera::new()).collect::<Result<Vec<_>>>()?;
    let mut text = format!("| {CAMERAS} cameras, 20 KB a unit | receive, µs | feed, µs |\n|---|---|---|\n");
    for (name, piece_len) in [("received at once", 32 * 1024), ("received in pieces of 1448 B", 1448)] {
        let mut received = Received::new(UNIT_LEN, piece_len, false);
        (0..WARM_UP_ROUNDS).try_for_each(|_| round(&mut cameras, &mut received, None, |_, _| {}))?;
        for (when, nap) in [("back to back", None), ("after a sleep", Some(NAP))] {
            let (mut receive, mut feed) = (Vec::new(), Vec::new());
            let mut note = |received, fed| {
                receive.push(received);
                feed.push(fed);
            };
            (0..ROUNDS).try_for_each(|_| round(&mut cameras, &mut received, nap, &mut note))?;
            // Writing to a text does not fail.
            let _ = writeln!(text, "| {name}, {when} | {} | {} |", spread(&mut receive), spread(&mut feed));
        }
    }
    Ok(text)
}

/// A unit of each camera. Tells how long it took to receive and to feed.
#[expect(clippy::disallowed_methods, reason = "clock and sleep are what this is about")]
fn round(
    cameras: &mut [Camera],
    received: &mut Received,
    nap: Option<Duration>,
    mut note: impl FnMut(Duration, Duration),
) -> Result<()> {
    for camera in cameras {
        if let Some(nap) = nap {
            std::thread::sleep(nap);
        }
        camera.send(received);
        let began = Instant::now();
        camera.receive(received)?;
        let ended = Instant::now();
        camera.feed();
        note(ended - began, ended.elapsed());
        camera.take()?;
    }
    Ok(())
}

/// Median (tenth–ninetieth percentile).
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let us = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    format!("{:.2} ({:.2}–{:.2})", us(50), us(10), us(90))
}
