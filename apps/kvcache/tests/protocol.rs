//! The protocol against bytes: what is told apart, what is refused in which words, and that neither the way the network
//! cuts a stream nor any garbage changes it.

use kvcache::protocol::{Complaint, Decoder, Event};
use proptest::prelude::*;

/// The events of a stream that arrives in these pieces, as text.
fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::new();
    let (mut pending, mut events) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let (used, event) =
                decoder.next(&pending, |head| (head.length() > 1000).then_some(Complaint::TooLarge));
            let text = match event {
                Event::Store(head, data) => format!("{head:?} {}", data.escape_ascii()),
                Event::Incomplete => String::new(),
                event => format!("{event:?}"),
            };
            pending.drain(..used);
            if text.is_empty() {
                break;
            }
            let last = text.starts_with("Hopeless") || text.starts_with("TooLong");
            events.push(text);
            if last {
                return events;
            }
        }
    }
    events
}

fn refusals(stream: &[u8]) -> Vec<(Complaint, bool)> {
    let mut decoder = Decoder::new();
    let (mut rest, mut found) = (stream, Vec::new());
    loop {
        let (used, event) = decoder.next(rest, |_| None);
        rest = rest.get(used..).unwrap_or_default();
        match event {
            Event::Refused(refusal) => found.push((refusal.complaint, refusal.silent)),
            Event::Incomplete | Event::Hopeless | Event::TooLong(_) => return found,
            _ => {}
        }
    }
}

#[test]
fn words_of_refusals() {
    let long = "k".repeat(251);
    let many = "k ".repeat(30);
    for (line, complaint) in [
        ("", Complaint::Unknown),
        ("x", Complaint::Unknown),
        ("get", Complaint::Unknown),
        ("GET k", Complaint::Unknown),
        ("gat", Complaint::Unknown),
        ("gat x k", Complaint::Exptime),
        (&format!("get {long}"), Complaint::Format),
        (&format!("get {many}{long}"), Complaint::Format),
        ("set k 0 0", Complaint::Unknown),
        ("set k 0 0 1 noreply x", Complaint::Unknown),
        ("set k x 0 1", Complaint::Format),
        ("set k 0 0 -1", Complaint::Format),
        ("set k 0 0 2147483646", Complaint::Format),
        ("cas k 0 0 1 x", Complaint::Format),
        ("delete", Complaint::Unknown),
        ("delete k 1", Complaint::DeleteUsage),
        ("incr k x", Complaint::Delta),
        ("incr k -1", Complaint::Delta),
        ("touch k x", Complaint::Exptime),
        ("flush_all x", Complaint::Exptime),
        ("verbosity", Complaint::Unknown),
        ("verbosity x", Complaint::Format),
        ("mg", Complaint::Unknown),
        ("mg k vv v", Complaint::DuplicateFlag),
        ("mg k !", Complaint::InvalidFlag),
        ("mg k Tx", Complaint::FlagToken),
        ("mg k Tx !", Complaint::InvalidFlag),
        ("mg ??? b", Complaint::KeyEncoding),
        ("md k Tx", Complaint::InvalidOrDuplicateFlag),
        ("ma k Mx", Complaint::ArithmeticMode),
        ("ma k Jx", Complaint::InvalidOrDuplicateFlag),
        ("ms k", Complaint::Format),
        ("ms k x", Complaint::Format),
        ("me", Complaint::Format),
        ("mz k", Complaint::Unknown),
        (&format!("mg k O{}", "o".repeat(32)), Complaint::Opaque),
        ("mg k v k s t c f l h u q O1 N1 T1 R1 E L P b F1", Complaint::TooManyGetFlags),
        ("shutdown", Complaint::Shutdown),
    ] {
        assert_eq!(refusals(format!("{line}\r\n").as_bytes()), [(complaint, false)], "{line:?}");
    }
}

