//! The server over the loopback interface: streams, datagrams, values and answers that are large, and an orderly end.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvcache::commands::{Settings, Shared};
use kvcache::fast::{Cache, EngineKind};
use kvcache::restart::Config;
use kvcache::server::Server;

/// A server that is stopped when it is dropped, and has stopped then.
struct Running {
    tcp: SocketAddr,
    udp: SocketAddr,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(engine: EngineKind, max_connections: usize) -> Self {
        let config = Config { engine, ..Config::default() };
        let opened = Cache::open(&config).unwrap();
        let settings = Settings {
            memory: 64 << 20,
            max_connections,
            tcp_port: 0,
            udp_port: 0,
            listen: "127.0.0.1".into(),
            threads: 2,
            item_size_max: 1 << 20,
            idle_timeout: 0,
            evict: true,
            engine: "user",
        };
        let shared = Arc::new(Shared::new(opened.cache, settings));
        let server = Server::bind(shared, IpAddr::V4(Ipv4Addr::LOCALHOST), Some(0), Some(0)).unwrap();
        let (tcp, udp) = (server.tcp_address().unwrap(), server.udp_address().unwrap());
        let (stop, signal) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || server.run(signal).unwrap());
        Self { tcp, udp, stop, thread: Some(thread) }
    }

    /// The whole answer to a stream of commands.
    fn ask(&self, commands: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        stream.write_all(commands).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn stop(&mut self) {
        self.stop.write_all(b"x").unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

#[test]
fn commands_in_a_row_are_answered_in_order() {
    let server = Running::start(EngineKind::None, 10);
    let answer = server.ask(
        b"set a 5 0 3\r\nabc\r\nadd a 0 0 1\r\nx\r\nappend a 0 0 2 noreply\r\nde\r\nget a b\r\nincr a 1\r\n\
          set n 0 0 2\r\n10\r\ndecr n 1\r\nget n\r\nmg a v f O7 k\r\nmn\r\ndelete a\r\nget a\r\nquit\r\nget n\r\n",
    );
    let expected = "STORED\r\nNOT_STORED\r\nVALUE a 5 5\r\nabcde\r\nEND\r\n\
        CLIENT_ERROR cannot increment or decrement non-numeric value\r\nSTORED\r\n9\r\nVALUE n 0 2\r\n9 \r\nEND\r\n\
        VA 5 f5 O7 ka\r\nabcde\r\nMN\r\nDELETED\r\nEND\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[test]
fn numbers_are_counted() {
    let server = Running::start(EngineKind::None, 10);
    let answer = server.ask(
        b"incr n 1\r\nset n 3 0 2\r\n99\r\nincr n 1\r\ndecr n 1\r\nget n\r\ndecr n 1000\r\ndecr n 1\r\n\
          set n 0 0 20\r\n18446744073709551615\r\nincr n 2\r\nincr n x\r\n",
    );
    let expected = "NOT_FOUND\r\nSTORED\r\n100\r\n99\r\nVALUE n 3 3\r\n99 \r\nEND\r\n0\r\n0\r\nSTORED\r\n1\r\n\
        CLIENT_ERROR invalid numeric delta argument\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), expected);
    for bad in ["x", "-1", "18446744073709551616", "1x"] {
        let answer = server.ask(format!("set n 0 0 {}\r\n{bad}\r\nincr n 1\r\n", bad.len()).as_bytes());
        let expected = "STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
        assert_eq!(String::from_utf8_lossy(&answer), expected, "{bad}");
    }
}

#[test]
fn stale_items_are_renewed_by_one_client() {
    let server = Running::start(EngineKind::None, 10);
    let answer = server.ask(
        b"ms k 1 F1\r\na\r\nmd k I\r\nmg k v\r\nmg k v\r\nms k 1 C1 I\r\nb\r\nmg k v\r\nms k 1\r\nc\r\nmg k v\r\nmg x N30 v t\r\nmg x t\r\n",
    );
    let expected = "HD\r\nHD\r\nVA 1 X W\r\na\r\nVA 1 Z X\r\na\r\nHD\r\nVA 1 Z X\r\nb\r\nHD\r\nVA 1\r\nc\r\n\
        VA 0 t30 W\r\n\r\nHD t";
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with(" Z\r\n"), "{text}");
}

#[test]
fn an_answer_larger_than_every_buffer_arrives_whole() {
    let server = Running::start(EngineKind::None, 10);
    let value = vec![b'v'; 1_000_000];
    let stored = server.ask(&[b"set big 0 0 1000000\r\n", &value[..], b"\r\n"].concat());
    assert_eq!(stored, b"STORED\r\n");
    // Thirty megabytes by one command, far more than the server is willing to hold.
    let answer = server.ask(format!("get{}\r\n", " big".repeat(30)).as_bytes());
    let one = [b"VALUE big 0 1000000\r\n", &value[..], b"\r\n"].concat();
    assert_eq!(answer.len(), 30 * one.len() + 5);
    assert!(answer.chunks(one.len()).take(30).all(|piece| piece == one));
    assert!(answer.ends_with(b"END\r\n"));
    let large =
        server.ask(&[b"set big 0 0 1048577\r\n", &[b'x'; 1_048_577][..], b"\r\nget big\r\n"].concat());
    assert_eq!(large, b"SERVER_ERROR object too large for cache\r\nEND\r\n", "and the old value is gone");
}

#[test]
fn too_many_connections_are_turned_away() {
    let server = Running::start(EngineKind::None, 1);
    let mut first = TcpStream::connect(server.tcp).unwrap();
    first.write_all(b"mn\r\n").unwrap();
    let mut answer = [0; 4];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"MN\r\n");
    let mut refusal = Vec::new();
    TcpStream::connect(server.tcp).unwrap().read_to_end(&mut refusal).unwrap();
    assert_eq!(refusal, b"ERROR Too many open connections\r\n");
}

#[test]
fn datagrams_are_answered_alike_with_and_without_the_program() {
    let mut answers = Vec::new();
    for engine in [EngineKind::None, EngineKind::User] {
        let server = Running::start(engine, 10);
        let long = vec![b'l'; 3000];
        let setup =
            [b"set a 7 0 3\r\nabc\r\nset b 0 0 0\r\n\r\nset l 0 0 3000\r\n", &long[..], b"\r\n"].concat();
        assert_eq!(server.ask(&setup), b"STORED\r\nSTORED\r\nSTORED\r\n");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.udp).unwrap();
        // Nothing here takes long; but what is lost should not be waited for.
        socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let mut seen = Vec::new();
        for (commands, datagrams) in [
            (&b"get a\r\n"[..], 1),
            (b"gets b\r\n", 1),
            (b"get a b\r\n", 1),
            (b"get none\r\n", 1),
            (b"get l\r\n", 3),
            (b"get a\r\nget none\r\n", 2),
            (b"set c 0 0 1\r\nx\r\n", 1),
            (b"nonsense\r\n", 1),
        ] {
            socket.send(&[&[0xab, 0xcd, 0, 0, 0, 1, 0, 0], commands].concat()).unwrap();
            for _ in 0..datagrams {
                let mut datagram = vec![0; 2000];
                let length = socket.recv(&mut datagram).unwrap();
                datagram.truncate(length);
                seen.push(datagram);
            }
        }
        let stats = String::from_utf8(server.ask(b"stats\r\n")).unwrap();
        let hits =
            stats.lines().find_map(|line| line.strip_prefix("STAT get_hits_program ")).unwrap().to_owned();
        answers.push((seen, hits));
    }
    assert_eq!(answers[0].0, answers[1].0);
    assert_eq!(answers[0].0[0], b"\xab\xcd\0\0\0\x01\0\0VALUE a 7 3\r\nabc\r\nEND\r\n");
    assert_eq!(answers[0].1, "0");
    assert_ne!(answers[1].1, "0", "the program answered some");
}

#[test]
fn the_end_comes_after_the_answers() {
    let mut server = Running::start(EngineKind::None, 10);
    let mut stream = TcpStream::connect(server.tcp).unwrap();
    stream.write_all(b"set a 0 0 1\r\nx\r\nmn\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    server.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert!(TcpStream::connect(server.tcp).is_err(), "nobody listens");
}
