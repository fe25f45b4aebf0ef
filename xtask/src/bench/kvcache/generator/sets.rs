//! SETs, over a TCP connection of their own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::super::data::DataSet;
use super::{GETS_TO_SET, Totals};

/// SETs that wait for their answers at a time, at most.
const WINDOW: u64 = 256;

/// The connection, and what waits in both directions.
pub(in super::super) struct Sets<'a> {
    data: &'a DataSet,
    stream: TcpStream,
    output: Vec<u8>,
    sent: usize,
    /// The beginning of an answer whose end has not come.
    line: Vec<u8>,
    in_flight: u64,
    /// GETs since the last SET.
    gets: u64,
    position: u64,
    /// Of the latest value that was sent.
    version: u32,
}

impl<'a> Sets<'a> {
    pub(in super::super) fn new(data: &'a DataSet, to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (output, line) = (Vec::new(), Vec::new());
        Ok(Self { data, stream, output, sent: 0, line, in_flight: 0, gets: 0, position: 0, version: 0 })
    }

    /// Values of a later version than this cannot be.
    pub(super) fn newest(&self) -> u32 {
        self.version
    }

    /// GETs there may be until more SETs than these are answered.
    pub(super) fn gets_until(&self, answered: &Totals) -> u64 {
        (answered.stored + answered.refused + WINDOW) * GETS_TO_SET
    }

    /// Whether SETs are so far behind that GETs have to wait for them.
    pub(super) fn are_behind(&self) -> bool {
        self.gets / GETS_TO_SET + self.in_flight >= WINDOW
    }

    /// Takes note of this many GETs, sends the SETs that go with them, and looks for answers.
    pub(super) fn turn(&mut self, gets: u64, totals: &mut Totals) -> anyhow::Result<()> {
        self.gets += gets;
        while self.gets >= GETS_TO_SET && self.in_flight < WINDOW {
            self.gets -= GETS_TO_SET;
            self.version += 1;
            self.data.push_set(self.data.set(self.position), self.version, &mut self.output);
            self.position += 1;
            self.in_flight += 1;
        }
        self.write()?;
        self.read(totals)
    }

    /// Waits for answers to everything that was sent.
    pub(super) fn finish(&mut self, totals: &mut Totals) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(2);
        while self.in_flight > 0 {
            ensure!(Instant::now() < end, "{} SETs are not answered", self.in_flight);
            self.write()?;
            self.read(totals)?;
        }
        self.gets = 0;
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("sending SETs"),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    fn read(&mut self, totals: &mut Totals) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        while self.in_flight > 0 {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => anyhow::bail!("the server ends the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("answers to SETs"),
            };
            self.line.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let mut used = 0;
            while let Some(line) = self.line.get(used..).and_then(line_of) {
                let is_stored = line == b"STORED\r\n";
                totals.stored += u64::from(is_stored);
                totals.refused += u64::from(!is_stored);
                self.in_flight = self.in_flight.saturating_sub(1);
                used += line.len();
            }
            self.line.drain(..used);
        }
        Ok(())
    }
}

/// The first line, if it is whole.
fn line_of(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    text.get(..=end)
}

/// Stores the whole data set once.
pub(in super::super) fn fill(data: &DataSet, to: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut output, mut answers) = (Vec::new(), Vec::new());
    let all: Vec<u32> = (0..data.keys()).collect();
    for keys in all.chunks(256) {
        output.clear();
        keys.iter().for_each(|key| data.push_set(*key, 0, &mut output));
        stream.write_all(&output)?;
        let expected = b"STORED\r\n".repeat(keys.len());
        answers.resize(expected.len(), 0);
        stream.read_exact(&mut answers)?;
        ensure!(answers == expected, "not everything is stored: {}", String::from_utf8_lossy(&answers));
    }
    Ok(())
}
