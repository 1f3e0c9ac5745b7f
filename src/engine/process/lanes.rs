use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

/// Does something to every item, a bounded number of them at a time.
pub(super) async fn each<T, O, F>(
    items: impl Iterator<Item = T> + Send,
    at_once: usize,
    work: impl Fn(T) -> F + Sync,
) -> Vec<O>
where
    T: Send,
    O: Send,
    F: Future<Output = O> + Send,
{
    let items = Mutex::new(items);
    let done = Mutex::new(Vec::new());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || async {
        while let Some(item) = next() {
            let outcome = work(item).await;
            done.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    all((0..at_once).map(|_| lane()).collect::<Vec<_>>()).await;
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut open: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(move |cx| {
        open.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_item_is_done_and_never_too_many_at_once() {
        let (open, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (open, most) = (&open, &most);
        let mut done = futures_lite::future::block_on(super::each(0..100, 7, |item| async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            futures_lite::future::yield_now().await;
            open.fetch_sub(1, Ordering::SeqCst);
            item
        }));
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 7);
    }
}
