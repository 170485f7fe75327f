//! What the configurations of several tests begin with: the tenant of the development identity provider, spoken to as
//! Entra is, and one upstream.

use natsentry::demo::idp::DevIdp;
use serde_json::{Value, json};

/// What the environment has to hold.
pub const SECRET: (&str, &str) = ("PLANT_PASSWORD", "correct horse battery");

/// The configuration with these roles; their upstream is `plant`, a server on this port with `STATIC_USER`.
pub fn configuration(idp: &DevIdp, port: u16, roles: &Value) -> Value {
    let directory = idp.directory();
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "entra": {
            "cloud": { "authority": idp.base() },
            "tenants": [directory.tid],
            "audiences": [directory.api],
        },
        "keys": { "cache": "keys" },
        "upstreams": { "plant": {
            "servers": [format!("nats://127.0.0.1:{port}")],
            "auth": { "user": "svc", "password": format!("env:{}", SECRET.0) },
        } },
        "roles": roles,
        "audit": { "file": "audit.jsonl" },
    })
}
