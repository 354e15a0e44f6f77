//! The `Recorder` service, on a socket of the recorder's own. It reads the catalogue and the files; the thread that records knows nothing
//! of it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::net::UnixListener;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};
use vms_proto::v1;
use vms_proto::v1::recorder_server::{Recorder, RecorderServer};
use vms_record::catalogue::{Catalogue, CatalogueError, Listed};
use vms_record::export::{Exporter, Range};
use vms_record::recording::Segment;

/// Starts a thread that answers at `socket` for the storage at `dir`.
///
/// # Errors
/// When the socket cannot be had.
pub(crate) fn start(socket: &Path, dir: PathBuf) -> anyhow::Result<()> {
    let catalogue = Catalogue::open(&dir)?;
    let service = Service { dir, catalogue: Arc::new(Mutex::new(catalogue)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let listener = {
        let _runtime = runtime.enter();
        listen(socket).with_context(|| format!("cannot listen at {}", socket.display()))?
    };
    let serve = move || {
        let incoming = UnixListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(RecorderServer::new(service));
        if let Err(error) = runtime.block_on(server.serve_with_incoming(incoming)) {
            eprintln!("vms-record: nobody is answered any more: {error}");
        }
    };
    std::thread::Builder::new().name("serve".to_owned()).spawn(serve).context("no thread")?;
    Ok(())
}

/// Takes over what a dead recorder has left.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = socket.parent() {
        fs::create_dir_all(parent)?;
    }
    match UnixStream::connect(socket) {
        Ok(_) => return Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(socket)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[derive(Clone, Debug)]
struct Service {
    dir: PathBuf,
    catalogue: Arc<Mutex<Catalogue>>,
}

impl Service {
    fn with<T>(&self, ask: impl FnOnce(&Catalogue) -> Result<T, CatalogueError>) -> Result<T, Status> {
        let catalogue = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&catalogue).map_err(|error| Status::internal(error.to_string()))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Recorder for Service {
    async fn list_recordings(
        &self,
        request: Request<v1::ListRecordingsRequest>,
    ) -> Answer<v1::ListRecordingsResponse> {
        let v1::ListRecordingsRequest { stream_id, from, to } = request.into_inner();
        let stream = (!stream_id.is_empty()).then_some(stream_id);
        let (from, to) = (from.map_or(i64::MIN, nanos), to.map_or(i64::MAX, nanos));
        let (recordings, gaps) = self.with(|catalogue| {
            Ok((
                catalogue.segments(stream.as_deref(), from, to)?,
                catalogue.gaps(stream.as_deref(), from, to)?,
            ))
        })?;
        let recordings = recordings.into_iter().map(recording).collect();
        let gaps = gaps
            .into_iter()
            .map(|gap| v1::RecordingGap {
                stream_id: gap.stream,
                from: Some(timestamp(gap.from_utc_ns)),
                to: Some(timestamp(gap.to_utc_ns)),
                reason: gap.reason,
                lost_units: gap.lost,
            })
            .collect();
        Ok(Response::new(v1::ListRecordingsResponse { recordings, gaps }))
    }

    type ExportRecordingStream = ReceiverStream<Result<v1::ExportRecordingResponse, Status>>;

    async fn export_recording(
        &self,
        request: Request<v1::ExportRecordingRequest>,
    ) -> Answer<Self::ExportRecordingStream> {
        let v1::ExportRecordingRequest { stream_id, from, to } = request.into_inner();
        let (Some(from), Some(to)) = (from.map(nanos), to.map(nanos)) else {
            return Err(Status::invalid_argument("from and to: both are needed"));
        };
        let files = self.with(|catalogue| catalogue.segments(Some(&stream_id), from, to))?;
        if files.is_empty() {
            return Err(Status::not_found("nothing is recorded of that stream in that time"));
        }
        let (pieces, answer) = channel(PIECES_MAX);
        let dir = self.dir.clone();
        let range = Range { from_utc_ns: from, to_utc_ns: to };
        tokio::task::spawn_blocking(move || {
            if let Err(status) = export(&dir, &stream_id, files, range, &pieces) {
                // Who asked may have gone.
                let _ = pieces.blocking_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn lock_recordings(
        &self,
        request: Request<v1::LockRecordingsRequest>,
    ) -> Answer<v1::LockRecordingsResponse> {
        let v1::LockRecordingsRequest { stream_id, from, to, locked } = request.into_inner();
        let (Some(from), Some(to)) = (from.map(nanos), to.map(nanos)) else {
            return Err(Status::invalid_argument("from and to: both are needed"));
        };
        let count = self.with(|catalogue| catalogue.set_locked(&stream_id, from, to, locked))?;
        Ok(Response::new(v1::LockRecordingsResponse { recordings: count as u64 }))
    }
}

/// One file after the other, so that no more than one is in memory.
fn export(
    dir: &Path,
    stream: &str,
    files: Vec<Listed>,
    range: Range,
    pieces: &Sender<Result<v1::ExportRecordingResponse, Status>>,
) -> Result<(), Status> {
    let gone = |_| Status::cancelled("nobody listens");
    let mut exporter = Exporter::new(stream, range);
    let mut offset = 0;
    let mut send = |bytes: Vec<u8>| {
        let mut result = Ok(());
        for piece in bytes.chunks(PIECE_LEN) {
            let data = piece.to_vec();
            let len = data.len() as u64;
            result = result
                .and(pieces.blocking_send(Ok(v1::ExportRecordingResponse { offset, data })).map_err(gone));
            offset += len;
        }
        result
    };
    for Listed { segment, .. } in files {
        let name = segment.path.display().to_string();
        let file = fs::read(dir.join(&segment.path))
            .map_err(|error| Status::data_loss(format!("{name}: {error}")))?;
        let mut out = Vec::new();
        exporter
            .add(&name, &file, &mut out)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        send(out)?;
    }
    let mut out = Vec::new();
    let Some(finished) = exporter.finish(&mut out) else {
        return Err(Status::not_found("nothing is recorded of that stream in that time"));
    };
    send(out)?;
    let last = v1::ExportRecordingResponse { offset: 0, data: finished.header };
    pieces.blocking_send(Ok(last)).map_err(gone)
}

fn recording(listed: Listed) -> v1::Recording {
    let Segment {
        stream,
        path,
        why,
        epoch,
        codec,
        width,
        height,
        start_utc_ns,
        end_utc_ns,
        duration_ns,
        first_seq,
        last_seq,
        units,
        damaged,
        bytes,
        ..
    } = listed.segment;
    v1::Recording {
        stream_id: stream,
        path: path.to_string_lossy().into_owned(),
        start: Some(timestamp(start_utc_ns)),
        end: Some(timestamp(end_utc_ns)),
        duration: Some(prost_types::Duration {
            seconds: duration_ns.div_euclid(NS),
            nanos: i32::try_from(duration_ns.rem_euclid(NS)).unwrap_or_default(),
        }),
        codec,
        width,
        height,
        units,
        damaged_units: damaged,
        bytes,
        locked: listed.locked,
        why,
        epoch,
        first_seq,
        last_seq,
    }
}

fn nanos(time: prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(NS).saturating_add(time.nanos.into())
}

fn timestamp(utc_ns: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(utc_ns.rem_euclid(NS)).unwrap_or_default();
    prost_types::Timestamp { seconds: utc_ns.div_euclid(NS), nanos }
}

const NS: i64 = 1_000_000_000;
const PIECE_LEN: usize = 1 << 20;
/// Pieces that wait for who asked.
const PIECES_MAX: usize = 4;
