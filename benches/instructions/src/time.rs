//! Processor time of a camera's unit outside the kernel, with caches as cold as a daemon finds them: many cameras take turns.
//!
//! The bytes lie in one buffer that was just written, as a receive buffer is; each camera's machine and arena were last used a
//! round ago.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::camera::{Camera, Received};
use crate::phases::UNIT_LEN;

const CAMERAS: usize = 64;
const WARM_UP_ROUNDS: usize = 500;
const ROUNDS: usize = 500;

/// A table.
pub(crate) fn table() -> Result<String> {
    let mut cameras = (0..CAMERAS).map(|_| Camera::new()).collect::<Result<Vec<_>>>()?;
    let mut text = format!("| {CAMERAS} cameras, 20 KB a unit | receive, µs | feed, µs |\n|---|---|---|\n");
    for (name, piece_len) in [("received at once", 32 * 1024), ("received in pieces of 1448 B", 1448)] {
        let mut received = Received::new(UNIT_LEN, piece_len);
        (0..WARM_UP_ROUNDS).try_for_each(|_| round(&mut cameras, &mut received, |_, _| {}))?;
        let (mut receive, mut feed) = (Vec::new(), Vec::new());
        let mut note = |received, fed| {
            receive.push(received);
            feed.push(fed);
        };
        (0..ROUNDS).try_for_each(|_| round(&mut cameras, &mut received, &mut note))?;
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {name} | {} | {} |", spread(&mut receive), spread(&mut feed));
    }
    Ok(text)
}

/// A unit of each camera. Tells how long it took to receive and to feed.
#[expect(clippy::disallowed_methods, reason = "it is the clock that is asked here")]
fn round(
    cameras: &mut [Camera],
    received: &mut Received,
    mut note: impl FnMut(Duration, Duration),
) -> Result<()> {
    for camera in cameras {
        camera.send(received);
        let began = Instant::now();
        camera.receive(received)?;
        let ended = Instant::now();
        camera.feed();
        note(ended - began, ended.elapsed());
    }
    Ok(())
}

/// Median (tenth–ninetieth percentile).
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let us = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    format!("{:.2} ({:.2}–{:.2})", us(50), us(10), us(90))
}
