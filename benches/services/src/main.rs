//! The same services on gondola, on tokio's current thread and on smol. Each server is a process of
//! its own, and so is its load; rounds are interleaved, and medians printed.
//!
//! `cargo run --release` (Debian's `nghttp2-client` has h2load; with `linux-perf` system calls are
//! counted as well)

mod client;
mod load;
mod serve;

use serve::Service;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

const RUNTIMES: [&str; 3] = ["gondola", "tokio", "smol"];
const ROUNDS: usize = 7;
const CONNECTIONS: usize = 10_000;

struct Row {
    name: &'static str,
    service: Service,
    /// Whether the client is measured, and not the server.
    of_client: bool,
    width: usize,
    count: usize,
}

const ROWS: [Row; 7] = [
    Row {
        name: "HTTP/1.1, 16 connections",
        service: Service::Http1,
        of_client: false,
        width: 16,
        count: 40_000,
    },
    Row {
        name: "HTTP/1.1, 256 connections",
        service: Service::Http1,
        of_client: false,
        width: 256,
        count: 40_000,
    },
    Row {
        name: "HTTP/2, 16 connections, 4 streams each",
        service: Service::Http2,
        of_client: false,
        width: 16,
        count: 40_000,
    },
    Row {
        name: "HTTP/1.1 client, 16 at a time",
        service: Service::Http1,
        of_client: true,
        width: 16,
        count: 40_000,
    },
    Row {
        name: "TLS echo, 16 connections",
        service: Service::Tls,
        of_client: false,
        width: 16,
        count: 40_000,
    },
    Row {
        name: "UDP echo, 1 client",
        service: Service::Udp,
        of_client: false,
        width: 1,
        count: 30_000,
    },
    Row {
        name: "UDP echo, 16 clients",
        service: Service::Udp,
        of_client: false,
        width: 16,
        count: 40_000,
    },
];

#[derive(Clone, Copy, Default)]
struct Figures {
    cpu_ns: f64,
    p99_us: f64,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", service, who] => {
            let service = service_of(service);
            match who {
                "gondola" => serve::on_gondola::run(service),
                "tokio" => serve::on_tokio::run(service),
                _ => serve::on_smol::run(service),
            }
        }
        ["client", who, address, count] => {
            let (address, count) = (address.parse().unwrap(), count.parse().unwrap());
            tell(match who {
                "gondola" => client::on_gondola(address, count),
                "tokio" => client::on_tokio(address, count),
                _ => client::on_smol(address, count),
            });
        }
        ["ask", service, address, count, width] => {
            let tls = service_of(service) == Service::Tls;
            let (count, width) = (count.parse().unwrap(), width.parse().unwrap());
            tell(load::ask(tls, address.parse().unwrap(), count, width));
        }
        _ => report(words.first().copied().unwrap_or("")),
    }
}

fn service_of(name: &str) -> Service {
    match name {
        "http1" => Service::Http1,
        "http2" => Service::Http2,
        "tls" => Service::Tls,
        "udp" => Service::Udp,
        _ => panic!("no such service: {name}"),
    }
}

fn name_of(service: Service) -> &'static str {
    match service {
        Service::Http1 => "http1",
        Service::Http2 => "http2",
        Service::Tls => "tls",
        Service::Udp => "udp",
    }
}

/// The 99th of a hundred, and what this process has cost: for the parent.
fn tell(latencies: Vec<u32>) {
    println!("{} {}", p99(latencies) / 1e3, cpu_ns(std::process::id()));
}

fn p99(mut latencies: Vec<u32>) -> f64 {
    latencies.sort_unstable();
    f64::from(latencies[latencies.len() * 99 / 100])
}

