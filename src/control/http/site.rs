//! What HTTP asks of the control thread, and for how long it waits for the answer.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::metrics::Snapshot;

/// A question, with where the answer goes.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether the daemon is stopping.
    IsDraining(oneshot::Sender<bool>),
    /// What metrics tell.
    Snapshot(oneshot::Sender<Snapshot>),
}

/// The control thread, from the HTTP thread.
#[derive(Clone, Debug)]
pub(super) struct Site {
    questions: mpsc::Sender<Question>,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// It hangs, or has far too much to do.
    #[error("the control thread did not answer within {0:?}")]
    TooLate(Duration),
    /// The daemon is at its end.
    #[error("the control thread has ended")]
    Ended,
}

impl Site {
    /// Asks through `questions`, with `patience` for the answer.
    pub(super) const fn new(questions: mpsc::Sender<Question>, patience: Duration) -> Self {
        Self { questions, patience }
    }

    /// Whether the daemon is stopping.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(super) async fn is_draining(&self) -> Result<bool, NoAnswer> {
        self.ask(Question::IsDraining).await
    }

    /// What metrics tell.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(super) async fn snapshot(&self) -> Result<Snapshot, NoAnswer> {
        self.ask(Question::Snapshot).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, NoAnswer> {
        let (to, answer) = oneshot::channel();
        let asked = async {
            self.questions.send(question(to)).await.map_err(|_| NoAnswer::Ended)?;
            answer.await.map_err(|_| NoAnswer::Ended)
        };
        timeout(self.patience, asked).await.unwrap_or(Err(NoAnswer::TooLate(self.patience)))
    }
}
