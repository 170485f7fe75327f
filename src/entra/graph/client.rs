//! `POST /v1.0/{users|servicePrincipals}/{id}/checkMemberGroups`: which of at most 20 groups somebody is in, through
//! other groups too.
//!
//! Source: Graph reference, directoryObject: checkMemberGroups; Graph throttling guidance (429, `Retry-After`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::credential::{AccessToken, Credential};
use super::super::error::CredentialError;
use super::super::own_token::OwnToken;
use super::super::scope::Scope;
use super::{GraphError, Principal, RESULTS, permissions};
use crate::http::{Address, Answer, Http, Request};
use crate::identity::Kind;

/// Ids in one request.
const CHUNK: usize = 20;

/// Most bytes of an answer; 20 ids are 800.
const MOST_BYTES: usize = 64 * 1024;

/// Pauses before asking again: after 404, since a replica may not know somebody yet; after 5xx and broken connections.
const AFTER_404: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(750)];
const AFTER_FAILURE: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(600)];

/// `Retry-After` up to this is waited for at once, since a client waits; twice.
const PATIENCE: Duration = Duration::from_secs(2);
const THROTTLED_TIMES: u32 = 2;

/// Graph, with a token of our own.
pub(super) struct Client {
    host: Address,
    scope: Scope,
    credential: Credential,
    http: Http,
    requests: [AtomicU64; 5],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    group_ids: &'a [Box<str>],
}

/// Anything else in it is annotation. An answer has no more ids than the question, so that there is no next page.
#[derive(Deserialize)]
struct Found {
    value: Vec<String>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<IgnoredAny>,
}

/// An error of Graph's own. Whatever stands on the way answers 404, too, and knows nothing of anybody.
#[derive(Deserialize)]
struct Failed {
    #[serde(rename = "error")]
    _error: FailedCode,
}

#[derive(Deserialize)]
struct FailedCode {
    #[serde(rename = "code")]
    _code: String,
}

fn is_of_graph(answer: &Answer) -> bool {
    serde_json::from_slice::<Failed>(&answer.body).is_ok()
}

/// How often what was tried already.
#[derive(Default)]
struct Tries {
    not_found: usize,
    failed: usize,
    throttled: u32,
    rejected: bool,
}

impl Client {
    pub(super) fn new(
        host: &str,
        credential: Credential,
        http: Http,
    ) -> Result<Self, CredentialError> {
        let address = Address::parse(host)
            .map_err(|unfit| CredentialError::config(format!("the Graph host {unfit}")))?;
        Ok(Self {
            host: address,
            scope: Scope::new(host.trim_end_matches('/')),
            credential,
            http,
            requests: Default::default(),
        })
    }

