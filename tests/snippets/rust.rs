//! async-nats with a token callback, as the README shows it; hands on what it hears on `orders.>`.

use async_nats::{Auth, AuthError, ConnectOptions};
use futures_util::StreamExt as _;

/// In production: `azure_identity`'s `get_token(&["api://nats-prod/.default"])`.
async fn token(url: &str) -> Result<String, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(url)
        .send()
        .await?
        .text()
        .await
}

/// Runs until it is dropped.
pub async fn listen(nats_url: String, token_url: String, heard: impl Fn(String)) {
    // README: begin
    let nc = ConnectOptions::with_auth_callback(move |_nonce| {
        let token_url = token_url.clone();
        async move {
            // Asked at every connect and reconnect.
            let mut auth = Auth::new();
            auth.token = Some(token(&token_url).await.map_err(AuthError::new)?);
            Ok(auth)
        }
    })
    .connect(&nats_url)
    .await
    .unwrap();
    // README: end
    let mut messages = nc.subscribe("orders.>").await.unwrap();
    while let Some(message) = messages.next().await {
        heard(String::from_utf8_lossy(&message.payload).into_owned());
    }
}
