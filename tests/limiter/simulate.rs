//! A client with one thread and K slots, and a server with places: events in order, times in
//! milliseconds, all of it from one seed.
//!
//! An item computes on the client's thread, waits, computes, waits, and so on. A wait is a way to
//! the server, a place in its queue, a service, and a way back. The thread and each place serve one
//! at a time, first come, first served.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How a time is distributed around its mean.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    Fixed,
    Exponential,
    /// Log-normal, with this coefficient of variation.
    LogNormal(f64),
    /// Exponential, but one in a hundred takes twenty times as long.
    Outliers,
}

/// A change when so much of the work is done, from 0 to 1.
pub type Phases<T> = &'static [(f64, T)];

/// What the items wait for.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub name: &'static str,
    /// How many it serves at once; the phases begin with one at 0.
    pub places: Phases<usize>,
    /// The mean time of a service.
    pub latency: Phases<f64>,
    /// From one phase's latency to the next in a line, not in a step.
    pub drifts: bool,
    pub spread: Spread,
    /// Waits of an item.
    pub waits: u32,
    /// What an item computes on the client's thread.
    pub cpu: f64,
    /// The way there and back.
    pub net: f64,
    /// A service takes so much longer, as a share, for each that is in the queue.
    pub slows: f64,
    /// It refuses who comes when so many are there.
    pub refuses: usize,
    /// It refuses who comes faster than this many per millisecond, after a burst of so many.
    pub bucket: Option<(f64, f64)>,
    /// Another client, with so many always in flight, from one share of the work to another.
    pub greedy: Option<(usize, f64, f64)>,
    /// The first item of each slot has to set up a connection.
    pub setup: f64,
    /// The source has an item once in so many milliseconds.
    pub source: f64,
    /// An item stops for this long once in so many milliseconds: all of the server does.
    pub stall: Option<(f64, f64)>,
}

impl Server {
    /// A roomy one that takes a millisecond.
    pub const PLAIN: Self = Self {
        name: "",
        places: &[(0.0, usize::MAX)],
        latency: &[(0.0, 1.0)],
        drifts: false,
        spread: Spread::Exponential,
        waits: 1,
        cpu: 0.0,
        net: 0.0,
        slows: 0.0,
        refuses: usize::MAX,
        bucket: None,
        greedy: None,
        setup: 0.0,
        source: 0.0,
        stall: None,
    };
}

/// An item, or another attempt at it, that has come to its end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub begun: f64,
    pub now: f64,
    /// How long the client's thread has been at work until now.
    pub busy: f64,
    /// How many were in flight, this one among them.
    pub in_flight: usize,
    pub refused: bool,
}

/// Who says how many may be in flight.
pub trait Limiter {
    fn limit(&self) -> usize;
    fn end(&mut self, end: End);
}

impl Limiter for usize {
    fn limit(&self) -> usize {
        *self
    }

    fn end(&mut self, _: End) {}
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// When each item was done, in order.
    pub done: Vec<f64>,
    pub refused: usize,
    /// The limit at each of these moments, and how long it held: for its mean.
    pub limits: Vec<(f64, usize)>,
}

impl Outcome {
    pub fn time(&self) -> f64 {
        self.done.last().copied().unwrap_or(0.0)
    }

