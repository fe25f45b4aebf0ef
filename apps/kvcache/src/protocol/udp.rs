//! The header before requests and answers in datagrams: request id, sequence number, number of datagrams, and two
//! bytes of nothing, all in network order.

use super::limits::{UDP_DATA_MAX, UDP_HEADER};

/// What an answer has to repeat of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client, repeated in every datagram of the answer.
    pub request: u16,
}

/// The frame of a datagram and the commands in it. `None` for what is answered with silence: datagrams without a
/// command, and requests that span several.
pub fn request(datagram: &[u8]) -> Option<(Frame, &[u8])> {
    let (header, commands) = datagram.split_first_chunk::<UDP_HEADER>()?;
    let [id_high, id_low, _, _, total_high, total_low, ..] = *header;
    let total = u16::from_be_bytes([total_high, total_low]);
    (total == 1 && !commands.is_empty())
        .then(|| (Frame { request: u16::from_be_bytes([id_high, id_low]) }, commands))
}

/// The datagrams of an answer: each is a header and a piece of `answer`. An answer that would take more datagrams
/// than can be counted is cut short, and the client can tell.
pub fn answer(frame: Frame, answer: &[u8]) -> impl Iterator<Item = ([u8; UDP_HEADER], &[u8])> {
    let total = u16::try_from(answer.len().div_ceil(UDP_DATA_MAX)).unwrap_or(u16::MAX);
    answer.chunks(UDP_DATA_MAX).zip(0..total).map(move |(piece, sequence)| {
        let ([id_high, id_low], [high, low]) = (frame.request.to_be_bytes(), sequence.to_be_bytes());
        let [total_high, total_low] = total.to_be_bytes();
        ([id_high, id_low, high, low, total_high, total_low, 0, 0], piece)
    })
}

#[cfg(test)]
mod tests {
    use super::{Frame, UDP_DATA_MAX, answer, request};

    #[test]
    fn a_request_is_one_datagram() {
        let datagram = [0x12, 0x34, 0, 0, 0, 1, 0, 0, b'x'];
        assert_eq!(request(&datagram), Some((Frame { request: 0x1234 }, &b"x"[..])));
        assert_eq!(request(&[0, 0, 0, 0, 0, 2, 0, 0, b'x']), None, "one of two");
        assert_eq!(request(&datagram[..8]), None, "no command");
        assert_eq!(request(&datagram[..7]), None, "no header");
    }

    #[test]
    fn an_answer_is_numbered() {
        let long = vec![7; UDP_DATA_MAX * 2 + 1];
        let pieces: Vec<_> = answer(Frame { request: 0xabcd }, &long).collect();
        let headers: Vec<_> = pieces.iter().map(|piece| piece.0).collect();
        let expected = [0, 1, 2].map(|sequence| [0xab, 0xcd, 0, sequence, 0, 3, 0, 0]);
        assert_eq!(headers, expected);
        assert_eq!(
            pieces.iter().map(|piece| piece.1.len()).collect::<Vec<_>>(),
            [UDP_DATA_MAX, UDP_DATA_MAX, 1]
        );
    }

    #[test]
    fn what_cannot_be_counted_is_cut() {
        let long = vec![7; UDP_DATA_MAX * 70_000];
        let pieces: Vec<_> = answer(Frame { request: 0 }, &long).collect();
        assert_eq!(pieces.len(), 65535);
        assert_eq!(pieces[65534].0, [0, 0, 0xff, 0xfe, 0xff, 0xff, 0, 0]);
    }
}
