//! A loopback HTTP server of fixed documents, which remembers every path that it was asked for: an issuer whose every
//! answer a test decides, and a trap for whoever should not ask at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One answer.
#[derive(Clone, Debug)]
pub struct Document {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Document {
    /// 200 with this JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::text("application/json", value.to_string())
    }

    /// 200 with this text.
    pub fn text(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: format!("Content-Type: {kind}\r\n"),
            body: body.into(),
        }
    }

    /// A redirect.
    pub fn redirect(to: &str) -> Self {
        Self {
            status: 302,
            headers: format!("Location: {to}\r\n"),
            body: Vec::new(),
        }
    }
}

#[derive(Default)]
struct State {
    documents: HashMap<String, Document>,
    asked: Vec<String>,
}

/// Serves until it is dropped.
pub struct Documents {
    base: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Documents {
    /// Starts without any document: every path is 404, and remembered.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address"));
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(answer(tcp, Arc::clone(&serving)));
            }
        });
        Self { base, state, task }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Puts a document at a path.
    pub fn put(&self, path: &str, document: Document) {
        let mut state = self.state.lock().expect("no panic while held");
        state.documents.insert(path.to_owned(), document);
    }

    /// Puts the metadata and the keys of an issuer whose authority is `<base><path>`, and returns that issuer.
    pub fn put_issuer(&self, path: &str, issuer: &str, keys: &[serde_json::Value]) {
        let metadata = serde_json::json!({
            "issuer": issuer, "jwks_uri": format!("{}{path}/keys", self.base),
        });
        self.put(
            &format!("{path}/.well-known/openid-configuration"),
            Document::json(&metadata),
        );
        let keys = serde_json::json!({ "keys": keys });
        self.put(&format!("{path}/keys"), Document::json(&keys));
    }

    /// Every path that was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("no panic while held")
            .asked
            .clone()
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut tcp: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    let mut piece = [0_u8; 4096];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match tcp.read(&mut piece).await {
            Ok(count) if count > 0 && request.len() < 65_536 => {
                request.extend_from_slice(&piece[..count]);
            }
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    // A connection that says nothing is remembered too: nobody has any business here.
    let path = text.split(' ').nth(1).unwrap_or("(nothing)").to_owned();
    let document = {
        let mut state = state.lock().expect("no panic while held");
        state.asked.push(path.clone());
        state.documents.get(&path).cloned()
    };
    let document = document.unwrap_or(Document {
        status: 404,
        headers: String::new(),
        body: Vec::new(),
    });
    let head = format!(
        "HTTP/1.1 {} Said\r\n{}Connection: close\r\nContent-Length: {}\r\n\r\n",
        document.status,
        document.headers,
        document.body.len()
    );
    let _ = tcp.write_all(head.as_bytes()).await;
    let _ = tcp.write_all(&document.body).await;
    let _ = tcp.shutdown().await;
}
