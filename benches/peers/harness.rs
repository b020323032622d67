//! Rows, their rounds, and what is printed of them. By hand: criterion and divan measure one function
//! after the other, and by the wall's clock; here everybody takes turns, and CPU time counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Does a row's work once.
pub(crate) type Work = Box<dyn FnMut() -> Done>;
/// Makes the work of so many units ready.
type Build = Box<dyn Fn(u64) -> Work>;

/// What a run says of itself.
#[derive(Default)]
pub(crate) struct Done {
    /// Must be what the row expects.
    pub(crate) sum: u64,
    /// What a row by [`By::Work`] measures.
    pub(crate) measured: u64,
    /// Why this is not quite the row's work: it is printed, and counts as no peer.
    pub(crate) but: Option<&'static str>,
}

impl Done {
    pub(crate) fn sum(sum: u64) -> Self {
        Done { sum, ..Done::default() }
    }
}

/// Which figure counts.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum By {
    Cpu,
    Wall,
    /// The work measures itself.
    Work,
}

/// One work, and who does it.
pub(crate) struct Row {
    pub(crate) name: String,
    unit: &'static str,
    units: u64,
    step: u64,
    expected: fn(u64) -> u64,
    by: By,
    entries: Vec<(String, Build)>,
}

impl Row {
    /// `units` of work, rounded up to a multiple of `step`; the sum that a run returns is the
    /// [`Tally`]'s over all of them.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, units: u64, step: u64) -> Self {
        let (name, entries) = (name.into(), Vec::new());
        Row { name, unit, units, step, expected: |n| n * n, by: By::Cpu, entries }
    }

    /// The sum that a run returns is the number of units.
    pub(crate) fn counted(self) -> Self {
        Row { expected: |n| n, ..self }
    }

    pub(crate) fn by(self, by: By) -> Self {
        Row { by, ..self }
    }

    /// `build` makes everything that lives longer than a run: its time does not count.
    pub(crate) fn entry<W: FnMut() -> Done + 'static>(
        mut self,
        name: impl Into<String>,
        build: impl Fn(u64) -> W + 'static,
    ) -> Self {
        self.entries.push((name.into(), Box::new(move |units| Box::new(build(units)))));
        self
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(name, _)| &**name).collect()
    }

    /// `units`, rounded up.
    fn whole(&self, units: u64) -> u64 {
        units.next_multiple_of(self.step)
    }

    fn check(&self, name: &str, units: u64, done: &Done) {
        let expected = (self.expected)(units);
        assert_eq!(done.sum, expected, "{}: {name} has not done the work", self.name);
    }

    /// One run of one implementation, with no clock. Returns the number of units.
    pub(crate) fn once(&self, implementation: &str, units: u64) -> Option<u64> {
        let (name, build) = self.entries.iter().find(|(name, _)| name == implementation)?;
        let units = self.whole(units);
        self.check(name, units, &build(units)());
        Some(units)
    }

    /// The most bytes of the heap that each implementation has in use for one step, with all that
    /// it is built of.
    pub(crate) fn peaks(&self) -> Vec<u64> {
        let peak = |(name, build): &(String, Build)| {
            let before = live_bytes();
            PEAK.store(before, Relaxed);
            self.check(name, self.step, &build(self.step)());
            PEAK.load(Relaxed) - before
        };
        self.entries.iter().map(peak).collect()
    }

    /// Everybody in turn, `rounds` times.
    pub(crate) fn run(&self, rounds: usize, part: u64) -> Report<'_> {
        let units = self.whole(self.units.div_ceil(part));
        let mut works: Vec<Work> = self.entries.iter().map(|(_, build)| build(units)).collect();
        let mut runs: Vec<Vec<Run>> = self.entries.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            // Another one begins each time.
            let count = works.len();
            for at in (0..count).map(|at| (at + round) % count) {
                let (name, work, runs) = (&self.entries[at].0, &mut works[at], &mut runs[at]);
                let (calls, cpu, start) = (calls(), process_cpu(), Instant::now());
                let done = work();
                let wall = start.elapsed().as_nanos() as u64;
                let (cpu, calls) = (process_cpu() - cpu, self::calls() - calls);
                self.check(name, units, &done);
                runs.push(Run { cpu, wall, calls, done });
            }
        }
        let per = |total: u64| total as f64 / units as f64;
        let median = |runs: &[Run], figure: fn(&Run) -> u64| {
            let mut figures: Vec<u64> = runs.iter().map(figure).collect();
            figures.sort_unstable();
            per(figures[figures.len() / 2])
        };
        let lines = self.entries.iter().zip(&runs).map(|((name, _), runs)| Line {
            name,
            figure: median(
                runs,
                match self.by {
                    By::Cpu => |run| run.cpu,
                    By::Wall => |run| run.wall,
                    By::Work => |run| run.done.measured,
                },
            ),
            wall: median(runs, |run| run.wall),
            // The first round warms caches of memory.
            calls: per(runs.iter().map(|run| run.calls).min().unwrap_or(0)),
            but: runs.iter().find_map(|run| run.done.but),
        });
        Report { row: self, lines: lines.collect() }
    }
}

