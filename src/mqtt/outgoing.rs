//! Messages that wait for room in the client. Pure. Events do not wait here: they wait on the disk.

use std::collections::VecDeque;

use super::inflight::Token;
use super::link::Message;

/// Messages that may wait.
const WAITING: usize = 512;
/// More than the header of any message takes besides topic and payload.
const HEADER_BYTES: usize = 64;

/// The queue.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: VecDeque<(Message, Token)>,
    packet_bytes: usize,
}

/// The message is not sent: too many wait, or it is larger than the broker takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped;

impl Outgoing {
    /// For a broker that takes packets of this size.
    pub(super) fn new(packet_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), packet_bytes }
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: Message, token: Token) -> Result<(), Dropped> {
        let correlation = message.correlation.as_ref().map_or(0, Vec::len);
        let bytes = message.topic.len() + message.payload.len() + correlation + HEADER_BYTES;
        if bytes > self.packet_bytes || (self.queue.len() >= WAITING && token != Token::Goodbye) {
            return Err(Dropped);
        }
        self.queue.push_back((message, token));
        Ok(())
    }

    /// Adds what a state is now, in the place of what it was and has not been sent.
    pub(super) fn push_state(&mut self, message: Message) -> Result<(), Dropped> {
        let waiting = self.queue.iter_mut().find(|(waiting, _)| waiting.topic == message.topic);
        if let Some((waiting, _)) = waiting {
            *waiting = message;
            return Ok(());
        }
        self.push(message, Token::Other)
    }

    pub(super) fn front(&self) -> Option<&(Message, Token)> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) {
        self.queue.pop_front();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str) -> Message {
        Message { topic: topic.to_owned(), payload: payload.into(), ..Message::default() }
    }

    #[test]
    fn state_that_waits_is_replaced_and_keeps_its_place() {
        let mut outgoing = Outgoing::new(1000);
        outgoing.push_state(message("a", "ON")).unwrap();
        outgoing.push(message("b", "1"), Token::Other).unwrap();
        outgoing.push_state(message("a", "OFF")).unwrap();
        assert_eq!(outgoing.front().unwrap().0, message("a", "OFF"));
        outgoing.pop();
        outgoing.pop();
        assert!(outgoing.is_empty());
    }

    #[test]
    fn queue_is_bounded_but_for_the_goodbye() {
        let mut outgoing = Outgoing::new(1000);
        let pushed = (0..1000).filter(|_| outgoing.push(message("a", ""), Token::Other).is_ok()).count();
        assert_eq!(pushed, WAITING);
        assert_eq!(outgoing.push(message("a", ""), Token::Goodbye), Ok(()));
    }

    #[test]
    fn message_larger_than_the_broker_takes_is_not_sent() {
        let mut outgoing = Outgoing::new(1000);
        assert_eq!(outgoing.push(message("a", &"x".repeat(1000)), Token::Other), Err(Dropped));
    }
}