    pub(super) fn credential_kind(&self) -> &'static str {
        self.credential.kind()
    }

    pub(super) fn requests(&self) -> [u64; 5] {
        self.requests
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// A token for the Graph of a tenant. One of another tenant is no use: object ids mean something in their own
    /// directory alone, and an answer about another one would be a wrong answer.
    pub(super) async fn token(&self, tid: &str) -> Result<AccessToken, GraphError> {
        let token = self
            .credential
            .token_in(tid, &self.scope)
            .await
            .map_err(|error| {
                GraphError::unavailable(format!("no token for Graph: {}", error.sentence()))
            })?;
        let whose = OwnToken::of(&token).and_then(|own| own.tid);
        match whose {
            Some(whose) if !whose.eq_ignore_ascii_case(tid) => {
                Err(GraphError::unavailable(format!(
                    "the proxy's {} belongs to tenant {whose} and cannot look up groups of tenant {tid}; use a multi-tenant application with a certificate or workload identity",
                    self.credential.kind()
                )))
            }
            _ => Ok(token),
        }
    }

    /// Which of `asked` the principal is in.
    pub(super) async fn check(
        &self,
        principal: &Principal,
        asked: &[Box<str>],
    ) -> Result<Vec<Box<str>>, GraphError> {
        let mut member = Vec::new();
        for chunk in asked.chunks(CHUNK) {
            member.extend(self.check_chunk(principal, chunk).await?);
        }
        Ok(member)
    }

    async fn check_chunk(
        &self,
        principal: &Principal,
        chunk: &[Box<str>],
    ) -> Result<Vec<Box<str>>, GraphError> {
        let what = match principal.kind {
            Kind::User => "users",
            Kind::App => "servicePrincipals",
        };
        let address = self
            .host
            .at(&["v1.0", what, &principal.oid, "checkMemberGroups"]);
        let question = Question { group_ids: chunk };
        let body = serde_json::to_vec(&question).unwrap_or_default();
        let mut tries = Tries::default();
        loop {
            let token = self.token(&principal.tid).await?;
            let mut bearer = Zeroizing::new(b"Bearer ".to_vec());
            bearer.extend_from_slice(token.secret().expose());
            let request = Request::post(
                &address,
                "application/json",
                Zeroizing::new(body.clone()),
                MOST_BYTES,
            )
            .header("accept", b"application/json")
            .header("authorization", &bearer);
            match self.http.send(request).await {
                Ok(answer) if answer.status == 200 => {
                    return self.found(&answer, chunk);
                }
                Ok(answer) => {
                    let pause = self.refused(&answer, principal, &token, &mut tries)?;
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    self.count("failed");
                    let pause = AFTER_FAILURE.get(tries.failed);
                    tries.failed = tries.failed.saturating_add(1);
                    let Some(pause) = pause else {
                        return Err(GraphError::unavailable(format!(
                            "Graph cannot be asked: {error}"
                        )));
                    };
                    tokio::time::sleep(*pause).await;
                }
            }
        }
    }

    /// The ids of an answer that were asked for. One that was not has no meaning, whoever put it there.
    fn found(&self, answer: &Answer, chunk: &[Box<str>]) -> Result<Vec<Box<str>>, GraphError> {
        let Ok(found) = serde_json::from_slice::<Found>(&answer.body) else {
            self.count("failed");
            return Err(GraphError::unavailable(
                "Graph answered 200 with something that is no list of groups",
            ));
        };
        if found.next.is_some() {
            self.count("failed");
            return Err(GraphError::unavailable(
                "Graph answered with a part of the groups and an address for the rest, which is not followed",
            ));
        }
        self.count("ok");
        let ids: BTreeSet<String> = found
            .value
            .iter()
            .map(|id| id.to_ascii_lowercase())
            .collect();
        Ok(chunk
            .iter()
            .filter(|asked| ids.contains(&asked.to_ascii_lowercase()))
            .cloned()
            .collect())
    }

    /// How long to wait before asking again, or why not to.
    fn refused(
        &self,
        answer: &Answer,
        principal: &Principal,
        token: &AccessToken,
        tries: &mut Tries,
    ) -> Result<Duration, GraphError> {
        match answer.status {
            401 if !tries.rejected => {
                // Withdrawn before its end, or of a key that has gone.
                self.count("failed");
                tries.rejected = true;
                self.credential.reject(token);
                Ok(Duration::ZERO)
            }
            403 => {
                self.count("denied");
                let own = OwnToken::of(token).unwrap_or_default();
                let (people, applications) = match principal.kind {
                    Kind::User => (true, false),
                    Kind::App => (false, true),
                };
                let missing = permissions::missing(&own.roles, people, applications);
                Err(GraphError::denied(&missing, own.oid.as_deref()))
            }
            404 if is_of_graph(answer) => {
                self.count("not_found");
                let pause = AFTER_404.get(tries.not_found).copied();
                tries.not_found = tries.not_found.saturating_add(1);
                let what = match principal.kind {
                    Kind::User => "user",
                    Kind::App => "service principal",
                };
                pause.ok_or_else(|| GraphError::unknown(what, &principal.tid, &principal.oid))
            }
            429 => {
                self.count("throttled");
                tries.throttled = tries.throttled.saturating_add(1);
                let wait = answer.retry_after();
                match wait {
                    Some(wait) if wait <= PATIENCE && tries.throttled <= THROTTLED_TIMES => {
                        Ok(wait)
                    }
                    _ => Err(GraphError::throttled(wait)),
                }
            }
            status => {
                self.count("failed");
                let pause = AFTER_FAILURE
                    .get(tries.failed)
                    .copied()
                    .filter(|_| status >= 500 && answer.retry_after().is_none());
                tries.failed = tries.failed.saturating_add(1);
                pause.ok_or_else(|| {
                    GraphError::unavailable(format!("Graph answered with status {status}"))
                        .after(answer.retry_after())
                })
            }
        }
    }

    fn count(&self, result: &str) {
        let at = RESULTS.iter().position(|known| *known == result);
        if let Some(count) = at.and_then(|at| self.requests.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
