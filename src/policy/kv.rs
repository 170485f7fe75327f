//! `kv`: what a role may do with a key-value bucket, as subjects.
//!
//! Owns: the minimal sets of subjects that official clients need. Must never: let a restricted `read` or `write` reach
//! other keys.
//!
//! # What is granted
//!
//! `b` is the bucket, `P` is `$JS.API` (`$JS.<domain>.API` with `domain`), `K` a line of `read` or `write`.
//!
//! | written | subjects to publish to |
//! |---|---|
//! | any grant | `P.INFO`, `P.STREAM.INFO.KV_b` |
//! | `read: [K]` | `P.DIRECT.GET.KV_b.$KV.b.K`, `P.CONSUMER.CREATE.KV_b.*.$KV.b.K`; for watchers `P.CONSUMER.INFO.KV_b.*`, `P.CONSUMER.DELETE.KV_b.*` and flow control |
//! | `read: true` | the same with all keys; `P.DIRECT.GET.KV_b` and `P.STREAM.MSG.GET.KV_b` (revisions, buckets without direct get); `P.CONSUMER.CREATE.KV_b` and `P.CONSUMER.CREATE.KV_b.*` (nats.py, several filters) |
//! | `write: [K]` | `$KV.b.K` (put, delete and purge of a key) |
//! | `write: true` | `$KV.b.>`, and `P.STREAM.PURGE.KV_b` (purging what was deleted) |
//!
//! Which clients can use a restricted `read` is shown in `streams.rs`. The subject does not limit the `deliver_subject` in
//! the body of a watcher's creation; the session judges it (design record 0005). A rollup of the whole bucket takes leave to write all of it.
//! Watchers of the whole bucket can be looked at and deleted, also those of others; they make themselves anew.

use super::compile::is_resource_name;
use super::document::{BucketGrant, Reach};
use super::rights::EntryKind;
use super::role::RoleWriter;
use super::streams::{Api, Scope, scope, scope_below};
use super::template::Template;

/// Writes the grants of one bucket.
pub(super) fn write(writer: &mut RoleWriter<'_>, bucket: &str, grant: &BucketGrant) {
    if !is_resource_name(bucket) {
        writer.mistake(
            "a bucket's name is made of letters, figures, `-` and `_`; keys go into read and write",
        );
        return;
    }
    let Some(api) = Api::new(writer, grant.domain.as_deref()) else {
        return;
    };
    let nothing = |reach: &Reach| matches!(reach, Reach::None | Reach::All(false));
    if nothing(&grant.read) && nothing(&grant.write) {
        writer.mistake("the bucket grants nothing; write read or write with true or a list of keys such as [\"shared.>\"]");
        return;
    }
    api.allow(writer, "INFO");
    api.allow(writer, &format!("STREAM.INFO.KV_{bucket}"));
    match scope(writer, &grant.read) {
        None => {}
        Some(Scope::All) => writer.at("read", |writer| {
            for subject in ["DIRECT.GET", "STREAM.MSG.GET", "CONSUMER.CREATE"] {
                api.allow(writer, &format!("{subject}.KV_{bucket}"));
            }
            api.allow(writer, &format!("CONSUMER.CREATE.KV_{bucket}.*"));
            read(writer, &api, bucket, &Template::fixed(">"));
        }),
        Some(Scope::Subjects(keys)) => writer.each("read", &keys, |writer, key| {
            if let Some(key) = key {
                read(writer, &api, bucket, key);
            }
        }),
    }
    let prefixes = match &grant.domain {
        None => vec![format!("$KV.{bucket}.")],
        Some(domain) => vec![
            format!("$KV.{bucket}."),
            format!("$JS.{domain}.API.$KV.{bucket}."),
        ],
    };
    let put = |writer: &mut RoleWriter<'_>, key: &Template| {
        for prefix in &prefixes {
            writer.grant(EntryKind::Publish, key.within(prefix, ""), false);
        }
    };
    match scope_below(writer, "write", &grant.write) {
        None => {}
        Some(Scope::All) => writer.at("write", |writer| {
            put(writer, &Template::fixed(">"));
            api.allow(writer, &format!("STREAM.PURGE.KV_{bucket}"));
        }),
        Some(Scope::Subjects(keys)) => writer.each("write", &keys, |writer, key| {
            if let Some(key) = key {
                put(writer, key);
            }
        }),
    }
}

fn read(writer: &mut RoleWriter<'_>, api: &Api, bucket: &str, key: &Template) {
    let get = format!("DIRECT.GET.KV_{bucket}.$KV.{bucket}.");
    api.allow_template(writer, key.within(&get, ""));
    let watch = format!("CONSUMER.CREATE.KV_{bucket}.*.$KV.{bucket}.");
    api.allow_template(writer, key.within(&watch, ""));
    watchers(writer, api, &format!("KV_{bucket}"));
}

/// What a push consumer needs besides its making.
pub(super) fn watchers(writer: &mut RoleWriter<'_>, api: &Api, stream: &str) {
    for operation in ["CONSUMER.INFO", "CONSUMER.DELETE"] {
        api.allow(writer, &format!("{operation}.{stream}.*"));
    }
    for subject in [
        format!("$JS.FC.{stream}.*.*"),
        format!("$JS.FC.*.*.{stream}.*.*"),
    ] {
        writer.grant(EntryKind::Publish, Template::fixed(&subject), false);
    }
}
