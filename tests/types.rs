//! What must hold of the types, checked at compile time.

use gondola::time::{Interval, Sleep, Timeout, timeout};
use gondola::{
    BatchError, CancellationToken, Cancelled, DropGuard, JoinError, JoinHandle, Reserve,
    RunUntilCancelled, Runtime, Slot, SlotsOutOfRange, TrySpawnError, batch, net,
};
use std::future::Ready;
use std::marker::PhantomData;

/// `Is<T>::SEND` is the inherent constant if `T: Send`, else that of the blanket trait.
struct Is<T: ?Sized>(PhantomData<T>);
trait Not {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNPIN: bool = false;
}
impl<T: ?Sized> Not for Is<T> {}
impl<T: ?Sized + Send> Is<T> {
    const SEND: bool = true;
}
impl<T: ?Sized + Sync> Is<T> {
    const SYNC: bool = true;
}
impl<T: ?Sized + Unpin> Is<T> {
    const UNPIN: bool = true;
}

macro_rules! stays_on_its_thread {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(!Is::<$T>::SEND && !Is::<$T>::SYNC);)* };
}
macro_rules! goes_anywhere {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(Is::<$T>::SEND && Is::<$T>::SYNC);)* };
}
macro_rules! unpin {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(Is::<$T>::UNPIN);)* };
}

type Items = std::ops::Range<u8>;
type ForEach = gondola::batch::Run<Items, fn(u8) -> Ready<()>, Ready<()>, gondola::batch::ForEach>;

stays_on_its_thread!(
    Runtime,
    JoinHandle<()>,
    Reserve,
    Slot,
    Sleep,
    Interval,
    Timeout<Ready<()>>,
    net::TcpListener,
    net::TcpStream,
    net::OwnedReadHalf,
    net::OwnedWriteHalf,
    net::ReadHalf<'static>,
    net::WriteHalf<'static>,
    ForEach,
);
goes_anywhere!(
    std::task::Waker,
    CancellationToken,
    Cancelled<'static>,
    RunUntilCancelled<'static, Ready<()>>,
    DropGuard,
    JoinError,
    SlotsOutOfRange,
    TrySpawnError<Ready<()>>,
    BatchError<Items, std::io::Error>,
);
unpin!(JoinHandle<std::marker::PhantomPinned>, Sleep, Reserve, Cancelled<'static>, ForEach);

const _: () = assert!(!Is::<Timeout<std::marker::PhantomPinned>>::UNPIN);
const _: () = assert!(size_of::<Sleep>() <= 48);
const _: () = assert!(size_of::<JoinHandle<[u8; 99]>>() <= 24);

#[test]
fn no_combinator_doubles_its_future() {
    fn overhead<F: Future, G>(future: F, wrap: impl FnOnce(F) -> G) -> usize {
        let before = size_of_val(&future);
        size_of_val(&wrap(future)) - before
    }
    let big = || async {
        let big = [0_u8; 4_000];
        gondola::yield_now().await;
        big[0]
    };
    let token = CancellationToken::new();
    assert!(overhead(big(), |f| timeout(std::time::Duration::ZERO, f)) <= 48);
    assert!(overhead(big(), |f| token.run_until_cancelled(f)) <= 48);
    // A run holds its futures elsewhere.
    assert!(size_of_val(&batch(0..9).limit(3).map(|_| big())) <= 400);
}

/// What the compiler says of a program.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn compiled(source: &str) -> String {
    use std::fs;
    use std::io::Write;
    use std::process::{Command, Stdio};

    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let library = fs::read_dir(&deps).unwrap().map(|file| file.unwrap()).filter(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with("libgondola-") && name.ends_with(".rlib")
    });
    let newest = library.max_by_key(|file| file.metadata().unwrap().modified().unwrap()).unwrap();
    // A folder of its own, never a device: rustc puts a new file in the place of the one it names.
    let output = std::env::temp_dir().join(format!("gondola-types-{}", std::process::id()));
    fs::create_dir_all(&output).unwrap();
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["-", "--crate-type=lib", "--edition=2024", "--emit=metadata", "--out-dir"])
        .arg(&output)
        .arg(format!("--extern=gondola={}", newest.path().display()))
        .arg(format!("-Ldependency={}", deps.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let said = compiler.wait_with_output().unwrap().stderr;
    fs::remove_dir_all(output).unwrap();
    String::from_utf8(said).unwrap()
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_compiler_names_the_cure_for_a_batch_without_a_limit() {
    let said = compiled("pub fn f() { drop(gondola::batch(0..3).for_each(async |_| ())); }");
    assert!(said.contains("this batch has no limit yet"), "{said}");
    assert!(said.contains("add `.limit(k)` before the verb"), "{said}");
    let said =
        compiled("pub fn f() { drop(gondola::batch(0..3).limit(2).for_each(async |_| ())); }");
    assert_eq!(said, "");
}
