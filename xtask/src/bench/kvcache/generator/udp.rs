//! GETs over UDP, one after the other, through a socket as any client has one.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::super::data::{DataSet, FRAME, Verdict};
use super::{PATIENCE, Plan, Totals};

/// Room for a datagram.
const DATAGRAM: usize = 2048;

/// What an answer should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Expected {
    /// The key's value.
    Value,
    /// The request as it was sent.
    Echo,
}

/// A socket, and what was asked through it.
pub(super) struct Udp<'a> {
    data: &'a DataSet,
    socket: UdpSocket,
    expected: Expected,
    request: Vec<u8>,
    number: u16,
    position: u64,
}

impl<'a> Udp<'a> {
    /// Asks at this address.
    pub(super) fn new(data: &'a DataSet, to: SocketAddr, expected: Expected) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { data, socket, expected, request: Vec::new(), number: 0, position: 0 })
    }

    /// Asks one by one; values may be of any version up to `newest`.
    pub(super) fn one_by_one(
        &mut self,
        plan: &Plan<'_>,
        newest: u32,
        times: &mut Histogram<u64>,
    ) -> anyhow::Result<Totals> {
        let (mut totals, end) = (Totals::default(), plan.end());
        let mut buffer = [0; DATAGRAM];
        while let Some(begin) = plan.now(end)? {
            let key = self.data.get(self.position);
            self.position += 1;
            self.number = self.number.wrapping_add(1);
            let [high, low] = self.number.to_be_bytes();
            self.request.clear();
            self.request.extend_from_slice(&[high, low, 0, 0, 0, 1, 0, 0]);
            self.request.extend_from_slice(self.data.request(key));
            self.socket.send(&self.request)?;
            loop {
                match self.socket.recv(&mut buffer) {
                    Ok(length) => {
                        let time = u64::try_from(begin.elapsed().as_nanos())?;
                        let datagram = buffer.get(..length).unwrap_or_default();
                        // Not that of an earlier request, which was given up.
                        if datagram.starts_with(&[high, low]) {
                            totals.count(self.verdict(key, datagram, newest));
                            times.saturating_record(time);
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        totals.lost += 1;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error).context("receiving an answer"),
                }
            }
        }
        Ok(totals)
    }

    fn verdict(&self, key: u32, datagram: &[u8], newest: u32) -> Verdict {
        if self.expected == Expected::Echo {
            return if datagram == self.request { Verdict::Hit } else { Verdict::Wrong };
        }
        let Some((frame, text)) = datagram.split_first_chunk::<FRAME>() else { return Verdict::Wrong };
        let (verdict, length) = self.data.check(key, text, newest);
        let is_alone = frame.ends_with(&[0, 0, 0, 1, 0, 0]) && length == text.len();
        if is_alone { verdict } else { Verdict::Wrong }
    }
}
