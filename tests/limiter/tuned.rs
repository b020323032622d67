//! The servers that the limiter was tuned on.

use crate::simulate::{Server, Spread};

const S4: Server = Server { places: &[(0.0, 4)], latency: &[(0.0, 3.0)], cpu: 0.05, ..Server::PLAIN };
const ROOMY: Server = Server { latency: &[(0.0, 3.0)], cpu: 0.15, ..Server::PLAIN };

pub const SERVERS: [Server; 25] = [
    Server { name: "roomy, always 3 ms", spread: Spread::Fixed, ..ROOMY },
    Server { name: "4 places, always 3 ms", spread: Spread::Fixed, ..S4 },
    Server { name: "4 places", ..S4 },
    Server { name: "4 places, slower by 5 % per queued", slows: 0.05, ..S4 },
    Server { name: "roomy, log-normal", spread: Spread::LogNormal(0.95), ..ROOMY },
    Server { name: "roomy, outliers", spread: Spread::Outliers, ..ROOMY },
    Server { name: "16 places, then 4", places: &[(0.0, 16), (0.5, 4)], ..S4 },
    Server {
        name: "16 places, then 4, then 16, 1 ms away",
        places: &[(0.0, 16), (1.0 / 3.0, 4), (2.0 / 3.0, 16)],
        net: 1.0,
        ..S4
    },
    Server { name: "as much thread as wait", cpu: 3.0, ..ROOMY },
    Server { name: "more thread than waits, twice", waits: 2, latency: &[(0.0, 1.5)], cpu: 3.0, ..ROOMY },
    Server {
        name: "30 places, log-normal, 1 ms away",
        places: &[(0.0, 30)],
        latency: &[(0.0, 1.5)],
        cpu: 0.02,
        spread: Spread::LogNormal(0.95),
        net: 1.0,
        ..S4
    },
    Server { name: "5 places, then 20", places: &[(0.0, 5), (0.5, 20)], ..S4 },
    Server { name: "1 place", places: &[(0.0, 1)], latency: &[(0.0, 2.0)], ..S4 },
    Server { name: "10 places, slower by 2 % per queued", places: &[(0.0, 10)], slows: 0.02, ..S4 },
    Server {
        name: "20 places, 2 ms away, refuses above 24",
        places: &[(0.0, 20)],
        latency: &[(0.0, 4.0)],
        net: 2.0,
        refuses: 24,
        ..S4
    },
    Server {
        name: "4 per ms, refuses more",
        bucket: Some((4.0, 20.0)),
        spread: Spread::LogNormal(0.6),
        cpu: 0.05,
        ..ROOMY
    },
    Server {
        name: "16 places, 24 of another client in between",
        places: &[(0.0, 16)],
        net: 0.5,
        greedy: Some((24, 1.0 / 3.0, 2.0 / 3.0)),
        ..S4
    },
    Server {
        name: "12 places, drifting from 2 ms to 6",
        places: &[(0.0, 12)],
        latency: &[(0.0, 2.0), (1.0, 6.0)],
        drifts: true,
        ..S4
    },
    Server { name: "64 places, 30 ms away", places: &[(0.0, 64)], latency: &[(0.0, 20.0)], net: 30.0, ..S4 },
    Server { name: "24 places, 30 ms to set up a slot", places: &[(0.0, 24)], setup: 30.0, ..S4 },
    Server {
        name: "roomy, knee at 170",
        latency: &[(0.0, 5.0)],
        cpu: 0.03,
        spread: Spread::LogNormal(0.8),
        ..ROOMY
    },
    Server { name: "an item per 0.5 ms", source: 0.5, cpu: 0.05, ..ROOMY },
    Server { name: "10 places, 3 waits, outliers", places: &[(0.0, 10)], waits: 3, spread: Spread::Outliers, ..S4 },
    Server { name: "8 places, 2 ms, then 6", places: &[(0.0, 8)], latency: &[(0.0, 2.0), (0.5, 6.0)], ..S4 },
    Server { name: "2 places, heavy tail", places: &[(0.0, 2)], spread: Spread::LogNormal(2.0), ..S4 },
];
