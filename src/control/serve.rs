//! The daemon's life: start, serve, stop within a bound.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::{error, info, warn};
use vms_proto::v1::media_control_server::MediaControlServer;

use super::api::Api;
use super::budget::Budget;
use super::callers::{Caller, Callers};
use super::configured::Configured;
use super::engine::{self, Bell, Engine, StartError};
use super::http;
use super::huge_pages;
use super::listen::{self, ListenError};
use super::plane::{SETUP_TIMEOUT, SharedPlane};
use super::programs::{Programs, Sockets};
use super::resolve::Resolver;
use super::signals::StopSignal;
use super::state::{self, StateError};
use crate::config::{Config, FileError, Listen};
use crate::limits::{
    CALLS_PER_CONNECTION_MAX, EVENTS_PER_PASS, LOOKUPS_MAX, REQUEST_LEN_MAX, SEGMENTS_MADE_MAX,
};
use crate::publish::attach::{self, Listener};
use crate::socket_path::{Claim, ClaimError};

/// How long all cameras together have for their goodbye.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long open calls have to end after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a handler may take. None comes near: only that of a new stream waits, and that gives up before, with a reason.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const _: () = assert!(SETUP_TIMEOUT.as_millis() < CALL_TIMEOUT.as_millis());
/// Look-ups, those that make the memory of streams, and one more that frees it: dead name servers must not hold that up.
const BLOCKING_THREADS_MAX: usize = LOOKUPS_MAX + SEGMENTS_MADE_MAX + 1;
/// When a caller that could not be accepted (no descriptors) is tried again. It stays in the queue and keeps the listening
/// socket readable, so without a pause the control thread would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// A connection that does not answer a ping for twice this is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why the daemon did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No runtime.
    #[error("cannot start the control thread")]
    Runtime(#[from] io::Error),
    /// No shards.
    #[error(transparent)]
    Shards(#[from] StartError),
    /// No address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// No thread for metrics.
    #[error("cannot start the HTTP thread")]
    Http(#[source] io::Error),
    /// No thread for the readers.
    #[error("cannot start the attach thread")]
    Attach(#[source] io::Error),
    /// No ring socket.
    #[error(transparent)]
    RingSocket(ClaimError),
    /// A shard's thread ended on its own: a bug, or a kernel that no longer serves its ring.
    #[error("shard {0} has ended; the daemon cannot go on without it")]
    ShardEnded(usize),
    /// A second signal came while the streams were being torn down.
    #[error("stopped at once by a second signal")]
    Interrupted,
}

/// A daemon that has been told what to do, and has done nothing yet.
pub struct Daemon {
    config: Config,
    streams: Configured,
}

impl Daemon {
    /// Looks at the streams that the configuration names, and reads their passwords.
    ///
    /// # Errors
    /// [`FileError`] when one of them is none.
    pub fn new(mut config: Config) -> Result<Self, FileError> {
        // What may hold a password is not kept as text.
        let streams = Configured::check(&std::mem::take(&mut config.streams))?;
        Ok(Self { config, streams })
    }

    /// Runs until SIGINT, SIGTERM or SIGHUP.
    ///
    /// # Errors
    /// [`RunError`] when it cannot start, or when a second signal cut the stop short.
    pub fn run(self) -> Result<(), RunError> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
        let outcome = runtime.block_on(serve(self));
        // A look-up that a dead name server holds must not hold us.
        runtime.shutdown_background();
        outcome
    }
}

/// Streams may hold passwords.
impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("config", &self.config).finish_non_exhaustive()
    }
}

