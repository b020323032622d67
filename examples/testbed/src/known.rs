//! How to start the servers that the tests know.

use crate::Server;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

impl Server {
    /// Redis that keeps nothing. (Debian: `redis-server`.)
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn redis() -> Self {
        Self::start(|directory, port| {
            let mut command = Command::new("redis-server");
            let port = port.to_string();
            command.current_dir(directory);
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
            command
        })
    }

    /// PostgreSQL with the user and the database `postgres`, and no password. (Debian: `postgresql`.)
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn postgres() -> Self {
        let server = Self::start(|directory, port| {
            let data = directory.join("data");
            fs::create_dir(&data).expect("a directory for the data");
            if is_root() {
                run(Command::new("chown").args(["-R", "postgres"]).arg(directory));
            }
            let mut initdb = as_postgres("initdb");
            run(initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "--no-sync"]));
            let mut command = as_postgres("postgres");
            command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-F"]);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
            command
        });
        // It accepts connections a while before it serves them.
        server.wait_for_log("ready to accept connections");
        server
    }

    /// dynalite, a DynamoDB that keeps nothing, from `target/dynalite` of the repository. (npm:
    /// `npm install --prefix target/dynalite dynalite@4`.)
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn dynalite() -> Self {
        Self::start(|_, port| {
            let program = "../../target/dynalite/node_modules/dynalite/cli.js";
            let mut command = Command::new("node");
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(program));
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--createTableMs", "0"]);
            command
        })
    }

    /// nginx with these lines within `http { server { .. } }`, and `PORT` replaced by its port.
    /// (Debian: `nginx`.)
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn nginx(lines: &str) -> Self {
        Self::start(|directory, port| {
            let lines = lines.replace("PORT", &port.to_string());
            let conf = format!(
                "daemon off; pid {0}/pid; error_log {0}/error.log; user root;
                 events {{ worker_connections 4096; }}
                 http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
                     fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
                     server {{ root {0}; {lines} }} }}",
                directory.display()
            );
            fs::write(directory.join("nginx.conf"), conf).expect("the directory is ours");
            let mut command = Command::new("nginx");
            command.arg("-c").arg(directory.join("nginx.conf"));
            command.arg("-e").arg(directory.join("error.log"));
            command
        })
    }
}

fn is_root() -> bool {
    // Its owner is who runs this.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let program = postgres_directory().join(program);
    if !is_root() {
        return Command::new(program);
    }
    // It becomes that program, so the pid is the right one.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]);
    command.arg(program);
    command
}

/// Debian keeps it outside of the path, under its version.
fn postgres_directory() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let versions = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    versions.max().filter(|path| Path::is_dir(path)).expect("PostgreSQL is installed")
}

fn run(command: &mut Command) {
    let output = command.output().expect("it is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
