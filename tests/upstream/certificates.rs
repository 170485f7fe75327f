//! Certificates for servers and for ourselves, as files for nats-server and as PEM for us.

use std::path::Path;

use natsentry::tls::{ClientIdentity, Pem, client_config};
use natsentry::upstream::{TlsDial, TlsFirst};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// A CA, a server certificate for `localhost` and 127.0.0.1, a client certificate.
pub struct Certificates {
    dir: tempfile::TempDir,
    ca: Pem,
    client: (Pem, Pem),
}

impl Certificates {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = leaf(&issuer, &["localhost", "127.0.0.1"]);
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", &issuer.pem());
        write("server.pem", &cert);
        write("server.key", &key);
        let (cert, key) = leaf(&issuer, &["natsentry.example"]);
        let client = (
            Pem::new("file:client.pem", cert),
            Pem::new("file:client.key", key),
        );
        Self {
            dir,
            ca: Pem::new("file:ca.pem", issuer.pem()),
            client,
        }
    }

    /// A `tls` block for nats-server with more settings in it.
    pub fn server(&self, more: &str) -> String {
        let path = |name: &str| shown(&self.dir.path().join(name));
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", {more} }}\n",
            path("server.pem"),
            path("server.key"),
            path("ca.pem")
        )
    }

    /// Our side, without a certificate of our own.
    pub fn dial(&self, first: TlsFirst) -> TlsDial {
        let config = client_config(Some(&self.ca), None).unwrap();
        TlsDial {
            config,
            server_name: None,
            first,
        }
    }

    /// Our side with a certificate of our own.
    pub fn mutual(&self, first: TlsFirst) -> TlsDial {
        let (cert, key) = &self.client;
        let config = client_config(Some(&self.ca), Some(ClientIdentity { cert, key })).unwrap();
        TlsDial {
            config,
            server_name: None,
            first,
        }
    }
}

fn leaf(issuer: &CertifiedIssuer<'_, KeyPair>, names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    (
        params.signed_by(&key, issuer).unwrap().pem(),
        key.serialize_pem(),
    )
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