async fn serve(Daemon { config, streams }: Daemon) -> Result<(), RunError> {
    let mut stop = StopSignal::new()?;
    // Before anything else: a second daemon must find out here, not after it has started its shards.
    let door = Listener::bind_with_mode(&config.ring_socket, config.ring_socket_mode)
        .map_err(RunError::RingSocket)?;
    let sockets = config.listen.iter().map(Socket::bind).collect::<Result<Vec<_>, _>>()?;
    let http = config.http.map(listen::bind_http).transpose()?;
    let (saved, store) = state::open(config.state_dir.as_deref())?;
    let (engine, bells) = Engine::start(&config)?;
    let (requests, mut readers) = mpsc::unbounded_channel();
    // Unbounded in form only: the attach thread has one request a reader and stream under way.
    let ask = move |request| drop(requests.send(request));
    let door = attach::spawn(door, attach::Limits::default(), engine::random(), ask);
    let (door, budget) = (door.map_err(RunError::Attach)?, Budget::of_this_machine());
    let plane = SharedPlane::new(engine, door, budget, store, streams.owned());
    huge_pages::log();
    let resolver = Resolver::new(plane.clone(), config.policy.resolve_timeout);
    let mut pumps = JoinSet::new();
    for (shard, bell) in bells.into_iter().enumerate() {
        pumps.spawn(pump(shard, bell, plane.clone(), resolver.clone()));
    }
    let usher = plane.clone();
    tokio::spawn(async move {
        while let Some(request) = readers.recv().await {
            usher.lock().serve_reader(request);
        }
    });
    // Callers wait in the queue of the socket meanwhile: who lists the streams sees all of them.
    tokio::select! {
        () = plane.restore(streams, saved) => {}
        // The streams that are there already are said goodbye to below.
        () = stop.received() => stop.again(),
    }
    let listen = sockets.iter().zip(&config.listen).map(|(socket, asked)| socket.address(asked).to_string());
    let listen = listen.collect::<Vec<_>>().join(" ");
    let api = Api::new(plane.clone(), config.ring_socket.clone());
    let (close, closing) = watch::channel(());
    let mut servers = JoinSet::new();
    let mut claims = Vec::new();
    for socket in sockets {
        let callers = Callers::one_of(config.listen.len());
        claims.extend(socket.serve(&api, callers, closing.clone(), &mut servers)?);
    }
    // Last: who finds it finds a daemon that takes requests.
    if let Some(listener) = http {
        http::spawn(listener, plane.clone(), closing.clone()).map_err(RunError::Http)?;
    }
    info!(listen = listen.as_str(), shards = config.shards, "ready");
    // After that: a reader program finds its daemon.
    let mut programs = Programs::start(&config.readers, &program_sockets(&config, &listen));
    plane.show_programs(programs.board());

    tokio::select! {
        () = stop.received() => {}
        Some(Ok(shard)) = pumps.join_next() => return Err(RunError::ShardEnded(shard)),
    }
    info!("stopping: cameras are told goodbye; a second signal stops at once");
    let outcome = tokio::select! {
        () = shut_down(&plane, close, servers, &mut programs) => Ok(()),
        () = stop.received() => Err(RunError::Interrupted),
    };
    pumps.abort_all();
    plane.stop();
    drop(claims);
    outcome
}

/// The cameras' sessions first, so that none is left open at a camera that allows two, and so that readers have all there is;
/// then the callers, and the reader programs.
async fn shut_down(
    plane: &SharedPlane,
    close: watch::Sender<()>,
    mut servers: JoinSet<()>,
    programs: &mut Programs,
) {
    if timeout(DRAIN_TIMEOUT, plane.drain()).await.is_err() {
        warn!("some cameras did not take their goodbye in time");
    }
    drop(close);
    let ended = async { while servers.join_next().await.is_some() {} };
    let callers = async {
        if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            info!("open connections were cut");
        }
    };
    tokio::join!(callers, programs.stop());
}

/// What reader programs are told: the ring socket, and the first address of the control plane with the port that it got.
fn program_sockets(config: &Config, listen: &str) -> Sockets {
    let control = listen.split(' ').next().unwrap_or_default().to_owned();
    Sockets { ring: config.ring_socket.clone(), control }
}

