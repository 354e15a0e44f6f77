//! What a unit costs its producer, and what it costs to hand one over whole.
//!
//! Units are published in bursts that no ring or queue overflows; the clock is read at a burst's ends, and before the next one
//! the producer waits until all readers have taken all. Readers poll on the other core meanwhile, so the lines
//! of tails and records move between the cores as they do in earnest. A round's number is its median burst, so that
//! the odd burst in which another program had the core does not count.

use anyhow::Result;

use super::{Bench, Trio, Triple, payload};
use crate::board::Mode;
use crate::machine::now_ns;
use crate::peer::{ReaderProcess, Shape, Writer};
use crate::table::{Bound, Row, Series, quantile};

/// Units of a burst: half of what a ring or queue holds.
const BURST: usize = 64;
const LARGE: usize = 20 * 1024;

/// Producer's time a unit, by payload and number of readers; and what a further reader adds.
pub(crate) fn producer(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut series: Vec<Triple> = Vec::new();
    for (what, len) in [("descriptor alone", 0), ("64 B", 64), ("20 KB", LARGE)] {
        for readers in [1, 3, 8] {
            let (row, triple) = one_shape(bench, what, len, readers)?;
            rows.push(row);
            series.push(triple);
        }
    }
    let slope = |a: &Series, b: &Series| b.zip(a, |eight, one| (eight - one) / 7.0);
    for (what, at, bound) in [("descriptor alone", 0, 40.0), ("20 KB", 6, 150.0)] {
        let (Some(one), Some(eight)) = (series.get(at), series.get(at + 2)) else { continue };
        let added = slope(&one.ours, &eight.ours);
        rows.push(
            Row::new(format!("+1 reader, {what}, from 1 to 8 readers"), "ns")
                .value("ours", &added)
                .value("floor", &slope(&one.floor, &eight.floor))
                .value("iceoryx2", &slope(&one.iox, &eight.iox))
                .check("ours, ns", added, Some(Bound::AtMost(bound))),
        );
    }
    Ok(rows)
}

fn one_shape(bench: &Bench<'_>, what: &str, len: usize, readers: usize) -> Result<(Row, Triple)> {
    let shape = Shape::one_stream(readers, len);
    let Trio { mut ours, mut floor, mut iox } = Trio::start(bench.scratch, shape)?;
    let payload = payload(len);
    // iceoryx2 has no descriptor of its own that a reader could see: a sample of that size stands for it.
    let record = super::payload(128);
    let sample = if len == 0 { &record } else { &payload };
    let bursts = if len < 1000 { 300 } else { 100 };
    let mut t = Triple::default();
    let mut turn = Series::default();
    for round in 0..=bench.rounds {
        let o = busy(&mut ours, &payload, bursts, false)?;
        let f = busy(&mut floor, &payload, bursts, false)?;
        let i = busy(&mut iox, sample, bursts, false)?;
        let b = busy(&mut ours, &payload, bursts, true)?;
        if round > 0 {
            t.ours.push(o);
            t.floor.push(f);
            t.iox.push(i);
            turn.push(b);
        }
    }
    let judged = readers == 1 && len == 0;
    let mut row = Row::new(format!("{what}, {readers} reader{}", if readers == 1 { "" } else { "s" }), "ns")
        .value("ours", &t.ours)
        .value("ours, a bell each", &turn)
        .value("floor", &t.floor)
        .value("iceoryx2", &t.iox)
        .check("ours/floor", t.ours.over(&t.floor), judged.then_some(Bound::AtMost(1.5)))
        .check("iceoryx2/ours", t.iox.over(&t.ours), judged.then_some(Bound::AtLeast(5.0)));
    if judged {
        row = row.check("with bell/floor", turn.over(&t.floor), None);
    }
    Ok((row, t))
}

/// Producer's time a unit, ns. `bell`: each unit is a turn of its own (nobody sleeps, so nobody is woken).
fn busy<W: Writer>(
    (writer, reader): &mut (W, ReaderProcess),
    payload: &[u8],
    bursts: usize,
    bell: bool,
) -> Result<f64> {
    reader.board.set_mode(Mode::Poll)?;
    let taps = reader.readers as u64;
    let mut spent = Vec::new();
    let mut expected = reader.board.taken();
    for _ in 0..bursts {
        writer.tick()?;
        let since = now_ns();
        for _ in 0..BURST {
            writer.publish(payload)?;
            if bell {
                writer.wake()?;
            }
        }
        spent.push((now_ns() - since) as f64);
        expected += BURST as u64 * taps;
        reader.board.wait_taken(expected)?;
    }
    reader.board.set_mode(Mode::Idle)?;
    Ok(quantile(&spent, 0.5) / BURST as f64)
}

/// Write, copy out and validate 20 KB: producer's and reader's time together, each on its core, one after the other.
pub(crate) fn whole(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (what, len, bound) in [("20 KB", LARGE, Some(Bound::AtMost(1.15))), ("64 B", 64, None)] {
        let Trio { mut ours, mut floor, mut iox } = Trio::start(bench.scratch, Shape::one_stream(1, len))?;
        let payload = payload(len);
        let (mut all, mut write, mut read) = (Triple::default(), Triple::default(), Triple::default());
        for round in 0..=bench.rounds {
            let o = both(&mut ours, &payload)?;
            let f = both(&mut floor, &payload)?;
            let i = both(&mut iox, &payload)?;
            if round > 0 {
                for (t, of) in [
                    (&mut all, (|(w, r)| w + r) as fn((f64, f64)) -> f64),
                    (&mut write, |(w, _)| w),
                    (&mut read, |(_, r)| r),
                ] {
                    t.ours.push(of(o));
                    t.floor.push(of(f));
                    t.iox.push(of(i));
                }
            }
        }
        for (part, t, bound) in [("whole", &all, bound), ("publish", &write, None), ("take", &read, None)] {
            rows.push(
                Row::new(format!("{what}, {part}"), "ns")
                    .value("ours", &t.ours)
                    .value("memcpy+memcpy", &t.floor)
                    .value("iceoryx2", &t.iox)
                    .check("ours/memcpy", t.ours.over(&t.floor), bound)
                    .check("ours/iceoryx2", t.ours.over(&t.iox), None),
            );
        }
    }
    Ok(rows)
}

/// Time a unit of the producer and of the reader, ns.
fn both<W: Writer>((writer, reader): &mut (W, ReaderProcess), payload: &[u8]) -> Result<(f64, f64)> {
    reader.board.set_mode(Mode::Drain)?;
    let bursts = 150;
    let (mut spent, mut read) = (Vec::new(), Vec::new());
    let mut expected = reader.board.taken();
    for _ in 0..bursts {
        writer.tick()?;
        let before = reader.board.drained_ns();
        let since = now_ns();
        for _ in 0..BURST {
            writer.publish(payload)?;
        }
        spent.push((now_ns() - since) as f64);
        expected += BURST as u64;
        reader.board.order(expected);
        reader.board.wait_taken(expected)?;
        read.push((reader.board.drained_ns() - before) as f64);
    }
    reader.board.set_mode(Mode::Idle)?;
    Ok((quantile(&spent, 0.5) / BURST as f64, quantile(&read, 0.5) / BURST as f64))
}
