//! `natsentry token`: every way to a token with the real program, and each of them good for a connection.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use natsentry::demo::idp::{DevIdp, Endpoint, Fault, IdpConfig, SigningKey, TokenRequest};
use natsentry::demo::servers::Version;
use natsentry::entra::{Credential, CredentialConfig, Environment, ManagedId, Scope, Tools};
use natsentry::http::Http;
use serde_json::{Value, json};

use crate::support::cli::{self, Ran};
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;

const API: &str = "api://nats-dev";
const NATSENTRY: &str = "4e475300-0000-4000-8000-000000000008";
const HISTORIAN: &str = "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa";
const GATEWAY: &str = "9f6f7c31-2b0a-4d0a-8b77-1d1f1e0c7722";

/// Everything that must not be seen in anything that is printed.
const SECRETS: [&str; 3] = [
    "historian-development-secret",
    "natsentry-development-secret",
    "guessed-secret",
];

/// A command without `az` and with the issuer in the place of Entra.
fn token(idp: &DevIdp, folder: &Path) -> Command {
    let mut command = cli::natsentry(folder);
    let tid = &idp.directory().tid;
    command.args([
        "token",
        "--scope",
        API,
        "--tenant",
        tid,
        "--cloud",
        idp.base(),
    ]);
    command
        .env("PATH", folder.join("bin"))
        .env("HOME", folder)
        .env_remove("XDG_CACHE_HOME");
    command
}

async fn run(mut command: Command) -> Ran {
    let ran = tokio::task::spawn_blocking(move || cli::run(&mut command, b""))
        .await
        .expect("it runs");
    for secret in SECRETS {
        assert!(
            !ran.out.contains(secret) && !ran.err.contains(secret),
            "a secret is shown"
        );
    }
    assert!(
        !ran.err.contains("eyJ"),
        "a token on standard error: {}",
        ran.err
    );
    ran
}

/// The token, which has to be all that was printed.
fn alone(ran: &Ran) -> String {
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let token = ran.out.strip_suffix('\n').expect("one line");
    assert_eq!(token.split('.').count(), 3, "{token}");
    assert!(!token.contains(char::is_whitespace));
    token.to_owned()
}

/// Publishes and hears it with a client library whose password is the token.
async fn connects(proxy: &Proxy, token: &str) {
    let options = async_nats::ConnectOptions::with_user_and_password("me".into(), token.into());
    let client = options
        .connect(format!("nats://{}", proxy.address))
        .await
        .expect("the token is a password");
    client.flush().await.expect("a connection");
}

