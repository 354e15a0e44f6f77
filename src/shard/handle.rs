//! The control thread's side of a shard: two bounded queues without locks, and a bell in each direction.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use ringbuf::traits::{Consumer, Observer, Producer};
use ringbuf::{HeapCons, HeapProd};

use super::command::{Command, Event};
use crate::io::{WakeSource, Waker};

/// Sends commands to one shard. Dropping it ends the shard as [`Command::Shutdown`] does.
pub struct CommandSender {
    queue: HeapProd<Command>,
    shard: Waker,
}

/// Hears what happened in one shard. Its descriptor is readable when events came.
pub struct EventReceiver {
    queue: HeapCons<Event>,
    bell: WakeSource,
}

/// The shard's command queue is full, or its thread has ended. Here is the command back.
#[derive(Debug, thiserror::Error)]
#[error("the shard takes no more commands now")]
pub struct Refused(pub Command);

impl CommandSender {
    pub(super) const fn new(queue: HeapProd<Command>, shard: Waker) -> Self {
        Self { queue, shard }
    }

    /// Hands a command over. It is begun within a turn, and what came of it is told by events.
    ///
    /// # Errors
    /// [`Refused`], with the command. Try again after the next event, or give up.
    pub fn send(&mut self, command: Command) -> Result<(), Refused> {
        if !self.queue.read_is_held() {
            return Err(Refused(command));
        }
        self.queue.try_push(command).map_err(Refused)?;
        self.shard.wake();
        Ok(())
    }
}

impl Drop for CommandSender {
    fn drop(&mut self) {
        // When there is no room, the shard is awake, and finds that nobody holds the other end.
        let _ = self.queue.try_push(Command::Shutdown);
        self.shard.wake();
    }
}

impl EventReceiver {
    pub(super) const fn new(queue: HeapCons<Event>, bell: WakeSource) -> Self {
        Self { queue, bell }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.queue.try_pop()
    }

    /// Takes note of the bell, so that it rings again. Ask for events after this.
    pub fn clear_bell(&self) {
        self.bell.clear();
    }

    /// Whether the shard's thread has ended and all its events were taken.
    pub fn is_over(&self) -> bool {
        // In this order: what was sent before the end is seen after it.
        !self.queue.write_is_held() && self.queue.is_empty()
    }
}

impl AsFd for EventReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl fmt::Debug for CommandSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSender").field("waiting", &self.queue.occupied_len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for EventReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReceiver").field("waiting", &self.queue.occupied_len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamUid;
    use crate::io::wake_pair;
    use crate::publish::RingId;
    use ringbuf::HeapRb;
    use ringbuf::traits::Split;

    const EVENT: Event =
        Event::Detached { uid: StreamUid(1), id: RingId { session: 1, slot: 1 }, ring: None };
    const RESTART: Command = Command::Restart { uid: StreamUid(1) };

    #[test]
    fn a_command_that_finds_no_room_comes_back() {
        let (producer, mut consumer) = HeapRb::new(1).split();
        let mut commands = CommandSender::new(producer, wake_pair().unwrap().0);
        commands.send(RESTART).unwrap();
        let Err(Refused(Command::Shutdown)) = commands.send(Command::Shutdown) else { panic!() };
        consumer.try_pop();
        commands.send(RESTART).unwrap();
        drop(consumer);
        assert!(commands.send(RESTART).is_err(), "nobody listens");
    }

    #[test]
    fn what_was_told_before_the_end_is_heard() {
        let (mut producer, consumer) = HeapRb::new(1).split();
        let mut events = EventReceiver::new(consumer, wake_pair().unwrap().1);
        producer.try_push(EVENT).unwrap();
        drop(producer);
        assert!(!events.is_over());
        assert!(events.next_event().is_some() && events.is_over());
    }
}
