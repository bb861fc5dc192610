//! HTTP/1.1 for monitoring: `GET /metrics` and `GET /healthz`, and nothing else.
//!
//! What a client may cost is bounded: so many connections at a time, of which the oldest gives way, each for one
//! request, with a head of at most 8 KiB, and for a few seconds from its beginning to its end, however slowly it writes
//! or reads. A request's body is not read. That a request is HTTP is hyper's business.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::exposition::MEDIA_TYPE;
use super::health::Health;
use crate::error::ServerError;

/// Connections at a time; for one more, the oldest is cut off.
const CONNECTIONS_MAX: usize = 16;
/// From a connection's beginning to its end; longer than the driver may take to say that it is alive.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Of a request's head. hyper takes no less.
const HEAD_BYTES_MAX: usize = 8192;
/// Without sockets to spare, how long until the next attempt.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);
/// Of what is said beside metrics.
const TEXT: &str = "text/plain; charset=utf-8";

/// What the endpoint answers with.
pub(super) trait Answers: Send + Sync + 'static {
    /// Gives the page of `/metrics`.
    fn metrics(&self) -> String;

    /// Says whether the run goes on.
    fn health(&self) -> impl Future<Output = Health> + Send;
}

/// A socket that listens; who connects waits until it is served.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Opens the socket; port 0 takes a free one. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`ServerError::Metrics`] with the address.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| ServerError::Metrics { address, source })
    }

    /// Gives the address listened on, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until it is dropped.
    pub(super) async fn serve<A: Answers>(self, answers: Arc<A>) {
        let mut connections = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "no connection for metrics");
                    sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            oldest_first.retain(|connection| !connection.is_finished());
            // A scrape takes milliseconds: who is still here when so many have come after it has nothing to ask.
            if oldest_first.len() == CONNECTIONS_MAX
                && let Some(oldest) = oldest_first.pop_front()
            {
                oldest.abort();
            }
            oldest_first.push_back(connections.spawn(answer(stream, Arc::clone(&answers))));
        }
    }
}

/// Answers one request, if it comes in time.
async fn answer<A: Answers>(stream: TcpStream, answers: Arc<A>) {
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(respond(&request, answers.as_ref()).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        // The limit below holds for the head too.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no request for metrics"),
        Err(_) => tracing::debug!("a client of metrics was too slow"),
    }
}

async fn respond<A: Answers>(request: &Request<Incoming>, answers: &A) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz") {
        let line = "there is /metrics and /healthz here\n";
        return response(StatusCode::NOT_FOUND, TEXT, line.to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let line = "there is only GET here\n".to_owned();
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, line);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    if path == "/metrics" {
        return response(StatusCode::OK, MEDIA_TYPE, answers.metrics());
    }
    let Health { is_well, line } = answers.health().await;
    let status = if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    response(status, TEXT, format!("{line}\n"))
}

fn response(status: StatusCode, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
