use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

struct Item {
    stream: TcpStream,
    deadline: Instant,
    asked: bool,
    reply: [u8; 4],
    read: usize,
}

impl Item {
    /// Whether it is done.
    fn go_on(&mut self) -> bool {
        if !self.asked {
            if let Some(error) = self.stream.take_error().unwrap() {
                panic!("{error}");
            }
            match self.stream.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return false,
                result => _ = result.unwrap(),
            }
            match self.stream.write(b"ping") {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                result => assert!(result.unwrap() == 4),
            }
            self.asked = true;
        }
        while self.read < 4 {
            match self.stream.read(&mut self.reply[self.read..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => panic!("closed"),
                result => self.read += result.unwrap(),
            }
        }
        assert!(self.reply == *b"pong");
        true
    }
}

fn main() {
    let address = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut items = [const { None }; 8];
    let mut left = 100;
    loop {
        for (at, item) in items.iter_mut().enumerate() {
            if item.is_none() && left > 0 {
                left -= 1;
                let mut stream = TcpStream::connect(address).unwrap();
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, Token(at), both).unwrap();
                let deadline = Instant::now() + Duration::from_secs(5);
                *item = Some(Item { stream, deadline, asked: false, reply: [0; 4], read: 0 });
            }
        }
        let Some(next) = items.iter().flatten().map(|item| item.deadline).min() else { return };
        let rest = next.saturating_duration_since(Instant::now());
        assert!(!rest.is_zero(), "too late");
        match poll.poll(&mut events, Some(rest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.unwrap(),
        }
        for event in &events {
            items[event.token().0].take_if(Item::go_on);
        }
    }
}