/// Takes a shard's events whenever it rings. Ends, with the shard's number, when its thread has.
async fn pump(shard: usize, bell: Bell, plane: SharedPlane, resolver: Resolver) -> usize {
    loop {
        let batch = plane.take_events(shard, EVENTS_PER_PASS);
        batch.lookups.into_iter().for_each(|lookup| resolver.spawn(lookup));
        if !batch.gone.is_empty() {
            drop(spawn_blocking(move || drop(batch.gone)));
        }
        if batch.is_over {
            return shard;
        }
        if batch.more {
            tokio::task::yield_now().await;
        } else if bell.rung().await.is_err() {
            // Only when the runtime ends, and this task with it.
            return shard;
        }
    }
}

/// An address that is ours: callers may already knock.
enum Socket {
    Unix(std::os::unix::net::UnixListener, Claim),
    Tcp(std::net::TcpListener),
}

impl Socket {
    fn bind(address: &Listen) -> Result<Self, ListenError> {
        match address {
            Listen::Unix(path) => {
                let (listener, claim) = listen::bind_unix(path)?;
                Ok(Self::Unix(listener, claim))
            }
            Listen::Tcp(address) => listen::bind_tcp(*address).map(Self::Tcp),
        }
    }

    /// Where callers knock: as `asked`, but with the port that the system chose for port 0.
    fn address(&self, asked: &Listen) -> Listen {
        match self {
            Self::Unix(..) => asked.clone(),
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| asked.clone(), Listen::Tcp),
        }
    }

    /// Lets callers in until `closing` closes. The claim is to be kept until then.
    fn serve(
        self,
        api: &Api,
        callers: Callers,
        mut closing: watch::Receiver<()>,
        servers: &mut JoinSet<()>,
    ) -> io::Result<Option<Claim>> {
        let closed = async move { while closing.changed().await.is_ok() {} };
        let router = router(api.clone());
        match self {
            Self::Unix(listener, claim) => {
                let incoming = admitted(UnixListenerStream::new(UnixListener::from_std(listener)?), callers);
                servers
                    .spawn(async move { told(router.serve_with_incoming_shutdown(incoming, closed).await) });
                Ok(Some(claim))
            }
            Self::Tcp(listener) => {
                let incoming = admitted(TcpListenerStream::new(TcpListener::from_std(listener)?), callers);
                servers
                    .spawn(async move { told(router.serve_with_incoming_shutdown(incoming, closed).await) });
                Ok(None)
            }
        }
    }
}

/// The callers that have a place.
fn admitted<S>(
    streams: impl Stream<Item = io::Result<S>>,
    mut callers: Callers,
) -> impl Stream<Item = io::Result<Caller<S>>> {
    paced(streams).filter_map(move |stream| match stream {
        Ok(stream) => callers.admit(stream).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// The same callers, with a pause behind each that could not be accepted.
fn paced<T>(callers: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = io::Result<T>> {
    callers.then(|caller| async {
        if let Err(error) = &caller {
            warn!(%error, "a caller could not be let in; it is tried again");
            sleep(ACCEPT_RETRY).await;
        }
        caller
    })
}

fn router(api: Api) -> Router {
    Server::builder()
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(MediaControlServer::new(api).max_decoding_message_size(REQUEST_LEN_MAX))
}

fn told(ended: Result<(), tonic::transport::Error>) {
    if let Err(error) = ended {
        error!(%error, "a listener ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn a_caller_that_cannot_be_accepted_does_not_make_the_thread_spin() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let no_descriptors = || Err::<(), _>(io::Error::from_raw_os_error(24));
            let mut callers = pin!(paced(tokio_stream::iter([no_descriptors(), Ok(())])));
            assert!(
                timeout(ACCEPT_RETRY / 2, callers.next()).await.is_err(),
                "the failure came without a pause"
            );
            assert!(callers.next().await.is_some_and(|caller| caller.is_err()));
            assert!(callers.next().await.is_some_and(|caller| caller.is_ok()), "it goes on after it");
        });
    }
}
