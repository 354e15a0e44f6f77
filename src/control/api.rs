//! The calls of `MediaControl`, each a check of the request and one step of the [`Plane`](super::plane::Plane).
//!
//! Handlers await a stream's memory, its move, and that what they did is saved; none waits for a camera.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use ring_abi::layout::{ABI_MAJOR, ABI_MINOR};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use vms_proto::v1;
use vms_proto::v1::media_control_server::MediaControl;

use super::error::ApiError;
use super::feed::{Event, Watch};
use super::plane::SharedPlane;
use super::spec::{self, StreamSpec};
use super::{huge_pages, show};
use crate::ids::StreamId;
use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, STREAMS_MAX, UNIT_LEN_MAX, WATCHERS_MAX};

/// The service.
#[derive(Clone)]
pub(crate) struct Api {
    plane: SharedPlane,
    ring_socket: Arc<PathBuf>,
    watches: Arc<Semaphore>,
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::StreamEvent, Status>> + Send>>;

impl Api {
    /// A service before `plane`, that tells readers to attach at `ring_socket`.
    pub(crate) fn new(plane: SharedPlane, ring_socket: PathBuf) -> Self {
        let watches = Arc::new(Semaphore::new(WATCHERS_MAX));
        Self { plane, ring_socket: Arc::new(ring_socket), watches }
    }

    /// The events of `watch`, then the reason why they end. `slot` is held for as long as anybody reads.
    fn events(&self, watch: Watch, slot: OwnedSemaphorePermit) -> WatchStream {
        let backlog = tokio_stream::iter(watch.backlog);
        let Some(live) = watch.live else { return Box::pin(backlog.map(|event| Ok(event.shown()))) };
        let plane = self.plane.clone();
        let end = tokio_stream::once(()).map(move |()| {
            let _slot = &slot;
            Err(plane.lock().watch_end().into())
        });
        Box::pin(backlog.chain(ReceiverStream::new(live)).map(Event::shown).map(Ok).chain(end))
    }
}

#[tonic::async_trait]
impl MediaControl for Api {
    type WatchStreamsStream = WatchStream;

    async fn setup_stream(
        &self,
        request: Request<v1::SetupStreamRequest>,
    ) -> Result<Response<v1::SetupStreamResponse>, Status> {
        let (id, spec) = StreamSpec::check(request.into_inner())?;
        let (stream, created) = self.plane.setup(id, spec).await?;
        Ok(Response::new(v1::SetupStreamResponse { stream: Some(stream), created }))
    }

    async fn update_stream(
        &self,
        request: Request<v1::UpdateStreamRequest>,
    ) -> Result<Response<v1::Stream>, Status> {
        let (id, update, etag) = spec::check_update(request.into_inner())?;
        Ok(Response::new(self.plane.update(&id, update, &etag).await?))
    }

    async fn teardown_stream(
        &self,
        request: Request<v1::TeardownStreamRequest>,
    ) -> Result<Response<v1::TeardownStreamResponse>, Status> {
        let id = stream_id(&request.get_ref().id)?;
        let existed = self.plane.teardown(&id).await?;
        Ok(Response::new(v1::TeardownStreamResponse { existed }))
    }

    async fn move_stream(
        &self,
        request: Request<v1::MoveStreamRequest>,
    ) -> Result<Response<v1::Stream>, Status> {
        let v1::MoveStreamRequest { id, shard } = request.into_inner();
        let id = stream_id(&id)?;
        let shard = usize::try_from(shard).unwrap_or(usize::MAX);
        Ok(Response::new(self.plane.relocate(id, shard).await?))
    }

    async fn restart_stream(
        &self,
        request: Request<v1::RestartStreamRequest>,
    ) -> Result<Response<v1::Stream>, Status> {
        let id = stream_id(&request.get_ref().id)?;
        Ok(Response::new(self.plane.lock().restart(&id)?))
    }

    async fn get_stream(
        &self,
        request: Request<v1::GetStreamRequest>,
    ) -> Result<Response<v1::Stream>, Status> {
        let id = stream_id(&request.get_ref().id)?;
        Ok(Response::new(self.plane.lock().stream(&id)?))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        let size = page_size(request.get_ref().page_size)?;
        let after = page_token(&request.get_ref().page_token)?;
        let (page, revision) = self.plane.lock().page(after.as_ref(), size);
        let next_page_token = page.more_after.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListStreamsResponse { streams: page.streams, next_page_token, revision }))
    }

    async fn watch_streams(
        &self,
        request: Request<v1::WatchStreamsRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let slot = Arc::clone(&self.watches).try_acquire_owned();
        let slot = slot.map_err(|_| ApiError::WatcherLimit { limit: WATCHERS_MAX })?;
        let watch = self.plane.lock().watch(request.get_ref().from_revision)?;
        Ok(Response::new(self.events(watch, slot)))
    }

    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::ServerInfo>, Status> {
        let facts = self.plane.lock().facts();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            io_backend: facts.io.backend.name().to_owned(),
            io_backend_reason: facts.io.why_not_uring.unwrap_or_default(),
            shards: number(facts.shards.len()),
            shard_stats: facts.shards.iter().map(show::shard_stats).collect(),
            limits: Some(v1::Limits {
                streams_max: number(STREAMS_MAX),
                unit_bytes_max: UNIT_LEN_MAX as u64,
                watchers_max: number(WATCHERS_MAX),
                stream_memory_bytes_max: facts.stream_memory_max,
            }),
            ring_abi_version: format!("{ABI_MAJOR}.{ABI_MINOR}"),
            ring_socket: self.ring_socket.display().to_string(),
            streams: number(facts.streams),
            revision: facts.revision,
            start_time: Some(show::timestamp(facts.start)),
            arena_page_bytes: huge_pages::arena_page_len(),
            reader_programs: facts.programs.into_iter().map(show::program).collect(),
        }))
    }
}

fn stream_id(text: &str) -> Result<StreamId, ApiError> {
    StreamId::new(text).map_err(|_| ApiError::InvalidStreamId)
}

fn page_size(wished: i32) -> Result<usize, ApiError> {
    match usize::try_from(wished) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(ApiError::InvalidField { field: "page_size", why: "it is negative".to_owned() }),
    }
}

/// The token is the last id of the page before: it stays good when that stream is gone.
fn page_token(token: &str) -> Result<Option<StreamId>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = |_| ApiError::InvalidField { field: "page_token", why: "it is none of ours".to_owned() };
    StreamId::new(token).map(Some).map_err(wrong)
}
