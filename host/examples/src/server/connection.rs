//! A client.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::resp::{ARGUMENT_BYTES_MAX, Command, Parser, Replies};

/// Answers that wait for a client to take them, from which on its commands wait, too.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// Bytes of a command that hasn't arrived wholly.
const COMMAND_BYTES_MAX: usize = 4 * ARGUMENT_BYTES_MAX;
/// What is read at once: others' commands are to be run, too.
const READ_BYTES_MAX: usize = 1 << 20;

/// A client's connection. It never waits.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// What it held when the server was told last.
    pub(super) noted_bytes: usize,
    input: Vec<u8>,
    /// Bytes of the input that were taken.
    taken: usize,
    parser: Parser,
    /// What is there of the input is no whole command: there is need to read more.
    needs_input: bool,
    /// Something may have arrived that was not read, and that nobody will tell of again.
    unread: bool,
    /// The client has said that it sends no more.
    ended: bool,
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
            noted_bytes: 0,
            input: Vec::new(),
            taken: 0,
            parser: Parser::default(),
            needs_input: true,
            unread: true,
            ended: false,
            postponed: VecDeque::new(),
            replies: Replies::default(),
            closing: false,
            last_words: None,
        }
    }

    /// Reads what has arrived, as far as there is need.
    pub(super) fn receive(&mut self) -> io::Result<State> {
        self.unread = true;
        if !self.needs_input || self.closing || self.ended {
            return Ok(State::Open);
        }
        let mut part = [0; 64 << 10];
        let mut len_read = 0;
        while len_read < READ_BYTES_MAX {
            match self.stream.read(&mut part) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(len) => {
                    self.input.extend_from_slice(&part[..len]);
                    len_read += len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unread = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.needs_input &= len_read == 0;
        Ok(State::Open)
    }

    /// The next whole command.
    pub(super) fn next(&mut self) -> Option<Command> {
        while !self.closing && self.replies.len() < REPLY_BYTES_MAX {
            if let Some(command) = self.postponed.pop_front() {
                return Some(command);
            }
            if self.needs_input {
                break;
            }
            match self.parser.parse(&self.input[self.taken..]) {
                Ok((used, command)) => {
                    self.taken += used;
                    match command {
                        Some(command) if command.is_empty() => {}
                        Some(command) => return Some(command),
                        None => self.wait_for_input(),
                    }
                }
                Err(error) => self.break_off(error.0),
            }
        }
        None
    }

    /// There is no whole command.
    fn wait_for_input(&mut self) {
        self.needs_input = true;
        self.input.drain(..std::mem::take(&mut self.taken));
        if self.input.is_empty() {
            // A long command is not to take memory for ever.
            self.input = Vec::new();
        }
        if self.input.len() + self.parser.bytes() > COMMAND_BYTES_MAX {
            self.break_off("the command is too long");
        }
    }

    fn break_off(&mut self, why: &str) {
        self.last_words = Some(format!("ERR Protocol error: {why}"));
        self.closing = true;
    }

    /// Takes back the last command that it gave and that has not been taken back.
    pub(super) fn postpone(&mut self, command: Command) {
        self.postponed.push_front(command);
    }

    /// Takes an answer.
    pub(super) fn answer(&mut self, replies: &mut Replies) {
        self.replies.append(replies);
    }

    /// Nothing more is to be read; what is to be sent still is.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// True where there is something to do that nobody will tell of again: to run what has arrived, or to read it.
    pub(super) fn can_go_on(&self) -> bool {
        let has_command = !self.postponed.is_empty() || !self.needs_input;
        let can_read = self.unread && !self.ended;
        !self.closing && self.replies.len() < REPLY_BYTES_MAX && (has_command || can_read)
    }

    /// Bytes that wait for the client.
    pub(super) fn held_bytes(&self) -> usize {
        self.input.len() + self.parser.bytes() + self.replies.len()
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
        let done = self.closing || self.ended && !self.can_go_on();
        Ok(if done { State::Done } else { State::Open })
    }
}
