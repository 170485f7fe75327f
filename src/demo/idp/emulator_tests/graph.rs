//! Graph: who is in what, what changed, and everything that can go wrong.

use super::*;

#[tokio::test]
async fn graph_is_for_those_with_permissions_and_a_token_for_graph() {
    let scene = Scene::start().await;
    let path = format!("users/{}?$select=id,accountEnabled", scene.oid("alice"));
    let own = scene.own_token("https://graph.microsoft.com").await;
    assert_eq!(scene.graph(&own, &path).await.1["accountEnabled"], true);
    let (status, answer) = read(scene.get(&format!("/v1.0/{path}"))).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (401, &json!("InvalidAuthenticationToken"))
    );
    let nats = scene.own_token("api://nats-dev").await;
    let (status, answer) = scene.graph(&nats, &path).await;
    assert_eq!(status, 401);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("audience")
    );
    let (signed, _) = own.rsplit_once('.').unwrap();
    assert_eq!(scene.graph(&format!("{signed}.AAAA"), &path).await.0, 401);
    scene.idp.edit_application("natsentry", |app| {
        app.graph = vec!["Application.Read.All".into()]
    });
    let less = scene.own_token(scene.idp.graph()).await;
    let (status, answer) = scene.graph(&less, &path).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (403, &json!("Authorization_RequestDenied"))
    );
    assert_eq!(
        scene.graph(&own, "users/nobody").await.1["error"]["code"],
        "Request_ResourceNotFound"
    );
}

#[tokio::test]
async fn memberships_are_transitive_and_checked_twenty_at_a_time() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let omar = format!("users/{}", scene.oid("omar"));
    scene
        .idp
        .join_group("aaaa0000-0000-4000-8000-00000000000a", PLANT);
    let outer = "aaaa0000-0000-4000-8000-00000000000a";
    let check = async |ids: Vec<&str>| {
        scene
            .graph_post(
                &token,
                &format!("{omar}/checkMemberGroups"),
                json!({ "groupIds": ids }),
            )
            .await
    };
    let stranger = "bbbb0000-0000-4000-8000-00000000000b";
    assert_eq!(
        check(vec![stranger, outer, PLANT]).await.1["value"],
        json!([outer, PLANT])
    );
    assert_eq!(check(vec![PLANT; 21]).await.0, 400);
    assert_eq!(check(vec!["sg-plant-ops"]).await.0, 400);
    let all = scene
        .graph_post(
            &token,
            &format!("{omar}/getMemberGroups"),
            json!({ "securityEnabledOnly": true }),
        )
        .await;
    assert_eq!(all.1["value"].as_array().unwrap().len(), 251);
    let mut path = format!("{omar}/transitiveMemberOf/microsoft.graph.group?$select=id&$top=100");
    let mut found = Vec::new();
    loop {
        let (status, page) = scene.graph(&token, &path).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["value"].as_array().unwrap().clone());
        match page["@odata.nextLink"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found.len(), 251);
    let api = scene.idp.directory().api_principal();
    let assigned = scene
        .graph(
            &token,
            &format!("servicePrincipals/{api}/appRoleAssignedTo"),
        )
        .await
        .1;
    let gateway = scene.oid("gateway");
    assert!(
        assigned["value"]
            .as_array()
            .unwrap()
            .iter()
            .any(|given| given["principalId"] == gateway.as_str())
    );
    let keyed = format!(
        "servicePrincipals(appId='{}')?$select=id,appRoles",
        scene.idp.directory().api
    );
    assert_eq!(scene.graph(&token, &keyed).await.1["id"], api);
}

