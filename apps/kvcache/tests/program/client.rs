//! A client of the server, as plain as can be.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// A connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and gives the line that answers it.
    pub(crate) fn ask(&mut self, command: &[u8]) -> io::Result<String> {
        self.0.get_mut().write_all(command)?;
        self.line()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(line.to_owned())
    }

    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<String> {
        let head = format!(" 0 0 {}\r\n", value.len());
        self.ask(&[b"set ", key, head.as_bytes(), value, b"\r\n"].concat())
    }

    /// The values of these keys, in the order in which they come.
    pub(crate) fn get(&mut self, keys: &[Vec<u8>]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut line = self.ask(&[b"get ", &keys.join(&b' ')[..], b"\r\n"].concat())?;
        let mut found = Vec::new();
        while line != "END" {
            let words: Vec<_> = line.split(' ').collect();
            let ["VALUE", key, _, size] = words[..] else { return Err(io::Error::other(line)) };
            let mut value = vec![0; size.parse::<usize>().map_err(io::Error::other)? + 2];
            self.0.read_exact(&mut value)?;
            value.truncate(value.len() - 2);
            found.push((key.as_bytes().to_vec(), value));
            line = self.line()?;
        }
        Ok(found)
    }

    /// A number of the server's `stats`.
    pub(crate) fn stat(&mut self, name: &str) -> io::Result<u64> {
        let mut line = self.ask(b"stats\r\n")?;
        let mut found = None;
        while line != "END" {
            let value =
                line.strip_prefix("STAT ").and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found = found.or(value.and_then(|value| value.parse().ok()));
            line = self.line()?;
        }
        found.ok_or_else(|| io::Error::other(name.to_owned()))
    }
}

/// What is asked by datagrams, one at a time.
pub(crate) struct Asker {
    socket: UdpSocket,
    request: u16,
}

impl Asker {
    pub(crate) fn new(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { socket, request: 0 })
    }

    /// The text that answers a command, if there is an answer of one datagram; `None` if it does not come soon.
    pub(crate) fn ask(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        self.request = self.request.wrapping_add(1);
        let [high, low] = self.request.to_be_bytes();
        let header = [high, low, 0, 0, 0, 1, 0, 0];
        // Where nobody listens, the answer to the datagram before may be that; then this one was not sent.
        let datagram = [&header, command].concat();
        self.socket.send(&datagram).or_else(|_| self.socket.send(&datagram)).ok()?;
        let mut buffer = [0; 2048];
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            // Another answer is one to an earlier question, which came late.
            if let Some(text) = buffer[..len].strip_prefix(&header) {
                return Some(text.to_vec());
            }
        }
    }

    /// The value of a key. The outer `None`: no answer of one datagram.
    #[allow(clippy::option_option, reason = "no answer is not an answer that there is nothing")]
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let text = self.ask(&[b"get ", key, b"\r\n"].concat())?;
        if text == b"END\r\n" {
            return Some(None);
        }
        let rest = text.strip_prefix(b"VALUE ")?.strip_prefix(key)?.strip_prefix(b" 0 ")?;
        let line = rest.windows(2).position(|end| end == b"\r\n")?;
        let size: usize = std::str::from_utf8(&rest[..line]).ok()?.parse().ok()?;
        let value = rest.get(line + 2..line + 2 + size)?;
        (rest[line + 2 + size..] == *b"\r\nEND\r\n").then(|| Some(value.to_vec()))
    }
}
