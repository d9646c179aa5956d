use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::metrics::WriteMetrics;

/// A stream that coalesces concurrent writes: commands of several requests share one system call.
///
/// redis-rs writes its queued commands as soon as its task runs. A worker thread of Tokio runs this
/// task as soon as the first request has queued a command, before the next ready request. So each
/// of a hundred concurrent requests costs a system call and a packet, and about the same again in
/// Redis. This stream yields before a write, so that the ready tasks of the thread run first and
/// their commands join the write. A write never waits for commands that are still to come.
///
/// If yields bring no commands, because a request is alone, the stream yields more and more rarely:
/// in the end, before every 32nd write only. If yields take long twice in a row, because the ready
/// tasks compute much, the stream stops yielding for a hundred times as long as the last yield
/// took.
pub(crate) struct BatchedWrites<S> {
    stream: S,
    received: Arc<Received>,
    metrics: WriteMetrics,
    /// The start of the current yield, and the number of bytes to write at that time.
    waiting: Option<(Instant, usize)>,
    /// The stream does not yield again before the current bytes are written.
    is_due: bool,
    /// The number of immediate writes left before the next yield.
    left_at_once: u32,
    /// The number of immediate writes planned after the last yield.
    at_once: u32,
    /// The last yield took too long.
    was_long: bool,
    /// Until this time, all writes are immediate.
    rests_until: Option<Instant>,
}

impl<S> BatchedWrites<S> {
    pub(crate) fn new(stream: S, received: Arc<Received>, metrics: WriteMetrics) -> Self {
        Self {
            stream,
            received,
            metrics,
            waiting: None,
            is_due: false,
            left_at_once: 0,
            at_once: 0,
            was_long: false,
            rests_until: None,
        }
    }

    /// Returns `true` if the `len` bytes are to be written now. Returns `false` if the stream
    /// yields first.
    fn is_due(&mut self, len: usize) -> bool {
        if !self.is_due {
            match self.waiting.take() {
                Some((since, before)) => self.learn(since.elapsed(), len.saturating_sub(before)),
                None if self.left_at_once == 0 && len < ENOUGH && !self.rests() => {
                    self.waiting = Some((Instant::now(), len));
                    return false;
                }
                None => self.left_at_once = self.left_at_once.saturating_sub(1),
            }
            self.is_due = true;
        }
        true
    }

    fn rests(&mut self) -> bool {
        self.rests_until.take_if(|until| *until <= Instant::now());
        self.rests_until.is_some()
    }

    /// Plans the next yields by the duration of the last yield and the number of bytes gained.
    fn learn(&mut self, took: Duration, brought: usize) {
        let brought = u32::try_from(brought).unwrap_or(u32::MAX);
        let is_long = took > WORTH.saturating_mul(brought.max(A_COMMAND));
        // A single long yield may only mean that another process had the processor.
        if std::mem::replace(&mut self.was_long, is_long) && is_long {
            self.rests_until = Some(Instant::now() + REST * took);
        }
        self.at_once = if brought > 0 { 0 } else { (2 * self.at_once + 1).min(MAX_AT_ONCE) };
        self.left_at_once = self.at_once;
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BatchedWrites<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_due(bytes.len()) {
            // A task that wakes itself runs after the tasks that are ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.is_due = false;
        self.metrics.on_write();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BatchedWrites<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.received.add(buffer.filled().len() - before))
    }
}

/// The record of received bytes: when the last bytes arrived, and how many arrived since the last
/// reply.
pub(crate) struct Received {
    begun_at: Instant,
    millis: AtomicU64,
    since_answer: AtomicUsize,
}

impl Received {
    pub(crate) fn new() -> Self {
        let (millis, since_answer) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { begun_at: Instant::now(), millis, since_answer }
    }

    fn add(&self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            self.millis.store(self.now(), Ordering::Relaxed);
        }
        if self.since_answer.fetch_add(bytes, Ordering::Relaxed) > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
        Ok(())
    }

    /// Starts the count of bytes for the next reply.
    pub(crate) fn on_answer(&self) {
        self.since_answer.store(0, Ordering::Relaxed);
    }

    /// Returns how long ago the last bytes arrived.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The number of bytes that a server may send without completing a reply, so that a broken server
/// cannot fill the memory of this process. The replies to one pipeline count as one reply: a
/// hundred sessions at most.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// From this number of bytes, a write is immediate: the bytes hold many commands, or a large
/// command.
const ENOUGH: usize = 8 * 1024;

