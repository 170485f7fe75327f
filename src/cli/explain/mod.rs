//! `natsentry explain`: may this identity do that, and which line of the policy says so?
//!
//! Owns: the question on the command line and the answer. Must never: print a token, or judge by other rules than the
//! server does.

mod answer;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};

use self::answer::{Answer, Question};
use super::bearer::{self, Terms};
use super::{ConfigFile, Output, output};
use crate::clock;
use crate::config::{Config, described_identity};
use crate::identity::Identity;
use crate::locks::LockSet;
use crate::policy::Circumstances;
use crate::policy::units::Moment;
use crate::server::LookedUp;
use crate::time::Timestamp;

/// Options of `explain`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("who").required(true).args(["token_file", "token_stdin", "described"])))]
#[command(group(ArgGroup::new("what").args(["publish", "subscribe"])))]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    file: ConfigFile,
    /// File with an access token; it is validated as the server would.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Read the access token from standard input.
    #[arg(long)]
    token_stdin: bool,
    /// An identity in words, as `oid=...,app_roles=Nats.Write`; the keys are those of `as` in `tests`.
    #[arg(long = "as", value_name = "KEY=VALUE,...")]
    described: Option<String>,
    /// Subject to publish to. Without --publish and --subscribe: who it is and which roles apply.
    #[arg(long, value_name = "SUBJECT")]
    publish: Option<String>,
    /// Subject to subscribe to.
    #[arg(long, value_name = "SUBJECT")]
    subscribe: Option<String>,
    /// Queue group of the subscription.
    #[arg(
        long,
        value_name = "GROUP",
        requires = "subscribe",
        conflicts_with = "publish"
    )]
    queue: Option<String>,
    /// Address of the client, for roles that ask where a connection comes from [default: 127.0.0.1].
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// When, as 2026-12-01 or 2026-12-01T08:00:00Z; now unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// The `user` field of CONNECT, with which a client picks among its upstreams by the name of a role.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// File with the issuer's keys (JWKS), instead of fetching them.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// `x5t#S256` of the TLS certificate that the client would show: base64url of the SHA-256 of its DER form.
    #[arg(long, value_name = "THUMBPRINT", conflicts_with = "described")]
    certificate: Option<String>,
}

/// Who asks, from where and when.
struct Asker {
    identity: Identity,
    source: IpAddr,
    now: Timestamp,
    role: Option<String>,
}

pub(super) fn explain(options: &ExplainOptions, format: Output) -> anyhow::Result<ExitCode> {
    let config = match Config::load(&options.file.config) {
        Ok(config) => config,
        Err(mistakes) => {
            output::complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let locks = bearer::locks(&config)?;
    let question = Question::of(options);
    let now = options.at.map_or_else(clock::now, Moment::begins);
    let answer = match &options.described {
        Some(described) => {
            let who =
                described_identity(described).map_err(|error| anyhow::anyhow!("--as: {error}"))?;
            let now = who
                .at
                .filter(|_| options.at.is_none())
                .map_or(now, Moment::begins);
            let asker = Asker {
                identity: who.identity(now),
                source: options
                    .source
                    .or(who.source)
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                now,
                role: options.role.clone().or(who.requested_role),
            };
            judge(&config, question, asker, &locks)
        }
        None => {
            let token = bearer::read(options.token_file.as_deref())?;
            let terms = Terms {
                keys: options.keys.as_deref(),
                now,
                thumbprint: options.certificate.as_deref(),
            };
            match bearer::validate(&config, &token, terms)? {
                Ok(mut identity) => {
                    let groups = bearer::complete(&config, &mut identity, options.keys.is_some())?;
                    let asker = Asker {
                        identity,
                        source: options.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                        now,
                        role: options.role.clone(),
                    };
                    match groups {
                        LookedUp::Whole => judge(&config, question, asker, &locks),
                        LookedUp::Lacking(why) => {
                            judge(&config, question, asker, &locks).noting(&why)
                        }
                        LookedUp::Refused(why) | LookedUp::Postponed(why) => {
                            Answer::turned_away(question, &asker.identity, &why)
                        }
                    }
                }
                Err(refused) => Answer::token_refused(question, &refused),
            }
        }
    };
    match format {
        Output::Json => output::json(&answer)?,
        Output::Table => output::print(&answer.show())?,
    }
    Ok(if answer.is_allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn judge(config: &Config, question: Question, asker: Asker, locks: &LockSet) -> Answer {
    if let Some(why) = bearer::locked(locks, &asker.identity, &[], asker.now) {
        return Answer::turned_away(question, &asker.identity, &why);
    }
    let circumstances = Circumstances {
        source: asker.source,
        now: asker.now,
        requested_role: asker.role.as_deref(),
    };
    match config.policy.assign(&asker.identity, &circumstances) {
        Err(refusal) => Answer::no_role(question, &asker.identity, &refusal),
        Ok(assignment) => {
            match bearer::locked(locks, &asker.identity, &assignment.roles, asker.now) {
                Some(why) => Answer::turned_away(question, &asker.identity, &why),
                None => Answer::judged(config, question, &asker.identity, &assignment),
            }
        }
    }
}