struct Run {
    cpu: u64,
    wall: u64,
    calls: u64,
    done: Done,
}

/// The medians of one implementation, per unit.
struct Line<'a> {
    name: &'a str,
    figure: f64,
    wall: f64,
    calls: f64,
    but: Option<&'static str>,
}

/// The medians of a row.
pub(crate) struct Report<'a> {
    row: &'a Row,
    lines: Vec<Line<'a>>,
}

const GONDOLA: &str = "gondola";
const LIMIT: &str = "limit";

impl Report<'_> {
    fn line(&self, name: &str) -> Option<&Line<'_>> {
        self.lines.iter().find(|line| line.name == name)
    }

    fn best_peer(&self) -> Option<&Line<'_>> {
        let peer = |line: &&Line<'_>| {
            !line.name.starts_with(GONDOLA) && line.name != LIMIT && line.but.is_none()
        };
        self.lines.iter().filter(peer).min_by(|a, b| a.figure.total_cmp(&b.figure))
    }

    /// The figures, in the order of the row's entries.
    pub(crate) fn figures(&self) -> impl Iterator<Item = f64> {
        self.lines.iter().map(|line| line.figure)
    }

    /// How many times better gondola is than the best peer, and what is compared.
    pub(crate) fn factor(&self) -> Option<(String, f64)> {
        let peer = self.best_peer()?;
        Some((format!("{}: {}", self.row.name, peer.name), 1.0 / self.ratio()?))
    }

    /// Of gondola to the best peer: more than 1 is worse.
    fn ratio(&self) -> Option<f64> {
        Some(self.line(GONDOLA)?.figure / self.best_peer()?.figure)
    }
}

/// Two tables: gondola against the limit and the best peer, and everybody.
pub(crate) fn markdown(reports: &[Report<'_>]) -> String {
    let mut text = String::from(
        "| work | unit | limit | gondola | to the limit | best peer | | to the best peer |\n\
         |---|---|---:|---:|---:|---|---:|---|\n",
    );
    let show = |figure: Option<f64>| figure.map_or(String::new(), |f| format!("{f:.1}"));
    for report in reports {
        let (limit, gondola) = (report.line(LIMIT), report.line(GONDOLA));
        let (limit, gondola) = (limit.map(|l| l.figure), gondola.map(|l| l.figure));
        let to_limit = gondola.zip(limit).map_or(String::new(), |(g, l)| format!("{:.1}", g / l));
        let to_peer = match report.ratio() {
            Some(ratio) if (0.97..=1.03).contains(&ratio) => format!("{ratio:.2}: a tie"),
            Some(ratio) if ratio > 1.0 => format!("**{ratio:.2}: the peer is better**"),
            Some(ratio) => format!("{ratio:.2}"),
            None => String::new(),
        };
        let Row { name, unit, .. } = report.row;
        let peer = report.best_peer();
        let (peer_name, peer) = (peer.map_or("", |l| l.name), show(peer.map(|l| l.figure)));
        let (limit, gondola) = (show(limit), show(gondola));
        _ = writeln!(
            text,
            "| {name} | {unit} | {limit} | {gondola} | {to_limit} | {peer_name} | {peer} | {to_peer} |"
        );
    }
    text += "\n| work | who | figure | wall ns | allocations |\n|---|---|---:|---:|---:|\n";
    for report in reports {
        for Line { name, figure, wall, calls, but } in &report.lines {
            let but = but.map_or(String::new(), |but| format!(" ({but})"));
            let row = &report.row.name;
            _ = writeln!(text, "| {row} | {name}{but} | {figure:.1} | {wall:.1} | {calls:.2} |");
        }
    }
    text
}

/// CPU time of this process, all threads.
fn process_cpu() -> u64 {
    cpu(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> u64 {
    cpu(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn cpu(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "no such clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Counts what the system's allocator is asked for. Not by read-modify-writes: they would cost
/// those who allocate as much as the allocation. So a count is exact as long as one thread counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

fn calls() -> u64 {
    CALLS.load(Relaxed)
}

/// Bytes of the heap in use.
pub(crate) fn live_bytes() -> u64 {
    LIVE.load(Relaxed)
}

fn count(calls: u64, new: usize, old: usize) {
    CALLS.store(CALLS.load(Relaxed) + calls, Relaxed);
    let live = LIVE.load(Relaxed).wrapping_add(new as u64).wrapping_sub(old as u64);
    LIVE.store(live, Relaxed);
    if live > PEAK.load(Relaxed) {
        PEAK.store(live, Relaxed);
    }
}

// SAFETY: all is the system allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Proves that each of the items `0..n` was added once: the first n odd numbers sum up to n².
#[derive(Default)]
pub(crate) struct Tally(std::cell::Cell<u64>);

impl Tally {
    /// For good, so that a future that adds to it need not own it.
    pub(crate) fn leaked() -> &'static Self {
        leak(Self::default())
    }

    #[inline]
    pub(crate) fn add(&self, item: u64) {
        self.0.set(self.0.get() + 2 * black_box(item) + 1);
    }

    /// The sum; begins again at 0.
    pub(crate) fn take(&self) -> u64 {
        self.0.take()
    }
}

/// State of a work for the rest of the process.
pub(crate) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
