//! Bodies that have to come at some speed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::ServerLimits;

/// Told when a body was too slow.
#[derive(Debug, Clone, Default)]
pub struct Slow(Arc<AtomicBool>);

impl Slow {
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body, cut off where it comes too slowly.
pub fn timely(body: Body, limits: &ServerLimits, slow: Slow) -> Body {
    let due = Instant::now() + limits.body_grace;
    let (body, rate) = (body.into_data_stream(), limits.body_rate.max(1));
    Body::from_stream(Timely { body, rate, due, wait: Box::pin(sleep_until(due)), slow })
}

struct Timely {
    body: BodyDataStream,
    /// Bytes a second.
    rate: u32,
    due: Instant,
    wait: Pin<Box<Sleep>>,
    slow: Slow,
}

impl Stream for Timely {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(next) = Pin::new(&mut self.body).poll_next(cx) {
            if let Some(Ok(bytes)) = &next {
                let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let more = Duration::from_secs(1) * bytes / self.rate;
                self.due += more;
                let due = self.due;
                self.wait.as_mut().reset(due);
            }
            return Poll::Ready(next);
        }
        if self.wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.slow.0.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }
}
