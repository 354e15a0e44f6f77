//! The cameras of a farm, and what is counted about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use vms_stamp::Codec;

use crate::config::{Config, Fps, MediaSpec};
use crate::media::{Additions, Media, MediaError};
use crate::player::Clip;

/// All cameras, by index and by name.
#[derive(Debug)]
pub(crate) struct Farm {
    pub(crate) config: Config,
    pub(crate) cameras: Vec<Camera>,
    by_name: BTreeMap<String, usize>,
    /// Clips of another resolution: H.264, H.265.
    others: [Arc<Media>; 2],
}

/// One path under which a clip can be watched.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) name: String,
    pub(crate) media: Arc<Media>,
}

impl Farm {
    /// Loads the clips and names the cameras: one for each clip, then `cam0` … where camera i shows clip i mod M.
    pub(crate) fn new(config: Config) -> Result<Self, MediaError> {
        let additions = Additions { stamp: config.stamp, bitrate: config.bitrate };
        let clips = if config.media.is_empty() {
            built_in(additions)?
        } else {
            config.media.iter().map(|spec| load(spec, additions)).collect::<Result<_, _>>()?
        };
        let mut cameras: Vec<Camera> = Vec::with_capacity(clips.len() + config.cameras as usize);
        let numbered = clips.iter().cycle().zip(0..config.cameras);
        let numbered = numbered
            .map(|(clip, number)| Camera { name: format!("cam{number}"), media: Arc::clone(&clip.media) })
            .collect::<Vec<_>>();
        cameras.extend(clips);
        cameras.extend(numbered);
        let by_name =
            cameras.iter().enumerate().map(|(index, camera)| (camera.name.clone(), index)).collect();
        let others = [small(Codec::H264, additions)?, small(Codec::H265, additions)?];
        Ok(Self { config, cameras, by_name, others })
    }

    /// What a camera shows.
    pub(crate) fn clip(&self, camera: usize) -> Option<Clip> {
        let shown = Arc::clone(&self.cameras.get(camera)?.media);
        let [h264, h265] = &self.others;
        let other = match shown.codec {
            Codec::H264 => Arc::clone(h264),
            Codec::H265 => Arc::clone(h265),
        };
        Some(Clip { shown, other, from: 0 })
    }

    /// Name of a camera.
    pub(crate) fn name(&self, camera: usize) -> &str {
        self.cameras.get(camera).map_or("", |camera| &camera.name)
    }

    /// Indices of the cameras with these names, or the name that no camera has; of all cameras, when there are none.
    pub(crate) fn find_all<'a>(&self, names: &'a [String]) -> Result<Vec<usize>, &'a str> {
        if names.is_empty() {
            return Ok((0..self.cameras.len()).collect());
        }
        names.iter().map(|name| self.find(name).ok_or(name.as_str())).collect()
    }

    /// Index of the camera called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// A clip of one second at 320 x 180, for cameras whose resolution changes.
fn small(codec: Codec, additions: Additions) -> Result<Arc<Media>, MediaError> {
    let stream: &[u8] = match codec {
        Codec::H264 => include_bytes!("../../../tests/media/small.h264"),
        Codec::H265 => include_bytes!("../../../tests/media/small.h265"),
    };
    Ok(Arc::new(Media::parse(stream, codec, Fps::default(), additions)?))
}

/// Two clips of four seconds; tests/media/README.md tells how they were made.
fn built_in(additions: Additions) -> Result<Vec<Camera>, MediaError> {
    let h264 = include_bytes!("../../../tests/media/testsrc2.h264");
    let h265 = include_bytes!("../../../tests/media/testsrc2.h265");
    let camera = |name: &str, stream: &[u8], codec| {
        let media = Media::parse(stream, codec, Fps::default(), additions)?;
        Ok(Camera { name: name.to_owned(), media: Arc::new(media) })
    };
    Ok(vec![camera("h264", h264, Codec::H264)?, camera("h265", h265, Codec::H265)?])
}

fn load(spec: &MediaSpec, additions: Additions) -> Result<Camera, MediaError> {
    let media = Media::load(&spec.file, spec.fps, additions)?;
    Ok(Camera { name: spec.name.clone(), media: Arc::new(media) })
}

/// What happened in a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connects: u64,
    /// Connections closed at once because there were too many.
    pub refused: u64,
    /// By camera name; cameras of which there is nothing to tell are left out.
    pub cameras: BTreeMap<String, CameraStats>,
}

/// What happened to one camera, over all its play sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CameraStats {
    /// PLAY requests granted.
    pub plays: u64,
    /// TEARDOWN requests granted.
    pub teardowns: u64,
    /// Requests with wrong credentials: what a real camera counts before it locks a client out.
    pub logins_refused: u64,
    /// Requests with right credentials for a nonce that was too old.
    pub nonces_refused: u64,
    /// Access units handed to the connection.
    pub units: u64,
    /// Access units that a slow client did not get, with those skipped behind them up to the next key frame.
    pub dropped: u64,
    /// Times that the simulator was more than a second late and moved the schedule: a measurement is void unless 0.
    pub held_up: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_cameras_share_the_clips_in_turn() {
        let config = Config { cameras: 3, ..Config::new(([127, 0, 0, 1], 0).into()) };
        let farm = Farm::new(config).unwrap();
        let names: Vec<&str> = farm.cameras.iter().map(|camera| camera.name.as_str()).collect();
        assert_eq!(names, ["h264", "h265", "cam0", "cam1", "cam2"]);
        let clip = |name: &str| &farm.cameras[farm.find(name).unwrap()].media;
        assert!(Arc::ptr_eq(clip("cam2"), clip("h264")) && Arc::ptr_eq(clip("cam1"), clip("h265")));
        assert_eq!(farm.find("cam3"), None);
    }

    #[test]
    fn built_in_clips_are_whole() {
        let farm = Farm::new(Config::new(([127, 0, 0, 1], 0).into())).unwrap();
        let keys = |index: usize| farm.cameras[index].media.units.iter().filter(|unit| unit.key).count();
        assert!(farm.cameras.iter().all(|camera| camera.media.units.len() == 100));
        assert_eq!((keys(0), keys(1)), (4, 2));
    }
}
