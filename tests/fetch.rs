//! The `fetch` example as a process, against a server with faults.
#![cfg(unix)] // Its resume command is for a POSIX shell.

#[path = "support/example.rs"]
mod example;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A server whose paths say how it behaves; see [`answer`].
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    logged: Condvar,
    /// The faults are gone: every path is as good as `/ok`.
    healed: AtomicBool,
}

#[derive(Default)]
struct Log {
    requests: Vec<String>,
    /// How often each path was answered in full.
    served: BTreeMap<String, usize>,
    in_flight: usize,
    most_in_flight: usize,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Self { address, shared: shared.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), shared.clone());
                // A client that was cut off is gone while we write: no matter.
                thread::spawn(move || answer(stream, &shared));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn list(&self, paths: &[&str]) -> String {
        paths.iter().map(|path| self.url(path) + "\n").collect()
    }
}

/// Longer than the client's buffer.
fn body(path: &str) -> Vec<u8> {
    path.repeat(10_000).into_bytes()
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let length = stream.peek(&mut request)?; // The client writes it in one piece.
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = text.strip_prefix("GET ").unwrap().split(' ').next().unwrap();
    let healed = shared.healed.load(Ordering::SeqCst);
    let fault = if healed { "" } else { path.trim_matches(|c: char| c == '/' || c.is_numeric()) };
    if fault != "reset" {
        stream.read_exact(&mut request[..length])?;
    }

    let mut log = shared.log.lock().unwrap();
    log.requests.push(path.to_string());
    log.in_flight += 1;
    log.most_in_flight = log.most_in_flight.max(log.in_flight);
    shared.logged.notify_all();
    match fault {
        // Until five are there, and a while longer: would there be a sixth?
        "crowd" => {
            log = shared.logged.wait_while(log, |log| log.most_in_flight < 5).unwrap();
            drop(log);
            thread::sleep(Duration::from_millis(50));
            log = shared.log.lock().unwrap();
        }
        "fails-after-two-stalls" => {
            let stalls =
                |log: &Log| log.requests.iter().filter(|path| path.contains("/stall")).count();
            log = shared.logged.wait_while(log, |log| stalls(log) < 2).unwrap();
        }
        _ => {}
    }
    // Before the answer: with that, the client may start the next one at once.
    log.in_flight -= 1;
    if !matches!(
        fault,
        "stall" | "silent" | "reset" | "short" | "status" | "fails-after-two-stalls"
    ) {
        *log.served.entry(path.to_string()).or_default() += 1;
    }
    drop(log);

    let body = body(path);
    let with_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    match fault {
        "status" => {
            let status = path.strip_prefix("/status").unwrap();
            write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n")
        }
        "fails-after-two-stalls" => write!(stream, "HTTP/1.1 500 So\r\nContent-Length: 0\r\n\r\n"),
        "chunked" => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for chunk in body.chunks(999) {
                write!(stream, "{:x};extension=1\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                write!(stream, "\r\n")?;
            }
            write!(stream, "0\r\nTrailer: 1\r\n\r\n")
        }
        "close" => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            stream.write_all(&body)
        }
        // The request was not read, so closing resets.
        "reset" | "short" => {
            stream.write_all(with_length.as_bytes())?;
            stream.write_all(&body[1..])
        }
        "stall" | "silent" => {
            if fault == "stall" {
                stream.write_all(with_length.as_bytes())?;
                stream.write_all(&body[1..])?;
            }
            stream.read(&mut request).map(drop) // Until the client leaves.
        }
        _ => {
            stream.write_all(with_length.as_bytes())?;
            stream.write_all(&body)
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fetch {name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The files of a folder below this one, with what is in them.
    fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path(name)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().into(), fs::read(&path).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}

/// Runs `fetch` with `list` as its standard input.
fn fetch(list: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut process = Command::new(example::example("fetch"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It fails if nobody reads it.
    let _ = process.stdin.take().unwrap().write_all(list.as_bytes());
    told(process.wait_with_output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let stdout = without_speed(text(output.stdout));
    (output.status.code().unwrap(), stdout, text(output.stderr))
}

/// Without the line that no two runs have in common: it follows the sums if something was done.
fn without_speed(stdout: String) -> String {
    let lines: Vec<&str> = stdout.split_inclusive('\n').collect();
    let Some(sums) = lines.iter().position(|line| line.contains(" cut off in flight, ")) else {
        return stdout;
    };
    let nothing_done = lines[sums].starts_with("0 done (0 bytes), 0 failed");
    let speed = lines.get(sums + 1).is_some_and(|line| {
        let (speed, latencies) = line.split_once(" URLs/s, p50 ").unwrap_or_default();
        speed.parse::<f64>().is_ok_and(|speed| speed > 0.0) && latencies.contains("s, p99 ")
    });
    assert_eq!(speed, !nothing_done, "{stdout}");
    let without = lines.iter().enumerate().filter(|(line, _)| !speed || *line != sums + 1);
    without.map(|(_, line)| *line).collect()
}

#[test]
fn bodies_are_right_however_they_end() {
    let (server, folder) = (Server::start(), Folder::new("bodies"));
    let paths = ["/ok1", "/chunked2", "/close3", "/ok4?a=b&c=../d"];
    let urls = paths.map(|path| server.url(path));
    let mut arguments = vec!["--out"];
    let out = folder.path("out");
    arguments.push(&out);
    arguments.extend(urls.iter().map(String::as_str));
    let (status, stdout, stderr) = fetch("", &arguments);

    let bytes: usize = paths.iter().map(|path| body(path).len()).sum();
    let sums = format!("4 done ({bytes} bytes), 0 failed, 0 cut off in flight, 0 left\n");
    assert_eq!((status, stdout, stderr), (0, sums, String::new()));
    let host = server.address.to_string().replace(':', "%3a");
    let names = ["+ok1", "+chunked2", "+close3", "+ok4%3fa%3db%26c%3d..+d"];
    let expected: Vec<_> =
        (0..4).map(|n| (format!("00000{n}-{host}{}", names[n]), body(paths[n]))).collect();
    assert!(folder.files("out") == expected, "{:?}", folder.files("out"));
}

#[test]
fn keep_going_tells_each_failure() {
    let (server, folder) = (Server::start(), Folder::new("keep going"));
    // Bound and not listening any more: refused.
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let expected = [
        (server.url("/status404"), "404 Not Found"),
        (server.url("/status500"), "500 Internal Server Error"),
        (server.url("/status302"), "302 Found (redirects are not followed)"),
        (server.url("/stall1"), "not done within 800ms"),
        (server.url("/silent1"), "not done within 800ms"),
        (server.url("/short1"), "the response ended before its end"),
        (server.url("/reset1"), "Connection reset by peer"),
        (format!("http://{refused}/"), "Connection refused"),
        ("https://127.0.0.1/".to_string(), "https:// is not supported, only http://"),
        ("nonsense".to_string(), "not a whole URL: it must begin with http://"),
    ];
    let mut list = String::from("# faults between two good ones\n\n");
    list += &server.list(&["/ok1"]);
    list.extend(expected.iter().map(|(url, _)| format!("  {url}\r\n")));
    list += &server.list(&["/ok2"]);
    let (state, out) = (folder.path("rest"), folder.path("out"));
    let arguments = ["--keep-going", "--timeout", "0.8", "--state", &state, "--out", &out];
    let (status, stdout, stderr) = fetch(&list, &arguments);

    assert_eq!((status, stderr.as_str()), (1, ""), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    for ((url, error), line) in expected.iter().zip(&lines) {
        assert!(line.starts_with(&format!("failed       {url}: {error}")), "{line}");
    }
    let bytes = body("/ok1").len() + body("/ok2").len();
    let sums = format!("2 done ({bytes} bytes), 10 failed, 0 cut off in flight, 0 left");
    assert_eq!((lines[10], lines[11]), (sums.as_str(), "To go on with what remains:"));
    let remaining: String = expected.iter().map(|(url, _)| format!("{url}\n")).collect();
    assert_eq!(folder.read("rest"), remaining);
    // Nothing is left of what broke off in the middle.
    let bodies: Vec<_> = folder.files("out").into_iter().map(|(_, body)| body).collect();
    assert!(bodies == [body("/ok1"), body("/ok2")]);
}

#[test]
fn a_second_run_does_what_the_first_did_not() {
    let (server, folder) = (Server::start(), Folder::new("resume it's"));
    let paths =
        ["/ok0", "/ok1", "/stall2", "/stall3", "/fails-after-two-stalls4", "/ok5", "/ok6", "/ok7"];
    let list = folder.write("list", server.list(&paths));
    let (state, out) = (folder.path("rest"), folder.path("out"));
    let arguments = ["-k3", "--from", &list, "--state", &state, "--out", &out];
    let (status, stdout, stderr) = fetch("", &arguments);

    let bytes = body("/ok0").len() + body("/ok1").len();
    let (report, command) = stdout.trim_end().rsplit_once('\n').unwrap();
    let expected = format!(
        "failed       {}: 500 Internal Server Error\n\
         cut off      {}\n\
         cut off      {}\n\
         2 done ({bytes} bytes), 1 failed, 2 cut off in flight, 3 left\n\
         To go on with what remains:",
        server.url(paths[4]),
        server.url(paths[2]),
        server.url(paths[3]),
    );
    assert_eq!((status, report, stderr.as_str()), (1, expected.as_str(), ""));
    assert_eq!(folder.read("rest"), server.list(&paths[2..]));
    assert_eq!(folder.files("out").len(), 2);

    server.shared.healed.store(true, Ordering::SeqCst);
    let again = Command::new("sh").args(["-c", command]).output().unwrap();
    let bytes: usize = paths[2..].iter().map(|path| body(path).len()).sum();
    let sums = format!("6 done ({bytes} bytes), 0 failed, 0 cut off in flight, 0 left\n");
    assert_eq!(told(again), (0, sums, String::new()));
    assert_eq!(folder.read("rest"), "");
    let once: BTreeMap<_, _> = paths.iter().map(|path| (path.to_string(), 1)).collect();
    assert_eq!(server.shared.log.lock().unwrap().served, once);
    let mut bodies: Vec<_> = folder.files("out").into_iter().map(|(_, body)| body).collect();
    let mut expected = paths.map(body);
    bodies.sort();
    expected.sort();
    assert!(bodies == expected);
}

#[test]
fn without_a_state_the_never_started_are_told() {
    let server = Server::start();
    let (status, stdout, _) = fetch(&server.list(&["/status404", "/ok1", "/ok2"]), &["-k", "1"]);
    let expected = format!(
        "failed       {}: 404 Not Found\n\
         not started  {}\n\
         not started  {}\n\
         0 done (0 bytes), 1 failed, 0 cut off in flight, 2 left\n",
        server.url("/status404"),
        server.url("/ok1"),
        server.url("/ok2"),
    );
    assert_eq!((status, stdout), (1, expected));
}

#[test]
fn the_limit_is_reached_and_not_exceeded() {
    let server = Server::start();
    let paths: Vec<String> = (0..23).map(|n| format!("/crowd{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (status, stdout, _) = fetch(&server.list(&paths), &["--limit", "5"]);
    assert_eq!((status, stdout.starts_with("23 done")), (0, true), "{stdout}");
    assert_eq!(server.shared.log.lock().unwrap().most_in_flight, 5);
}

#[test]
fn a_list_that_breaks_off_leaves_the_state_alone() {
    let (server, folder) = (Server::start(), Folder::new("broken"));
    let mut list = server.list(&["/ok1", "/status404"]).into_bytes();
    list.extend(b"http://\xff/\n");
    list.extend(server.list(&["/ok2"]).bytes());
    let state = folder.write("rest", &list);
    let (status, stdout, stderr) =
        fetch("", &["--from", &state, "--state", &state, "--keep-going"]);
    assert_eq!((status, stdout.contains("1 done")), (1, true), "{stdout}");
    assert!(stderr.starts_with("fetch: the list breaks off"), "{stderr}");
    assert_eq!(fs::read(&state).unwrap(), list);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn nonsense_is_refused() {
    for arguments in [
        &["--bogus"][..],
        &["--limit", "many"],
        &["--limit", "0"],
        &["--limit", "9999999"],
        &["--timeout", "-1"],
        &["--timeout", "NaN"],
        &["--from", "/nowhere/at/all"],
        &["--from", "/dev/null", "http://127.0.0.1/"],
        &["--state", "/nowhere/at/all"],
        &["--out", "/dev/null/folder"],
    ] {
        let (status, stdout, stderr) = fetch("", arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.starts_with("fetch: "), "{stderr}");
    }
}

#[test]
fn the_limit_is_found_if_it_is_asked_for() {
    let server = Server::start();
    let paths: Vec<String> = (0..200).map(|n| format!("/ok{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let output = Command::new(example::example("fetch"))
        .args(["--auto", "-k", "20"])
        .args(paths.iter().map(|path| server.url(path)))
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.starts_with("200 done"), "{stdout}");
    let limit = stdout.trim_end().strip_suffix(" at the end").unwrap().rsplit(' ').next();
    assert!((1..=20).contains(&limit.unwrap().parse::<usize>().unwrap()), "{stdout}");
    let log = server.shared.log.lock().unwrap();
    assert!(log.most_in_flight <= 20 && log.requests.len() == 200);
}

#[test]
fn nothing_to_do_is_done() {
    let (status, stdout, _) = fetch("# nothing\n\n", &[]);
    let sums = "0 done (0 bytes), 0 failed, 0 cut off in flight, 0 left\n";
    assert_eq!((status, stdout.as_str()), (0, sums));
    let (status, stdout, _) = fetch("", &["--help"]);
    assert_eq!((status, stdout.contains("--state FILE")), (0, true));
}
