//! Work on the bytes of large requests, away from the threads that serve connections, and only so much of it at once.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use crate::receipt::Refusal;

/// Up to so many bytes are worked on where they are: it takes less than handing them over.
const INLINE: usize = 256 << 10;

/// As many as there are processors: more would only share them.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));

/// Does `work` on a body of this size.
pub async fn on<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    if size <= INLINE {
        return Ok(work());
    }
    let turn = TURNS.acquire().await.expect("the semaphore is never closed");
    let work = move || {
        // Kept by the work, not by who waits for it: a sender who hangs up ends only the waiting.
        let _turn = turn;
        work()
    };
    // It ends early only by a panic, of which nothing is acknowledged.
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Internal)
}
