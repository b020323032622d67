//! HTTP on gondola, over loopback.

use futures::future::join_all;
use gondola::hyper::{Executor, Io, Timer};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::timeout;
use gondola::{CancellationToken, Runtime, batch, metrics, try_spawn};
use gondola_http::{Failure, Version, ask, connect, serve};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);

/// A server in a task of its own, with `slots` for it, its connections and the client.
fn with_server<F: Future>(
    slots: usize,
    version: Version,
    patience: Duration,
    client: impl FnOnce(SocketAddr, CancellationToken) -> F,
) -> F::Output {
    let mut runtime = Runtime::builder().slots(slots).build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let server = async move { serve(listener, version, patience, &stopped).await };
        try_spawn(server).unwrap().detach();
        timeout(LONG, client(address, stop)).await.expect("it waits for ever")
    })
}

#[test]
fn a_batch_of_requests_on_connections_that_are_kept() {
    with_server(64, Version::Http1, LONG, |address, _| async move {
        // A pool of as many connections as there may be requests at a time.
        let pool = std::cell::RefCell::new(Vec::new());
        let run = batch(0..500_usize).limit(8).try_map(async |n| {
            let pooled = pool.borrow_mut().pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => connect(address).await?,
            };
            let body = vec![b'.'; n * 37 % 70_000];
            let answer = ask(&mut connection, body.clone()).await?;
            pool.borrow_mut().push(connection);
            Ok::<_, Failure>(answer == body)
        });
        assert!(run.await.unwrap().into_iter().all(|same| same));
        assert!(pool.borrow().len() <= 8);
    });
}

#[test]
fn whoever_sends_no_head_is_sent_away_and_the_others_are_served() {
    with_server(64, Version::Http1, Duration::from_millis(50), |address, _| async move {
        let slow = join_all((0..20).map(|_| async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
            let mut answer = [0; 1024];
            while !matches!(stream.read(&mut answer).await, Ok(0) | Err(_)) {}
        }));
        let served = async {
            let mut connection = connect(address).await.unwrap();
            for _ in 0..20 {
                assert_eq!(ask(&mut connection, "hi").await.unwrap(), "hi");
            }
        };
        futures::join!(slow, served);
    });
}

#[test]
fn requests_that_have_begun_are_answered_when_the_server_stops() {
    with_server(8, Version::Http1, LONG, |address, stop| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nhe")
            .await
            .unwrap();
        // The server reads its beginning.
        gondola::time::sleep(Duration::from_millis(20)).await;
        stop.cancel();
        gondola::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"re").await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 256];
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
    });
}

#[test]
fn garbage_is_answered_by_an_error_and_harms_nobody() {
    with_server(8, Version::Http1, LONG, |address, _| async move {
        for garbage in
            [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"GET\r\n\r\n", &[b'x'; 700_000]]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may close before all of it was sent.
            let _ = stream.write_all(garbage).await;
            let mut answer = [0; 4096];
            while !matches!(stream.read(&mut answer).await, Ok(0) | Err(_)) {}
        }
        let mut connection = connect(address).await.unwrap();
        assert_eq!(ask(&mut connection, "hi").await.unwrap(), "hi");
    });
}

#[test]
fn http2_streams_run_beside_each_other_and_a_full_ring_resets_what_it_cannot_hold() {
    for (slots, all) in [(64, true), (6, false)] {
        // In a ring of its own: a client has a task for each request as well.
        let (send, address) = mpsc::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let server = thread::spawn(move || {
            Runtime::builder().slots(slots).build().unwrap().block_on(async {
                let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
                send.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, Version::Http2, LONG, &stopped).await;
            });
        });
        let address = address.recv().unwrap();
        gondola::block_on(timeout(LONG, async {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut builder = http2::Builder::new(Executor);
            let (send, connection) = builder.timer(Timer).handshake(Io::new(stream)).await.unwrap();
            try_spawn(connection).unwrap().detach();
            let request = |n: usize| {
                let mut send = send.clone();
                async move {
                    send.ready().await?;
                    let body = Full::new(Bytes::from(n.to_string()));
                    let request = Request::post("http://here/").body(body)?;
                    let answer = send.send_request(request).await?;
                    let body = answer.into_body().collect().await?.to_bytes();
                    Ok::<_, Failure>(body == n.to_string())
                }
            };
            let answers = join_all((0..24).map(request)).await;
            assert!(answers.iter().all(|answer| !matches!(answer, Ok(false))));
            let good = answers.iter().filter(|answer| answer.is_ok()).count();
            match all {
                true => assert_eq!(good, 24),
                false => assert!((1..24).contains(&good), "{good} answers"),
            }
            // The connection lives.
            assert!(request(24).await.unwrap());
        }))
        .expect("it waits for ever");
        stop.cancel();
        server.join().unwrap();
    }
}

/// tokio is compiled for its channels. Nothing of it runs: outside of gondola's tasks there is nobody.
#[test]
fn no_runtime_of_tokio_runs() {
    with_server(8, Version::Http1, LONG, |address, _| async move {
        let mut connection = connect(address).await.unwrap();
        ask(&mut connection, "hi").await.unwrap();
        let threads = std::fs::read_dir("/proc/self/task").map(|tasks| {
            tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| name.contains("tokio"))
                .count()
        });
        assert_eq!(threads.unwrap_or(0), 0);
        let now = metrics().unwrap();
        // The server, its slot, its connection, and the client's.
        assert_eq!(now.taken, 4);
        drop(connection);
    });
}
