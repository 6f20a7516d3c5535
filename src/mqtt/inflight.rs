//! Which acknowledgement belongs to which message. Pure.
//!
//! The client numbers packets itself and tells the number only when it sends one, in the order in
//! which they were handed over.

use std::collections::{HashMap, VecDeque};

use crate::clock::Monotonic;

/// What a message of QoS 1 was, for when the broker acknowledges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An event by its sequence number.
    Event {
        sequence: u64,
        expired: bool,
        /// Where that can be told by the monotonic clock.
        captured: Option<Monotonic>,
    },
    /// The retained `offline` of an orderly end.
    Goodbye,
    /// Anything else.
    Other,
}

/// Messages handed over and not acknowledged yet.
#[derive(Debug)]
pub(super) struct InFlight {
    limit: usize,
    submitted: VecDeque<Token>,
    sent: HashMap<u16, Token>,
}

impl InFlight {
    /// At most `limit` at a time: no more than the broker takes, so that none grows old waiting inside
    /// the client.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), submitted: VecDeque::new(), sent: HashMap::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.submitted.len() + self.sent.len() < self.limit
    }

    pub(super) fn submitted(&mut self, token: Token) {
        self.submitted.push_back(token);
    }

    /// The client has sent the next message under this number; 0 is one without acknowledgement.
    pub(super) fn sent(&mut self, packet: u16) {
        if packet != 0
            && let Some(token) = self.submitted.pop_front()
        {
            self.sent.insert(packet, token);
        }
    }

    /// What the broker has acknowledged.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<Token> {
        self.sent.remove(&packet)
    }

    /// Whether an event is under way.
    pub(super) fn has_events(&self) -> bool {
        self.submitted.iter().chain(self.sent.values()).any(|token| matches!(token, Token::Event { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> Token {
        Token::Event { sequence, expired: false, captured: None }
    }

    #[test]
    fn acknowledgements_find_their_messages_in_any_order() {
        let mut flight = InFlight::new(3);
        for token in [event(7), Token::Other, event(8)] {
            assert!(flight.has_room());
            flight.submitted(token);
        }
        assert!(!flight.has_room());
        for packet in [1, 0, 2, 3] {
            flight.sent(packet);
        }
        assert_eq!(flight.acknowledged(3), Some(event(8)));
        assert_eq!(flight.acknowledged(1), Some(event(7)));
        assert!(flight.has_room() && !flight.has_events());
        assert_eq!(flight.acknowledged(2), Some(Token::Other));
    }

    #[test]
    fn acknowledgement_of_nothing_is_nothing() {
        let mut flight = InFlight::new(0);
        assert!(flight.has_room());
        flight.sent(4);
        assert_eq!(flight.acknowledged(4), None);
        flight.submitted(event(1));
        assert!(flight.has_events() && !flight.has_room());
        assert_eq!(flight.acknowledged(1), None);
    }
}
