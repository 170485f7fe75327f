//! The real program on configuration files: every mistake at its line and column, and exit codes that scripts can use.
#![cfg(feature = "shell")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const EXAMPLE: &str = include_str!("../deploy/natsentry.example.yaml");

/// Runs the program in `folder`.
fn natsentry(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_natsentry"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("NATS_USER", "svc")
        .env("LAB_TOKEN", "lab")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with certificates and secrets as the example names them.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    for name in ["tls.crt", "clients.pem", "ca.pem", "client.crt"] {
        write(name, &certificate.pem());
    }
    for name in ["tls.key", "client.key"] {
        write(name, &key.serialize_pem());
    }
    write(
        "other.key",
        &rcgen::KeyPair::generate().unwrap().serialize_pem(),
    );
    write("not-a-seed", "SUNOTASEED\n");
    fs::create_dir(folder.path().join("secrets")).unwrap();
    write("secrets/nats-password", "hunter2\n");
    write(
        "secrets/proxy.nk",
        &nkeys::KeyPair::new_user().seed().unwrap(),
    );
    write("secrets/cloud.creds", &creds());
    write("natsentry.yaml", EXAMPLE);
    folder
}

/// A creds file: a user JWT that nobody has to believe, and the seed it is for.
fn creds() -> String {
    use base64::Engine as _;
    let user = nkeys::KeyPair::new_user();
    let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    let claims = format!(
        r#"{{"sub":"{}","nats":{{"type":"user","version":2}}}}"#,
        user.public_key()
    );
    let jwt = format!(
        "{}.{}.{}",
        part(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#),
        part(&claims),
        part("signature")
    );
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

/// `LINE:COLUMN path` of every mistake of a text, and the whole complaint.
fn mistakes(text: &str) -> (Vec<String>, String) {
    let folder = folder();
    fs::write(folder.path().join("natsentry.yaml"), text).unwrap();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let complaint = stderr(&output);
    let places = complaint
        .lines()
        .filter_map(|line| line.strip_prefix("natsentry.yaml:"))
        .filter_map(|line| {
            let (line_number, rest) = line.split_once(':')?;
            let (column, rest) = rest.split_once(": ")?;
            let path = rest.split_once(": ").map_or("", |(path, _)| path);
            let path = if path.contains(' ') && !path.contains('.') {
                ""
            } else {
                path
            };
            Some(format!("{line_number}:{column} {path}"))
        })
        .collect();
    (places, complaint)
}

#[test]
fn the_example_passes_and_says_what_it_comes_to() {
    let folder = folder();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(
        shown.starts_with("natsentry.yaml: no mistakes\n"),
        "{shown}"
    );
    for part in [
        "0.0.0.0:4222",
        "plant-a",
        "telemetry-writer",
        "3 passed",
        "audit.jsonl",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    // Two warnings are there to be seen: names of groups that are believed, and what `ephemeral` reaches beside a
    // restricted `read`.
    let warnings = shown.matches("warning:").count();
    assert!(
        warnings == 2
            && shown.contains("`names` takes names of groups at their word")
            && shown.contains("`ephemeral` reaches"),
        "{shown}"
    );
}

#[test]
fn the_result_for_scripts_is_json() {
    let folder = folder();
    let output = natsentry(
        folder.path(),
        &["-o", "json", "check", "-c", "natsentry.yaml"],
    );
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["counts"]["tests_passed"], 3);
    fs::write(
        folder.path().join("natsentry.yaml"),
        "version: 1\nlisten: 3\n",
    )
    .unwrap();
    let output = natsentry(
        folder.path(),
        &["check", "-o", "json", "-c", "natsentry.yaml"],
    );
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["ok"], false);
    let mistakes = report["mistakes"].as_array().unwrap();
    let listen = mistakes
        .iter()
        .find(|mistake| mistake["path"] == "listen")
        .unwrap();
    assert_eq!((&listen["line"], &listen["column"]), (&2.into(), &9.into()));
}

#[test]
fn a_file_with_many_mistakes_shows_them_all_at_once() {
    let (places, complaint) = mistakes(include_str!("config/ten-mistakes.yaml"));
    let expected = [
        "1:10 version",
        "3:11 listen.client",
        "4:8 listen.tls",
        "4:16 listen.tls.cert",
        "4:39 listen.tls.mode",
        "5:34 admin.listen",
        "7:13 entra.tenants[0]",
        "7:21 entra.tenants[1]",
        "8:3 entra.audience",
        "9:18 entra.accept[1]",
        "11:15 issuers[0].issuer",
        "11:52 issuers[0].audiences",
        "14:38 upstreams.plant-a.servers[1]",
        "15:35 upstreams.plant-a.auth.password",
        "16:3 upstreams.plant-b",
        "17:11 upstreams.plant-b.auth",
        "17:20 upstreams.plant-b.auth.token",
        "17:52 upstreams.plant-b.auth.nkey",
        "21:15 roles.writer.upstream",
        "23:24 roles.writer.limits.payload",
        "24:5 roles.writer.colour",
        "25:16 audit.file",
        "25:54 audit.when_full",
        "26:22 limits.handshake",
    ];
    assert_eq!(places, expected, "{complaint}");
    assert!(
        complaint
            .trim_end()
            .ends_with("24 mistakes in natsentry.yaml"),
        "{complaint}"
    );
    assert!(!complaint.contains("hunter2"), "{complaint}");
    for advice in [
        "did you mean `off`?",
        "did you mean `audiences`?",
        "did you mean `plant-a`?",
        "write env:NAME or file:PATH",
        "`key` is missing; write `key: file:tls.key`",
        "list tenant ids explicitly",
        "write 100ms to 1m",
    ] {
        assert!(complaint.contains(advice), "{advice} in {complaint}");
    }
}

#[test]
fn what_is_wrong_between_keys_is_found_too() {
    let (places, complaint) = mistakes(include_str!("config/between-keys.yaml"));
    let expected = [
        "5:35 listen.tls.key",
        "6:19 listen.proxy_protocol",
        "7:14 listen.websocket",
        "8:18 admin.listen",
        "10:13 entra.tenants[0]",
        "10:28 entra.tenants[1]",
        "11:15 entra.audiences[0]",
        "11:44 entra.audiences[1]",
        "12:11 entra.accept",
        "13:16 entra.max_session",
        "14:19 entra.required_scope",
        "17:15 issuers[0].issuer",
        "17:70 issuers[0].jwks",
        "18:65 issuers[1].tenant",
        "20:15 issuers[3].issuer",
        "22:3 upstreams.plant a",
        "23:14 upstreams.plant a.servers",
        "25:15 upstreams.plant-b.servers[0]",
        "25:31 upstreams.plant-b.servers[1]",
        "26:23 upstreams.plant-b.auth.password",
        "26:23 upstreams.plant-b.auth.password",
        "27:25 upstreams.plant-b.trusted_proxy_nkey",
        "29:32 upstreams.plant-c.servers[1]",
        "30:19 upstreams.plant-c.auth.nkey",
        "31:18 upstreams.plant-c.tls.cert",
        "31:39 upstreams.plant-c.tls.first",
        "31:57 upstreams.plant-c.tls.server_name",
        "33:63 roles.r1.publish[0]",
        "33:68 roles.r1.publish[1]",
        "34:7 roles.r2",
        "34:29 roles.r2.upstream",
        "34:69 roles.r2.subscribe[0].subjet",
        "35:16 audit.file",
        "35:27 audit.queue",
        "35:49 audit.sampling.first",
        "35:57 audit.sampling.per",
        "35:73 audit.sampling.strangers",
        "36:24 limits.connections",
        "36:41 limits.connect_line",
        "36:54 limits.payload",
        "36:66 limits.drain",
    ];
    assert_eq!(places, expected, "{complaint}");
    for secret in ["hunter2", "HUNTER2", "SUNOTASEED"] {
        assert!(!complaint.contains(secret), "{secret} in {complaint}");
    }
    for advice in [
        "not available in this version",
        "is taken by `listen.client`",
        "did you mean `plant-b`?",
    ] {
        assert!(complaint.contains(advice), "{advice} in {complaint}");
    }
}

#[test]
fn mistakes_about_graph_the_vault_and_keys_have_their_places() {
    let (places, complaint) = mistakes(include_str!("config/graph-and-keys.yaml"));
    let expected = [
        "6:59 entra.cloud.graph",
        "8:17 entra.graph.credential",
        "9:21 entra.graph.groups_overage",
        "10:13 entra.graph.outage",
        "11:14 entra.graph.timeout",
        "12:14 entra.graph.lookups",
        "13:21 entra.graph.cache.fresh",
        "13:32 entra.graph.cache.stale",
        "13:45 entra.graph.cache.entries",
        "14:5 entra.graph.poll",
        "16:36 keyvault.credential.workload_identity",
        "16:49 keyvault.credential.workload_identity.client_id",
        "16:68 keyvault.credential.workload_identity.tenant",
        "17:12 keyvault.refresh",
        "19:12 keys.max_age",
        "20:12 keys.refresh",
        "20:12 keys.refresh",
        "21:18 keys.unknown_burst",
        "22:21 keys.unknown_interval",
        "23:3 keys.colour",
        "27:19 upstreams.plant.auth.user",
        "27:81 upstreams.plant.auth.password",
    ];
    assert_eq!(places, expected, "{complaint}");
    for advice in [
        "the workload identity lacks its tenant, its client_id, its token_file, and AZURE_TENANT_ID, AZURE_CLIENT_ID, \
         AZURE_FEDERATED_TOKEN_FILE are not set here",
        "the workload identity lacks its token_file, and AZURE_FEDERATED_TOKEN_FILE is not set here",
        "write 1 to 100",
    ] {
        assert!(complaint.contains(advice), "{advice} in {complaint}");
    }
}

#[test]
fn addresses_that_no_token_could_come_from_are_mistakes() {
    let (places, complaint) = mistakes(include_str!("config/addresses.yaml"));
    let expected = [
        "4:23 entra.cloud.authority",
        "4:86 entra.cloud.graph",
        "6:15 entra.audiences[0]",
        "6:30 entra.audiences[1]",
        "6:49 entra.audiences[2]",
        "7:19 entra.required_scope",
        "9:5 entra.graph.credential",
        "10:38 entra.graph.credential.managed_identity.client_id",
        "11:35 entra.graph.credential.client_secret.client_id",
        "11:46 entra.graph.credential.client_secret.secret",
        "13:15 issuers[0].issuer",
        "14:15 issuers[1].issuer",
        "15:15 issuers[2].issuer",
        "16:15 issuers[3].issuer",
        "17:15 issuers[4].issuer",
        "18:127 issuers[5].policies[1]",
        "19:15 issuers[6].issuer",
        "20:15 issuers[7].issuer",
        "21:15 issuers[8].issuer",
        "22:15 issuers[9].issuer",
        "22:53 issuers[9].jwks",
        "23:15 issuers[10].issuer",
        "24:15 issuers[11].issuer",
        "26:57 issuers[12].profile",
        "27:57 issuers[13].roles_claim",
        "28:68 issuers[14].tenant",
    ];
    assert_eq!(places, expected, "{complaint}");
    for advice in [
        "iss.alias: authority 'organizations' has a templated issuer",
        "`https://graph.microsoft.com/v1.0` has more than scheme and host",
        "write issuer: https://login.microsoftonline.com, profile: entra, tenant: 22222222-2222-3333-4444-555555555555",
        "write issuer: https://login.microsoftonline.com, profile: entra, tenant: 33333333-2222-3333-4444-555555555555",
        "write issuer: https://contoso.b2clogin.com, profile: b2c, tenant: ",
        "policy 'b2c_1_A' is listed twice",
        "compared byte for byte: b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771",
    ] {
        assert!(complaint.contains(advice), "{advice} in {complaint}");
    }
}

#[test]
fn conditions_that_everybody_or_nobody_meets_are_mistakes() {
    let (places, complaint) = mistakes(include_str!("config/conditions.yaml"));
    let expected = [
        "10:13 roles.empty.require.acrs",
        "11:15 roles.empty.require.source",
        "12:16 roles.empty.require.clients",
        "13:12 roles.empty.require.amr",
        "14:15 roles.empty.require.scopes",
        "15:18 roles.empty.require.xms_mirid",
        "19:12 roles.wrong.bind[0]",
        "19:32 roles.wrong.bind[1]",
        "19:77 roles.wrong.bind[2].app_id",
        "21:15 roles.wrong.require.azpacr",
        "22:13 roles.wrong.require.acct",
        "23:16 roles.wrong.require.clients",
        "24:15 roles.wrong.require.scopes",
        "25:18 roles.wrong.require.xms_mirid",
        "26:17 roles.wrong.require.auth_age",
        "27:22 roles.wrong.require.max_token_age",
    ];
    assert_eq!(places, expected, "{complaint}");
    assert!(
        complaint.contains("an empty list asks for nothing"),
        "{complaint}"
    );

    // Elsewhere applications have names.
    let folder = folder();
    let named = "version: 1\nlisten: { client: 127.0.0.1:0 }\nissuers: [{ issuer: https://a.example, audiences: [nats] }]\n\
                 upstreams: { a: { servers: [\"nats://127.0.0.1:4333\"] } }\nroles:\n  r: { bind: [{ app_id: historian }], require: \
                 { clients: historian }, upstream: a, publish: [x] }\n";
    fs::write(folder.path().join("natsentry.yaml"), named).unwrap();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    // What works, and is met by nobody.
    let text = "version: 1\nlisten: { client: 127.0.0.1:0 }\nentra: { tenants: [11111111-2222-3333-4444-555555555555], audiences: \
                [11111111-2222-3333-4444-555555555556] }\nupstreams: { a: { servers: [\"nats://127.0.0.1:4333\"] } }\nroles:\n  r:\n    \
                bind: [{ user: alice@contoso.com }, { app_role: X, tenant: 22222222-2222-3333-4444-555555555555 }]\n    \
                require: { kind: app, acct: 0, max_token_age: 5m }\n    upstream: a\n    publish: [x]\n";
    fs::write(folder.path().join("natsentry.yaml"), text).unwrap();
    let shown = stdout(&natsentry(
        folder.path(),
        &["check", "-c", "natsentry.yaml"],
    ));
    for told in [
        "7:20: warning: roles.r.bind[0].user: this is no object id",
        "7:64: warning: roles.r.bind[1].tenant: no tokens of this tenant are accepted",
        "8:33: warning: roles.r.require.acct: no token of an application has it",
        "8:51: warning: roles.r.require.max_token_age: Entra writes an issue time",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
}

#[test]
fn an_environment_that_is_not_whole_is_told_before_the_start() {
    let text = |credential: &str| {
        format!(
            "version: 1\nlisten: {{ client: 127.0.0.1:0 }}\nentra:\n  tenants: [7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11]\n  \
             audiences: [7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e12]\n  graph: {{ credential: {credential} }}\n\
             upstreams: {{ plant: {{ servers: [\"nats://127.0.0.1:4333\"] }} }}\n\
             roles: {{ r: {{ bind: [{{ app_role: X }}], upstream: plant, publish: [x] }} }}\n"
        )
    };
    let folder = folder();
    let check = |credential: &str, variables: &[(&str, &str)]| {
        fs::write(folder.path().join("natsentry.yaml"), text(credential)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_natsentry"));
        command
            .args(["check", "-c", "natsentry.yaml"])
            .current_dir(folder.path())
            .envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let endpoint = (
        "IDENTITY_ENDPOINT",
        "http://127.0.0.1:40342/metadata/identity/oauth2/token",
    );
    let user_assigned = "{ managed_identity: { client_id: 7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e13 } }";
    for (credential, variables, told) in [
        ("managed-identity", &[][..], None),
        (
            "managed-identity",
            &[endpoint, ("IDENTITY_HEADER", "x")],
            None,
        ),
        (
            "managed-identity",
            &[endpoint],
            Some("6:24: entra.graph.credential: IDENTITY_ENDPOINT is set without IDENTITY_HEADER"),
        ),
        (
            "managed-identity",
            &[
                ("IDENTITY_ENDPOINT", "http://10.0.0.1/x"),
                ("IDENTITY_HEADER", "x"),
            ],
            Some("IDENTITY_ENDPOINT is no address of this host"),
        ),
        (
            user_assigned,
            &[endpoint, ("IMDS_ENDPOINT", "http://127.0.0.1:40342")],
            Some("6:44: entra.graph.credential.managed_identity: machines of Azure Arc have"),
        ),
        (
            "managed-identity",
            &[("MSI_ENDPOINT", "http://127.0.0.1:1")],
            Some("Cloud Shell and Azure ML are not supported"),
        ),
    ] {
        let (code, complaint) = check(credential, variables);
        let wanted = if told.is_some() { 1 } else { 0 };
        assert_eq!(code, Some(wanted), "{variables:?}: {complaint}");
        assert!(
            complaint.contains(told.unwrap_or_default()),
            "{variables:?}: {complaint}"
        );
    }
}

#[test]
fn a_workload_identity_by_its_variables_is_complete() {
    let text = "version: 1\nlisten: { client: 127.0.0.1:4222 }\nentra:\n  tenants: [7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11]\n  \
                audiences: [api://nats-prod]\n  graph: { credential: workload-identity }\nupstreams: { plant: { servers: \
                [nats://127.0.0.1:4223] } }\nroles: { r: { bind: [{ app_role: R }], upstream: plant, publish: [a] } }\n";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("natsentry.yaml"), text).unwrap();
    let check = |variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_natsentry"))
            .args(["check", "-c", "natsentry.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    let variables = [
        ("AZURE_TENANT_ID", "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11"),
        ("AZURE_CLIENT_ID", "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10"),
        ("AZURE_FEDERATED_TOKEN_FILE", "token"),
    ];
    let (code, said) = check(&variables);
    assert_eq!(code, Some(0), "{said}");
    for left_out in 0..variables.len() {
        let mut some = variables.to_vec();
        let (name, _) = some.remove(left_out);
        let (code, said) = check(&some);
        assert_eq!(code, Some(1), "{said}");
        let place = "natsentry.yaml:6:24: entra.graph.credential: the workload identity lacks";
        assert!(said.contains(place) && said.contains(name), "{said}");
    }
}

#[test]
fn a_test_that_does_not_hold_is_a_mistake_at_its_line() {
    let text = EXAMPLE.replace(
        "      - pub telemetry.shared.admin\n",
        "      - pub telemetry.shared.temp\n",
    );
    let line = text
        .lines()
        .position(|line| line.contains("- pub telemetry.shared.temp"))
        .unwrap()
        + 1;
    let (places, complaint) = mistakes(&text);
    assert_eq!(
        places,
        [format!("{line}:9 tests[0].deny[1]")],
        "{complaint}"
    );
    assert!(
        complaint.contains("roles.telemetry-writer.publish[1]"),
        "{complaint}"
    );
}

#[test]
fn what_only_follows_from_another_mistake_is_not_reported() {
    // The role of the tests is gone with its bind; the upstream keeps its name though its servers are wrong.
    let text = EXAMPLE
        .replace(
            "    bind:                         # any one line",
            "    bind: 3 #",
        )
        .replace(
            "    servers: [nats://10.0.0.11:4222, tls://10.0.0.12:4222]",
            "    servers: 5",
        );
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("      - { app_") && !line.starts_with("      - { group"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (places, complaint) = mistakes(&text);
    assert_eq!(places.len(), 2, "{complaint}");

    // Words where lists are meant, or other words: that nobody is left follows from it.
    let tenant = "11111111-2222-3333-4444-555555555555";
    let good = format!("tenants: [{tenant}], audiences: [{tenant}]");
    for (section, mistaken) in [
        (
            format!("entra: {{ tenants: {tenant}, audiences: api://x, accept: user }}"),
            3,
        ),
        (format!("entra: {{ {good}, accept: [People] }}"), 1),
        (format!("entra: {{ {good}, cloud: {{}} }}"), 1),
        (
            "issuers: [{ issuer: https://a.example, audiences: x, accept: [People] }]".into(),
            2,
        ),
    ] {
        let (places, complaint) = mistakes(&format!(
            "version: 1\nlisten: {{ client: 127.0.0.1:0 }}\n{section}\n\
             upstreams: {{ a: {{ servers: [\"nats://127.0.0.1:4333\"] }} }}\nroles: {{}}\n"
        ));
        assert_eq!(places.len(), mistaken, "{complaint}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused_in_one_sentence() {
    for (text, sentence) in [
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("", "`version` is missing"),
        ("- 1\n", "expected a mapping"),
        ("version: 1\n---\nversion: 1\n", "a second document"),
        (&"[".repeat(100), "nested deeper than 32"),
    ] {
        let (_, complaint) = mistakes(text);
        assert!(complaint.contains(sentence), "{sentence} in {complaint}");
    }
    let folder = folder();
    fs::write(
        folder.path().join("natsentry.yaml"),
        b"version: 1\n# \xff\n",
    )
    .unwrap();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert!(
        stderr(&output).contains("not UTF-8 text on line 2"),
        "{}",
        stderr(&output)
    );
    fs::write(
        folder.path().join("natsentry.yaml"),
        vec![b'#'; (4 << 20) + 1],
    )
    .unwrap();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert!(
        stderr(&output).contains("larger than 4 MiB"),
        "{}",
        stderr(&output)
    );
    let output = natsentry(folder.path(), &["check", "-c", "absent.yaml"]);
    assert!(stderr(&output).contains("absent.yaml:1:1: cannot read the file: no such file"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_works_and_is_probably_not_meant_is_a_warning() {
    let folder = folder();
    let text = "version: 1\nlisten: { client: 0.0.0.0:4222 }\nissuers:\n  - { issuer: https://a.example.com, \
                audiences: [nats], roles_claim: realm_access.roles }\nentra: { tenants: [9188040d-6c67-4c5b-b112-36a304b66dad], \
                audiences: [11111111-2222-3333-4444-555555555555] }\nupstreams: { a: { servers: [nats://127.0.0.1:4333] } }\n";
    fs::write(folder.path().join("natsentry.yaml"), text).unwrap();
    let output = natsentry(folder.path(), &["check", "-c", "natsentry.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(
        shown.contains("natsentry.yaml:2:19: warning: listen.client: without TLS"),
        "{shown}"
    );
    for told in [
        "4:70: warning: issuers[0].roles_claim: this is the name of one claim; if roles are below another, write \
         [realm_access, roles]",
        "5:20: warning: entra.tenants[0]: this is the tenant of personal Microsoft accounts",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    assert!(shown.contains("there are no `roles`"), "{shown}");
    assert!(shown.contains("there is no `audit`"), "{shown}");
}

#[test]
fn wrong_usage_ends_with_2_and_the_rest_of_the_commands_answer() {
    let folder = folder();
    for wrong in [
        &["check"][..],
        &["no-such-command"],
        &["check", "-c", "a", "--nonsense"],
        &[],
    ] {
        let output = natsentry(folder.path(), wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let schema = natsentry(folder.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&stdout(&schema)).unwrap();
    assert_eq!(schema["title"], "natsentry configuration");
    let version = natsentry(folder.path(), &["version", "-o", "json"]);
    let version: serde_json::Value = serde_json::from_str(&stdout(&version)).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["config_version"], 1);
}

/// Asks about the writer of the example.
fn explain(more: &[&str]) -> (Option<i32>, String) {
    let folder = folder();
    let who = "oid=aaaaaaaa-0000-4000-8000-000000000001,app_roles=Nats.Telemetry.Write,source=10.1.1.1,at=2026-12-01";
    let mut arguments = vec!["explain", "-c", "natsentry.yaml", "--as", who];
    arguments.extend(more);
    let output = natsentry(folder.path(), &arguments);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

fn line_of(text: &str) -> usize {
    EXAMPLE
        .lines()
        .position(|line| line.contains(text))
        .unwrap()
        + 1
}

/// Asks, and demands the exit code and parts of the answer.
fn answers(question: &[&str], code: i32, parts: &[&str]) {
    let (status, shown) = explain(question);
    assert_eq!(status, Some(code), "{question:?} {shown}");
    for part in parts {
        assert!(shown.contains(part), "{question:?}: {part} in {shown}");
    }
}

#[test]
fn explain_names_the_line_that_decides() {
    let publish = format!(
        "natsentry.yaml:{}\n",
        line_of("publish: [\"telemetry.{oid}.>\"")
    );
    let deny = format!(
        "natsentry.yaml:{}\n",
        line_of("publish: [\"telemetry.shared.admin\"]")
    );
    let own = "cmd.aaaaaaaa-0000-4000-8000-000000000001.>";
    let inbox = "_INBOX.abcdefghijklmnopqrstuv.*";
    answers(
        &["--publish", "telemetry.shared.x"],
        0,
        &["allowed: publish", "publish[1]", &publish],
    );
    answers(
        &["--publish", "telemetry.shared.admin"],
        1,
        &["denied: publish", "deny.publish[0]", &deny],
    );
    answers(
        &["--subscribe", own],
        0,
        &["allowed: subscribe", "subscribe[0]"],
    );
    answers(
        &["--subscribe", "jobs.a", "--queue", "hist-1"],
        0,
        &["allowed: subscribe jobs.a queue hist-1"],
    );
    answers(
        &["--subscribe", "jobs.a"],
        1,
        &["denied: subscribe jobs.a\n"],
    );
    answers(&["--subscribe", inbox], 0, &["inbox of the session's own"]);
    answers(&[], 0, &["allowed: connect", "telemetry-writer", "plant-a"]);
}

#[test]
fn explain_says_why_nothing_is_granted() {
    let shared = ["--publish", "telemetry.shared.x"];
    answers(
        &["--publish", "other"],
        1,
        &[
            "denied: publish other",
            "not_granted",
            "no role of this identity (telemetry-writer)",
        ],
    );
    answers(
        &[&shared[..], &["--source", "192.0.2.1"]].concat(),
        1,
        &["refused: publish", "authz.condition"],
    );
    answers(
        &[&shared[..], &["--at", "2028-01-01"]].concat(),
        1,
        &["refused: publish", "authz.window"],
    );
}

#[test]
fn explain_says_what_is_wrong_with_the_question() {
    let folder = folder();
    let output = natsentry(
        folder.path(),
        &[
            "explain",
            "-c",
            "natsentry.yaml",
            "--as",
            "app_role=x",
            "--publish",
            "a",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("did you mean `app_roles`?"),
        "{}",
        stderr(&output)
    );
    let output = natsentry(
        folder.path(),
        &["explain", "-c", "natsentry.yaml", "--publish", "a"],
    );
    assert_eq!(output.status.code(), Some(2));
    let output = natsentry(
        folder.path(),
        &[
            "explain",
            "-c",
            "natsentry.yaml",
            "--as",
            "oid=x",
            "--publish",
            "a",
            "--queue",
            "q",
        ],
    );
    assert_eq!(output.status.code(), Some(2));
}
