//! A running server and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server, killed when the test ends.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub(crate) fn start(store: &Path, options: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_kv-server")), store, options)
    }

    /// One that may have so many files open.
    pub(crate) fn start_with_files(store: &Path, options: &[&str], files: u32) -> Self {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_kv-server")]);
        Self::start_by(command, store, options)
    }

    fn start_by(mut command: Command, store: &Path, options: &[&str]) -> Self {
        let mut child = command
            .arg(store)
            .args(["--port", "0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        // "STORE ready on ADDRESS:PORT after N ms"
        let port = line.split(" ready on 127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { child, port }
    }

    pub(crate) fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        Client { stream: BufReader::new(stream) }
    }

    /// Bytes of memory that it has had at most, its objects' among them.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end in order.
    pub(crate) fn ends_well(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Sends a command; words are separated by blanks.
    pub(crate) fn send(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
        self.raw(bytes.as_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    /// Sends no more.
    pub(crate) fn ends(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("open");
    }

    /// For a thread that sends while another one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().expect("open")
    }

    /// The next reply, as text: lists in brackets, `nil` for what is not there.
    pub(crate) fn reply(&mut self) -> String {
        self.try_reply().expect("a reply, not the connection's end")
    }

    /// The same; None at the connection's end.
    pub(crate) fn try_reply(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let (mark, rest) = line.trim_end().split_at_checked(1)?;
        Some(match (mark, rest.parse::<i64>()) {
            ("$" | "*", Ok(-1)) => "nil".into(),
            ("$", Ok(len)) => {
                let mut bytes = vec![0; len as usize + 2];
                self.stream.read_exact(&mut bytes).expect("a bulk string");
                String::from_utf8_lossy(&bytes[..len as usize]).into_owned()
            }
            ("*", Ok(len)) => {
                let items: Vec<String> = (0..len).map(|_| self.reply()).collect();
                format!("[{}]", items.join(" "))
            }
            _ => rest.into(),
        })
    }

    /// A command's reply.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.reply()
    }

    /// True where the server has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.stream.read(&mut [0]).is_ok_and(|len| len == 0)
    }
}
