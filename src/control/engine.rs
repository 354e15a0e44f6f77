//! Stand-in for the shards until they land: it takes every command and nothing ever happens.

use std::collections::HashSet;

use tokio::sync::Notify;
use vms_proto::v1;

use super::error::ApiError;
use super::registry::Place;
use super::show;
use super::spec::StreamSpec;
use crate::codec::Codec;
use crate::config::Config;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::Status;
use crate::time::Mono;

pub(crate) struct Track {
    pub(crate) codec: Codec,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate: (u32, u32),
    pub(crate) profile: u8,
    pub(crate) level: u8,
}

impl Track {
    pub(crate) fn shown(&self) -> v1::TrackInfo {
        let (frames, seconds) = self.frame_rate;
        v1::TrackInfo {
            codec: show::codec(self.codec).into(),
            width: self.width,
            height: self.height,
            fps: if seconds == 0 { 0.0 } else { f64::from(frames) / f64::from(seconds) },
            profile_idc: self.profile.into(),
            level_idc: self.level.into(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) units: u64,
    pub(crate) key_units: u64,
    pub(crate) bytes: u64,
    pub(crate) lost_packets: u64,
    pub(crate) damaged_units: u64,
    pub(crate) dropped_units: u64,
    pub(crate) readers: u32,
    pub(crate) reconnects: u64,
    pub(crate) last_unit: Option<Mono>,
}

impl Counters {
    pub(crate) fn shown(&self) -> v1::StreamStats {
        v1::StreamStats {
            units: self.units,
            bytes: self.bytes,
            fps: 0.0,
            bitrate_bps: 0,
            lost_packets: self.lost_packets,
            damaged_units: self.damaged_units,
            dropped_units: self.dropped_units,
            readers: self.readers,
            key_units: self.key_units,
        }
    }
}

#[expect(dead_code, reason = "no shard yet")]
pub(crate) enum Event {
    Status { uid: StreamUid, status: Status },
    Tracks { uid: StreamUid, tracks: Vec<Track> },
    Counters { uid: StreamUid, counters: Counters },
    Resolve { uid: StreamUid, host: String, port: u16 },
    Removed { uid: StreamUid },
}

pub(crate) struct Engine {
    streams: Vec<usize>,
    removed: Vec<Event>,
    live: HashSet<StreamUid>,
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {}

impl Engine {
    pub(crate) fn start(config: &Config) -> Result<(Self, Vec<Bell>), StartError> {
        let shards = config.shards.get();
        let engine = Self { streams: vec![0; shards], removed: Vec::new(), live: HashSet::new() };
        Ok((engine, (0..shards).map(|_| Bell(Notify::new())).collect()))
    }

    pub(crate) fn shards(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn io_backend(&self) -> &'static str {
        "none"
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn place(&self) -> usize {
        let least = self.streams.iter().enumerate().min_by_key(|(_, streams)| **streams);
        least.map_or(0, |(shard, _)| shard)
    }

    pub(crate) fn add(&mut self, place: Place, _id: &StreamId, _spec: &StreamSpec) -> Result<(), ApiError> {
        self.live.insert(place.uid);
        self.streams[place.shard] += 1;
        Ok(())
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.live.remove(&place.uid);
        self.streams[place.shard] -= 1;
    }

    pub(crate) fn resolved(&self, _uid: StreamUid, _addresses: Result<Vec<std::net::IpAddr>, String>) {}

    pub(crate) fn next_event(&mut self, _shard: usize) -> Option<Event> {
        self.removed.pop()
    }
}

pub(crate) struct Bell(Notify);

impl Bell {
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
