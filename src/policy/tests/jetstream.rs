//! Streams, buckets and object stores: what official clients need is granted, and nothing beside it.

use super::*;

fn check(judge: &mut Judge, allowed: &[&str], refused: &[&str]) {
    for subject in allowed {
        assert!(may_publish(judge, subject), "{subject} should be allowed");
    }
    for subject in refused {
        assert!(!may_publish(judge, subject), "{subject} should be refused");
    }
}

#[test]
fn a_restricted_stream_grant_reaches_no_other_subject() {
    let mut judge = judge_of(json!({
        "stream": { "ORDERS": { "read": ["orders.eu.>"], "consumers": ["an-{oid}-*", "ephemeral"] } },
    }));
    let own = format!("an-{OID}-daily");
    let create = format!("$JS.API.CONSUMER.CREATE.ORDERS.{own}.orders.eu.>");
    let narrower = format!("$JS.API.CONSUMER.CREATE.ORDERS.{own}.orders.eu.*.paid");
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.ORDERS.{own}");
    let ack = format!("$JS.ACK.ORDERS.{own}.1.2.3.4.5");
    let ack_v2 = format!("$JS.ACK._.hash.ORDERS.{own}.1.2.3.4.5");
    let delete = format!("$JS.API.CONSUMER.DELETE.ORDERS.{own}");
    let wider = format!("$JS.API.CONSUMER.CREATE.ORDERS.{own}.orders.>");
    let unfiltered = format!("$JS.API.CONSUMER.CREATE.ORDERS.{own}");
    let durable = format!("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.{own}");
    check(
        &mut judge,
        &[
            "$JS.API.INFO",
            "$JS.API.STREAM.INFO.ORDERS",
            &create,
            &narrower,
            &next,
            &ack,
            &ack_v2,
            &delete,
            "$JS.API.CONSUMER.CREATE.ORDERS.FsmB4yQk.orders.eu.>",
            "$JS.API.CONSUMER.CREATE.ORDERS.Zk3nN7uX0kyExample1AAb_1.orders.eu.de.new",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.Zk3nN7uX0kyExample1AAb_1",
            "$JS.API.DIRECT.GET.ORDERS.orders.eu.1",
            "$JS.API.DIRECT.GET.ORDERS.orders.eu.>",
            "$JS.FC.ORDERS.FsmB4yQk.x1",
        ],
        &[
            &wider,
            &unfiltered,
            &durable,
            "$JS.API.CONSUMER.CREATE.ORDERS.FsmB4yQk.>",
            "$JS.API.CONSUMER.CREATE.ORDERS.FsmB4yQk.orders.us.1",
            "$JS.API.CONSUMER.CREATE.ORDERS.*.orders.eu.>",
            "$JS.API.CONSUMER.CREATE.ORDERS",
            "$JS.API.CONSUMER.CREATE.ORDERS.billing.orders.eu.>",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.billing",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.*",
            "$JS.API.CONSUMER.DELETE.ORDERS.billing",
            "$JS.API.STREAM.MSG.GET.ORDERS",
            "$JS.API.DIRECT.GET.ORDERS",
            "$JS.API.DIRECT.GET.ORDERS.orders.us.1",
            "$JS.API.DIRECT.GET.ORDERS.>",
            "$JS.API.DIRECT.GET.ORDERS.orders.>",
            "$JS.API.STREAM.PURGE.ORDERS",
            "$JS.API.STREAM.DELETE.ORDERS",
            "$JS.API.STREAM.INFO.OTHER",
            "$JS.ACK.ORDERS.billing.1.2.3.4.5",
            "orders.eu.1",
        ],
    );
}

#[test]
fn an_acknowledgement_never_reaches_another_consumer() {
    let mut judge = judge_of(json!({ "stream": { "S": { "consumers": ["C"] } } }));
    check(
        &mut judge,
        &[
            "$JS.ACK.S.C.1.2.3.4.5",
            "$JS.ACK._.h.S.C.1.2.3.4.5",
            "$JS.ACK.d.h.S.C.1.2.3.4.5.tok",
        ],
        &[
            // Nine tokens: the server reads stream OTHER, consumer THEIRS, and `+NXT` would pull from it.
            "$JS.ACK.OTHER.THEIRS.S.C.3.4.5",
            "$JS.ACK.S.C.1.2.3.4.5.6.7",
            "$JS.ACK.S.C.>",
            "$JS.ACK.S.*.1.2.3.4.5",
            "$JS.ACK.>",
        ],
    );
}

#[test]
fn a_listed_consumer_without_read_may_be_used_but_not_made() {
    let mut judge = judge_of(json!({ "stream": { "S": { "consumers": "C" } } }));
    check(
        &mut judge,
        &["$JS.API.CONSUMER.INFO.S.C", "$JS.API.CONSUMER.MSG.NEXT.S.C"],
        &[
            "$JS.API.CONSUMER.CREATE.S.C",
            "$JS.API.CONSUMER.CREATE.S.C.a",
            "$JS.API.CONSUMER.DURABLE.CREATE.S.C",
            "$JS.API.CONSUMER.DELETE.S.C",
            "$JS.API.DIRECT.GET.S.a",
        ],
    );
}

