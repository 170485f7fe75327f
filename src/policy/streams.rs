//! `stream`: what a role may do with a JetStream stream, as subjects.
//!
//! Owns: the minimal sets of subjects that official clients need. Must never: let a restricted `read` reach other subjects
//! of the stream, or an acknowledgement reach another consumer.
//!
//! # What is granted
//!
//! `S` is the stream, `P` is `$JS.API` (`$JS.<domain>.API` with `domain`), `C` a consumer's name from `consumers`.
//!
//! | written | subjects to publish to |
//! |---|---|
//! | any grant | `P.INFO`, `P.STREAM.INFO.S` |
//! | `consumers: [C]` | `P.CONSUMER.INFO.S.C`, `P.CONSUMER.MSG.NEXT.S.C`, acknowledgements and flow control of `S.C` |
//! | `read: [F]` | `P.DIRECT.GET.S.F` |
//! | `read: [F]` and `consumers: [C]` | besides, `P.CONSUMER.CREATE.S.C.F` and `P.CONSUMER.DELETE.S.C` |
//! | `read: true` | `P.DIRECT.GET.S`, `P.DIRECT.GET.S.>`, `P.STREAM.MSG.GET.S` |
//! | `read: true` and `consumers: [C]` | besides, `P.CONSUMER.CREATE.S.C`, `P.CONSUMER.CREATE.S.C.>`, `P.CONSUMER.DURABLE.CREATE.S.C`, `P.CONSUMER.DELETE.S.C` |
//! | `ephemeral` among `consumers` | the same with `C` any made-up name; with `read: true` also `P.CONSUMER.CREATE.S` |
//!
//! A made-up name has 8 or 22 letters and figures (`TokenGlob::GENERATED`). Durable consumers whose names have another
//! length, or a `-`, are out of reach of `ephemeral`.
//!
//! A consumer listed without `read` may be used but not made: what it yields is what its maker filtered for.
//! A restricted `read` needs a client that puts the filter into the subject of its request. With nats-server 2.9.10 and
//! 2.15.1 the following was tried; what is missing asks with the filter in its body only, where a subject rule cannot see
//! it, and needs `read: true`. With that all of them do everything (`tests/clients`).
//!
//! | client | named consumer | ordered consumer | watch of a bucket's keys | get of a bucket's key |
//! |---|---|---|---|---|
//! | nats.go 1.x (`jetstream`), nats CLI | yes | yes | yes | yes |
//! | nats.js 3 | yes | yes | yes | no (reads by `STREAM.MSG.GET`) |
//! | async-nats 0.51 | yes | no | no | yes |
//! | nats-py 2.x | yes | no | no | yes |
//! | nats.c 3 | no (`DURABLE.CREATE`); yes where the consumer exists | no | no | yes |
//!
//! The subject of a request does not limit the `deliver_subject` in the body of a consumer's creation. Under `inbox: private` the
//! session judges it like a reply (design record 0005); under `shared` and `off`, whoever may make a consumer can have the server
//! publish the stream's messages to any subject that has a literal subscriber.
//!
//! Acknowledgements are granted with their exact number of tokens (`$JS.ACK.S.C` and five more; since nats-server 2.14
//! also `$JS.ACK.*.*.S.C` and five or more). A `$JS.ACK.*.*.S.C.>` would contain `$JS.ACK.OTHER.CONSUMER.S.C.1.1.1`, which
//! the server takes for an acknowledgement of `OTHER.CONSUMER`; with the body `+NXT` that reads its messages.

use super::compile::is_resource_name;
use super::document::{Reach, StreamGrant};
use super::rights::EntryKind;
use super::role::RoleWriter;
use super::template::Template;
use crate::subject::TokenGlob;

/// The word among `consumers` for consumers that are made on the fly.
const EPHEMERAL: &str = "ephemeral";

/// Writes the grants of one stream.
pub(super) fn write(writer: &mut RoleWriter<'_>, stream: &str, grant: &StreamGrant) {
    if !is_resource_name(stream) {
        writer.mistake("a stream's name is made of letters, figures, `-` and `_`; subjects and wildcards go into read");
        return;
    }
    let Some(api) = Api::new(writer, grant.domain.as_deref()) else {
        return;
    };
    if matches!(grant.read, Reach::None | Reach::All(false)) && grant.consumers.is_empty() {
        writer.mistake("the stream grants nothing; write read: true, read: [\"orders.eu.>\"] or consumers: [NAME]. Publishing to the stream's subjects is granted with publish");
        return;
    }
    api.allow(writer, "INFO");
    api.allow(writer, &format!("STREAM.INFO.{stream}"));
    let scope = scope(writer, &grant.read);
    let mut consumers = Vec::new();
    writer.each("consumers", &grant.consumers, |writer, name| {
        if let Some(consumer) = consumer(writer, name) {
            use_consumer(writer, &api, stream, &consumer);
            if name == EPHEMERAL && scope.is_none() {
                writer.mistake("ephemeral makes consumers, which needs read: what may they read?");
            }
            consumers.push(consumer);
        }
    });
    match &scope {
        None => {}
        Some(Scope::All) => writer.at("read", |writer| {
            for subject in ["STREAM.MSG.GET", "DIRECT.GET"] {
                api.allow(writer, &format!("{subject}.{stream}"));
            }
            api.allow(writer, &format!("DIRECT.GET.{stream}.>"));
            for consumer in &consumers {
                make_unscoped(writer, &api, stream, consumer);
            }
        }),
        Some(Scope::Subjects(subjects)) => {
            writer.each("read", subjects, |writer, subject| {
                let Some(subject) = subject else {
                    return;
                };
                api.allow_template(writer, subject.within(&format!("DIRECT.GET.{stream}."), ""));
                for consumer in &consumers {
                    let before = format!("CONSUMER.CREATE.{stream}.");
                    let scoped = consumer.within(&before, ".").followed_by(subject);
                    api.allow_template(writer, scoped);
                    let delete = consumer.within(&format!("CONSUMER.DELETE.{stream}."), "");
                    api.allow_template(writer, delete);
                }
            });
        }
    }
}

