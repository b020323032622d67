//! What other crates can do with our types: the features.

mod support {
    pub mod net;
}

use futures::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy,
};
use futures::join;
use futures::stream::StreamExt;
use gondola::net::TcpStream;
use gondola::try_spawn;
use std::io;
use support::net::{pair, pair_with_std, pattern, run};

/// What a library does that knows the traits only.
async fn echo(stream: impl AsyncRead, writer: impl AsyncWrite) -> io::Result<u64> {
    let (stream, mut writer) = (std::pin::pin!(stream), std::pin::pin!(writer));
    let count = copy(stream, &mut writer).await?;
    writer.close().await?;
    Ok(count)
}

async fn carries(
    near: impl AsyncRead + AsyncWrite + Unpin,
    (reader, writer): (impl AsyncRead, impl AsyncWrite),
) {
    let sent = pattern(300_000);
    let (mut reads, mut writes) = near.split();
    let mut received = Vec::new();
    let (echoed, written, read) = join!(
        echo(reader, writer),
        async {
            writes.write_all(&sent).await?;
            writes.close().await
        },
        reads.read_to_end(&mut received),
    );
    written.unwrap();
    assert_eq!((echoed.unwrap(), read.unwrap()), (300_000, 300_000));
    assert!(received == sent);
}

#[test]
fn bytes_go_through_the_traits_of_futures_io() {
    run(async {
        let (near, far) = pair().await;
        carries(near, far.into_split()).await;
        let (near, mut far) = pair().await;
        carries(near, TcpStream::split(&mut far)).await;
        #[cfg(unix)]
        {
            use gondola::net::{Async, UnixStream};
            let (near, far) = UnixStream::pair().unwrap();
            carries(near, far.into_split()).await;
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            let far = UnixStream::from_std(far).unwrap().into_split();
            let mut near = Async::new(near).unwrap();
            near.write_all(b"hi\n").await.unwrap();
            near.close().await.unwrap();
            near.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
            let mut lines = BufReader::new(far.0).lines();
            assert_eq!(lines.next().await.unwrap().unwrap(), "hi");
            assert!(lines.next().await.is_none());
        }
    });
}

#[test]
fn a_peer_that_has_closed_already_makes_closing_no_error() {
    run(async {
        let (mut near, far) = pair_with_std().await;
        drop(far);
        assert_eq!(AsyncReadExt::read(&mut near, &mut [0; 8]).await.unwrap(), 0);
        near.close().await.unwrap();
        near.close().await.unwrap();
    });
}

/// Two tasks at one stream, each through its half of what `futures` makes of it.
#[test]
fn two_tasks_share_a_stream_that_futures_has_split() {
    run(async {
        let (near, mut far) = pair().await;
        let (mut reads, mut writes) = AsyncReadExt::split(near);
        let reading = try_spawn(async move {
            let mut all = Vec::new();
            reads.read_to_end(&mut all).await.map(|_| all)
        });
        let writing = try_spawn(async move {
            let all = pattern(200_000);
            writes.write_all(&all).await?;
            writes.close().await
        });
        let mut seen = vec![0; 200_000];
        TcpStream::read_exact(&mut far, &mut seen).await.unwrap();
        TcpStream::write_all(&mut far, b"done").await.unwrap();
        drop(far);
        writing.unwrap().await.unwrap().unwrap();
        assert_eq!(reading.unwrap().await.unwrap().unwrap(), b"done");
        assert!(seen == pattern(200_000));
    });
}
