//! The examples as processes whose output nobody takes: a full disk, a pipe that was closed. A
//! server keeps serving; a tool ends with an error and says why, where that is heard.
#![cfg(target_os = "linux")]

#[path = "support/example.rs"]
mod example;

use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// Longer than any answer takes, so that a failure is not a test that hangs.
const LONG: Duration = Duration::from_secs(10);

/// Where each write fails: with ENOSPC, and with EPIPE.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn closed() -> Stdio {
    let (writer, _) = UnixStream::pair().unwrap();
    OwnedFd::from(writer).into()
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_tool_that_cannot_print_ends_with_an_error() {
    let vacant = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{vacant}/");
    for (name, arguments) in
        [("hello", &[] as &[&str]), ("fetch", &[url.as_str()]), ("fetch", &["--help"])]
    {
        let mut command = Command::new(example::example(name));
        let (code, stderr) = ended(command.args(arguments).stdout(full()));
        assert!(matches!(code, Some(1 | 2)), "{name}: {code:?} {stderr}");
        assert!(stderr.contains("No space left"), "{name}: {stderr}");
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
        // Then there is nobody to tell, but the status still tells.
        for stderr in [full(), closed()] {
            let mut command = Command::new(example::example(name));
            let (code, _) = ended(command.args(arguments).stdout(full()).stderr(stderr));
            assert!(matches!(code, Some(1 | 2)), "{name}: {code:?}");
        }
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
    /// Bound, but not listening: so nobody else is given the port.
    _held: Socket,
}

impl Server {
    /// With 12 descriptors: three for the streams, three for the runtime and its listener, so that
    /// it can hold six connections.
    fn start(stdout: Stdio, stderr: Stdio) -> Self {
        // Nobody hears the address, so it is chosen here, and held.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        let process = Command::new("sh")
            .args(["-c", "ulimit -n 12; exec \"$@\"", "sh"])
            .arg(example::example("echo"))
            .arg(address.to_string())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { process, address, _held: held }
    }

    fn connect(&mut self) -> TcpStream {
        for _ in 0..LONG.as_millis() {
            if let Ok(client) = TcpStream::connect(self.address) {
                client.set_read_timeout(Some(LONG)).unwrap();
                return client;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "the server has ended");
            thread::sleep(Duration::from_millis(1));
        }
        panic!("nobody listens");
    }

    /// Twenty at a time, of which it can serve six.
    fn serve_connections(&mut self, count: usize) {
        for _ in 0..count / 20 {
            let clients: Vec<_> = (0..20).map(|_| self.connect()).collect();
            for mut client in &clients {
                client.write_all(b"word").unwrap();
            }
            for mut client in clients {
                let mut word = [0; 4];
                client.read_exact(&mut word).unwrap();
                assert_eq!(&word, b"word");
            }
        }
        assert_eq!(self.process.try_wait().unwrap(), None, "the server has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_server_out_of_descriptors_serves_though_nobody_hears_it() {
    for (stdout, stderr) in [(full(), full()), (closed(), closed()), (full(), closed())] {
        Server::start(stdout, stderr).serve_connections(100);
    }
}

#[test]
fn a_server_out_of_descriptors_serves_a_thousand_and_says_so_now_and_then() {
    let mut server = Server::start(Stdio::null(), Stdio::piped());
    server.serve_connections(1_000);
    let mut stderr = server.process.stderr.take().unwrap();
    drop(server);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("Too many open files"), "{said}");
    assert!(said.lines().count() < 1_000, "{said}");
}
