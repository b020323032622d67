//! A process that is killed again and again while it works off a million lines, and goes on.
//! `GONDOLA_KILLS` says how often (50).
#![cfg(target_os = "linux")] // The peak of its memory is in /proc.

use checkpoint::state::State;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const JOBS: usize = 1_000_000;
const LIMIT: usize = 8;

fn is_bad(job: usize) -> bool {
    job % 99_991 == 17
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the process changes, as read from outside.
struct Effects {
    file: File,
    text: String,
    /// In which run each job was done last; 0 for never.
    done: Vec<u32>,
    twice: usize,
}

impl Effects {
    /// Reads what was done in a run that began with `state`.
    fn read(&mut self, run: u32, state: &State, is_journal: bool) {
        self.text.clear();
        self.file.read_to_string(&mut self.text).unwrap();
        for job in self.text.lines().map(|line| line.parse::<usize>().unwrap()) {
            if self.done[job] != 0 {
                assert_ne!(self.done[job], run, "{job} was done twice in one run");
                let reported = state.uncertain.contains(&job) || !is_journal && job >= state.begun;
                assert!(reported, "{job} was done twice, and nobody said that it might be");
                self.twice += 1;
            }
            self.done[job] = run;
        }
    }
}

fn start(mode: &str, folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_checkpoint"))
        .current_dir(folder)
        .args([
            mode,
            "state",
            "--period",
            "0.002",
            "--limit",
            &LIMIT.to_string(),
            "--out",
            "effects",
            "jobs",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn peak(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or(0, |peak| peak.trim().trim_end_matches(" kB").parse().unwrap())
}

fn killed(mode: &str, seed: u64) {
    let kills: usize = std::env::var("GONDOLA_KILLS").map_or(50, |kills| kills.parse().unwrap());
    let is_journal = mode == "--journal";
    println!("{mode}: {kills} kills, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = std::env::temp_dir().join(format!("checkpoint{mode}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let folder = Folder(folder);
    let (list, path) = (folder.0.join("jobs"), folder.0.join("state"));
    let mut jobs = std::io::BufWriter::new(File::create(&list).unwrap());
    for job in 0..JOBS {
        writeln!(jobs, "{job}{}", if is_bad(job) { " bad" } else { "" }).unwrap();
    }
    drop(jobs);
    fs::write(folder.0.join("effects"), "").unwrap();
    let file = File::open(folder.0.join("effects")).unwrap();
    let mut effects = Effects { file, text: String::new(), done: vec![0; JOBS], twice: 0 };

    let (mut most_memory, mut most_uncertain) = (0, 0);
    for run in 1..=kills + 1 {
        let state = State::load(&path, &list).unwrap();
        let mut child = start(mode, &folder.0);
        if run <= kills {
            // Somewhere before its share of the work is done; sometimes at once.
            let share = effects.file.metadata().unwrap().len()
                + random.u64(0..2 * 6_900_000 / (kills as u64 + 1));
            let grown = |effects: &Effects| effects.file.metadata().unwrap().len() >= share;
            let soon = random.u64(0..20);
            for tick in 0.. {
                let over = child.try_wait().unwrap().is_some();
                if over || grown(&effects) || soon < 4 && tick > soon {
                    break;
                }
                sleep(Duration::from_millis(1));
            }
            most_memory = most_memory.max(peak(&child));
            let _ = child.kill(); // SIGKILL
        }
        while child.try_wait().unwrap().is_none() {
            most_memory = most_memory.max(peak(&child));
            sleep(Duration::from_millis(1));
        }
        let mut told = String::new();
        child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        let status = child.wait().unwrap();
        let run = u32::try_from(run).unwrap();
        effects.read(run, &state, is_journal);
        if run as usize > kills {
            // Bad jobs were among them.
            assert_eq!((status.code(), told), (Some(1), format!("{JOBS} jobs, 11 failed\n")));
        }
        most_uncertain = most_uncertain.max(state.uncertain.len());
    }
    let state = State::load(&path, &list).unwrap();
    let failed: BTreeSet<usize> = state.failed.iter().map(|&(job, _)| job).collect();
    assert_eq!((failed.len(), state.begun, state.uncertain.len()), (state.failed.len(), JOBS, 0));
    for job in 0..JOBS {
        assert_eq!(effects.done[job] > 0, !is_bad(job), "{job}");
        assert_eq!(failed.contains(&job), is_bad(job), "{job}");
    }
    assert!(most_uncertain <= LIMIT, "{most_uncertain}");
    assert!(most_memory < 16_000, "{most_memory} kB");
    println!("{} done twice, {most_uncertain} uncertain at most, {most_memory} kB", effects.twice);
}

#[test]
fn with_a_journal_only_what_was_in_flight_is_done_twice() {
    killed("--journal", 1);
}

#[test]
fn with_a_file_now_and_then_only_what_began_since_is_done_twice() {
    killed("--periodic", 2);
}
