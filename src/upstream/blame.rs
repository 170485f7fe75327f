//! What went wrong in a dial, put into words: from the errors of the operating system, rustls and the server.

use std::io;

use super::dial::Dial;
use super::error::{DialError, Step};
use super::handshake::Fault;
use super::transport::OpenError;

impl Dial<'_> {
    pub(super) fn name(&self) -> String {
        self.server.label.to_string()
    }

    pub(super) fn unreachable(&self, error: &io::Error) -> DialError {
        let (server, detail) = (self.name(), error.to_string());
        match error.raw_os_error() {
            Some(code) if OUT_OF_RESOURCES.contains(&code) => DialError::Local { server, detail },
            _ => DialError::Unreachable { server, detail },
        }
    }

    pub(super) fn closed(&self, step: Step, error: &io::Error) -> DialError {
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed".to_owned(),
            _ => error.to_string(),
        };
        DialError::Closed {
            server: self.name(),
            step,
            detail,
        }
    }

    pub(super) fn protocol(&self, detail: impl Into<String>) -> DialError {
        DialError::Protocol {
            server: self.name(),
            detail: detail.into(),
        }
    }

    pub(super) fn tls_error(&self, detail: impl Into<String>) -> DialError {
        DialError::Tls {
            server: self.name(),
            detail: detail.into(),
        }
    }

    pub(super) fn tls_fault(&self, error: &io::Error) -> OpenError {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(_)) => OpenError::ClearText,
            Some(error) => self.tls_error(explain(error)).into(),
            None => self.closed(Step::Tls, error).into(),
        }
    }

    pub(super) fn fault(&self, step: Step, fault: Fault) -> DialError {
        match fault {
            Fault::Io(error) => {
                // TLS 1.3: a client certificate is refused after the handshake is over on our side.
                let inner = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                match inner {
                    Some(inner) => self.tls_error(explain(inner)),
                    None => self.closed(step, &error),
                }
            }
            Fault::Protocol(detail) => self.protocol(detail),
            Fault::Err(text) if is_refusal(&text) => DialError::Refused {
                server: self.name(),
                text,
            },
            Fault::Err(text) => DialError::TurnedAway {
                server: self.name(),
                text,
            },
        }
    }
}

/// The texts of nats-server that are about who we are (`auth.go`, `errors.go`).
fn is_refusal(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let ours = [
        "authorization violation",
        "authentication expired",
        "authentication revoked",
    ];
    ours.iter().any(|words| text.contains(words))
}

/// What rustls says, and what to do about the common cases.
fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let advice = match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "no authority we know signed its certificate; set `tls.ca` to the CA of that server, or to the certificate itself where it is self-signed"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is for another name; use that name in the address or set `tls.server_name`"
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; renew it on that server",
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        ) => "it may want a client certificate it trusts; set `tls.cert` and `tls.key`",
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

/// Linux: EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL. Not the server's fault.
const OUT_OF_RESOURCES: [i32; 5] = [24, 23, 105, 12, 99];
