//! The `sweep` example as a user meets it: a process with arguments, output and an exit status;
//! and its verdict on curves whose knee is known.

use gondola_sweep::fits::{Curve, fits};
use gondola_sweep::verdict::{self, Point, Why};
use gondola_sweep::{Sweep, SweepError};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;
use tokio::sync::Semaphore;

const QUICK: &[&str] = &["--seconds-per-point", "0.1", "--repetitions", "1"];

fn sweep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gondola-sweep")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// K and items/s of each row of the table.
fn rows(stdout: &str) -> Vec<(usize, f64)> {
    let table = stdout.lines().skip_while(|line| !line.trim().starts_with("K  ")).skip(1);
    table
        .map_while(|line| {
            let mut cells = line.split_whitespace();
            Some((cells.next()?.parse().ok()?, cells.next()?.parse().ok()?))
        })
        .collect()
}

/// A server with keep-alive that answers every GET with `status`.
fn serve(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |mut stream: TcpStream| {
        let reader = BufReader::new(stream.try_clone().unwrap());
        for line in reader.lines().map_while(Result::ok) {
            // An empty line ends the head, and a GET has no body.
            if line.is_empty() {
                let response = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                let _ = stream.write_all(response.as_bytes());
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer(stream));
        }
    });
    address
}

#[test]
fn finds_the_knee_of_its_own_server() {
    // The numbers are real, and another program may spoil them: not five times in a row.
    assert!((0..5).any(|_| finds_the_knee()), "neither growth up to K = 4, nor a K of 2 to 8");
}

fn finds_the_knee() -> bool {
    let arguments = ["--k", "1,2,4,8", "--capacity", "4", "--delay", "2"];
    let output = sweep(&[&arguments, QUICK].concat());
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    // What it will do; and though this is no terminal, news for each of the five Ks and the two controls.
    assert_eq!(stderr.lines().count(), 8, "{stderr}");
    assert!(stdout.contains("\"Waits + 1\", K = 3, would have done"), "{stdout}");
    assert!(stdout.contains("Predicted: K* ="), "{stdout}");

    let rows = rows(&stdout);
    let ks: Vec<usize> = rows.iter().map(|&(k, _)| k).collect();
    assert_eq!(ks, [1, 2, 3, 4, 8], "those asked for, and waits + 1: {stdout}");
    // 4 places, 2 waits of 2 ms: whatever the machine, hardly more than 1000.
    assert!(rows.iter().all(|&(_, rate)| rate <= 1200.0), "{stdout}");
    let rate = |wanted| rows.iter().find(|&&(k, _)| k == wanted).unwrap().1;
    let recommended = stdout.lines().find_map(|line| line.strip_prefix("Use K = "));
    let k: usize = recommended.unwrap().split('.').next().unwrap().parse().unwrap();
    rate(4) > 2.0 * rate(1) && (2..=8).contains(&k)
}

/// What it found is a matter of time; that it found something is not.
#[test]
fn lets_the_limit_find_itself_on_three_servers() {
    let arguments = ["--check", "--k", "1,4,16", "--delay", "2"];
    let output = sweep(&[&arguments, QUICK].concat());
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(stdout.matches("The experiment: K = ").count(), 3, "{stdout}");
    for found in stdout.split("K came to ").skip(1) {
        let k: usize = found.split(',').next().unwrap().parse().unwrap();
        assert!((1..=16).contains(&k), "{stdout}");
    }
}

#[test]
fn measures_another_server() {
    let url = format!("http://{}/some/path", serve("200 OK"));
    let output = sweep(&[&["--url", &url, "--k", "1,4", "--requests", "1"], QUICK].concat());
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows = rows(&stdout);
    assert_eq!(rows.iter().map(|&(k, _)| k).collect::<Vec<_>>(), [1, 2, 4], "{stdout}");
    assert!(rows.iter().all(|&(_, rate)| rate > 0.0), "{stdout}");
    // Nothing is known of that server.
    assert!(!stdout.contains("Predicted"), "{stdout}");
}

