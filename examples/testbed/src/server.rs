//! Real servers as child processes, on free ports of loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// A port on which nobody listens. Somebody else may take it in the meantime, but the system gives
/// out other ones first.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// A server in a directory of its own. Ended by its pid, and the directory removed, when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Server {
    /// Starts what `command` makes of an empty directory and a free port, and waits until it accepts
    /// connections.
    ///
    /// # Panics
    /// If it is not installed, ends, or accepts nothing within 30 s.
    pub fn start(command: impl FnOnce(&Path, u16) -> Command) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("gondola-{}-{count}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the server");
        let port = free_port();
        let mut command = command(&directory, port);
        let log = fs::File::create(directory.join("log")).expect("the directory is ours");
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {:?}: {error}", command.get_program()),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { child, address, directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait().expect("it is our child") {
                let log = fs::read_to_string(server.directory.join("log")).unwrap_or_default();
                panic!("{:?} ended at once: {status}\n{log}", command.get_program());
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the server accepts nothing");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Waits until it has written that in its log.
    ///
    /// # Panics
    /// If it has not within 30 s.
    pub fn wait_for_log(&self, text: &str) {
        let start = Instant::now();
        let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        while !log().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(30), "{}", log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Server {
    /// Asks it to end, as ctrl-c does, and waits until it has.
    pub fn end(mut self) -> ExitStatus {
        self.interrupt();
        self.child.wait().expect("it is our child")
    }

    fn interrupt(&self) {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, so that its own children go as well.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