/// Roles for all who come here, the workload among them.
const ROLES: &str = r#"roles:
  everybody:
    bind:
      - { app_role: Nats.Operator }
      - { app_role: Nats.Telemetry.Read }
      - { app_role: Nats.Telemetry.Write }
      - { app_role: Nats.Proxy }
    upstream: plant
    publish: ["a"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_way_leads_to_a_token_that_connects() {
    let idp = proxy::idp().await;
    idp.assign_role("natsentry", "Nats.Proxy");
    idp.assign_role("natsentry-mi", "Nats.Proxy");
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut got: Vec<(&str, Ran)> = Vec::new();

    // A secret by reference; tenant, cloud and API from the configuration.
    let mut command = cli::natsentry(proxy.folder.path());
    command.args([
        "token",
        "-c",
        "natsentry.yaml",
        "--client-id",
        HISTORIAN,
        "--secret",
        "env:SECRET",
    ]);
    command.env("SECRET", SECRETS[0]).env("PATH", at);
    got.push(("secret by reference", run(command).await));

    let mut command = token(&idp, at);
    command.envs([
        ("AZURE_CLIENT_ID", NATSENTRY),
        ("AZURE_CLIENT_SECRET", SECRETS[1]),
    ]);
    got.push(("secret of the environment", run(command).await));

    let signer = SigningKey::generate().expect("a key");
    let pair =
        rcgen::KeyPair::try_from(signer.private_der().expect("DER").expose()).expect("a pair");
    let certificate = rcgen::CertificateParams::new(vec!["natsentry".into()])
        .expect("names")
        .self_signed(&pair)
        .expect("signed");
    idp.trust_certificate("natsentry", certificate.der());
    fs::write(
        at.join("both.pem"),
        certificate.pem() + &pair.serialize_pem(),
    )
    .expect("a file");
    let mut command = token(&idp, at);
    command.envs([
        ("AZURE_CLIENT_ID", NATSENTRY),
        ("AZURE_CLIENT_CERTIFICATE_PATH", "both.pem"),
    ]);
    got.push(("certificate", run(command).await));

    let (subject, audience) = (
        "system:serviceaccount:nats:natsentry",
        "api://AzureADTokenExchange",
    );
    idp.trust_workload("natsentry", subject, audience);
    let workload = idp
        .workload_token(subject, audience, Duration::from_secs(3600))
        .expect("a token");
    fs::write(at.join("workload"), workload).expect("a file");
    let mut command = token(&idp, at);
    command.envs([
        ("AZURE_CLIENT_ID", NATSENTRY),
        ("AZURE_FEDERATED_TOKEN_FILE", "workload"),
    ]);
    got.push(("workload identity", run(command).await));

    let mut command = token(&idp, at);
    command
        .args(["--client-id", GATEWAY])
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", idp.base());
    got.push(("IMDS", run(command).await));

    let (endpoint, header) = idp.app_service();
    let mut command = token(&idp, at);
    command.envs([
        ("IDENTITY_ENDPOINT", &endpoint),
        ("IDENTITY_HEADER", &header),
    ]);
    got.push(("App Service", run(command).await));

    // What `az` would print; the script writes down how it was called.
    let minted = proxy::token(&idp, "alice");
    let end = natsentry::clock::now().as_secs() + 3600;
    let printed = json!({ "accessToken": minted, "expires_on": end, "tokenType": "Bearer" });
    fs::create_dir(at.join("bin")).expect("a folder");
    fs::write(at.join("printed.json"), printed.to_string()).expect("a file");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {0}/arguments\nexec /bin/cat {0}/printed.json\n",
        at.display()
    );
    fs::write(at.join("bin/az"), script).expect("a file");
    fs::set_permissions(at.join("bin/az"), fs::Permissions::from_mode(0o755))
        .expect("an executable");
    got.push(("az", run(token(&idp, at)).await));
    let arguments = fs::read_to_string(at.join("arguments")).expect("az was run");
    let tid = &idp.directory().tid;
    assert_eq!(
        arguments.lines().collect::<Vec<_>>(),
        [
            "account",
            "get-access-token",
            "--output",
            "json",
            "--scope",
            "api://nats-dev/.default",
            "--tenant",
            tid
        ]
    );

    for (way, ran) in got {
        let token = alone(&ran);
        println!("{way}");
        connects(&proxy, &token).await;
        // And what the other command says of it: nothing is wrong.
        let folder = proxy.folder.path().to_owned();
        let inspected = tokio::task::spawn_blocking(move || {
            let mut command = cli::natsentry(&folder);
            cli::run(
                command.args(["token", "inspect", "-c", "natsentry.yaml"]),
                token.as_bytes(),
            )
        });
        let inspected = inspected.await.expect("it runs");
        assert_eq!(inspected.code, Some(0), "{way}: {}", inspected.out);
    }
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_arc_wants_a_file_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = IdpConfig {
        arc_folder: Some(folder.path().into()),
        ..IdpConfig::default()
    };
    let idp = DevIdp::start(config).await.expect("an issuer");
    let (endpoint, agent) = idp.arc();
    let environment = Environment {
        identity_endpoint: Some(endpoint),
        imds_endpoint: Some(agent),
        arc_folder: Some(folder.path().into()),
        ..Environment::default()
    };
    let tools = Tools {
        http: Http::new(&[], Duration::from_secs(10)).expect("a client"),
        tasks: tokio_util::task::TaskTracker::new(),
        stop: tokio_util::sync::CancellationToken::new(),
    };
    let config = CredentialConfig::ManagedIdentity(ManagedId::System);
    let credential =
        Credential::new(&config, idp.base(), &environment, tools).expect("a credential");
    let token = credential.token(&Scope::new(API)).await.expect("a token");
    assert_eq!(
        token
            .secret()
            .expose_str()
            .expect("text")
            .split('.')
            .count(),
        3
    );
    assert_eq!(
        idp.requests(Endpoint::Arc),
        2,
        "asked, and answered the challenge"
    );
}