#[test]
fn says_what_does_not_work() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broken = serve("503 Service Unavailable");
    for (address, complaint) in [(refused, "refused"), (broken, "503 Service Unavailable")] {
        let url = format!("http://{address}/");
        let output = sweep(&[&["--url", &url, "--k", "1,2"], QUICK].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&url) && stderr.contains(complaint), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn refuses_bad_usage() {
    let bad: [&[&str]; 9] = [
        &["--url", "http://127.0.0.1/", "--slows", "3"],
        &["--k", "1,0"],
        &["--k", ""],
        &["--beta", "2"],
        &["--seconds-per-point", "0"],
        &["--url", "https://127.0.0.1/"],
        &["--url", "http://127.0.0.1/", "--capacity", "3"],
        &["--frequency"],
        &["stray"],
    ];
    for arguments in bad {
        let output = sweep(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let help = sweep(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--seconds-per-point"));
}

/// `X = min(K / (c + waits), 1 / c, places / waits)`, and how busy that makes the thread.
fn two_lines(cpu: f64, waits: f64, places: f64) -> Vec<Point> {
    let at = |k: usize| {
        let rate = (k as f64 / (cpu + waits)).min(1.0 / cpu).min(places / waits);
        let (low, high) = (0.99 * rate, 1.01 * rate);
        Point { k, rate, low, high, busy: Some(rate * cpu), failed: 0.0 }
    };
    [1, 2, 4, 8, 16, 32, 64].map(at).to_vec()
}

fn judge(points: &[Point], server_limit: Option<f64>) -> (usize, Why) {
    let chosen = verdict::choose(points, 0.15);
    (points[chosen].k, verdict::why(points, chosen, 0.15, server_limit))
}

#[test]
fn knows_what_is_full() {
    let full_server = two_lines(0.000_1, 0.01, 8.0);
    let limit = 8.0 / 0.01;
    assert!(matches!(judge(&full_server, Some(limit)), (8, Why::ServerFull(8, _))));
    assert_eq!(judge(&full_server, None), (8, Why::Elsewhere(true)));

    let full_thread = two_lines(0.001, 0.015, 1e9);
    assert_eq!(judge(&full_thread, None), (16, Why::ThreadFull(16, 1.0)));

    let nothing_is_full = two_lines(0.000_001, 0.01, 1e9);
    assert_eq!(judge(&nothing_is_full, Some(1e12)), (64, Why::NoKnee));
}

#[test]
fn prefers_fewer_where_more_is_not_clearly_better() {
    let mut points = two_lines(0.000_1, 0.01, 8.0);
    for point in &mut points[4..] {
        (point.rate, point.low, point.high) = (700.0, 690.0, 710.0);
    }
    assert_eq!(judge(&points, None), (8, Why::GetsWorse));

    let mut points = two_lines(0.000_1, 0.01, 16.0);
    points[3].high = points[4].rate;
    assert_eq!(judge(&points[..5], None), (8, Why::Unclear(16)));

    let mut points = two_lines(0.000_1, 0.01, 16.0);
    points[3].failed = 0.02;
    assert_eq!(judge(&points, None), (4, Why::Failures(0.02)));
}

#[test]
fn looks_closer_below_the_knee() {
    let points = two_lines(0.000_1, 0.01, 11.0);
    assert_eq!(points[verdict::choose(&points, 0.15)].k, 16);
    assert_eq!(verdict::refinement(&points, 0.15), Some(11));
    assert_eq!(verdict::refinement(&points[..1], 0.15), None);
}

#[test]
fn predicts_the_knee() {
    // Waits as long as the processor time, and room at the server: waits + 1.
    assert_eq!(verdict::predicted_knee(0.001, 0.002, 1e9), 3.0);
    assert_eq!(verdict::predicted_knee(0.0, 0.01, 32.0), 32.0);
    let observed = verdict::observed_knee(&two_lines(0.001, 0.015, 1e9)).unwrap();
    assert!((observed - 16.0).abs() < 1e-6, "{observed}");
}

#[test]
fn whose_output_nobody_takes_it_ends_with_an_error_and_without_its_progress_it_goes_on() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gondola-sweep"));
    let output = command.arg("--help").stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("No space left"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gondola-sweep"));
    let output = command.args(QUICK).args(["--k", "1"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("Use K = "));
}

#[test]
fn anybodys_items_are_measured_by_a_closure() {
    let sweep = Sweep::new().limits([1, 2, 8]).repetitions(1).time(Duration::from_millis(40));
    let places = Semaphore::new(2);
    let item = async || {
        let _place = places.acquire().await.unwrap();
        gondola::time::sleep(Duration::from_millis(1)).await;
        io::Result::Ok(())
    };
    let report = gondola::block_on(sweep.run(item)).unwrap();
    let csv = report.to_csv();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert_eq!(csv.lines().filter(|line| line.ends_with(",true")).count(), 1, "{csv}");
    let use_k = format!("Use K = {}. ", report.knee());
    assert!(report.to_string().starts_with(&use_k));
    let svg = report.to_svg().unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(&use_k), "{svg}");
    let json = report.to_json();
    assert!(json.starts_with(&format!("{{\"use\": {}, ", report.knee())), "{json}");
    assert_eq!(json.matches("\"items_per_second\"").count(), 3);
    // The picture is in the first 24 lines of 80 cells.
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().take(24).collect();
    assert!(lines.iter().any(|line| line.ends_with("◀ use this")), "{text}");
    assert!(lines[..8].iter().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn curves_are_found_again() {
    let points = |rate: &dyn Fn(f64) -> f64| -> Vec<Point> {
        let at = |k: usize| {
            let rate = rate(k as f64);
            Point { k, rate, low: rate, high: rate, busy: None, failed: 0.0 }
        };
        [1, 2, 4, 8, 16, 32, 64].map(at).to_vec()
    };
    let best = fits(&points(&|k| (k * 90.0).min(1_000.0)))[0];
    let Curve::TwoLines { alone, full } = best.curve else { panic!("{best:?}") };
    assert!((alone * 90.0 - 1.0).abs() < 1e-9 && (full / 1_000.0 - 1.0).abs() < 1e-9);
    assert!(best.error < 1e-9);
    let law = |k: f64| 50.0 * k / (1.0 + 0.05 * (k - 1.0) + 0.002 * k * (k - 1.0));
    let best = fits(&points(&law))[0];
    let Curve::Usl { lambda, sigma, kappa } = best.curve else { panic!("{best:?}") };
    assert!(
        (lambda - 50.0).abs() < 1e-6 && (sigma - 0.05).abs() < 1e-6 && (kappa - 0.002).abs() < 1e-6
    );
    // Too few for the second.
    assert_eq!(fits(&points(&law)[..3]).len(), 1);
}

#[test]
fn what_means_nothing_is_no_report() {
    let quick = || Sweep::new().limits([1, 2]).repetitions(1).time(Duration::from_millis(5));
    let run = |sweep: Sweep| gondola::block_on(sweep.run(async || Err::<(), _>("no such table")));
    let error = run(quick()).unwrap_err();
    assert!(matches!(&error, SweepError::AllFailed(first) if first == "no such table"), "{error}");
    assert!(matches!(run(quick().limits([0, 1])).unwrap_err(), SweepError::BadLimits));
    assert!(matches!(run(quick().limits([])).unwrap_err(), SweepError::BadLimits));
    assert!(matches!(run(quick().limits([1 << 40])).unwrap_err(), SweepError::Batch(_)));
    // Items that never end have failed after a while.
    let sweep = quick().patience(Duration::from_millis(2));
    let never = sweep.run(async || std::future::pending::<io::Result<()>>().await);
    let error = gondola::block_on(never).unwrap_err();
    assert!(error.to_string().contains("took more than 2ms"), "{error}");
    // Items that take no time: the thread is full, and one at a time is as good as many.
    let report = gondola::block_on(quick().run(async || io::Result::Ok(()))).unwrap();
    assert!(report.points().iter().all(|point| point.rate > 1_000.0));
}
