//! Which request gets which response.
//!
//! | path | 200 | 503 |
//! |---|---|---|
//! | `/metrics` | the metrics | the control thread does not answer |
//! | `/healthz` | the control thread answers | it does not: restart the daemon |
//! | `/readyz` | requests are taken | it does not, or the daemon is stopping: send nobody here |

use std::convert::Infallible;

use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::site::{NoAnswer, Site};
use crate::metrics::{self, Snapshot};

/// A line, or metrics that are written while they are read.
pub(super) type Body = Either<Full<Bytes>, StreamBody<tokio_stream::Iter<Pieces>>>;

type Pieces = Box<dyn Iterator<Item = Result<Frame<Bytes>, Infallible>> + Send>;

/// The response to `request`. To HEAD it is the same as to GET; hyper leaves its body out.
pub(super) async fn respond<B>(site: &Site, request: Request<B>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return Ok(line(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match path {
        "/metrics" => site.snapshot().await.map_or_else(|why| unavailable(&why), told),
        "/healthz" => site.is_draining().await.map_or_else(|why| unavailable(&why), |_| ok()),
        _ => match site.is_draining().await {
            Ok(false) => ok(),
            Ok(true) => line(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
            Err(why) => unavailable(&why),
        },
    })
}

fn told(snapshot: Snapshot) -> Response<Body> {
    let frame = |piece: String| Ok(Frame::data(Bytes::from(piece)));
    let pieces: Pieces = Box::new(snapshot.into_text().map(frame));
    let body = Either::Right(StreamBody::new(tokio_stream::iter(pieces)));
    response(StatusCode::OK, metrics::CONTENT_TYPE, body)
}

fn ok() -> Response<Body> {
    line(StatusCode::OK, "ok")
}

fn unavailable(why: &NoAnswer) -> Response<Body> {
    line(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
}

fn line(status: StatusCode, text: &str) -> Response<Body> {
    let body = Either::Left(Full::new(Bytes::from(format!("{text}\n"))));
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::super::site::Question;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// Status, headers and text of the response to a request, when the control thread's answer to each question is `answer`.
    async fn ask(
        patience: Duration,
        method: Method,
        path: &str,
        answer: impl FnOnce(Question),
    ) -> (StatusCode, hyper::HeaderMap, String) {
        let (questions, mut asked) = mpsc::channel(1);
        let site = Site::new(questions, patience);
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let (response, ()) = tokio::join!(
            async {
                let site = site;
                respond(&site, request).await.unwrap()
            },
            async {
                if let Some(question) = asked.recv().await {
                    answer(question);
                }
            }
        );
        let (parts, body) = response.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(text.to_vec()).unwrap())
    }

    fn not_asked(question: Question) {
        panic!("nobody needs to be asked: {question:?}");
    }

    fn draining(is_draining: bool) -> impl FnOnce(Question) {
        move |question| match question {
            Question::IsDraining(to) => to.send(is_draining).unwrap(),
            Question::Snapshot(_) => panic!("that takes longer"),
        }
    }

    #[test]
    fn a_daemon_that_stops_is_healthy_and_not_ready() {
        run(async {
            for (path, is_draining, wanted) in [
                ("/healthz", false, (StatusCode::OK, "ok\n")),
                ("/healthz", true, (StatusCode::OK, "ok\n")),
                ("/readyz", false, (StatusCode::OK, "ok\n")),
                ("/readyz?verbose=1", false, (StatusCode::OK, "ok\n")),
                ("/readyz", true, (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n")),
            ] {
                for method in [Method::GET, Method::HEAD] {
                    let (status, _, text) = ask(LONG, method, path, draining(is_draining)).await;
                    assert_eq!((status, text.as_str()), wanted, "{path}, {is_draining}");
                }
            }
        });
    }

    #[test]
    fn a_control_thread_that_does_not_answer_is_told() {
        run(async {
            for path in ["/metrics", "/healthz", "/readyz"] {
                let mut held = None;
                let hang = |question| held = Some(question);
                let (status, _, text) = ask(SHORT, Method::GET, path, hang).await;
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
                assert_eq!(text, "the control thread did not answer within 1ms\n", "{path}");

                let (status, _, text) = ask(LONG, Method::GET, path, drop).await;
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
                assert_eq!(text, "the control thread has ended\n", "{path}");
            }
        });
    }

    #[test]
    fn other_paths_and_methods_are_refused_without_asking() {
        run(async {
            for path in ["/", "/metrics/", "/Metrics", "//metrics", "/metrics%20", "/../metrics"] {
                let (status, ..) = ask(LONG, Method::GET, path, not_asked).await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            }
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
                let (status, headers, _) = ask(LONG, method, "/metrics", not_asked).await;
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
                assert_eq!(headers[ALLOW], "GET, HEAD");
            }
        });
    }
}