/// Starts a sign-in and waits for its code.
#[expect(
    clippy::zombie_processes,
    reason = "the caller waits for it; a test that panics ends everything"
)]
async fn begin(idp: &DevIdp, folder: &Path, more: &[&str]) -> (std::process::Child, String) {
    let mut command = token(idp, folder);
    let cli = &idp.directory().cli;
    command
        .args(["--from", "device-code", "--client-id", cli])
        .args(more);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    for _ in 0..1000 {
        if let Some(code) = idp.device_codes().pop() {
            return (child, code);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no code was asked for");
}

async fn end(child: std::process::Child) -> Ran {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends"))
        .await
        .expect("no panic");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_code_and_only_who_asks_keeps_the_token() {
    let idp = proxy::idp().await;
    idp.device_timing(Duration::ZERO, Duration::from_secs(900));
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join(".cache/natsentry/tokens");

    let (child, code) = begin(&idp, folder.path(), &[]).await;
    assert!(idp.approve_device(&code, "alice"));
    let ran = end(child).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out.trim_end().split('.').count(), 3);
    assert!(
        ran.err.contains(&code) && ran.err.contains("/devicelogin"),
        "{}",
        ran.err
    );
    assert!(!kept.exists(), "nobody asked for a cache");

    let (child, code) = begin(&idp, folder.path(), &["--cache"]).await;
    assert!(idp.approve_device(&code, "alice"));
    let first = end(child).await;
    let asked = idp.requests(Endpoint::Token);
    let again = |more: &'static [&'static str]| {
        let mut command = token(&idp, folder.path());
        command
            .args([
                "--from",
                "device-code",
                "--client-id",
                &idp.directory().cli,
                "--cache",
            ])
            .args(more);
        run(command)
    };
    let second = again(&[]).await;
    assert_eq!(alone(&second), first.out.trim_end());
    let ran = again(&["-o", "json"]).await;
    let document: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(document["access_token"], first.out.trim_end());
    assert_eq!(document["from"], "device-code");
    assert_eq!(
        idp.requests(Endpoint::Token),
        asked,
        "nobody was asked again"
    );
    let files: Vec<_> = fs::read_dir(&kept)
        .expect("a folder")
        .map(|file| file.expect("a file").path())
        .collect();
    let [file] = files.as_slice() else {
        panic!("{files:?}")
    };
    assert_eq!(
        fs::metadata(file).expect("facts").permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(&kept).expect("facts").permissions().mode() & 0o777,
        0o700
    );
    let text = fs::read_to_string(file).expect("text");
    assert!(!text.contains("refresh"), "an access token alone is kept");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("changed");
    let ran = again(&[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(
        ran.err.contains("others can read or write it"),
        "{}",
        ran.err
    );

    for (what, told) in [
        ("decline", "the sign-in was declined"),
        ("expire", "nobody entered the code in time"),
    ] {
        let (child, code) = begin(&idp, folder.path(), &[]).await;
        let done = if what == "decline" {
            idp.decline_device(&code)
        } else {
            idp.expire_device(&code)
        };
        assert!(done);
        let ran = end(child).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        assert!(ran.err.contains(told), "{}", ran.err);
    }
    // An endpoint that fails for a while does not end the sign-in, and one that wants more time gets it.
    idp.fail_times(Endpoint::Token, 1, Fault::Status(503, None));
    idp.fail_times(Endpoint::Token, 1, Fault::Reset);
    let (child, code) = begin(&idp, folder.path(), &[]).await;
    assert!(idp.approve_device(&code, "alice"));
    let ran = end(child).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_was_tried_and_what_to_do() {
    let idp = proxy::idp().await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();

    // Nothing is there: every way says what it would need.
    let ran = run(token(&idp, at)).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    for told in [
        "natsentry: no token for api://nats-dev; tried in this order:",
        "  secret             neither --secret nor AZURE_CLIENT_SECRET is set",
        "  certificate        neither --certificate nor AZURE_CLIENT_CERTIFICATE_PATH is set",
        "  workload-identity  neither --federated-token-file nor AZURE_FEDERATED_TOKEN_FILE is set",
        "  managed-identity   ",
        "  az                 az is not installed",
        "  device-code        nobody is at a terminal; ask for it with --from device-code",
    ] {
        assert!(ran.err.contains(told), "{told} is missing in\n{}", ran.err);
    }

    // What was set up and is refused is the answer: no other identity takes its place.
    let asked = idp.requests(Endpoint::Imds);
    let mut command = token(&idp, at);
    command.envs([
        ("AZURE_CLIENT_ID", HISTORIAN),
        ("AZURE_CLIENT_SECRET", SECRETS[2]),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", idp.base()),
    ]);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(
        ran.err
            .contains("AADSTS7000215: the client secret is wrong"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("no other identity is tried"),
        "{}",
        ran.err
    );
    assert_eq!(idp.requests(Endpoint::Imds), asked);

    for (arguments, code, told) in [
        (
            &[
                "--from",
                "secret",
                "--client-id",
                HISTORIAN,
                "--secret",
                "guessed-secret",
            ][..],
            1,
            "--secret: write env:NAME or file:PATH",
        ),
        (
            &[
                "--from",
                "secret",
                "--client-id",
                HISTORIAN,
                "--secret",
                "file:absent",
            ],
            1,
            "no such file",
        ),
        (
            &["--from", "secret", "--secret", "env:PATH"],
            1,
            "the client id is missing; give --client-id",
        ),
        (
            &[
                "--from",
                "certificate",
                "--client-id",
                HISTORIAN,
                "--certificate",
                "env:PATH",
            ],
            1,
            "certificate",
        ),
        (&["--from", "device-code"], 1, "needs --client-id"),
        (
            &["--from", "device-code", "--client-id", HISTORIAN],
            1,
            "AADSTS7000218",
        ),
        (&["--from", "nowhere"], 2, "device-code"),
        (
            &["--client-id", HISTORIAN, "--object-id", "x"],
            2,
            "cannot be used with",
        ),
    ] {
        let mut command = token(&idp, at);
        command.args(arguments);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.err);
        assert!(
            ran.out.is_empty() && ran.err.contains(told),
            "{told}: {arguments:?}: {}",
            ran.err
        );
    }
    let mut command = cli::natsentry(at);
    command.arg("token").env("PATH", at);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--scope api://"), "{}", ran.err);

    // Azure's own services fail for a while, and say so.
    let imds = |more: &'static [&'static str]| {
        let mut command = token(&idp, at);
        command.args(["--from", "managed-identity"]).args(more);
        command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", idp.base());
        run(command)
    };
    let ran = imds(&["--client-id", "nobody"]).await;
    assert!(
        ran.err.contains("no such identity") && ran.code == Some(1),
        "{}",
        ran.err
    );
    idp.fail_times(Endpoint::Imds, 1, Fault::Status(429, Some(0)));
    assert_eq!(imds(&["--client-id", GATEWAY]).await.code, Some(0));

    // `az` without an account, and one that hangs.
    fs::create_dir(at.join("bin")).expect("a folder");
    for (script, told) in [
        (
            "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1",
            "nobody is signed in to az; run az login",
        ),
        ("exec /bin/sleep 60", "az did not answer within 1 s"),
        ("echo nonsense", "az printed something that is no token"),
        (
            "echo 'ERROR: AADSTS65001: consent' >&2; exit 1",
            "AADSTS65001",
        ),
    ] {
        fs::write(at.join("bin/az"), format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(at.join("bin/az"), fs::Permissions::from_mode(0o755))
            .expect("an executable");
        let mut command = token(&idp, at);
        command.args(["--from", "az", "--timeout", "1s"]);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert!(
        !idp.mint(&TokenRequest::of("alice"))
            .expect("a token")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_a_server_whose_secrets_are_elsewhere_names_the_api() {
    let idp = proxy::idp().await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // As on the desk of somebody who has the file and nothing else; what is wrong elsewhere is none of his business.
    let text = |entra: &str| {
        format!(
            "version: 1\nlisten: {{ client: 0.0.0.0:4222, tls: {{ cert: file:tls.crt, key: file:tls.key }} }}\n{entra}\
             upstreams:\n  plant: {{ servers: [\"nats://10.0.0.1:4222\"], auth: {{ user: env:SURELY_UNSET, password: file:pw }} }}\n\
             roles: {{ x: {{ bind: [], upstream: nowhere }} }}\nunknown: 1\n"
        )
    };
    let entra = format!(
        "entra:\n  cloud: {{ authority: \"{}\" }}\n  tenants: [{}]\n  audiences: [\"{API}\"]\n",
        idp.base(),
        idp.directory().tid
    );
    let ask = async |config: &str, more: &[&str]| {
        fs::write(at.join("natsentry.yaml"), config).expect("a file");
        let mut command = cli::natsentry(at);
        command
            .args([
                "token",
                "-c",
                "natsentry.yaml",
                "--from",
                "managed-identity",
            ])
            .args(["--client-id", GATEWAY])
            .args(more)
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", idp.base());
        run(command).await
    };
    alone(&ask(&text(&entra), &[]).await);

    // What it says of Entra has to be right: a token for something else would be of no use.
    for (wrong, told) in [
        (
            entra.replace("audiences", "audience"),
            "natsentry.yaml:6:3: entra.audience: unknown key `audience`",
        ),
        (
            entra.replace(&*idp.directory().tid, "common"),
            "natsentry.yaml:5:13: entra.tenants[0]: iss.alias",
        ),
        (
            entra.replace("http://127.0.0.1", "http://login.example.com"),
            "entra.cloud.authority: 'http://login.example.com",
        ),
    ] {
        let ran = ask(&text(&wrong), &[]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    let ran = ask(&text(""), &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("no `entra`"), "{}", ran.err);
    let elsewhere = [
        "--scope",
        API,
        "--cloud",
        idp.base(),
        "--tenant",
        &idp.directory().tid,
    ];
    alone(&ask(&text(""), &elsewhere).await);
}
