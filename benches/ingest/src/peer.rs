//! retina on one thread: a task a camera, units assembled and dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Context, bail};
use futures::StreamExt;
use retina::client::{
    Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions, Transport,
};
use retina::codec::CodecItem;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use url::Url;

use crate::report;
use crate::seen::Seen;

/// What was assembled.
#[derive(Debug)]
struct Done {
    units: Cell<u64>,
    bytes: Cell<u64>,
    /// `None` when nobody looks.
    seen: Option<RefCell<Seen>>,
}

/// Receives until it is killed or a camera ends.
pub(crate) fn run(urls: Vec<String>, looks_for_stamps: bool) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let seen = looks_for_stamps.then(Seen::new).transpose()?.map(RefCell::new);
    let done = Done { units: Cell::new(0), bytes: Cell::new(0), seen };
    LocalSet::new().block_on(&runtime, receive(urls, done))
}

async fn receive(urls: Vec<String>, done: Done) -> anyhow::Result<()> {
    let done = Rc::new(done);
    for url in urls {
        let camera = play(&url).await.with_context(|| format!("cannot play {url}"))?;
        let done = Rc::clone(&done);
        // Cameras that play must be read while the others are asked.
        tokio::task::spawn_local(async move {
            if let Err(error) = read(camera, &done).await {
                eprintln!("error: {url}: {error:#}");
                std::process::exit(1);
            }
        });
    }
    println!("ready");
    let mut every = tokio::time::interval(report::INTERVAL);
    loop {
        every.tick().await;
        let latency = done.seen.as_ref().and_then(|seen| seen.borrow().percentiles());
        report::print(&json!({ "units": done.units.get(), "bytes": done.bytes.get(), "latency": latency }))?;
    }
}

async fn play(url: &str) -> anyhow::Result<Demuxed> {
    let mut session = Session::describe(Url::parse(url)?, SessionOptions::default()).await?;
    let transport = Transport::Tcp(TcpTransportOptions::default());
    session.setup(0, SetupOptions::default().transport(transport)).await?;
    Ok(session.play(PlayOptions::default()).await?.demuxed()?)
}

async fn read(mut camera: Demuxed, done: &Done) -> anyhow::Result<()> {
    while let Some(item) = camera.next().await {
        if let CodecItem::VideoFrame(frame) = item? {
            done.units.set(done.units.get() + 1);
            done.bytes.set(done.bytes.get() + frame.data().len() as u64);
            if let Some(seen) = &done.seen {
                seen.borrow_mut().look(frame.data());
            }
        }
    }
    bail!("the camera ended")
}
