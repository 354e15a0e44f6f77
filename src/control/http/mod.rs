//! The HTTP endpoint: metrics, and how the daemon is.
//!
//! ```text
//!  client ──▶ accept ──▶ hyper ──▶ routes ──▶ Site ──Question──▶ control thread
//!               │          │ too long, too slow      │ no answer in time
//!               ▼          ▼                         ▼
//!   too many: the oldest is closed                  503
//! ```
//! It has a thread of its own. The text of thousands of streams takes tens of milliseconds to write, which callers of the API need
//! not wait for; and a control thread that does not answer any more can be told from one that does. A connection carries one
//! request and has an end that its client cannot put off. Whoever is slow, silent or many costs himself his connection and keeps
//! nobody out: who asks for health must not be told by a supervisor's time-out that others were there.

mod routes;
mod site;

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::site::{Question, Site};
use super::plane::SharedPlane;
use crate::limits::{
    HTTP_ANSWER_TIMEOUT, HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEAD_LEN_MAX, HTTP_HEAD_TIMEOUT,
};

/// When a client that could not be accepted (no descriptors) is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Serves on `listener` until `closing` closes. To be called within the control thread's runtime, which answers questions.
///
/// # Errors
/// What the system says: no thread, no descriptors.
pub(super) fn spawn(
    listener: std::net::TcpListener,
    plane: SharedPlane,
    mut closing: watch::Receiver<()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _within = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let (questions, asked) = mpsc::channel(HTTP_CONNECTIONS_MAX);
    let site = Site::new(questions, HTTP_ANSWER_TIMEOUT);
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(&listener, &site) => {}
                () = async { while closing.changed().await.is_ok() {} } => {}
            }
        });
    };
    thread::Builder::new().name("vms-http".to_owned()).spawn(serve)?;
    tokio::spawn(answer(asked, plane));
    info!("metrics at http://{address}/metrics");
    Ok(())
}

/// Answers on the control thread, with a step for others behind each answer.
async fn answer(mut asked: mpsc::Receiver<Question>, plane: SharedPlane) {
    while let Some(question) = asked.recv().await {
        match question {
            // Who does not wait for it any more costs nothing.
            Question::IsDraining(to) if to.is_closed() => {}
            Question::Snapshot(to) if to.is_closed() => {}
            Question::IsDraining(to) => drop(to.send(plane.lock().is_draining())),
            Question::Snapshot(to) => drop(to.send(plane.lock().snapshot())),
        }
        yield_now().await;
    }
}

/// Lets clients in for ever. One too many costs the oldest its connection.
async fn accept(listener: &TcpListener, site: &Site) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::with_capacity(HTTP_CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|connection| !connection.is_finished());
                if connections.len() >= HTTP_CONNECTIONS_MAX
                    && let Some(oldest) = connections.pop_front()
                {
                    debug!("an HTTP client was cut: others came");
                    oldest.abort();
                }
                let site = site.clone();
                let served = tokio::spawn(async move { serve(stream, &site, HTTP_CONNECTION_TIMEOUT).await });
                connections.push_back(served.abort_handle());
                // Those that are let in get to say something before the next one is.
                yield_now().await;
            }
            Err(error) => {
                warn!(%error, "an HTTP client could not be let in; it is tried again");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Answers the one request of a connection; ends `within` that time, whatever the client does.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, site: &Site, within: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .max_buf_size(HTTP_HEAD_LEN_MAX)
        .keep_alive(false)
        // Who sends its request and closes its end, as some scripts do, is answered.
        .half_close(true);
    let respond = service_fn(|request| routes::respond(site, request));
    match timeout(within, http.serve_connection(TokioIo::new(stream), respond)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an HTTP connection failed"),
        Err(_) => debug!("an HTTP client was cut: it did not take its answer in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::metrics::tests::{snapshot, stream};

    #[test]
    fn a_client_that_does_not_read_is_cut_and_its_answer_never_written_out() {
        let streams: Vec<_> = (0..2_000).map(|number| stream(&format!("cam-{number}"))).collect();
        let whole: usize = snapshot(streams.clone()).into_text().map(|piece| piece.len()).sum();
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (questions, mut asked) = mpsc::channel(1);
            let site = Site::new(questions, HTTP_ANSWER_TIMEOUT);
            let answers = async {
                let Some(Question::Snapshot(to)) = asked.recv().await else { panic!("no question") };
                to.send(snapshot(streams)).unwrap();
            };
            let server = tokio::net::UnixStream::from_std(server).unwrap();
            let served = serve(server, &site, Duration::from_millis(200));
            let both = async { tokio::join!(served, answers) };
            timeout(Duration::from_secs(20), both).await.expect("it is cut");
        });
        let mut told = Vec::new();
        client.read_to_end(&mut told).unwrap();
        assert!(told.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&told));
        assert!(told.len() < whole / 2, "{} of {whole} bytes were written", told.len());
    }
}
