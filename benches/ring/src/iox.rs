//! iceoryx2: one publish-subscribe service, and an event service to wake by, as its examples have it.
//!
//! Everything it names carries a prefix of this run and stands below the run's folder, so that what is left over can be counted
//! and taken away.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::{Config, FileName, LogLevel, Node, NodeBuilder, SemanticString, ipc, set_log_level};
use iceoryx2::service::port_factory::event::PortFactory as EventFactory;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::peer::{Shape, Tap, Writer};

type Service = ipc::Service;

/// Samples that wait for a subscriber, as many as a ring of ours has slots.
const BUFFER: usize = 128;

/// A node, its services, and what keeps them open.
#[derive(Debug)]
struct Open {
    samples: PortFactory<Service, [u8], ()>,
    events: EventFactory<Service>,
    _node: Node<Service>,
}

/// `place` is a folder of this process's own; its name makes the names unique.
fn open(place: &str, readers: usize) -> Result<Open> {
    set_log_level(LogLevel::Fatal);
    let mut config = Config::default();
    let root = iceoryx2::prelude::Path::new(place.as_bytes()).context("folder")?;
    config.global.set_root_path(&root);
    config.global.prefix = FileName::new(prefix(Path::new(place)).as_bytes()).context("prefix")?;
    let node = NodeBuilder::new().config(&config).create::<Service>().context("node")?;
    let samples = node
        .service_builder(&"bench/samples".try_into()?)
        .publish_subscribe::<[u8]>()
        .max_subscribers(readers.max(2))
        .subscriber_max_buffer_size(BUFFER)
        .open_or_create()
        .context("publish-subscribe service")?;
    let events = node
        .service_builder(&"bench/events".try_into()?)
        .event()
        .open_or_create()
        .context("event service")?;
    Ok(Open { samples, events, _node: node })
}

/// What the names of shared memory begin with: the run's folder's name and the service folder's.
pub(crate) fn prefix(place: &Path) -> String {
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    format!("{}_{}_", name(place.parent()), name(Some(place)))
}

/// Takes away the shared memory whose names begin so; how many there were.
pub(crate) fn remove_shared_memory(prefix: &str) -> usize {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    ours.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
}

/// Publishes to iceoryx2's subscribers.
#[derive(Debug)]
pub(crate) struct IoxWriter {
    publisher: Publisher<Service, [u8], ()>,
    notifier: Notifier<Service>,
    _open: Open,
    place: String,
}

impl IoxWriter {
    pub(crate) fn create(place: &Path, shape: Shape) -> Result<Self> {
        std::fs::create_dir_all(place)?;
        let place = place.display().to_string();
        let open = open(&place, shape.readers + shape.spare)?;
        let publisher = open
            .samples
            .publisher_builder()
            .initial_max_slice_len(shape.payload_max.max(128))
            .create()
            .context("publisher")?;
        let notifier = open.events.notifier_builder().create().context("notifier")?;
        Ok(Self { publisher, notifier, _open: open, place })
    }
}

impl Writer for IoxWriter {
    fn publish(&mut self, payload: &[u8]) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(payload.len())?;
        sample.write_from_slice(payload).send()?;
        Ok(())
    }

    fn wake(&mut self) -> Result<()> {
        self.notifier.notify()?;
        Ok(())
    }

    fn admit(&mut self, done: &mut dyn FnMut() -> bool) -> Result<()> {
        while !done() {
            crate::machine::nap(Duration::from_millis(1));
        }
        Ok(self.publisher.update_connections()?)
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// One subscriber.
#[derive(Debug)]
pub(crate) struct IoxTap {
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Listener<Service>,
    _open: Open,
    payload: Vec<u8>,
}

impl IoxTap {
    pub(crate) fn open(place: &str, readers: usize) -> Result<Self> {
        let open = open(place, readers)?;
        let subscriber =
            open.samples.subscriber_builder().buffer_size(BUFFER).create().context("subscriber")?;
        let listener = open.events.listener_builder().create().context("listener")?;
        Ok(Self { subscriber, listener, _open: open, payload: Vec::new() })
    }

    fn receive(&mut self) -> Result<bool> {
        let Some(sample) = self.subscriber.receive()? else { return Ok(false) };
        self.payload.clear();
        self.payload.extend_from_slice(sample.payload());
        Ok(true)
    }
}

impl Tap for IoxTap {
    fn take(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.receive()?.then_some(&*self.payload))
    }

    fn wait(&mut self) -> Result<Option<&[u8]>> {
        if !self.receive()? {
            self.listener.timed_wait(|_| {}, Duration::from_millis(50))?;
            return self.take();
        }
        Ok(Some(&self.payload))
    }
}
