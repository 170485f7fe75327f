//! A server that remembers what it was asked and answers as told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, Uri};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::*;
use crate::http::Http;

/// One request that came in.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// A parameter of the query or of the form.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let pairs = format!("http://x/?{query}&{}", self.body);
        let url = reqwest::Url::parse(&pairs).unwrap();
        let found = url.query_pairs().find(|(known, _)| known == name)?;
        Some(found.1.into_owned())
    }
}

/// Status, extra headers, body.
pub(super) struct Reply(
    pub(super) u16,
    pub(super) Vec<(&'static str, String)>,
    pub(super) String,
);

pub(super) fn ok(body: impl Into<String>) -> Reply {
    Reply(200, vec![], body.into())
}

pub(super) fn status(status: u16) -> Reply {
    Reply(status, vec![], String::new())
}

pub(super) fn token(text: &str, life: u64) -> Reply {
    ok(format!(
        r#"{{"token_type":"Bearer","expires_in":{life},"ext_expires_in":{life},"access_token":"{text}"}}"#
    ))
}

type Script = dyn Fn(usize, &Asked) -> Reply + Send + Sync;

pub(super) struct Fake {
    pub(super) base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: CancellationToken,
}

impl Fake {
    /// `script` gets the number of the request, from 0, and the request.
    pub(super) async fn start(
        script: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let (log, stop) = (Arc::clone(&asked), CancellationToken::new());
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let asked = Asked {
                    uri: head.uri,
                    headers: head.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                let Reply(status, headers, body) = {
                    let mut log = log.lock().unwrap();
                    let number = log.len();
                    log.push(asked.clone());
                    drop(log);
                    script(number, &asked)
                };
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).unwrap()
            }
        });
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(stopped)
                .await
                .unwrap();
        });
        Self { base, asked, stop }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn tools() -> Tools {
    crate::tls::install_provider();
    Tools {
        http: Http::new(&[], Duration::from_secs(20)).unwrap(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}
