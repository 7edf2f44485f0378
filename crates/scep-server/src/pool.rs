//! Where private-key work runs: off the async threads, bounded, with a bounded queue.

use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Semaphore;

/// A bounded pool on tokio's blocking threads.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PoolError {
    /// The queue is full: answer 503 early rather than late.
    #[error("the queue is full")]
    Overloaded,
    /// The work panicked, or the runtime is going down.
    #[error("the work was lost")]
    Lost,
}

/// A place in the queue, held from the first work on a message to its answer, so that what was begun is
/// finished before more is let in.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Pool,
    _admitted: tokio::sync::OwnedSemaphorePermit,
}

impl Pool {
    /// `threads` at work at once, and `queue` more messages waiting.
    pub(crate) fn new(threads: usize, queue: usize) -> Self {
        let threads = threads.clamp(1, 1024);
        Self {
            running: Arc::new(Semaphore::new(threads)),
            admitted: Arc::new(Semaphore::new(threads.saturating_add(queue.min(1 << 20)))),
        }
    }

    /// Takes a place, or says at once that there is none.
    pub(crate) fn enter(&self) -> Result<Place, PoolError> {
        match Arc::clone(&self.admitted).try_acquire_owned() {
            Ok(admitted) => Ok(Place { pool: self.clone(), _admitted: admitted }),
            Err(_) => Err(PoolError::Overloaded),
        }
    }
}

impl Place {
    /// Runs blocking work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let running = Arc::clone(&self.pool.running);
        let permit = running.acquire_owned().await.map_err(|_| PoolError::Lost)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_| PoolError::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attack_59_a_full_queue_answers_at_once() {
        let pool = Pool::new(1, 1);
        let first = pool.enter().unwrap();
        let second = pool.enter().unwrap();
        assert_eq!(pool.enter().unwrap_err(), PoolError::Overloaded);
        assert_eq!(first.run(|| 7).await, Ok(7));
        drop(second);
        assert!(pool.enter().is_ok());
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_error_and_frees_its_thread() {
        let place = Pool::new(1, 0).enter().unwrap();
        assert_eq!(place.run(|| panic!("on purpose")).await, Err::<(), _>(PoolError::Lost));
        assert_eq!(place.run(|| 7).await, Ok(7));
    }
}
