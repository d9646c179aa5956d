use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream on which those who write at the same time write together.
///
/// redis-rs writes what it was given as soon as it runs, and Tokio lets it run as soon as the first request has
/// given it a command, before the next request that is ready. So of a hundred requests each costs a system call and
/// a packet, and Redis as much again. Here a write lets all that is ready run first, and then takes along what they
/// gave. Where that brings nothing, because a request is alone, more and more writes are done without: a request
/// that is alone waits for nobody, and no request ever waits for one that has not come yet.
pub(crate) struct Gathering<S> {
    stream: S,
    /// How much there was to be written when the others were let run.
    waited_with: Option<usize>,
    /// How many writes are done at once before the next that waits.
    left_at_once: u32,
    /// How many that were the last time.
    at_once: u32,
}

impl<S> Gathering<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, waited_with: None, left_at_once: 0, at_once: 0 }
    }

    fn waits(&mut self, len: usize) -> bool {
        let waits = self.waited_with.is_none() && self.left_at_once == 0 && len < ENOUGH;
        if waits {
            self.waited_with = Some(len);
        }
        waits
    }

    /// Learns from a write whether it was good to wait for it.
    fn note_write(&mut self, len: usize) {
        match self.waited_with.take() {
            Some(before) if before < len => self.at_once = 0,
            Some(_) => self.at_once = (2 * self.at_once + 1).min(MAX_AT_ONCE),
            None => {
                self.left_at_once = self.left_at_once.saturating_sub(1);
                return;
            }
        }
        self.left_at_once = self.at_once;
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waits(bytes.len()) {
            // A task that wakes itself comes after those that are ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.note_write(bytes.len());
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

/// With so many bytes a write does not wait: there are many commands in it, or a large one.
const ENOUGH: usize = 8 * 1024;

/// How many writes are done at once, at most, before it is tried again whether others come along.
const MAX_AT_ONCE: u32 = 31;

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// Takes all, and notes how much at a time.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<usize>>>);

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
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

    /// Writes as redis-rs does, with so many bytes coming in whenever the writer is not run, and tells how often it
    /// was made to wait.
    async fn write(stream: &mut Gathering<Sink>, first: usize, meanwhile: usize) -> usize {
        let (mut len, mut waits) = (first, 0);
        poll_fn(|context| {
            let written = Pin::new(&mut *stream).poll_write(context, &vec![0; len]);
            if written.is_pending() {
                (len, waits) = (len + meanwhile, waits + 1);
            }
            written
        })
        .await
        .unwrap();
        waits
    }

    #[tokio::test]
    async fn what_comes_meanwhile_is_written_along() {
        let sink = Sink::default();
        let mut stream = Gathering::new(sink.clone());
        for _ in 0..10 {
            assert_eq!(write(&mut stream, 10, 90).await, 1);
        }
        assert_eq!(*sink.0.lock().unwrap(), [100; 10]);
    }

    #[tokio::test]
    async fn who_is_alone_waits_for_nobody() {
        let mut stream = Gathering::new(Sink::default());
        let mut waits = 0;
        for _ in 0..1_000 {
            waits += write(&mut stream, 10, 0).await;
        }
        assert_eq!(waits, 5 + (1_000 - 31) / 32);
        // The next that is not alone is soon noticed, and then all are.
        let mut before = 0;
        while write(&mut stream, 10, 10).await == 0 {
            before += 1;
        }
        assert!(before <= 31, "{before}");
        assert_eq!(write(&mut stream, 10, 10).await, 1);
    }

    #[tokio::test]
    async fn much_is_written_at_once() {
        let mut stream = Gathering::new(Sink::default());
        assert_eq!(write(&mut stream, ENOUGH, 10).await, 0);
    }
}
