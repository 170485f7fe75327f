//! The audit as it grows, one short line for each fact, for whoever tries the commands.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use serde_json::Value;

use super::idp::Directory;
use super::stage::Stage;
use super::terminal::Terminal;

/// How often the audit is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Prints what is new in the audit, without end.
///
/// # Errors
/// When the audit cannot be read, or nobody reads standard output any more.
pub(super) async fn follow(stage: &Stage, terminal: Terminal) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(stage.audit_file())?;
    file.seek(SeekFrom::End(0))?;
    let mut rest = String::new();
    loop {
        tokio::time::sleep(EVERY).await;
        file.read_to_string(&mut rest)?;
        while let Some((line, after)) = rest.split_once('\n') {
            let parsed: Option<Value> = serde_json::from_str(line).ok();
            let directory = stage.idp.directory();
            if let Some(shown) = parsed.as_ref().and_then(|line| sentence(line, directory)) {
                terminal.evidence(&shown)?;
            }
            rest = after.to_owned();
        }
    }
}

/// One fact in few words; none for what is no news to somebody at a terminal.
fn sentence(line: &Value, directory: &Directory) -> Option<String> {
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let clock = text("time").get(11..19).unwrap_or_default();
    let people = directory
        .people
        .iter()
        .map(|person| (&person.oid, &person.name));
    let applications = directory
        .applications
        .iter()
        .map(|app| (&app.oid, &app.name));
    let mut known = people.chain(applications);
    let who = match text("oid") {
        "" => text("client"),
        oid => known
            .find(|(known, _)| *known == oid)
            .map_or(oid, |(_, name)| name),
    };
    let what = match text("event") {
        "connected" => format!(
            "connected as {} with {}",
            line.get("roles")?,
            text("library")
        ),
        "denied" => {
            let rule = match text("rule") {
                "" => text("reason"),
                rule => rule,
            };
            format!("denied: {} {} ({rule})", text("op"), text("subject"))
        }
        "refused" => format!("refused: {}: {}", text("reason"), text("detail")),
        // That was told when it was refused.
        "closed" if text("reason") == "unauthorized" => return None,
        "closed" => format!("closed: {}", text("reason")),
        _ => return None,
    };
    Some(format!("{clock}  {who}  {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_person_operation_and_reason() {
        let line = serde_json::json!({
            "time": "2026-11-02T10:11:12.345Z", "event": "denied", "op": "publish",
            "oid": "bbbbbbbb-0000-4000-8000-000000000002", "subject": "orders.new", "reason": "not_granted",
        });
        let shown = sentence(&line, &Directory::default());
        assert_eq!(
            shown.as_deref(),
            Some("10:11:12  bob  denied: publish orders.new (not_granted)")
        );
    }

    #[test]
    fn the_start_of_the_process_is_no_news() {
        assert_eq!(
            sentence(
                &serde_json::json!({ "event": "started" }),
                &Directory::default()
            ),
            None
        );
    }
}