/// The time that a yield may take for each byte gained, but at least 100 microseconds in all, as
/// for one command that reads. During a longer yield, the commands and the replies of Redis would
/// wait for the computing tasks.
const WORTH: Duration = Duration::from_micros(2);

/// The approximate size of a command that reads, in bytes.
const A_COMMAND: u32 = 50;

/// The time without yields after two long yields, as a multiple of the last. So yields take at most
/// about a hundredth of the time.
const REST: u32 = 100;

/// The most immediate writes before the next yield tests whether other commands join.
const MAX_AT_ONCE: u32 = 31;

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Mutex, atomic::AtomicBool},
    };

    use super::*;

    /// A stream that records the size of each write, and accepts no bytes while full.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<usize>>>, Arc<AtomicBool>);

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.1.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            self.0.lock().unwrap().push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes as redis-rs does, and returns `true` if the write yielded. During a yield, other
    /// tasks add the bytes and take the time of `others`.
    async fn write(
        stream: &mut BatchedWrites<Sink>,
        first: usize,
        others: (usize, Duration),
    ) -> bool {
        let mut waits = async |len| {
            let bytes = vec![0; len];
            poll_fn(|context| {
                Poll::Ready(Pin::new(&mut *stream).poll_write(context, &bytes).is_pending())
            })
            .await
        };
        let has_to_wait = waits(first).await;
        if has_to_wait {
            let (brought, took) = others;
            tokio::time::advance(took).await;
            assert!(!waits(first + brought).await, "once is enough");
        }
        has_to_wait
    }

    const NOTHING: (usize, Duration) = (0, Duration::ZERO);

    #[tokio::test(start_paused = true)]
    async fn what_comes_meanwhile_is_written_along() {
        let sink = Sink::default();
        let mut stream =
            BatchedWrites::new(sink.clone(), Arc::new(Received::new()), WriteMetrics::default());
        for _ in 0..10 {
            assert!(write(&mut stream, 10, (90, 90 * WORTH)).await);
        }
        assert_eq!(*sink.0.lock().unwrap(), [100; 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_waits_seldom() {
        let mut stream =
            BatchedWrites::new(Sink::default(), Arc::new(Received::new()), WriteMetrics::default());
        let mut waits = 0;
        for _ in 0..1_000 {
            waits += usize::from(write(&mut stream, 10, NOTHING).await);
        }
        assert_eq!(waits, 5 + (1_000 - 31) / 32);
        // The stream soon notices a write that is joined by others, and then yields before each
        // write.
        let mut before = 0;
        while !write(&mut stream, 10, (10, Duration::ZERO)).await {
            before += 1;
        }
        assert!(before <= 31, "{before}");
        assert!(write(&mut stream, 10, (10, Duration::ZERO)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_computes_much_is_waited_for_a_hundredth_of_the_time() {
        for brought in [0, 10, 200] {
            let mut stream = BatchedWrites::new(
                Sink::default(),
                Arc::new(Received::new()),
                WriteMetrics::default(),
            );
            let slow = (brought, WORTH * 200 + Duration::from_millis(1));
            let (begin, mut waited) = (Instant::now(), Duration::ZERO);
            while begin.elapsed() < Duration::from_secs(10) {
                if write(&mut stream, 10, slow).await {
                    waited += slow.1;
                }
                tokio::time::advance(Duration::from_micros(100)).await;
            }
            let share = waited.div_duration_f64(begin.elapsed());
            assert!((0.005..0.011).contains(&share), "{brought}: {share}");
        }
    }

    /// The wait for a full socket must not count as a yield.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_is_waited_for_once_and_teaches_nothing() {
        let sink = Sink::default();
        let mut stream =
            BatchedWrites::new(sink.clone(), Arc::new(Received::new()), WriteMetrics::default());
        let mut poll = async |len| {
            let bytes = vec![0; len];
            poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_write(context, &bytes))).await
        };
        for _ in 0..3 {
            assert!(poll(10).await.is_pending(), "the others are let run");
            sink.1.store(true, Ordering::Relaxed);
            for _ in 0..3 {
                assert!(poll(20).await.is_pending(), "it is full");
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            sink.1.store(false, Ordering::Relaxed);
            assert!(poll(20).await.is_ready());
        }
        assert_eq!(*sink.0.lock().unwrap(), [20; 3]);
    }

    #[tokio::test]
    async fn much_is_written_at_once() {
        let mut stream =
            BatchedWrites::new(Sink::default(), Arc::new(Received::new()), WriteMetrics::default());
        assert!(!write(&mut stream, ENOUGH, NOTHING).await);
    }
}
