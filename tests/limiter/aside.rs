//! The servers that were set aside before there was a limiter. Nothing is tuned on them, and this file
//! is not edited: the table prints its hash.

use crate::simulate::{Server, Spread};

pub const SERVERS: [Server; 14] = [
    Server { name: "3 places, 8 ms", places: &[(0.0, 3)], latency: &[(0.0, 8.0)], cpu: 0.1, ..Server::PLAIN },
    Server {
        name: "6 places, two waits, 4 ms away, heavy tail",
        places: &[(0.0, 6)],
        latency: &[(0.0, 4.0)],
        waits: 2,
        cpu: 0.05,
        net: 4.0,
        spread: Spread::LogNormal(1.2),
        ..Server::PLAIN
    },
    Server { name: "roomy, knee at 40", latency: &[(0.0, 2.0)], cpu: 0.05, ..Server::PLAIN },
    Server {
        name: "40 places, always 10 ms",
        places: &[(0.0, 40)],
        latency: &[(0.0, 10.0)],
        cpu: 0.02,
        spread: Spread::Fixed,
        ..Server::PLAIN
    },
    Server {
        name: "12 places, slower by 3 % per queued",
        places: &[(0.0, 12)],
        latency: &[(0.0, 5.0)],
        cpu: 0.03,
        slows: 0.03,
        ..Server::PLAIN
    },
    Server {
        name: "8 places, then 24, 2 ms away",
        places: &[(0.0, 8), (0.5, 24)],
        latency: &[(0.0, 3.0)],
        cpu: 0.04,
        net: 2.0,
        ..Server::PLAIN
    },
    Server {
        name: "24 places, then 6",
        places: &[(0.0, 24), (0.4, 6)],
        latency: &[(0.0, 4.0)],
        cpu: 0.03,
        ..Server::PLAIN
    },
    Server {
        name: "5 places, outliers, 6 ms away",
        places: &[(0.0, 5)],
        latency: &[(0.0, 2.0)],
        cpu: 0.05,
        net: 6.0,
        spread: Spread::Outliers,
        ..Server::PLAIN
    },
    Server {
        name: "10 places, refuses above 12",
        places: &[(0.0, 10)],
        latency: &[(0.0, 3.0)],
        cpu: 0.05,
        net: 1.0,
        refuses: 12,
        ..Server::PLAIN
    },
    Server {
        name: "8 places, four waits",
        places: &[(0.0, 8)],
        waits: 4,
        cpu: 0.1,
        net: 1.0,
        ..Server::PLAIN
    },
    Server {
        name: "1 place, heavy tail",
        places: &[(0.0, 1)],
        latency: &[(0.0, 5.0)],
        cpu: 0.1,
        spread: Spread::LogNormal(1.0),
        ..Server::PLAIN
    },
    Server {
        name: "16 places, stands still now and then",
        places: &[(0.0, 16)],
        latency: &[(0.0, 3.0)],
        cpu: 0.03,
        net: 1.0,
        stall: Some((400.0, 40.0)),
        ..Server::PLAIN
    },
    Server { name: "half as much thread as wait", latency: &[(0.0, 4.0)], cpu: 2.0, ..Server::PLAIN },
    Server {
        name: "1.5 per ms, refuses more",
        latency: &[(0.0, 4.0)],
        cpu: 0.05,
        bucket: Some((1.5, 10.0)),
        spread: Spread::LogNormal(0.5),
        ..Server::PLAIN
    },
];
