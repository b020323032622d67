//! The same question to the real kernel: two ends of a loopback connection on one thread, small
//! buffers, cut into random pieces, given up at random, ended by FIN or by RST.

use crate::simulated::pattern;
use crate::support::cases::{Choices, run};
use gondola::net::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};
use gondola::time::timeout;
use gondola::{try_spawn, yield_now};
use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

fn set(socket: &impl AsFd, option: libc::c_int, value: &impl Copy) {
    // SAFETY: an open socket, and a value of its own size.
    let result = unsafe {
        let length = size_of_val(value) as libc::socklen_t;
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const *value).cast(), length)
    };
    assert_eq!(result, 0);
}

#[derive(Clone, Debug)]
struct Pieces {
    sizes: Vec<usize>,
    patience: Option<u64>,
    vectored: bool,
    lazy: bool,
}

fn pieces(choices: &mut Choices<'_>) -> Pieces {
    let most = 1 << choices.below(15);
    let sizes = (0..1 + choices.below(20)).map(|_| 1 + choices.below(most) as usize).collect();
    let patience = choices.percent(30).then(|| 1 + choices.below(50));
    Pieces { sizes, patience, vectored: choices.percent(30), lazy: choices.percent(30) }
}

impl Pieces {
    /// Runs an operation, perhaps not to its end.
    async fn attempt<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        if self.lazy {
            yield_now().await;
        }
        match self.patience {
            Some(micros) => timeout(Duration::from_micros(micros), operation).await.ok(),
            None => Some(operation.await),
        }
    }
}

/// Writes each piece whole, in as many parts as it takes. Returns false if the peer has reset.
async fn say(side: usize, half: &mut OwnedWriteHalf, plan: &Pieces, said: &Cell<usize>) -> bool {
    for &size in &plan.sizes {
        let mut left = size;
        while left > 0 {
            let bytes: Vec<u8> = (0..left).map(|n| pattern(side, said.get() + n)).collect();
            let (a, b) = bytes.split_at(left / 2);
            let result = if plan.vectored {
                plan.attempt(half.write_vectored(&[IoSlice::new(a), IoSlice::new(b)])).await
            } else {
                plan.attempt(half.write(&bytes)).await
            };
            match result {
                None => continue,
                Some(Ok(count)) => {
                    left -= count;
                    said.set(said.get() + count);
                }
                Some(Err(error)) => {
                    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    return false;
                }
            }
        }
    }
    true
}

/// Reads to the end. Returns false if the peer has reset.
async fn hear(side: usize, half: &mut OwnedReadHalf, plan: &Pieces, heard: &Cell<usize>) -> bool {
    let mut buffer = vec![0; 1 << 15];
    for &size in plan.sizes.iter().cycle() {
        let part = &mut buffer[..size];
        let result = if plan.vectored {
            let (a, b) = part.split_at_mut(size / 2);
            plan.attempt(half.read_vectored(&mut [IoSliceMut::new(a), IoSliceMut::new(b)])).await
        } else {
            plan.attempt(half.read(part)).await
        };
        match result {
            None => {}
            Some(Ok(0)) => return true,
            Some(Ok(count)) => {
                let right = (heard.get()..).map(|n| pattern(side, n));
                assert!(part.iter().take(count).copied().eq(right.take(count)), "wrong bytes");
                heard.set(heard.get() + count);
            }
            Some(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return false;
            }
        }
    }
    unreachable!("pieces are not empty")
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let plans = [[pieces(choices), pieces(choices)], [pieces(choices), pieces(choices)]];
    let buffers = [0, 1].map(|_| 1 << (10 + choices.below(8)) as libc::c_int);
    let resets = choices.percent(15);
    let counts: Rc<[[Cell<usize>; 2]; 2]> = Rc::default();
    let counted = counts.clone();
    let whole = gondola::block_on(timeout(Duration::from_secs(60), async move {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let mut tasks = Vec::new();
        for (side, (stream, [says, hears])) in [near, far].into_iter().zip(plans).enumerate() {
            set(&stream, libc::SO_SNDBUF, &buffers[side]);
            if resets && side == 0 {
                set(&stream, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
            }
            let (mut read_half, mut write_half) = stream.into_split();
            let (ours, theirs) = (counted.clone(), counted.clone());
            let says = async move { say(side, &mut write_half, &says, &ours[side][0]).await };
            tasks.push(try_spawn(says).unwrap());
            let hears = async move {
                if resets && side == 0 {
                    // Gone after the first piece, and once all is said: a reset to the other side, or
                    // an end and then a reset.
                    let mut buffer = vec![0; hears.sizes[0]];
                    let _ = hears.attempt(read_half.read(&mut buffer)).await;
                    return false;
                }
                hear(1 - side, &mut read_half, &hears, &theirs[1 - side][1]).await
            };
            tasks.push(try_spawn(hears).unwrap());
        }
        let mut whole = true;
        for task in tasks {
            whole &= task.await.unwrap();
        }
        whole
    }));
    let whole = whole.expect("a connection that stands still");
    assert_eq!(whole, !resets);
    for [said, heard] in counts.iter() {
        assert!(if whole { said == heard } else { heard <= said }, "{counts:?}");
    }
    u64::from(whole)
}

#[test]
fn bytes_arrive_over_real_sockets() {
    run(1_000, case);
}
