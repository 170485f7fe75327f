//! `natsentry token inspect`: would this token be admitted, with which roles, and if not, what to change?
//!
//! Owns: the checks that can be made without a configuration. Must never: print a token or any part of a signature, or
//! word a refusal in another way than the log does.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::super::bearer::{self, Terms};
use super::super::{Output, output};
use super::report::{ADMITTED, Line, NOT_CHECKED, Report, UNKNOWN};
use super::seen;
use crate::clock;
use crate::config::Config;
use crate::identity::{self, Groups, Identity, Inspection, Outcome, Stage};
use crate::locks::LockSet;
use crate::policy::Circumstances;
use crate::policy::units::Moment;
use crate::server::LookedUp;
use crate::time::Timestamp;

/// Options of `token inspect`.
#[derive(Clone, Debug, Args)]
pub(super) struct InspectOptions {
    /// File with the token; without it, the token is read from standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Configuration to judge by. Without it the token is decoded, and what can be said without one is said.
    #[arg(short, long, value_name = "FILE", env = "NATSENTRY_CONFIG")]
    config: Option<PathBuf>,
    /// File with the issuer's keys (JWKS), instead of fetching them: works without any network.
    #[arg(long, value_name = "FILE", requires = "config")]
    keys: Option<PathBuf>,
    /// When, as 2026-12-01 or 2026-12-01T08:00:00Z; now unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Address of the client, for roles that ask where a connection comes from [default: 127.0.0.1].
    #[arg(long, value_name = "IP", requires = "config")]
    source: Option<IpAddr>,
    /// The `user` field of CONNECT, with which a client picks among its upstreams by the name of a role.
    #[arg(long, value_name = "ROLE", requires = "config")]
    role: Option<String>,
    /// `x5t#S256` of the TLS certificate that the client would show: base64url of the SHA-256 of its DER form.
    #[arg(long, value_name = "THUMBPRINT", requires = "config")]
    certificate: Option<String>,
}

/// Exit code 0: would be admitted, or without a configuration: nothing speaks against it; 1: would not be.
pub(super) fn inspect(options: &InspectOptions, format: Output) -> anyhow::Result<ExitCode> {
    let config = match options.config.as_deref().map(Config::load) {
        None => None,
        Some(Ok(config)) => Some(config),
        Some(Err(mistakes)) => {
            output::complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let token = bearer::read(options.token_file.as_deref())?;
    let now = options.at.map_or_else(clock::now, Moment::begins);
    let seen = identity::inspect(token.expose());
    let mut report = Report::new(seen::kind(&seen), &seen);
    let good = match &config {
        None => decoded(&mut report, token.expose(), &seen, now),
        Some(config) => {
            let terms = Terms {
                keys: options.keys.as_deref(),
                now,
                thumbprint: options.certificate.as_deref(),
            };
            let locks = bearer::locks(config)?;
            let verdict = bearer::validate(config, &token, terms)?;
            let steps = identity::steps(&verdict.as_ref().map_err(|refused| refused.error.clone()));
            let line = |check| Line::of(check, token.expose(), &seen);
            report.checks = steps.iter().map(line).collect();
            match verdict {
                Ok(mut identity) => {
                    let groups = bearer::complete(config, &mut identity, options.keys.is_some())?;
                    admission(
                        &mut report,
                        config,
                        &identity,
                        groups,
                        (options, &locks),
                        now,
                    )
                }
                Err(refused) => {
                    report.refuse(refused.error.code(), refused.error.sentence());
                    let (thumbprint, table) = (terms.thumbprint, &config.trust.expectations);
                    let beyond = identity::beyond(token.expose(), thumbprint, Some(table), now);
                    report.look_beyond(beyond);
                    if refused.error.is_unavailable() {
                        report.verdict = UNKNOWN;
                    }
                    report.notes.extend(refused.fetching);
                    false
                }
            }
        }
    };
    match format {
        Output::Json => output::json(&report)?,
        Output::Table => output::print(&report.show())?,
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the policy says, if as much is known of the groups as it takes.
fn admission(
    report: &mut Report,
    config: &Config,
    identity: &Identity,
    groups: LookedUp,
    options: (&InspectOptions, &LockSet),
    now: Timestamp,
) -> bool {
    let why = match groups {
        LookedUp::Whole => return judged(report, config, identity, options, now),
        LookedUp::Lacking(why) => {
            // Roles that do not go by groups may be enough.
            if judged(report, config, identity, options, now) {
                return true;
            }
            if !report.code.is_some_and(|code| code.starts_with("groups.")) {
                return false;
            }
            why
        }
        LookedUp::Postponed(why) => why,
        LookedUp::Refused(why) => {
            report.refuse(why.code, why.sentence.to_string());
            return false;
        }
    };
    report.refuse(why.code, why.sentence.to_string());
    report.verdict = UNKNOWN;
    false
}

/// The roles of an accepted token. Whether there are any.
fn judged(
    report: &mut Report,
    config: &Config,
    identity: &Identity,
    (options, locks): (&InspectOptions, &LockSet),
    now: Timestamp,
) -> bool {
    let circumstances = Circumstances {
        source: options.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        now,
        requested_role: options.role.as_deref(),
    };
    let standings = config.policy.standings(identity, &circumstances);
    let assignment = config.policy.assign(identity, &circumstances);
    let given = assignment.as_ref().map_or(&[][..], |given| &given.roles);
    let revoked = bearer::locked(locks, identity, given, now);
    if identity.groups == Groups::Unknown {
        let note = "the groups of this identity are not in the token, because there are too many";
        report.notes.push(note.to_owned());
    }
    report.roles = standings.into_iter().map(Into::into).collect();
    if let Some(why) = revoked {
        report.refuse(why.code, why.sentence.to_string());
        return false;
    }
    match assignment {
        Err(refusal) => {
            report.refuse(refusal.code(), refusal.sentence());
            false
        }
        Ok(assignment) => {
            report.verdict = ADMITTED;
            report.upstream = Some(assignment.upstream.to_string());
            for role in &mut report.roles {
                let given = assignment.roles.iter().any(|given| **given == *role.role);
                if role.held && !given {
                    role.held = false;
                    let upstream = &assignment.upstream;
                    role.lacks = Some(format!(
                        "the session is bound to another upstream, {upstream}"
                    ));
                }
            }
            if assignment.observe {
                let note = "every role says `mode: observe`: refusals are recorded only";
                report.notes.push(note.to_owned());
            }
            true
        }
    }
}

/// What can be said without a configuration. Whether nothing speaks against the token.
fn decoded(report: &mut Report, token: &[u8], seen: &Inspection, now: Timestamp) -> bool {
    let verdict = identity::decode(token, now);
    for check in identity::steps(&verdict) {
        let mut line = Line::of(&check, token, seen);
        let unknown = matches!(
            check.stage,
            Stage::Key | Stage::Signature | Stage::Issuer | Stage::Audience
        );
        if unknown && check.outcome == Outcome::Passed {
            line.outcome = NOT_CHECKED;
        }
        report.checks.push(line);
    }
    let note = "decoded only: nothing of it is verified; give a configuration (-c FILE) to judge it as natsentry would";
    report.notes.push(note.to_owned());
    match verdict {
        Ok(_) => true,
        Err(error) => {
            report.refuse(error.code(), error.sentence());
            report.look_beyond(identity::beyond(token, None, None, now));
            false
        }
    }
}