/// What may be read.
pub(super) enum Scope {
    All,
    /// One for each line of `read`; none where the line is wrong.
    Subjects(Vec<Option<Template>>),
}

/// Reads `true` or a list of subjects or keys; `[">"]` is `true`.
pub(super) fn scope(writer: &mut RoleWriter<'_>, reach: &Reach) -> Option<Scope> {
    scope_below(writer, "read", reach)
}

/// As [`scope`], for the list under `key`.
pub(super) fn scope_below(writer: &mut RoleWriter<'_>, key: &str, reach: &Reach) -> Option<Scope> {
    let subjects = match reach {
        Reach::None | Reach::All(false) => return None,
        Reach::All(true) => return Some(Scope::All),
        Reach::Some(subjects) => subjects,
    };
    if subjects.iter().any(|subject| subject == ">") {
        return Some(Scope::All);
    }
    if subjects.is_empty() {
        writer.at(key, |writer| {
            writer.mistake("the list is empty; write true for everything, or leave it out");
        });
        return None;
    }
    let mut templates = Vec::new();
    writer.each(key, subjects, |writer, subject| {
        let template = writer.template(subject);
        let wrong = template
            .as_ref()
            .is_none_or(|template| writer.is_wrong_subject(&template.sample()));
        templates.push(template.filter(|_| !wrong));
    });
    Some(Scope::Subjects(templates))
}

/// A consumer's name: letters, figures, `-`, `_`, templates, and `*` for any part; or a made-up name.
fn consumer(writer: &mut RoleWriter<'_>, name: &str) -> Option<Template> {
    if name == EPHEMERAL {
        return Some(Template::fixed(TokenGlob::GENERATED));
    }
    let template = writer.template(name)?;
    if !is_resource_name(&template.sample().replace('*', "x")) {
        writer.mistake("a consumer's name is made of letters, figures, `-`, `_`, templates such as {oid} and `*` for any part; or it is the word ephemeral");
        return None;
    }
    Some(template)
}

/// Fetching from a consumer that exists, acknowledging, flow control.
fn use_consumer(writer: &mut RoleWriter<'_>, api: &Api, stream: &str, consumer: &Template) {
    for operation in ["CONSUMER.INFO", "CONSUMER.MSG.NEXT"] {
        api.allow_template(
            writer,
            consumer.within(&format!("{operation}.{stream}."), ""),
        );
    }
    let fixed = [
        (format!("$JS.ACK.{stream}."), ".*.*.*.*.*"),
        (format!("$JS.ACK.*.*.{stream}."), ".*.*.*.*.>"),
        (format!("$JS.FC.{stream}."), ".*"),
        (format!("$JS.FC.*.*.{stream}."), ".*"),
    ];
    for (before, after) in fixed {
        writer.grant(EntryKind::Publish, consumer.within(&before, after), true);
    }
}

/// Making and deleting a consumer that may read the whole stream.
fn make_unscoped(writer: &mut RoleWriter<'_>, api: &Api, stream: &str, consumer: &Template) {
    if consumer.sample() == TokenGlob::GENERATED {
        api.allow(writer, &format!("CONSUMER.CREATE.{stream}"));
    }
    let forms = [
        ("CONSUMER.CREATE", ""),
        ("CONSUMER.CREATE", ".>"),
        ("CONSUMER.DURABLE.CREATE", ""),
        ("CONSUMER.DELETE", ""),
    ];
    for (operation, after) in forms {
        api.allow_template(
            writer,
            consumer.within(&format!("{operation}.{stream}."), after),
        );
    }
}

/// The subjects that JetStream's API begins with, as seen by this role's clients.
pub(super) struct Api {
    prefix: String,
}

impl Api {
    /// `$JS.API`, or that of a domain; none, and a mistake noted, where the domain's name is wrong.
    pub(super) fn new(writer: &mut RoleWriter<'_>, domain: Option<&str>) -> Option<Self> {
        let Some(domain) = domain else {
            return Some(Self {
                prefix: "$JS.API.".to_owned(),
            });
        };
        if !is_resource_name(domain) {
            writer.at("domain", |writer| {
                writer
                    .mistake("a JetStream domain's name is made of letters, figures, `-` and `_`");
            });
            return None;
        }
        Some(Self {
            prefix: format!("$JS.{domain}.API."),
        })
    }

    /// Grants requests to one subject of the API.
    pub(super) fn allow(&self, writer: &mut RoleWriter<'_>, subject: &str) {
        self.allow_template(writer, Template::fixed(subject));
    }

    pub(super) fn allow_template(&self, writer: &mut RoleWriter<'_>, subject: Template) {
        let subject = subject.within(&self.prefix, "");
        writer.grant(EntryKind::Publish, subject, true);
    }
}
