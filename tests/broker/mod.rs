//! A real mosquitto on a port of its own, and mosquitto's own programs as independent clients.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

pub(crate) mod device;
pub(crate) mod schema;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes longer, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of a client for which the broker keeps what it misses.
pub(crate) const KEPT: &[&str] = &["-c", "-x", "3600"];

/// Debian keeps the broker where only root looks.
fn mosquitto() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
        .expect("mosquitto is installed: `tools/setup.sh test` sees to that")
}

/// What the broker asks of its clients.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Guard {
    Open,
    /// The user `door` with the password `s3cret`.
    Password,
    /// Encryption; `true` asks for client certificates too.
    Tls(bool),
}

/// One broker; ended when dropped.
pub(crate) struct Broker {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    guard: Guard,
    child: Option<Child>,
    /// Clients whose subscription the running broker has answered.
    subscribed: Option<Receiver<String>>,
}

impl Broker {
    /// Starts one.
    pub(crate) fn new(guard: Guard) -> Self {
        let mut broker = Self::stopped(guard);
        broker.start();
        broker
    }

    /// One that is not running yet.
    pub(crate) fn stopped(guard: Guard) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let broker = Self { folder, port, guard, child: None, subscribed: None };
        match guard {
            Guard::Open => {}
            Guard::Password => run(Command::new("mosquitto_passwd").args(["-b", "-c"]).args([
                broker.path("passwords").as_path(),
                Path::new("door"),
                Path::new("s3cret"),
            ])),
            Guard::Tls(_) => broker.make_certificates(),
        }
        broker
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets access rules, before the broker is started; a running broker has to be told to read them.
    pub(crate) fn permit(&self, rules: &str) {
        std::fs::write(self.path("acl"), format!("{rules}\nuser door\n{rules}\n")).unwrap();
    }

