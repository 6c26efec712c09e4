//! A client.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::resp::{ARGUMENT_BYTES_MAX, Command, Replies, parse};

/// Answers that wait for a client to take them, from which on its commands wait, too.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// Bytes of a command that hasn't arrived wholly.
const INPUT_BYTES_MAX: usize = 4 * ARGUMENT_BYTES_MAX;

/// A client's connection. It never waits.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of the input that were taken.
    taken: usize,
    /// Commands that were taken and have not run.
    postponed: VecDeque<Command>,
    replies: Replies,
    closing: bool,
    /// What is said after all answers, before the connection is closed.
    last_words: Option<String>,
}

/// What became of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Open,
    /// Nothing more will come or go.
    Done,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            taken: 0,
            postponed: VecDeque::new(),
            replies: Replies::default(),
            closing: false,
            last_words: None,
        }
    }

    /// Reads what has arrived.
    pub(super) fn receive(&mut self) -> io::Result<State> {
        let mut part = [0; 64 << 10];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Ok(State::Done),
                Ok(len) => self.input.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.input.len() - self.taken > INPUT_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        Ok(State::Open)
    }

    /// The next whole command.
    pub(super) fn next(&mut self) -> Option<Command> {
        while !self.closing && self.replies.len() < REPLY_BYTES_MAX {
            if let Some(command) = self.postponed.pop_front() {
                return Some(command);
            }
            match parse(&self.input[self.taken..]) {
                Ok(Some((command, used))) => {
                    self.taken += used;
                    if !command.is_empty() {
                        return Some(command);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.last_words = Some(format!("ERR Protocol error: {}", error.0));
                    self.closing = true;
                }
            }
        }
        self.input.drain(..self.taken);
        self.taken = 0;
        None
    }

    /// Takes back the last command that it gave and that has not been taken back.
    pub(super) fn postpone(&mut self, command: Command) {
        self.postponed.push_front(command);
    }

    /// Takes an answer.
    pub(super) fn answer(&mut self, replies: &Replies) {
        self.replies.append(replies);
    }

    /// Nothing more is to be read; what is to be sent still is.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Sends what can be sent now.
    pub(super) fn send(&mut self) -> io::Result<State> {
        if let Some(text) = self.last_words.take() {
            self.replies.error(&text);
        }
        while !self.replies.is_empty() {
            match self.stream.write(self.replies.as_bytes()) {
                Ok(len) => self.replies.sent(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(State::Open),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if self.closing { State::Done } else { State::Open })
    }
}
