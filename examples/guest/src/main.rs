//! `guest epoll|tokio`: fifty sleeps in a batch, while the host does something of its own. It prints
//! how often the host went round: a few times for each event, not thousands of times.

use gondola::{Runtime, batch, time::sleep, try_spawn};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let mut runtime = Runtime::new()?;
    let run = batch(0..50).limit(10).for_each(|_| sleep(SHORT));
    let task = runtime.block_on(async { try_spawn(run) }).expect("a free slot");
    let rounds = match std::env::args().nth(1).as_deref() {
        Some("epoll") => {
            let (own, mut other) = UnixStream::pair()?;
            thread::spawn(move || {
                while other.write_all(b".").is_ok() {
                    thread::sleep(SHORT);
                }
            });
            let tick = || {
                println!("the host's own event");
                (&own).read_exact(&mut [0])
            };
            guest::in_epoll(&mut runtime, &own, tick, || task.is_finished())?
        }
        Some("tokio") => {
            let host = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            host.block_on(async {
                tokio::select! {
                    rounds = guest::in_tokio(&mut runtime, || task.is_finished()) => rounds,
                    never = async {
                        loop {
                            tokio::time::sleep(SHORT).await;
                            println!("a task of the host's own");
                        }
                    } => never,
                }
            })?
        }
        _ => return Err(io::Error::other("guest epoll|tokio")),
    };
    println!("{rounds} rounds for 50 sleeps");
    Ok(())
}
