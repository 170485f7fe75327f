//! Every way a nats-server has of knowing who we are, on every version.

use natsentry::demo::servers::Version;
use natsentry::secret::Secret;
use natsentry::upstream::{Auth, DialError};
use nkeys::KeyPair;
use serde_json::json;

use crate::jwt::{Operator, creds_file};
use crate::support::{
    carries, config, connection, dial, dials, fails, monitor, password, start, upstreams, url,
};

#[tokio::test]
async fn a_password_in_clear_or_as_bcrypt_is_accepted_by_every_version() {
    // bcrypt of `s3cr3t`, cost 4.
    let hash = "$2a$04$abcdefghijklmnopqrstuu35fBIWlNgF8BcAW/t2cO158N8svSFHy";
    let users = format!(
        "authorization {{ users = [ {{ user: svc, password: s3cr3t }}, {{ user: crypt, password: \"{hash}\" }} ] }}"
    );
    for version in Version::offered_here() {
        let server = start(version, &users);
        for user in ["svc", "crypt"] {
            dials(config(vec![url(&server)], password(user, "s3cr3t"))).await;
            let error = fails(config(vec![url(&server)], password(user, "wrong"))).await;
            assert!(
                matches!(error, DialError::Refused { .. }),
                "{version} {user}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_is_accepted_by_every_version() {
    for version in Version::offered_here() {
        let server = start(version, "authorization { token: \"s3cr3t\" }");
        dials(config(
            vec![url(&server)],
            Auth::Token(Secret::new("s3cr3t")),
        ))
        .await;
        let error = fails(config(vec![url(&server)], Auth::None)).await;
        assert!(
            matches!(error, DialError::Refused { .. }),
            "{version}: {error}"
        );
    }
}

#[tokio::test]
async fn an_nkey_is_proven_to_every_version() {
    let user = KeyPair::new_user();
    let users = format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}",
        user.public_key()
    );
    for version in Version::offered_here() {
        let server = start(version, &users);
        let seed = format!("{}\n", user.seed().unwrap());
        dials(config(vec![url(&server)], Auth::Nkey(Secret::new(seed)))).await;
        let other = Secret::new(KeyPair::new_user().seed().unwrap());
        let error = fails(config(vec![url(&server)], Auth::Nkey(other))).await;
        assert!(
            matches!(error, DialError::Refused { .. }),
            "{version}: {error}"
        );
    }
}

#[tokio::test]
async fn an_nkey_for_a_server_that_knows_none_is_told_apart_from_a_refusal() {
    let server = start(Version::LATEST, "authorization { token: \"s3cr3t\" }");
    let seed = Secret::new(KeyPair::new_user().seed().unwrap());
    let error = fails(config(vec![url(&server)], Auth::Nkey(seed))).await;
    assert!(matches!(error, DialError::Credentials { .. }), "{error}");
    assert!(error.to_string().contains("nonce"), "{error}");
}

#[tokio::test]
async fn creds_and_bearer_jwts_work_in_operator_mode_on_every_version() {
    let (operator, user) = (Operator::new(), KeyPair::new_user());
    let signed = creds_file(&operator.user(&user, &json!({})), &user);
    let bearer = operator.user(&user, &json!({ "bearer_token": true }));
    let foreign = creds_file(&Operator::new().user(&user, &json!({})), &user);
    for version in Version::offered_here() {
        let server = start(version, &operator.server());
        for creds in [&signed, &bearer] {
            dials(config(
                vec![url(&server)],
                Auth::Creds(Secret::new(creds.as_str())),
            ))
            .await;
        }
        let creds = Auth::Creds(Secret::new(foreign.as_str()));
        let error = fails(config(vec![url(&server)], creds)).await;
        assert!(
            matches!(error, DialError::Refused { .. }),
            "{version}: {error}"
        );
    }
}

#[tokio::test]
async fn a_user_jwt_longer_than_a_control_line_works_where_the_server_allows_it() {
    let (operator, user) = (Operator::new(), KeyPair::new_user());
    let subjects: Vec<_> = (0..400).map(|n| format!("a.subject.number.{n}")).collect();
    let allow = json!({ "pub": { "deny": subjects } });
    let file = creds_file(&operator.user(&user, &allow), &user);
    let server = start(
        Version::LATEST,
        &format!("max_control_line: 65536\n{}", operator.server()),
    );
    dials(config(vec![url(&server)], Auth::Creds(Secret::new(file)))).await;
}

#[tokio::test]
async fn the_server_sees_the_clients_library_and_name_with_our_user() {
    let server = start(
        Version::LATEST,
        "authorization { user: svc, password: s3cr3t }",
    );
    let upstreams = upstreams(config(vec![url(&server)], password("svc", "s3cr3t")));
    let mut link = dial(&upstreams).await.unwrap();
    carries(&mut link).await;
    let connection = connection(&server).await;
    assert_eq!(connection["lang"], "go");
    assert_eq!(connection["version"], "1.53.0");
    assert_eq!(connection["authorized_user"], "svc");
    assert_eq!(&*link.server, server.url());
    assert!(!link.info.server_id.is_empty());
}

#[tokio::test]
async fn a_full_server_turns_us_away_without_being_taken_for_a_refusal() {
    let server = start(Version::LATEST, "max_connections: 1");
    let mut taken = None;
    while taken.is_none() {
        // The connection that found the server ready may still hold the one place.
        let stream = tokio::net::TcpStream::connect(server.address())
            .await
            .unwrap();
        let port = stream.local_addr().unwrap().port();
        let connz = monitor(&server, "/connz").await;
        taken = (connz["connections"][0]["port"] == port).then_some(stream);
    }
    let error = fails(config(vec![url(&server)], Auth::None)).await;
    assert!(matches!(error, DialError::TurnedAway { .. }), "{error}");
    assert!(
        error.to_string().contains("maximum connections exceeded"),
        "{error}"
    );
}
