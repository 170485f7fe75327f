//! What is printed before and after the story: where everything is, and commands that can be pasted as they are.
//!
//! Must never: print a token; the commands fetch fresh ones.

use std::io;
use std::path::Path;

use super::stage::{STATIC_USER, Stage};
use super::terminal::Terminal;

/// Where everything is.
pub(super) fn introduction(stage: &Stage, terminal: Terminal, port: u16) -> io::Result<()> {
    let (client, found) = (stage.client, &stage.found);
    terminal.line("")?;
    terminal.line(&format!(
        "   alice, bob, gateway ── Entra token ──▶ natsentry ── user \"{STATIC_USER}\" ──▶ nats-server"
    ))?;
    terminal.line("")?;
    terminal.fact(
        "server",
        &format!(
            "nats-server {} on {}, from {}",
            found.version,
            stage.nats.address(),
            found.source
        ),
    )?;
    terminal.fact(
        "issuer",
        &format!("{}, stands in for Entra ID", stage.idp.base()),
    )?;
    let moved = if port != 0 && client.port() != port {
        format!(", since port {port} is taken")
    } else {
        String::new()
    };
    terminal.fact("natsentry", &format!("{client}{moved}"))?;
    terminal.fact("config", &stage.config_file().display().to_string())?;
    terminal.fact(
        "",
        "natsentry.log and audit.jsonl stand beside it, as long as this runs",
    )?;
    terminal.fact(
        "below",
        "> is what a client sends, < is what it hears, ✓ is what was checked",
    )
}

/// Commands for three people with different rights.
pub(super) fn commands(stage: &Stage, terminal: Terminal, program: &Path) -> io::Result<()> {
    let (client, admin, idp) = (stage.client, stage.admin, stage.idp.base());
    let nats = |who: &str, life: &str, what: &str| {
        format!(
            "nats --server nats://{client} --user {who} \
             --password \"$(curl -s '{idp}/token?as={who}{life}')\" {what}"
        )
    };
    let gateway = stage
        .idp
        .directory()
        .applications
        .iter()
        .find(|app| app.name == "gateway");
    let oid = gateway.map(|app| app.oid.as_str()).unwrap_or_default();
    let show = |what: &str, command: &str| terminal.command(what, command);
    terminal.heading(
        "Now you. Paste these into other terminals; what natsentry makes of them appears below.",
    )?;
    show(
        "alice (operator) listens; the nats CLI takes the token as the password",
        &nats("alice", "", "sub 'orders.>'"),
    )?;
    show(
        "alice places an order",
        &nats("alice", "", "pub orders.new '{\"qty\":5}'"),
    )?;
    show(
        "bob (reader) is denied",
        &nats("bob", "", "pub orders.new fake"),
    )?;
    show(
        "bob reads what alice wrote",
        &nats("bob", "", "kv get setpoints line1 --raw"),
    )?;
    show(
        "bob's token ends after 20 s",
        &nats("bob", "&lifetime=20s", "sub 'orders.>'"),
    )?;
    show(
        "the gateway writes its own branch",
        &nats("gateway", "", &format!("pub telemetry.{oid}.temp 21.5")),
    )?;
    show(
        "mallory has no role",
        &nats("mallory", "", "sub 'orders.>'"),
    )?;
    show(
        "bob in Python (pip install nats-py), with a fresh token at each reconnect",
        &python(stage),
    )?;
    show(
        "metrics",
        &format!(
            "curl -s http://{admin}/metrics | grep -E '^natsentry_(denials|refusals|sessions)'"
        ),
    )?;
    show(
        "health, and who is there",
        &format!("curl -s http://{admin}/readyz; curl -s http://{admin}/sessions"),
    )?;
    show(
        "which line of the policy decides",
        &format!(
            "curl -s '{idp}/token?as=bob' | {} explain --token-stdin --publish orders.new -c {}",
            program.display(),
            stage.config_file().display()
        ),
    )?;
    let client_id = gateway
        .map(|app| app.client_id.as_str())
        .unwrap_or_default();
    about_tokens(stage, terminal, program, client_id)?;
    terminal.heading("Ctrl-C ends it all and removes the folder.")
}

/// Commands that get a token and look at one.
fn about_tokens(
    stage: &Stage,
    terminal: Terminal,
    program: &Path,
    client_id: &str,
) -> io::Result<()> {
    let idp = stage.idp.base();
    let show = |what: &str, command: &str| terminal.command(what, command);
    show(
        "would this token be admitted, and if not, what is to change?",
        &format!(
            "curl -s '{idp}/token?as=mallory' | {} token inspect -c {}",
            program.display(),
            stage.config_file().display()
        ),
    )?;
    show(
        "a token for a workload, from the managed identity of this \"machine\", and what it says",
        &format!(
            "AZURE_POD_IDENTITY_AUTHORITY_HOST={idp} {0} token --from managed-identity --client-id {1} --cloud {idp} \
             --scope api://nats-dev | {0} token inspect",
            program.display(),
            client_id
        ),
    )
}

/// A subscriber whose password is a function that fetches a token.
fn python(stage: &Stage) -> String {
    let (client, idp) = (stage.client, stage.idp.base());
    format!(
        "python3 -c '\n\
         import asyncio, nats, urllib.request\n\
         def token(): return urllib.request.urlopen(\"{idp}/token?as=bob\").read().decode()\n\
         async def main():\n\
         \x20   nc = await nats.connect(\"nats://{client}\", token=token)\n\
         \x20   sub = await nc.subscribe(\"orders.>\")\n\
         \x20   async for m in sub.messages: print(m.subject, m.data.decode())\n\
         asyncio.run(main())'"
    )
}
