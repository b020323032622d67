//! Downloads from nginx, over a line that may be bad.

use gondola::{batch, block_on};
use https::{Client, Error, Url, download};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testbed::{Fault, Proxy, Server, free_port};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

fn content() -> Vec<u8> {
    (0..500_000_u32).map(|n| (n / 7) as u8).collect()
}

/// nginx with a file of half a megabyte, redirects, and connections for five requests each. Where
/// there is a certificate, it speaks TLS.
fn server(certificate: bool) -> Server {
    let tls = match certificate {
        true => {
            "listen 127.0.0.1:PORT ssl; ssl_certificate ../cert.pem; ssl_certificate_key ../key.pem;"
        }
        false => "listen 127.0.0.1:PORT;",
    };
    let server = Server::nginx(&format!(
        "{} keepalive_requests 5;
         location /moved {{ return 302 /file; }}
         location /far {{ return 301 /moved; }}
         location /round {{ return 302 /round; }}
         location /away {{ return 302 ftp://elsewhere/file; }}
         location /busy {{ return 503; }}",
        tls.replace("..", certificates().to_str().unwrap()),
    ));
    fs::write(server.directory().join("file"), content()).unwrap();
    server
}

/// A certificate for localhost that signs itself, made once.
fn certificates() -> PathBuf {
    static MADE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let make = || {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        directory
    };
    MADE.get_or_init(make).clone()
}

fn client(patience: Duration) -> Client {
    Client::new(Some(&certificates().join("cert.pem")), patience, 5).unwrap()
}

fn url(scheme: &str, port: u16, path: &str) -> Url {
    format!("{scheme}://localhost:{port}/{path}").parse().unwrap()
}

/// A place for a file that is not there.
fn place(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn many_files_over_few_connections_that_the_server_closes_now_and_then() {
    for scheme in ["http", "https"] {
        let server = server(scheme == "https");
        let proxy = Proxy::start(server.address());
        block_on(async {
            let client = client(PATIENCE);
            let run = batch(0..40).limit(4).try_for_each(async |n| {
                let path = place(&format!("{scheme}-{n}"));
                let from = if n % 2 == 0 { "file" } else { "far" };
                let came =
                    download(&client, url(scheme, proxy.address().port(), from), &path).await?;
                assert_eq!((came, fs::read(&path).unwrap()), (500_000, content()));
                fs::remove_file(&path).map_err(Error::File)
            });
            run.await.unwrap();
        });
        // 80 requests, at most five on each connection; a redirect's body may cost one.
        assert!(proxy.connections() <= 30, "{} connections", proxy.connections());
    }
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let server = server(false);
    let proxy = Proxy::start(server.address());
    let (path, client) = (place("resumed"), client(SHORT));
    let url = url("http", proxy.address().port(), "file");
    block_on(async {
        for fault in [Fault::End(100_000), Fault::Reset(100_000), Fault::Stall(100_000)] {
            proxy.set(Some(fault));
            let failed = download(&client, url.clone(), &path).await.unwrap_err();
            assert!(matches!(failed, Error::Http(_) | Error::Silent(_)), "{fault:?}: {failed}");
        }
        let there = fs::metadata(&path).unwrap().len();
        assert!((250_000..300_000).contains(&there), "{there} bytes");
        proxy.set(None);
        assert_eq!(download(&client, url.clone(), &path).await.unwrap(), 500_000 - there);
        assert_eq!(fs::read(&path).unwrap(), content());
        // Nothing is left to come.
        assert_eq!(download(&client, url.clone(), &path).await.unwrap(), 0);
        // A file that is longer than what is to come is no beginning of it.
        fs::write(&path, vec![0; 600_000]).unwrap();
        let longer = download(&client, url, &path).await.unwrap_err();
        assert!(matches!(longer, Error::Status(status) if status == 416), "{longer}");
    });
}

#[test]
fn what_goes_wrong_is_told() {
    let (plain, secure) = (server(false), server(true));
    let proxy = Proxy::start(secure.address());
    let path = place("wrong");
    let get = |client: Client, url: Url| {
        block_on(async { download(&client, url, &path).await.unwrap_err() })
    };
    let plainly = |path| url("http", plain.address().port(), path);
    assert!(matches!(get(client(PATIENCE), plainly("round")), Error::Redirects(5)));
    assert!(matches!(get(client(PATIENCE), plainly("away")), Error::Url(_)));
    assert!(matches!(get(client(PATIENCE), plainly("busy")), Error::Status(s) if s == 503));
    assert!(matches!(get(client(PATIENCE), plainly("none")), Error::Status(s) if s == 404));
    let nobody = url("http", free_port(), "file");
    assert!(matches!(get(client(PATIENCE), nobody), Error::Connect { .. }));
    let nowhere = "http://no-such-name.invalid/file".parse().unwrap();
    assert!(matches!(get(client(PATIENCE), nowhere), Error::Connect { .. }));

    // A certificate that nobody trusts, one of another name, and what is no TLS at all.
    let port = secure.address().port();
    let untrusting = Client::new(None, PATIENCE, 5).unwrap();
    assert!(matches!(get(untrusting, url("https", port, "file")), Error::Tls { .. }));
    let other = format!("https://127.0.0.1:{port}/file").parse().unwrap();
    assert!(matches!(get(client(PATIENCE), other), Error::Tls { .. }));
    let no_tls = url("https", plain.address().port(), "file");
    assert!(matches!(get(client(PATIENCE), no_tls), Error::Tls { .. }));
    let secretly = || url("https", proxy.address().port(), "file");
    proxy.set(Some(Fault::Garbage));
    assert!(matches!(get(client(PATIENCE), secretly()), Error::Tls { .. }));
    proxy.set(Some(Fault::Stall(0)));
    assert!(matches!(get(client(SHORT), secretly()), Error::Silent(_)));
    // A head without end, or one that is none.
    proxy.set(Some(Fault::Stall(1_500)));
    assert!(matches!(get(client(SHORT), secretly()), Error::Silent(_)));
    let garbage = Proxy::start(plain.address());
    garbage.set(Some(Fault::Garbage));
    let garbage = url("http", garbage.address().port(), "file");
    assert!(matches!(get(client(PATIENCE), garbage), Error::Http(_)));
}

#[test]
fn the_program_downloads_and_tells_what_failed() {
    let server = server(true);
    let port = server.address().port();
    let (there, missing) = (url("https", port, "file"), url("https", port, "none"));
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("program");
    let _ = fs::remove_dir_all(&output);
    fs::create_dir(&output).unwrap();
    let run = |urls: &[&Url]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_https"));
        command.arg("--roots").arg(certificates().join("cert.pem")).arg("--output").arg(&output);
        command.args(urls.iter().map(|url| url.as_str())).output().unwrap()
    };
    assert!(run(&[&there]).status.success());
    assert_eq!(fs::read(output.join("file")).unwrap(), content());
    let failed = run(&[&there, &missing]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("none: status 404"), "{failed:?}");
    assert_eq!(run(&[]).status.code(), Some(2));
}
