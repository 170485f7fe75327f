//! The command line of the README: the `nats` tool with a password that `natsentry token` gets.

use std::process::Command;

use futures_util::StreamExt as _;
use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::{servers, tools};

const HISTORIAN: &str = "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa";

const ROLES: &str = r#"roles:
  historian:
    bind: [{ app_id: e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa }]
    upstream: plant
    publish: ["from.shell.*"]
    subscribe: ["from.shell.*"]
"#;

/// The same as the matrix of clients uses; none where there is no Go to build it with.
fn tool() -> Option<std::path::PathBuf> {
    let go = tools::go(26)?;
    let tool = tools::go_install(&go, "github.com/nats-io/natscli/nats", "v0.5.1");
    Some(tool.unwrap_or_else(|error| panic!("{error}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_tool_takes_what_natsentry_token_prints_for_its_password() {
    let Some(tool) = tool() else {
        println!("no Go to build the nats tool with: not run");
        return;
    };
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
    let direct = async_nats::ConnectOptions::with_user_and_password(
        "svc".into(),
        "correct horse battery".into(),
    );
    let direct = direct
        .connect(format!("nats://127.0.0.1:{}", nats.port()))
        .await
        .expect("the server itself");
    let mut heard = direct.subscribe("from.shell.>").await.expect("a subject");
    direct.flush().await.expect("a server");

    // As a person writes it, password and all in one line of a shell.
    let line = |subject: &str| {
        format!(
            "\"$NATS\" --server {} --user me --password \"$({} token -c natsentry.yaml --client-id {HISTORIAN} --secret \
             env:SECRET)\" pub {subject} hello",
            proxy.address,
            env!("CARGO_BIN_EXE_natsentry")
        )
    };
    let folder = proxy.folder.path().to_owned();
    let shell = |line: String| {
        let (tool, folder) = (tool.clone(), folder.clone());
        tokio::task::spawn_blocking(move || {
            Command::new("/bin/sh")
                .args(["-c", &line])
                .current_dir(&folder)
                .env("NATS", tool)
                .env("SECRET", "historian-development-secret")
                .env("HOME", &folder)
                .env("XDG_CONFIG_HOME", &folder)
                .output()
                .expect("a shell")
        })
    };
    let output = shell(line("from.shell.1")).await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let message = tokio::time::timeout(std::time::Duration::from_secs(20), heard.next())
        .await
        .expect("in time")
        .expect("a message");
    assert_eq!(
        (message.subject.as_str(), &*message.payload),
        ("from.shell.1", &b"hello"[..])
    );

    // What is not granted is the server's own text, and a wrong secret is no token and no connection.
    let output = shell(line("elsewhere")).await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("Permissions Violation for Publish to \"elsewhere\""),
        "{said}"
    );
    let wrong = line("from.shell.2").replace("env:SECRET", "env:HOME");
    let output = shell(wrong).await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("AADSTS7000215"),
        "{said}"
    );
}