#[tokio::test]
async fn delta_queries_tell_what_changed_and_links_expire() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let latest = async |path: &str| {
        let (status, first) = scene.graph(&token, path).await;
        assert_eq!(
            (status.as_u16(), &first["value"]),
            (200, &json!([])),
            "{first}"
        );
        first["@odata.deltaLink"].as_str().unwrap().to_owned()
    };
    let users = latest("users/delta?$deltatoken=latest&$select=id,accountEnabled").await;
    let groups = latest("groups/delta?$deltatoken=latest&$select=members").await;
    scene.idp.set_enabled("alice", false);
    scene.idp.delete("bob");
    scene.idp.leave_group(PLANT, "omar");
    scene.idp.revoke_sessions("petra");
    let (_, round) = scene.graph(&token, &users).await;
    assert_eq!(
        round["value"],
        json!([
            { "id": scene.oid("alice"), "accountEnabled": false },
            { "id": scene.oid("bob"), "@removed": { "reason": "changed" } },
        ])
    );
    let (_, nothing) = scene
        .graph(&token, round["@odata.deltaLink"].as_str().unwrap())
        .await;
    assert_eq!(nothing["value"], json!([]));
    let (_, round) = scene.graph(&token, &groups).await;
    assert_eq!(round["value"][0]["id"], PLANT);
    assert_eq!(
        round["value"][0]["members@delta"][0]["@removed"]["reason"],
        "deleted"
    );
    assert!(
        !scene
            .idp
            .mint(&TokenRequest::of("omar"))
            .unwrap()
            .is_empty()
    );
    scene.idp.set_page_size(2);
    let mut path = "servicePrincipals/delta?$select=id".to_owned();
    let mut entries = 0;
    loop {
        let (_, page) = scene.graph(&token, &path).await;
        entries += page["value"].as_array().unwrap().len();
        match page["@odata.nextLink"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(entries, scene.idp.directory().applications.len() + 1);
    scene.idp.expire_delta_links();
    let gone = scene.get(&users).bearer_auth(&token).send().await.unwrap();
    assert_eq!(gone.status(), 410);
    let anew = gone.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        scene.graph(&token, &anew).await.1["value"]
            .as_array()
            .unwrap()
            .len()
            == 2
    );
}

#[tokio::test]
async fn a_replica_lags_and_everything_can_go_wrong() {
    let scene = Scene::start().await;
    let token = scene.own_token("https://graph.microsoft.com").await;
    let path = format!("users/{}?$select=accountEnabled", scene.oid("alice"));
    scene.idp.set_replica(Replica::Frozen);
    scene.idp.set_enabled("alice", false);
    scene.idp.add_person(&Person {
        name: "nora".into(),
        oid: "0a0a0a0a-0000-4000-8000-00000000000e".into(),
        ..Person::default()
    });
    assert_eq!(scene.graph(&token, &path).await.1["accountEnabled"], true);
    assert_eq!(
        scene
            .graph(&token, "users/0a0a0a0a-0000-4000-8000-00000000000e")
            .await
            .0,
        404
    );
    scene.idp.set_replica(Replica::Current);
    assert_eq!(scene.graph(&token, &path).await.1["accountEnabled"], false);
    assert_eq!(
        scene
            .graph(&token, "users/0a0a0a0a-0000-4000-8000-00000000000e")
            .await
            .0,
        200
    );

    let before = scene.idp.requests(Endpoint::Graph);
    let ask = || scene.get(&format!("/v1.0/{path}")).bearer_auth(&token);
    scene
        .idp
        .fail_times(Endpoint::Graph, 1, Fault::Status(429, Some(7)));
    let throttled = ask().send().await.unwrap();
    assert_eq!(throttled.status(), 429);
    assert_eq!(throttled.headers()["retry-after"], "7");
    for (fault, good) in [
        (Fault::Html, false),
        (Fault::Truncated, false),
        (Fault::Slow(30), true),
    ] {
        scene.idp.fail_times(Endpoint::Graph, 1, fault.clone());
        let (status, answer) = read(ask()).await;
        assert_eq!(status, 200);
        assert_eq!(answer.is_object(), good, "{fault:?}");
    }
    scene.idp.fail_times(Endpoint::Graph, 1, Fault::Huge);
    assert!(ask().send().await.unwrap().bytes().await.unwrap().len() > 10_000_000);
    scene.idp.fail_times(Endpoint::Graph, 1, Fault::Reset);
    let reset = ask().send().await.unwrap_err();
    assert!(format!("{reset:?}").contains("reset"), "{reset:?}");
    assert_eq!(scene.idp.requests(Endpoint::Graph) - before, 6);
    assert_eq!(scene.idp.seen().last().unwrap().status, 0);
    assert_eq!(read(ask()).await.0, 200);
    let fault = json!({ "endpoint": "graph", "times": 1, "fault": { "status": [503, null] } });
    let control = format!("{}/emulator/faults", scene.idp.base());
    assert_eq!(
        scene
            .http
            .post(control)
            .body(fault.to_string())
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    assert_eq!(read(ask()).await.0, 503);
}