    /// The geometric mean of the limit between two shares of the work.
    pub fn mean_limit(&self, from: f64, to: f64) -> f64 {
        let at = |share: f64| {
            let index = (share * self.done.len() as f64) as usize;
            if index == 0 { 0.0 } else { self.done[index.min(self.done.len()) - 1] }
        };
        let (from, to) = (at(from), at(to));
        let ends = self.limits.iter().skip(1).map(|&(at, _)| at).chain([f64::INFINITY]);
        let (mut sum, mut time) = (0.0, 0.0);
        for (&(begin, limit), end) in self.limits.iter().zip(ends) {
            let span = (end.min(to) - begin.max(from)).max(0.0);
            sum += span * (limit as f64).ln();
            time += span;
        }
        (sum / time).exp()
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.unit(), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn time(&mut self, mean: f64, spread: Spread) -> f64 {
        match spread {
            Spread::Fixed => mean,
            Spread::Exponential => -mean * self.unit().ln(),
            Spread::LogNormal(cv) => {
                let variance = (1.0 + cv * cv).ln();
                mean * (variance.sqrt() * self.normal() - variance / 2.0).exp()
            }
            Spread::Outliers => {
                let mean = if self.unit() < 0.01 { 20.0 * mean } else { mean };
                -mean * self.unit().ln()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// The thread has done a piece of an item's work.
    Computed(usize),
    /// It is at the server. So is one of the other client's, which has no number.
    Arrives(Option<usize>),
    Served(Option<usize>),
    /// Its answer is back; `true`: it was refused.
    Back(usize, bool),
    /// The source has another one.
    Source,
}

struct Item {
    begun: f64,
    waits: u32,
}

/// Moments are compared by their bits, which is right for what is not negative.
struct Run<'a, L: ?Sized> {
    server: &'a Server,
    limiter: &'a mut L,
    random: Random,
    count: usize,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    kinds: Vec<Event>,
    now: f64,
    items: Vec<Item>,
    vacant: Vec<usize>,
    in_flight: usize,
    /// Items that the source has given, and that have not begun; a refused one goes back.
    ready: usize,
    given: usize,
    thread: VecDeque<usize>,
    computing: bool,
    busy: f64,
    queue: VecDeque<Option<usize>>,
    serving: usize,
    tokens: (f64, f64),
    greedy: usize,
    outcome: Outcome,
}

/// Works off `count` items.
pub fn run<L: Limiter + ?Sized>(
    server: &Server,
    limiter: &mut L,
    count: usize,
    seed: u64,
) -> Outcome {
    let mut run = Run {
        server,
        limiter,
        random: Random(seed),
        count,
        events: BinaryHeap::new(),
        kinds: Vec::new(),
        now: 0.0,
        items: Vec::new(),
        vacant: Vec::new(),
        in_flight: 0,
        ready: 0,
        given: 0,
        thread: VecDeque::new(),
        computing: false,
        busy: 0.0,
        queue: VecDeque::new(),
        serving: 0,
        tokens: (server.bucket.map_or(0.0, |(_, burst)| burst), 0.0),
        greedy: 0,
        outcome: Outcome::default(),
    };
    if server.source == 0.0 {
        (run.ready, run.given) = (count, count);
    } else {
        run.after(0.0, Event::Source);
    }
    run.begin();
    while run.outcome.done.len() < count {
        let Reverse((at, event)) = run.events.pop().expect("something goes on");
        run.now = f64::from_bits(at);
        run.take(run.kinds[event as usize]);
        run.begin();
    }
    run.outcome
}

impl<L: Limiter + ?Sized> Run<'_, L> {
    fn after(&mut self, time: f64, event: Event) {
        self.events.push(Reverse(((self.now + time).to_bits(), self.kinds.len() as u64)));
        self.kinds.push(event);
    }

    fn progress(&self) -> f64 {
        self.outcome.done.len() as f64 / self.count as f64
    }

    fn begin(&mut self) {
        let limit = self.limiter.limit();
        if self.outcome.limits.last().is_none_or(|&(_, last)| last != limit) {
            self.outcome.limits.push((self.now, limit));
        }
        while self.in_flight < limit && self.ready > 0 {
            self.ready -= 1;
            self.in_flight += 1;
            let (item, fresh) = match self.vacant.pop() {
                Some(item) => (item, false),
                None => {
                    self.items.push(Item { begun: 0.0, waits: 0 });
                    (self.items.len() - 1, true)
                }
            };
            self.items[item] = Item { begun: self.now, waits: 0 };
            if fresh && self.server.setup > 0.0 {
                // As another wait, before the first one.
                self.after(self.server.setup, Event::Back(item, false));
            } else {
                self.compute(item);
            }
        }
        if let Some((count, from, to)) = self.server.greedy {
            while (from..to).contains(&self.progress()) && self.greedy < count {
                self.greedy += 1;
                self.after(self.server.net / 2.0, Event::Arrives(None));
            }
        }
    }

    fn compute(&mut self, item: usize) {
        self.thread.push_back(item);
        self.next_piece();
    }

    fn next_piece(&mut self) {
        if !self.computing {
            if let Some(item) = self.thread.pop_front() {
                self.computing = true;
                let piece = self.server.cpu / f64::from(self.server.waits + 1);
                self.busy += piece;
                self.after(piece, Event::Computed(item));
            }
        }
    }

    fn phase<T: Copy>(&self, phases: Phases<T>) -> T {
        let progress = self.progress();
        phases.iter().rev().find(|(from, _)| *from <= progress).expect("the first begins at 0").1
    }

    fn latency(&self) -> f64 {
        match self.server.latency {
            [(_, from), (_, to)] if self.server.drifts => from + (to - from) * self.progress(),
            phases => self.phase(phases),
        }
    }

    fn is_refused(&mut self) -> bool {
        if let Some((rate, burst)) = self.server.bucket {
            let (tokens, at) = self.tokens;
            let tokens = burst.min(tokens + rate * (self.now - at));
            let refused = tokens < 1.0;
            self.tokens = (if refused { tokens } else { tokens - 1.0 }, self.now);
            return refused;
        }
        self.serving + self.queue.len() >= self.server.refuses
    }

    fn serve(&mut self) {
        while self.serving < self.phase(self.server.places) {
            let Some(who) = self.queue.pop_front() else { break };
            self.serving += 1;
            let slower = 1.0 + self.server.slows * self.queue.len() as f64;
            let mut time = slower * self.random.time(self.latency(), self.server.spread);
            if let Some((every, length)) = self.server.stall {
                // What would end after the next stall has begun ends when that is over.
                let next = (self.now / every).floor() * every + every;
                if self.now + time > next {
                    time += length;
                }
            }
            self.after(time, Event::Served(who));
        }
    }

    fn take(&mut self, event: Event) {
        let half = self.server.net / 2.0;
        match event {
            Event::Source => {
                self.ready += 1;
                self.given += 1;
                if self.given < self.count {
                    self.after(self.server.source, Event::Source);
                }
            }
            Event::Computed(item) => {
                self.computing = false;
                if self.items[item].waits == self.server.waits {
                    self.end(item, false);
                } else {
                    self.items[item].waits += 1;
                    self.after(half, Event::Arrives(Some(item)));
                }
                self.next_piece();
            }
            Event::Arrives(Some(item)) if self.is_refused() => {
                self.after(half, Event::Back(item, true));
            }
            Event::Arrives(who) => {
                self.queue.push_back(who);
                self.serve();
            }
            Event::Served(who) => {
                self.serving -= 1;
                match who {
                    Some(item) => self.after(half, Event::Back(item, false)),
                    None => self.greedy -= 1,
                }
                self.serve();
            }
            Event::Back(item, true) => self.end(item, true),
            Event::Back(item, false) => self.compute(item),
        }
    }

    fn end(&mut self, item: usize, refused: bool) {
        let begun = self.items[item].begun;
        let end = End { begun, now: self.now, busy: self.busy, in_flight: self.in_flight, refused };
        self.in_flight -= 1;
        self.vacant.push(item);
        if refused {
            self.outcome.refused += 1;
            self.ready += 1;
        } else {
            self.outcome.done.push(self.now);
        }
        self.limiter.end(end);
    }
}