#[test]
fn silence_is_kept_as_far_as_the_line_was_understood() {
    for (line, silent) in [
        ("set k x 0 1 noreply", true),
        ("delete k 1 noreply", true),
        ("incr k x noreply", true),
        ("touch k x noreply", true),
        ("flush_all x noreply", true),
        ("set k 0 0 noreply", true),
        ("set k 0 noreply", false),
        ("mg k ! q", false),
    ] {
        assert_eq!(refusals(format!("{line}\r\n").as_bytes()).len(), 1, "{line:?}");
        assert_eq!(refusals(format!("{line}\r\n").as_bytes())[0].1, silent, "{line:?}");
    }
}

#[test]
fn what_follows_a_refused_line() {
    // A line that says how much data follows it is refused together with that data, another is not.
    assert_eq!(refusals(b"ms k 3 Mx\r\nabc\r\n"), [(Complaint::SetMode, false)]);
    assert_eq!(
        refusals(b"set k x 0 3\r\nabc\r\n"),
        [(Complaint::Format, false), (Complaint::Unknown, false)]
    );
    assert_eq!(
        refusals(b"set k 0 0 3\r\nabcdefgh\r\n"),
        [(Complaint::DataChunk, false), (Complaint::Unknown, false)]
    );
    let large = [b"set k 0 0 1001\r\n".as_slice(), &[b'x'; 1001], b"\r\nversion\r\n"].concat();
    let events = events([large.as_slice()]);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].contains("TooLarge") && events[1].contains("Version"), "{events:?}");
}

#[test]
fn clients_of_other_protocols_are_left() {
    assert_eq!(events([b"\x80\x0a\0\0".as_slice()]), ["Hopeless"], "the binary protocol");
    assert_eq!(events([b"GET / HTTP/1.1\r\n".as_slice()]), ["Command(Quit)"]);
    assert_eq!(events([[b'x'; 2049].as_slice()]), ["Hopeless"], "no line");
}

#[test]
fn a_get_may_be_long() {
    let keys = "some_key ".repeat(100_000);
    let line = format!("get {keys}\r\n");
    assert_eq!(events(line.as_bytes().chunks(1400)).len(), 1);
    let endless = format!("get {}", keys.repeat(2));
    let events = events(endless.as_bytes().chunks(1400));
    assert!(events.len() == 1 && events[0].starts_with("TooLong"), "{events:?}");
}

#[test]
fn binary_keys_are_decoded() {
    let events = events([b"mg YWIKYw== b k v\r\n".as_slice()]);
    assert!(events[0].contains("97, 98, 10, 99"), "{events:?}");
}

/// Something a client might send, or nearly.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        proptest::sample::select(
            [
                "get",
                "gets",
                "gat",
                "set",
                "add",
                "cas",
                "append",
                "delete",
                "incr",
                "touch",
                "mg",
                "ms",
                "md",
                "ma",
                "me",
                "mn",
                "flush_all",
                "noreply",
                "0",
                "1",
                "5",
                "-1",
                "99999999999",
                "k",
                "key",
                "v",
                "T30",
                "N0",
                "O1",
                "b",
                "a2V5",
                "C1",
                "MA",
                "q",
                "\0",
                "\r",
                "HTTP/1.1",
            ]
            .as_slice()
        )
        .prop_map(|word| word.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(word, 0..7).prop_map(|words| {
        let mut line = words.join(&b' ');
        line.extend_from_slice(b"\r\n");
        line
    })
}

proptest! {
    #[test]
    fn the_network_may_cut_anywhere(
        fragments in proptest::collection::vec(fragment(), 1..20),
        cut in 1_usize..40,
    ) {
        let stream = fragments.concat();
        let whole = events([stream.as_slice()]);
        prop_assert_eq!(&whole, &events(stream.chunks(cut)));
        prop_assert_eq!(&whole, &events(stream.chunks(1)));
    }

    #[test]
    fn garbage_is_survived(stream in proptest::collection::vec(any::<u8>(), 0..4000), cut in 1_usize..500) {
        events(stream.chunks(cut));
    }
}
