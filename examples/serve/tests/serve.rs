//! The program, under curl, wrk, h2load and slowhttptest.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use testbed::{Fault, Proxy, Server};

fn server(slots: usize, patience: u64) -> Server {
    Server::start(|_, port| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
        command.args(["--address", &SocketAddr::from(([127, 0, 0, 1], port)).to_string()]);
        command.args(["--slots", &slots.to_string(), "--patience", &patience.to_string()]);
        command
    })
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// So many requests, each on a connection of its own: how many were answered.
fn curls(server: &Server, count: usize) -> usize {
    let url = format!("http://{}/?[1-{count}]", server.address());
    let arguments = ["--silent", "--parallel", "--parallel-max", "50", "--output", "/dev/null"];
    let more = ["--header", "connection: close", "--write-out", "%{http_code}\n", "--no-keepalive"];
    let output = run("curl", &[&arguments[..], &more, &[&url]].concat());
    text(&output).lines().filter(|line| *line == "200").count()
}

#[test]
fn http1_http2_and_an_echo() {
    let server = server(64, 10);
    let url = |path| format!("http://{}/{path}", server.address());
    assert_eq!(text(&run("curl", &["-s", &url("")])), "hello\n");
    assert_eq!(text(&run("curl", &["-s", "-d", "hi", &url("echo")])), "hi");
    assert_eq!(text(&run("curl", &["-s", &url("nap/5")])), "slept\n");
    let second = ["-s", "--http2-prior-knowledge", "-w", "%{http_version}", &url("")];
    assert_eq!(text(&run("curl", &second)), "hello\n2");
}

#[test]
fn under_load_every_request_is_answered() {
    let server = server(64, 10);
    let url = format!("http://{}/", server.address());
    let h2load = text(&run("h2load", &["-n", "5000", "-c", "10", "-m", "5", &url]));
    assert!(h2load.contains("5000 succeeded, 0 failed"), "{h2load}");
    let h1load = text(&run("h2load", &["--h1", "-n", "5000", "-c", "10", &url]));
    assert!(h1load.contains("5000 succeeded, 0 failed"), "{h1load}");
    let wrk = text(&run("wrk", &["-c", "30", "-t", "1", "-d", "1", &url]));
    assert!(wrk.contains("requests in") && !wrk.contains("Socket errors"), "{wrk}");
    assert!(!wrk.contains("Non-2xx"), "{wrk}");
}

/// With more clients than slots: they wait in the queue.
#[test]
fn connections_are_bounded_by_the_slots() {
    let server = server(4, 10);
    assert_eq!(curls(&server, 300), 300);
}

fn slow_clients(server: &Server, seconds: &str) -> std::process::Child {
    let url = format!("http://{}/", server.address());
    let mut command = Command::new("slowhttptest");
    command.args(["-H", "-c", "1000", "-r", "1000", "-i", "30", "-p", "30", "-l", seconds]);
    let command = command.args(["-u", &url]).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("slowhttptest is installed")
}

#[test]
fn a_thousand_are_served_while_a_thousand_are_slow() {
    let server = server(4_096, 30);
    let slow = slow_clients(&server, "4");
    sleep(Duration::from_millis(1_500));
    assert_eq!(curls(&server, 1_000), 1_000);
    let slow = text(&slow.wait_with_output().unwrap());
    assert!(slow.contains("connected:"), "{slow}");
}

#[test]
fn the_slow_are_sent_away() {
    let server = server(4_096, 1);
    let start = Instant::now();
    let slow = text(&slow_clients(&server, "60").wait_with_output().unwrap());
    assert!(slow.contains("No open connections left"), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(50));
    // And the silent, and the garbage.
    let proxy = Proxy::start(server.address());
    proxy.set(Some(Fault::Delay(Duration::from_millis(1))));
    let silent = std::net::TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(std::io::Read::read(&mut &silent, &mut [0; 1]).unwrap(), 0);
    let mut rude = std::net::TcpStream::connect(server.address()).unwrap();
    std::io::Write::write_all(&mut rude, &[0xff; 500]).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut rude, &mut answer);
    assert_eq!(curls(&server, 10), 10);
}

#[test]
fn on_sigterm_requests_that_have_begun_are_answered() {
    let server = server(64, 10);
    let url = format!("http://{}/nap/500", server.address());
    let asking = Command::new("curl").args(["-s", &url]).stdout(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(200));
    let status = server.end();
    assert_eq!(text(&asking.wait_with_output().unwrap()), "slept\n");
    assert!(status.success(), "{status}");
}
