//! The real nats-server as a child: started, its log lines handed on with our address in them, signals passed to it, and
//! never left behind.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;

use natsentry::demo::provision::{Keeper, TempDir, command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// In the log line that says where the server listens.
const LISTENING: &str = "Listening for client connections on ";

/// The signal that has the configuration read again.
const HUP: &str = "HUP";

/// The child.
pub struct Real {
    child: Child,
    keeper: Keeper,
    pub folder: TempDir,
}

/// What the reader of its log says, and waits for.
pub struct Log {
    /// Where it listens. Never sent when it ends before that.
    pub listening: oneshot::Receiver<SocketAddr>,
    /// Where we listen: the lines from there on wait for it.
    pub ours: Sender<String>,
    /// The log is over: so is the process.
    pub over: oneshot::Receiver<()>,
}

impl Real {
    /// Starts `binary` with `arguments`; `folder` is removed in the end. Its log goes to `log_file`, or to our stderr.
    pub fn start(
        binary: &Path,
        arguments: &[String],
        folder: TempDir,
        log_file: Option<&str>,
    ) -> io::Result<(Self, Log)> {
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::piped())
            .spawn()?;
        let keeper = Keeper::over(child.id(), folder.path());
        let stderr = child.stderr.take().expect("piped");
        let sink: Box<dyn Write + Send> = match log_file {
            Some(file) => Box::new(File::options().create(true).append(true).open(file)?),
            None => Box::new(io::stderr()),
        };
        let (told, listening) = oneshot::channel();
        let (ours, ready) = channel();
        let (ended, over) = oneshot::channel();
        thread::spawn(move || {
            hand_on(stderr, sink, told, &ready);
            ended.send(()).ok();
        });
        Ok((
            Self {
                child,
                keeper,
                folder,
            },
            Log {
                listening,
                ours,
                over,
            },
        ))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Passes a signal on, by its name without `SIG`.
    fn signal(&self, name: &str) {
        let mut kill = command("kill");
        kill.args(["-s", name, &self.pid().to_string()]);
        kill.status().ok();
    }

    /// Passes every signal on, until its log is over. `reload` comes before a HUP is passed on.
    pub async fn until_over(
        &self,
        mut signals: Signals,
        over: oneshot::Receiver<()>,
        reload: impl Fn(),
    ) {
        tokio::pin!(over);
        loop {
            let name = tokio::select! {
                _ = &mut over => return,
                name = signals.next() => name,
            };
            if name == HUP {
                reload();
            }
            self.signal(name);
        }
    }

    /// Ends it if it has not ended, and says how it ended.
    pub fn end(mut self, kill: bool) -> ExitCode {
        // Before the process is reaped: its id may belong to somebody else then.
        self.keeper.dismiss();
        if kill {
            self.child.kill().ok();
        }
        let status = self.child.wait();
        status.map_or(ExitCode::FAILURE, code_of)
    }
}

/// The signals that nats-server knows, from `listen` on. It has to come before anybody can reach us: who has been served
/// may send one at once, which would be lost, or the end of this process alone.
pub struct Signals(Vec<(Signal, &'static str)>);

impl Signals {
    const KNOWN: [(SignalKind, &'static str); 6] = [
        (SignalKind::hangup(), HUP),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::quit(), "QUIT"),
    ];

    pub fn listen() -> io::Result<Self> {
        let all = Self::KNOWN.into_iter();
        all.map(|(kind, name)| Ok((signal(kind)?, name)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The name of the next one, without `SIG`.
    async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            let mut all = self.0.iter_mut();
            let come = all
                .find_map(|(signal, name)| signal.poll_recv(context).is_ready().then_some(*name));
            come.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn hand_on(
    log: ChildStderr,
    mut sink: Box<dyn Write + Send>,
    told: oneshot::Sender<SocketAddr>,
    ready: &Receiver<String>,
) {
    let mut told = Some(told);
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let mut line = line;
        if let Some(at) = line.find(LISTENING)
            && let Some(teller) = told.take()
        {
            let begin = at + LISTENING.len();
            if let Ok(address) = line[begin..].trim().parse() {
                teller.send(address).ok();
                // An error means that we do not get as far as listening: then nobody reads on.
                if let Ok(ours) = ready.recv() {
                    line.replace_range(begin.., &ours);
                }
            }
        }
        writeln!(sink, "{line}").and_then(|()| sink.flush()).ok();
    }
}
