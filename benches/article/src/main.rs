//! The same items, against the same server, on the tools that people come from: Node with p-map, async
//! and goodware's task-queue, Python's asyncio, tokio, and gondola. `benches/article/run`

mod server;
mod tools;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tools::Told;

const WIDTHS: [usize; 4] = [1, 5, 25, 100];
const ROUNDS: usize = 3;

struct Tool {
    name: &'static str,
    /// The program and its first arguments; none for this one.
    command: &'static [&'static str],
    /// What is known after a failure.
    known: &'static str,
}

const TOOLS: [Tool; 7] = [
    Tool {
        name: "gondola batch",
        command: &[],
        known: "of each item: done, failed, cut off or never begun",
    },
    Tool { name: "tokio buffer_unordered", command: &[], known: "the first error" },
    Tool { name: "tokio JoinSet", command: &[], known: "the first error; the caller may count" },
    Tool {
        name: "Node p-map 7.1",
        command: &["node", "node/p-map.mjs"],
        known: "the first error; those in flight go on",
    },
    Tool {
        name: "Node async 3.2",
        command: &["node", "node/async.mjs"],
        known: "the first error; those in flight go on",
    },
    Tool {
        name: "Node task-queue 2.1",
        command: &["node", "node/task-queue.mjs"],
        known: "what the caller notes; all that was pushed goes on",
    },
    Tool {
        name: "Python asyncio",
        command: &["python3", "asyncio_semaphore.py"],
        known: "the errors; the others are cancelled, in flight or not",
    },
];

struct Server {
    process: Child,
    port: String,
}

impl Server {
    fn start(delay: Duration, fails: &str) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", &delay.as_millis().to_string(), fails])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut port)?;
        Ok(Self { process, port: port.trim().to_string() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Run {
    seconds: f64,
    begun: usize,
    kilobytes: f64,
    end: String,
}

fn run(tool: &Tool, limit: usize, count: usize, server: &Server) -> Result<Run, Box<dyn Error>> {
    let mut command = match tool.command {
        [] => {
            let mut this = Command::new(env::current_exe()?);
            this.arg(tool.name);
            this
        }
        [program, arguments @ ..] => {
            let mut other = Command::new(program);
            other.args(arguments);
            other
        }
    };
    let command = command.args([&limit.to_string(), &count.to_string(), &server.port]);
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.trim().splitn(4, ' ');
    let mut word = || words.next().ok_or_else(|| format!("{}: {text}", tool.name));
    Ok(Run {
        seconds: word()?.parse()?,
        begun: word()?.parse()?,
        kilobytes: word()?.parse()?,
        end: word()?.to_string(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Items per second of each tool at each width, rounds interleaved; and the peak memory at the widest.
fn speeds(count: usize, delay: Duration) -> Result<Vec<(Vec<f64>, f64)>, Box<dyn Error>> {
    let server = Server::start(delay, "-")?;
    let mut runs = vec![vec![Vec::new(); WIDTHS.len()]; TOOLS.len()];
    let mut memory = vec![0.0; TOOLS.len()];
    for round in 0..ROUNDS {
        for (width, &limit) in WIDTHS.iter().enumerate() {
            for (at, tool) in TOOLS.iter().enumerate() {
                eprint!("\r{count} items, round {} of {ROUNDS}, K = {limit}   ", round + 1);
                let run = run(tool, limit, count, &server)?;
                assert!(run.end == "done" && run.begun == count, "{}: {}", tool.name, run.end);
                runs[at][width].push(count as f64 / run.seconds);
                memory[at] = run.kilobytes;
            }
        }
    }
    eprintln!();
    let medians = runs.into_iter().map(|widths| widths.into_iter().map(median).collect());
    Ok(medians.zip(memory).collect())
}

fn table(title: &str, speeds: &[(Vec<f64>, f64)]) {
    println!("\n{title}\n");
    print!("| items/s |");
    WIDTHS.iter().for_each(|limit| print!(" K = {limit} |"));
    println!(" peak memory, MB |\n|---|---:|---:|---:|---:|---:|");
    for (tool, (speeds, kilobytes)) in TOOLS.iter().zip(speeds) {
        print!("| {} |", tool.name);
        speeds.iter().for_each(|speed| print!(" {speed:.0} |"));
        println!(" {:.1} |", kilobytes / 1e3);
    }
}

fn report() -> Result<(), Box<dyn Error>> {
    table("100,000 items, from a server that answers at once.", &speeds(100_000, Duration::ZERO)?);
    table("100 items, from a server 5 ms away.", &speeds(100, Duration::from_millis(5))?);
    println!("\nOf 100 items, K = 5, item 7 fails after 5 ms like all others.\n");
    println!("| | begun | what is known of the others |\n|---|---:|---|");
    let server = Server::start(Duration::from_millis(5), "7")?;
    for tool in &TOOLS {
        let begun = (0..ROUNDS).map(|_| run(tool, 5, 100, &server).map(|run| run.begun as f64));
        let begun = begun.collect::<Result<Vec<_>, _>>()?;
        println!("| {} | {} | {} |", tool.name, median(begun), tool.known);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tool: fn(usize, u64, u16) -> Told = match arguments[..] {
        [] => return report(),
        ["serve", delay, fails] => {
            server::serve(Duration::from_millis(delay.parse()?), fails.parse().ok())?;
            return Ok(());
        }
        ["gondola batch", ..] => tools::gondola,
        ["tokio buffer_unordered", ..] => tools::buffer_unordered,
        ["tokio JoinSet", ..] => tools::join_set,
        _ => return Err("benches/article/run".into()),
    };
    let (seconds, begun, end) =
        tool(arguments[1].parse()?, arguments[2].parse()?, arguments[3].parse()?);
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap_or("0").trim().trim_end_matches(" kB");
    println!("{} {begun} {peak} {end}", seconds.as_secs_f64());
    Ok(())
}
