//! The `echo` example as a process: full means that connections wait outside.

#[path = "support/example.rs"]
mod example;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than any answer takes, so that a failure is not a test that hangs.
const LONG: Duration = Duration::from_secs(10);

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(slots: &str) -> Self {
        let mut process = Command::new(example::example("echo"))
            .args(["127.0.0.1:0", "--slots", slots])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        client
    }

    /// How many sockets the process holds.
    #[cfg(target_os = "linux")]
    fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        files
            .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[track_caller]
fn assert_echo(mut client: &TcpStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
    assert_read(client, text);
}

#[track_caller]
fn assert_read(mut client: &TcpStream, text: &str) {
    let mut buffer = vec![0; text.len()];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, text.as_bytes());
}

#[test]
fn a_full_ring_leaves_connections_in_the_queue() {
    let server = Server::start("2");
    let (first, second) = (server.connect(), server.connect());
    assert_echo(&first, "first");
    assert_echo(&second, "second");

    // The kernel accepts the third and keeps what it sends; nobody answers.
    let mut third = server.connect();
    third.write_all(b"third").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = loop {
        // A machine that is paused and resumed interrupts reads that have a time-out.
        match third.read(&mut [0; 16]).unwrap_err() {
            interrupted if interrupted.kind() == ErrorKind::Interrupted => {}
            error => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    #[cfg(target_os = "linux")]
    assert_eq!(server.sockets(), 3, "the listener, and the two that it serves");
    assert_echo(&first, "first again");
    assert_echo(&second, "second again");

    drop(second);
    third.set_read_timeout(Some(LONG)).unwrap();
    assert_read(&third, "third");
    assert_echo(&first, "first to the end");
}

#[test]
fn a_reset_is_logged_and_frees_its_slot() {
    let mut server = Server::start("1");
    let rude = server.connect();
    (&rude).write_all(b"unread").unwrap();
    // Once the echo is there, closing without reading it is a reset.
    rude.peek(&mut [0]).unwrap();
    let address = rude.local_addr().unwrap();
    drop(rude);

    let mut line = String::new();
    BufReader::new(server.process.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with(&format!("{address}: ")), "{line}");
    assert_echo(&server.connect(), "next");
}

#[test]
fn nonsense_is_refused() {
    for arguments in [&["--slots", "many"][..], &["nowhere"], &["--bogus"]] {
        let output = Command::new(example::example("echo")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
