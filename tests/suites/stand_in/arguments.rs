//! The arguments of nats-server that are not for the real one: where to listen, where to log, what to write for whoever
//! started it. Everything else is handed on as it is.
//!
//! Source: nats-server `opts.go:ConfigureOptions`; Go's `flag` takes `-x v`, `--x v`, `-x=v` and `--x=v`.

use std::path::PathBuf;

use super::nats_config::Taken;

/// What was asked for.
#[derive(Debug, Default)]
pub struct Arguments {
    /// What is said on the command line.
    pub said: Taken,
    /// `-c`.
    pub config: Option<PathBuf>,
    /// For the real server, in order.
    pub rest: Vec<String>,
    /// `--version`, `--help`, `--signal`: the real server answers, and nothing is started.
    pub answered_by_the_server: bool,
}

/// Reads them.
pub fn read(words: &[String]) -> Arguments {
    let mut read = Arguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            read.rest.push(word.clone());
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let said = &mut read.said;
        if let Some(switch) = match name {
            "tls" => Some(&mut said.tls.on),
            "tlsverify" => Some(&mut said.tls.verify),
            _ => None,
        } {
            *switch = inline.is_none_or(|value| value == "true");
            continue;
        }
        if matches!(name, "v" | "version" | "h" | "help" | "sl" | "signal" | "t") {
            read.answered_by_the_server = true;
            return read;
        }
        let place = match name {
            "p" | "port" => &mut said.port,
            "a" | "addr" | "net" => &mut said.host,
            "P" | "pid" => &mut said.pid_file,
            "l" | "log" => &mut said.log_file,
            "ports_file_dir" => &mut said.ports_file_dir,
            "tlscert" => &mut said.tls.cert,
            "tlskey" => &mut said.tls.key,
            "tlscacert" => &mut said.tls.ca,
            "c" | "config" => {
                read.config = inline.or_else(|| words.next().cloned()).map(PathBuf::from);
                continue;
            }
            _ => {
                read.rest.push(word.clone());
                continue;
            }
        };
        *place = inline.or_else(|| words.next().cloned());
    }
    read
}