    pub(crate) fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut settings = format!(
            "listener {} 127.0.0.1\nlog_dest stderr\nlog_type all\nmax_queued_messages 0\n\
             persistence true\npersistence_location {}/\nallow_anonymous {}\n",
            self.port,
            self.folder.path().display(),
            self.guard != Guard::Password,
        );
        // With rules, mosquitto 2.0.11 keeps nothing for clients it knows from its disk only.
        if self.path("acl").exists() {
            writeln!(settings, "acl_file {}", self.path("acl").display()).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            settings.push_str("user root\n");
        }
        match self.guard {
            Guard::Open => {}
            Guard::Password => {
                writeln!(settings, "password_file {}", self.path("passwords").display()).unwrap();
            }
            Guard::Tls(clients) => {
                for (key, file) in
                    [("cafile", "ca.pem"), ("certfile", "broker.pem"), ("keyfile", "broker.key")]
                {
                    writeln!(settings, "{key} {}", self.path(file).display()).unwrap();
                }
                writeln!(settings, "require_certificate {clients}").unwrap();
            }
        }
        std::fs::write(self.path("mosquitto.conf"), settings).unwrap();
        let mut child = Command::new(mosquitto())
            .args(["-c", self.path("mosquitto.conf").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, running) = channel();
        let (subscribed_in, subscribed) = channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // Nobody may be waiting for either.
                if line.ends_with(" running") {
                    let _ = sender.send(());
                } else if let Some((_, client)) = line.split_once("Sending SUBACK to ") {
                    let _ = subscribed_in.send(client.to_owned());
                }
            }
        });
        running.recv_timeout(PATIENCE).expect("mosquitto has started");
        (self.child, self.subscribed) = (Some(child), Some(subscribed));
    }

    /// Ends it in order, so that it keeps what it knows on the disk.
    pub(crate) fn stop(&mut self) {
        // One that has just started forgets a signal that comes between its handlers and its main loop.
        for _ in 0..20 {
            self.signal(rustix::process::Signal::TERM);
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                    self.child = None;
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("mosquitto does not end");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// How mosquitto's own programs reach it.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-V", "mqttv5"]);
        match self.guard {
            Guard::Open => {}
            Guard::Password => drop(command.args(["-u", "door", "-P", "s3cret"])),
            Guard::Tls(clients) => {
                command.arg("--cafile").arg(self.path("ca.pem"));
                if clients {
                    command.arg("--cert").arg(self.path("client.pem"));
                    command.arg("--key").arg(self.path("client.key"));
                }
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Listens to everything, from now on and what is retained.
    pub(crate) fn listen(&self) -> Subscriber {
        self.listen_as("listener", &[])
    }

    /// Has the broker keep everything for a client of this name until it comes back.
    pub(crate) fn keep_for(&self, name: &str) {
        let mut command = self.client("mosquitto_sub");
        run(command.args(["-i", name, "-t", "#", "-q", "1", "-E"]).args(KEPT));
    }

    /// Under a name, and with further arguments for mosquitto_sub.
    pub(crate) fn listen_as(&self, name: &str, arguments: &[&str]) -> Subscriber {
        let mut command = self.client("mosquitto_sub");
        command.args(["-i", name, "-t", "#", "-q", "1", "-F", "%j", "--retain-as-published"]).args(arguments);
        let subscriber = Subscriber::start(command);
        let subscribed = self.subscribed.as_ref().expect("the broker runs");
        while subscribed.recv_timeout(PATIENCE).expect("mosquitto_sub has subscribed") != name {}
        subscriber
    }

    /// Publishes one message; `arguments` are those of mosquitto_pub.
    pub(crate) fn publish(&self, topic: &str, payload: &str, arguments: &[&str]) {
        let mut command = self.client("mosquitto_pub");
        run(command.args(["-t", topic, "-m", payload, "-q", "1"]).args(arguments));
    }

    /// An authority, a certificate of the broker signed by it, another of a client, and an authority
    /// that has signed nothing.
    fn make_certificates(&self) {
        for (name, subject) in [("ca", "/CN=test authority"), ("other", "/CN=another authority")] {
            let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
            openssl(&["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .run(&["-days", "2", "-subj", subject], &[("-keyout", &key), ("-out", &certificate)]);
        }
        for (name, extension) in [
            ("broker", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
            ("client", "extendedKeyUsage=clientAuth\n"),
        ] {
            let [key, request, certificate, extensions] =
                ["key", "csr", "pem", "ext"].map(|ending| self.path(&format!("{name}.{ending}")));
            std::fs::write(&extensions, extension).unwrap();
            openssl(&["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .run(&["-subj", &format!("/CN={name}")], &[("-keyout", &key), ("-out", &request)]);
            let (ca, ca_key) = (self.path("ca.pem"), self.path("ca.key"));
            openssl(&["x509", "-req", "-CAcreateserial", "-days", "2"]).run(
                &[],
                &[
                    ("-in", &request),
                    ("-CA", &ca),
                    ("-CAkey", &ca_key),
                    ("-extfile", &extensions),
                    ("-out", &certificate),
                ],
            );
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Openssl(Command);

fn openssl(arguments: &[&str]) -> Openssl {
    let mut command = Command::new("openssl");
    command.args(arguments);
    Openssl(command)
}

impl Openssl {
    fn run(mut self, plain: &[&str], files: &[(&str, &Path)]) {
        self.0.args(plain);
        for (option, file) in files {
            self.0.arg(option).arg(file);
        }
        run(&mut self.0);
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A message as mosquitto_sub saw it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u64,
    pub(crate) retained: bool,
    pub(crate) properties: Value,
}

impl Message {
    fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap();
        Self {
            topic: value["topic"].as_str().unwrap().to_owned(),
            payload: value["payload"].as_str().unwrap_or_default().to_owned(),
            qos: value["qos"].as_u64().unwrap(),
            retained: value["retain"] == 1,
            properties: value["properties"].clone(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running mosquitto_sub.
pub(crate) struct Subscriber {
    child: Child,
    messages: Receiver<Message>,
    /// Everything seen so far.
    pub(crate) seen: Vec<Message>,
}

impl Subscriber {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(Message::parse(&line)).is_err() {
                    return;
                }
            }
        });
        Self { child, messages, seen: Vec::new() }
    }

    /// Waits for a message that fulfils `wanted`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.wait_within(PATIENCE, what, wanted)
    }

    #[track_caller]
    pub(crate) fn wait_within(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Message {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = self.messages.recv_timeout(left) else {
                let last = self.seen.iter().rev().take(20).collect::<Vec<_>>();
                panic!(
                    "no {what} within {patience:?}; seen {} messages, the last: {last:#?}",
                    self.seen.len()
                );
            };
            self.seen.push(message.clone());
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The next message on a topic.
    #[track_caller]
    pub(crate) fn on(&mut self, topic: &str) -> Message {
        self.wait_for(topic, |message| message.topic == topic)
    }

    /// What has been seen on a topic so far.
    pub(crate) fn seen_on(&self, topic: &str) -> Vec<&Message> {
        self.seen.iter().filter(|message| message.topic == topic).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