#[test]
fn reading_a_whole_stream_allows_the_unscoped_forms() {
    for read in [json!(true), json!([">"])] {
        let mut judge = judge_of(json!({
            "stream": { "S": { "read": read, "consumers": ["C", "ephemeral"], "domain": "hub" } },
        }));
        check(
            &mut judge,
            &[
                "$JS.hub.API.STREAM.MSG.GET.S",
                "$JS.hub.API.DIRECT.GET.S",
                "$JS.hub.API.DIRECT.GET.S.a.b",
                "$JS.hub.API.CONSUMER.CREATE.S",
                "$JS.hub.API.CONSUMER.CREATE.S.C",
                "$JS.hub.API.CONSUMER.CREATE.S.C.>",
                "$JS.hub.API.CONSUMER.CREATE.S.FsmB4yQk.a.b",
                "$JS.hub.API.CONSUMER.DURABLE.CREATE.S.C",
                "$JS.hub.API.CONSUMER.DELETE.S.FsmB4yQk",
            ],
            &[
                "$JS.API.STREAM.MSG.GET.S",
                "$JS.hub.API.STREAM.MSG.DELETE.S",
                "$JS.hub.API.CONSUMER.CREATE.S.other-durable",
                "$JS.hub.API.CONSUMER.DELETE.S.other-durable",
            ],
        );
    }
}

#[test]
fn a_restricted_bucket_grant_reaches_no_other_key() {
    let mut judge = judge_of(json!({
        "kv": { "config": { "read": ["shared.>"], "write": ["{oid}.>"] } },
    }));
    let own = format!("$KV.config.{OID}.a");
    check(
        &mut judge,
        &[
            "$JS.API.STREAM.INFO.KV_config",
            "$JS.API.DIRECT.GET.KV_config.$KV.config.shared.a",
            "$JS.API.CONSUMER.CREATE.KV_config.FsmB4yQk.$KV.config.shared.>",
            "$JS.API.CONSUMER.DELETE.KV_config.FsmB4yQk",
            "$JS.FC.KV_config.FsmB4yQk.x",
            &own,
        ],
        &[
            "$KV.config.shared.a",
            "$KV.config.other.a",
            "$KV.config.>",
            "$JS.API.DIRECT.GET.KV_config.$KV.config.secret",
            "$JS.API.DIRECT.GET.KV_config.$KV.config.>",
            "$JS.API.DIRECT.GET.KV_config",
            "$JS.API.STREAM.MSG.GET.KV_config",
            "$JS.API.CONSUMER.CREATE.KV_config",
            "$JS.API.CONSUMER.CREATE.KV_config.FsmB4yQk",
            "$JS.API.CONSUMER.CREATE.KV_config.FsmB4yQk.$KV.config.>",
            "$JS.API.CONSUMER.CREATE.KV_config.FsmB4yQk.>",
            "$JS.API.STREAM.PURGE.KV_config",
            "$JS.API.STREAM.DELETE.KV_config",
            "$JS.API.CONSUMER.MSG.NEXT.KV_config.FsmB4yQk",
        ],
    );
}

#[test]
fn a_whole_bucket_serves_every_client() {
    let mut judge =
        judge_of(json!({ "kv": { "b": { "read": true, "write": true, "domain": "hub" } } }));
    check(
        &mut judge,
        &[
            "$JS.hub.API.STREAM.INFO.KV_b",
            "$JS.hub.API.STREAM.MSG.GET.KV_b",
            "$JS.hub.API.DIRECT.GET.KV_b",
            "$JS.hub.API.DIRECT.GET.KV_b.$KV.b.a.b",
            "$JS.hub.API.CONSUMER.CREATE.KV_b",
            "$JS.hub.API.CONSUMER.CREATE.KV_b.n",
            "$JS.hub.API.CONSUMER.CREATE.KV_b.n.$KV.b.>",
            "$JS.hub.API.STREAM.PURGE.KV_b",
            "$KV.b.k",
            "$JS.hub.API.$KV.b.k",
        ],
        &[
            "$KV.other.k",
            "$JS.hub.API.STREAM.DELETE.KV_b",
            "$JS.hub.API.STREAM.UPDATE.KV_b",
        ],
    );
}

#[test]
fn an_object_store_is_read_or_written_whole() {
    let read = &[
        "$JS.API.STREAM.INFO.OBJ_r",
        "$JS.API.DIRECT.GET.OBJ_r.$O.r.M.bmFtZQ==",
        "$JS.API.STREAM.MSG.GET.OBJ_r",
        "$JS.API.CONSUMER.CREATE.OBJ_r",
        "$JS.API.CONSUMER.CREATE.OBJ_r.n.$O.r.C.x",
        "$JS.API.CONSUMER.DELETE.OBJ_r.n",
    ];
    let write = &["$O.r.C.x", "$O.r.M.bmFtZQ==", "$JS.API.STREAM.PURGE.OBJ_r"];
    let mut reader = judge_of(json!({ "object": { "r": { "read": true } } }));
    check(&mut reader, read, write);
    let mut writer = judge_of(json!({ "object": { "r": { "write": true } } }));
    check(
        &mut writer,
        &[read.as_slice(), write].concat(),
        &["$O.other.C.x", "$JS.API.STREAM.DELETE.OBJ_r"],
    );
}
