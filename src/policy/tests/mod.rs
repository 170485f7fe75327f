//! Tests of the policy as a whole: from a document to verdicts.

mod assigning;
mod compiling;
mod inboxes;
mod jetstream;
mod judging;
mod properties;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Assignment, Circumstances, Document, InboxRegistry, Judge, Mistake, Policy, Refusal};
use crate::identity::{Groups, Identity, Kind};
use crate::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);
pub(super) const TENANT: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";
pub(super) const OID: &str = "c1f2a9a0-77b1-4c8e-9a39-3de0c0b54f02";
pub(super) const GROUP: &str = "0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4";

/// A document from JSON, as the configuration reads it from YAML.
pub(super) fn document(value: Value) -> Document {
    serde_json::from_value(value).expect("a document")
}

/// A policy of the given roles.
pub(super) fn policy(roles: Value) -> Policy {
    Policy::compile(&document(json!({ "roles": roles }))).expect("a policy")
}

/// The mistakes of a document.
pub(super) fn mistakes(value: Value) -> Vec<Mistake> {
    Policy::compile(&document(value)).expect_err("mistakes")
}

/// A person with the app role `R`.
pub(super) fn identity() -> Identity {
    Identity {
        issuer: format!("https://login.microsoftonline.com/{TENANT}/v2.0").into(),
        sub: Some("hV2y0J0sQx0pairwise0example0aKd81".into()),
        azp: Some("5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10".into()),
        azpacr: Some(1),
        roles: vec!["R".into()],
        scopes: vec!["Nats.Connect".into()],
        acct: Some(0),
        display_name: Some("Rosa Quint".into()),
        ..Identity::plain(
            Kind::User,
            (TENANT, OID),
            (NOW, Timestamp::from_secs(NOW.as_secs() + 3600)),
        )
    }
}

pub(super) fn here() -> Circumstances<'static> {
    Circumstances {
        source: IpAddr::from([10, 1, 2, 3]),
        now: NOW,
        requested_role: None,
    }
}

pub(super) fn assign(policy: &Policy, identity: &Identity) -> Result<Assignment, Refusal> {
    policy.assign(identity, &here())
}

/// The judge of a fresh session of `identity()` under one role `r` bound to the app role `R`.
pub(super) fn judge_of(role: Value) -> Judge {
    judge_in(role, &Arc::new(InboxRegistry::default()), 1)
}

pub(super) fn judge_in(role: Value, inboxes: &Arc<InboxRegistry>, session: u64) -> Judge {
    let policy = policy(json!({ "r": bound(role) }));
    let assignment = assign(&policy, &identity()).expect("an assignment");
    Judge::new(assignment.permissions, Arc::clone(inboxes), session)
}

/// A role with a bind to the app role `R` and an upstream, where it has none.
pub(super) fn bound(mut role: Value) -> Value {
    let map = role.as_object_mut().expect("a role");
    map.entry("bind").or_insert(json!([{ "app_role": "R" }]));
    map.entry("upstream").or_insert(json!("plant-a"));
    role
}

pub(super) fn may_publish(judge: &mut Judge, subject: &str) -> bool {
    let once = judge.publish(subject.as_bytes(), None, NOW).is_ok();
    let again = judge.publish(subject.as_bytes(), None, NOW).is_ok();
    assert_eq!(once, again, "the remembered answer for {subject} differs");
    once
}

pub(super) fn may_subscribe(judge: &mut Judge, subject: &str, queue: Option<&str>) -> bool {
    let queue = queue.map(str::as_bytes);
    let allowed = judge.subscribe(subject.as_bytes(), queue).is_ok();
    if allowed {
        judge.unsubscribed(subject.as_bytes(), queue);
    }
    allowed
}