/// What all threads of a process have cost.
fn cpu_ns(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_thread = |path: std::path::PathBuf| -> Option<f64> {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    threads.filter_map(|thread| of_thread(thread.ok()?.path())).sum()
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(service: Service, who: &str) -> Self {
        let mut child =
            myself(&["serve", name_of(service), who]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().expect("its address") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().expect("a path"));
    command.args(arguments);
    command
}

fn output_of(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().expect("it is installed");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).expect("a text")
}

fn numbers(text: &str) -> (f64, f64) {
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number"));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn measure(row: &Row, who: &str) -> Figures {
    let count = row.count as f64;
    let server = Server::start(row.service, if row.of_client { "gondola" } else { who });
    let address = server.address.to_string();
    let (requests, width) = (row.count.to_string(), row.width.to_string());
    if row.of_client {
        let told = output_of(&mut myself(&["client", who, &address, &requests]));
        let (p99_us, cpu) = numbers(&told);
        return Figures { cpu_ns: cpu / count, p99_us };
    }
    let before = cpu_ns(server.child.id());
    let p99_us = match row.service {
        Service::Http1 | Service::Http2 => h2load(row, &server),
        _ => {
            numbers(&output_of(&mut myself(&[
                "ask",
                name_of(row.service),
                &address,
                &requests,
                &width,
            ])))
            .0
        }
    };
    Figures { cpu_ns: (cpu_ns(server.child.id()) - before) / count, p99_us }
}

fn h2load(row: &Row, server: &Server) -> f64 {
    let place = env::temp_dir().join(format!("gondola-services-{}", std::process::id()));
    fs::create_dir_all(&place).expect("a directory");
    let (body, log) = (place.join("body"), place.join("log"));
    fs::write(&body, [b'.'; 1024]).expect("written");
    let mut command = Command::new("h2load");
    if row.service == Service::Http1 {
        command.arg("--h1");
    } else {
        command.args(["-m", "4"]);
    }
    command.args(["-n", &row.count.to_string(), "-c", &row.width.to_string(), "-d"]).arg(&body);
    command.arg("--log-file").arg(&log).arg(format!("http://{}/", server.address));
    let told = output_of(&mut command);
    assert!(told.contains(&format!("{} succeeded", row.count)), "{told}");
    let log = fs::read_to_string(log).expect("h2load's log");
    let micros = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<u32>().ok());
    let p99 = p99(micros.collect());
    let _ = fs::remove_dir_all(place);
    p99
}

/// System calls per request, by perf where it may count them.
fn calls(row: &Row, who: &str) -> Option<f64> {
    if row.of_client {
        return None;
    }
    let server = Server::start(row.service, who);
    let perf = Command::new("perf")
        .args(["stat", "-x", " ", "-e", "raw_syscalls:sys_enter", "-p"])
        .arg(server.child.id().to_string())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let mut perf = perf.ok()?;
    thread::sleep(Duration::from_millis(300));
    let (address, requests) = (server.address.to_string(), row.count.to_string());
    match row.service {
        Service::Http1 | Service::Http2 => drop(h2load(row, &server)),
        _ => drop(output_of(&mut myself(&[
            "ask",
            name_of(row.service),
            &address,
            &requests,
            &row.width.to_string(),
        ]))),
    }
    // SAFETY: the pid is our child's, which has not been waited for.
    unsafe { libc::kill(perf.id() as libc::pid_t, libc::SIGINT) };
    let mut told = String::new();
    perf.stderr.take()?.read_to_string(&mut told).ok()?;
    let _ = perf.wait();
    let count: f64 = told.split(' ').next()?.parse().ok()?;
    Some(count / row.count as f64)
}

/// Resident bytes for each connection that was used once and idles.
fn idle_bytes(who: &str) -> f64 {
    let server = Server::start(Service::Http1, who);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    let ask = || {
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        stream.write_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        let mut answer = [0; 512];
        let mut come = 0;
        while !answer[..come].ends_with(b"\r\n\r\nhi") {
            come += stream.read(&mut answer[come..]).unwrap();
        }
        stream
    };
    let _first: Vec<_> = (0..10).map(|_| ask()).collect();
    let before = resident();
    let _all: Vec<_> = (0..CONNECTIONS).map(|_| ask()).collect();
    (resident() - before) / CONNECTIONS as f64
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn report(filter: &str) {
    raise_the_limit_of_descriptors();
    println!("| | | gondola | tokio | smol | to tokio | to smol |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let print = |name: &str, what: &str, values: [f64; 3], digits: usize| {
        let [ours, tokio, smol] = values;
        let (to_tokio, to_smol) = (ours / tokio, ours / smol);
        println!(
            "| {name} | {what} | {ours:.digits$} | {tokio:.digits$} | {smol:.digits$} | {to_tokio:.2} | {to_smol:.2} |"
        );
    };
    for row in ROWS.iter().filter(|row| row.name.contains(filter)) {
        let mut rounds: [Vec<Figures>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (who, rounds) in RUNTIMES.iter().zip(&mut rounds) {
                rounds.push(measure(row, who));
            }
        }
        let of = |what: fn(&Figures) -> f64| {
            std::array::from_fn(|n| median(rounds[n].iter().map(what).collect()))
        };
        print(row.name, "CPU ns per request", of(|figures| figures.cpu_ns), 0);
        print("", "p99, µs", of(|figures| figures.p99_us), 0);
        let calls = RUNTIMES.map(|who| calls(row, who).unwrap_or(f64::NAN));
        if calls.iter().all(|calls| calls.is_finite()) {
            print("", "system calls per request", calls, 2);
        }
    }
    if "idle".contains(filter) {
        let name = "10,000 idle HTTP/1.1 connections";
        print(name, "resident bytes per connection", RUNTIMES.map(idle_bytes), 0);
    }
}

fn raise_the_limit_of_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a struct that is alive.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
