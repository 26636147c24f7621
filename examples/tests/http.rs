//! Drives the HTTP server from outside.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use common::every_server::{Program, every_server};
use common::{LONG, Server, check_help_and_errors, need, reset, run};
use rustix::process::Signal;
use socket2::SockRef;

const HTTP: &str = env!("CARGO_BIN_EXE_http");
const HELLO: &str = "Hello from pollio.\n";

const PROGRAM: Program = Program {
    path: HTTP,
    arguments: || vec!["--idle".to_owned(), "600".to_owned()],
    ask: |mut socket| socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
    check_answer: |socket| assert_eq!(Answer::read(&mut BufReader::new(socket)).body, HELLO.as_bytes()),
};

every_server!(PROGRAM);

/// Starts the server. Unless the test is about deadlines, no client runs into one, even on a busy machine.
fn start(options: &[&str]) -> Server {
    let patient = if options.contains(&"--idle") { &[][..] } else { &["--idle", "600"] };
    Server::start(HTTP, &[options, patient].concat())
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> Self {
        Self::read_head(reader, false)
    }

    fn read_head(reader: &mut impl BufRead, is_to_head: bool) -> Self {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "the answer ends in its head: {head:?}");
        }
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let length = head
            .split("Content-Length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; if is_to_head { 0 } else { length }];
        reader.read_exact(&mut body).unwrap();
        Answer { status, head, body }
    }

    fn closes(&self) -> bool {
        self.head.contains("\r\nConnection: close\r\n")
    }
}

fn ask(server: &Server, request: &[u8]) -> BufReader<TcpStream> {
    let mut socket = server.connect();
    socket.write_all(request).unwrap();
    BufReader::new(socket)
}

/// The same, if the server has an idle timeout that is shorter than a busy machine may take to send.
fn ask_at_once(server: &Server, request: &[u8]) -> BufReader<TcpStream> {
    BufReader::new(server.connect_and_send(request))
}

fn assert_served(server: &Server) {
    let answer =
        Answer::read(&mut ask_at_once(server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_eq!((answer.status, &answer.body[..]), (200, HELLO.as_bytes()));
}

fn assert_closed(mut reader: impl Read) {
    // Unlike `read`, this goes on after EINTR, which common::assert_ends explains.
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn each_request_has_its_answer_and_the_connection_is_kept() {
    let server = start(&[]);
    let mut reader = BufReader::new(server.connect());
    for (request, status, body) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, HELLO),
        ("GET /?a=b HTTP/1.1\nhOST: x\n\n", 200, HELLO),
        ("\r\nGET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200, HELLO),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 200, "abc"),
        ("GET /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 404, "Nothing here.\n"),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, ""),
        ("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, ""),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, HELLO),
    ] {
        reader.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = Answer::read(&mut reader);
        assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()), "{request}");
        assert!(!answer.closes(), "{request}");
        assert_eq!(answer.head.contains("\r\nAllow: "), status == 405);
        assert_eq!(answer.head.contains("\r\nConnection: keep-alive\r\n"), request.contains("HTTP/1.0"));
    }
    let last = server.interrupt();
    assert!(
        last.starts_with(
            "served 1 connections (0 timed out, 0 reset), answered 11 requests (3 with an error)"
        ),
        "{last}"
    );
}

#[test]
fn an_answer_to_head_has_no_body() {
    let server = start(&[]);
    let mut reader = ask(&server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = Answer::read_head(&mut reader, true);
    assert!(answer.status == 200 && answer.head.contains("Content-Length: 19\r\n"));
    assert_eq!(Answer::read(&mut reader).body, HELLO.as_bytes());
}

#[test]
fn the_connection_is_closed_if_the_client_says_so() {
    let server = start(&[]);
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, Close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n",
    ] {
        let mut reader =
            ask(&server, [request, "GET / HTTP/1.1\r\nHost: not answered\r\n\r\n"].concat().as_bytes());
        let answer = Answer::read(&mut reader);
        assert!(answer.status == 200 && answer.closes(), "{request}");
        assert_closed(reader);
    }
}

/// Sends a request and another one behind it. Only the first one is answered, with this status.
fn assert_refused(server: &Server, request: &[u8], status: u16) {
    let another = b"GET / HTTP/1.1\r\nHost: not answered\r\n\r\n";
    let mut reader = ask(server, &[request, another].concat());
    let answer = Answer::read_head(&mut reader, request.starts_with(b"HEAD"));
    let shown = String::from_utf8_lossy(request);
    assert!(answer.status == status && answer.closes(), "{shown:.200?}: {}", answer.head);
    assert_closed(reader);
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

#[test]
fn a_malformed_head_is_refused_and_the_connection_closed() {
    let server = start(&[]);
    let many = "X: y\r\n".repeat(100);
    let long = format!("X: {}\r\n", "y".repeat(9_000));
    for (request, status) in [
        ("\x00\x01\u{fffd}garbage\r\n\r\n".to_owned(), 400),
        ("\x16\x03\x01\x02\x00\x01".to_owned(), 400), // TLS
        ("GET /\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400), // no host
        ("GET / HTTP/1.1\r\nHost: x y\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x, y\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x/y\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x@y\r\n\r\n".to_owned(), 400),
        (get("Host: y\r\n"), 400),
        (get(" folded: y\r\n"), 400),
        (get("X: y\r\n folded\r\n"), 400),
        (get("X: y\r\n\tfolded\r\n"), 400),
        (get("spaced : y\r\n"), 400),
        (get("no colon\r\n"), 400),
        (get(": no name\r\n"), 400),
        (get("X: a\rb\r\n"), 400),
        (get("X: a\0b\r\n"), 400),
        (get("X: a\nY: b\r\n"), 400),
        ("GET / HTTP/1.1\nHost: x\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\rHost: x\r\r".to_owned(), 400),
        (get("Expect: miracles\r\n"), 417),
        (get("Expect: 100-continue\r\nExpect: miracles\r\n"), 417),
        (get(&many), 431),
        (get(&long), 431),
        (get(&long).trim_end().to_owned(), 431), // without its end
    ] {
        assert_refused(&server, request.as_bytes(), status);
    }
    assert_served(&server);
}

#[test]
fn a_request_whose_length_two_servers_could_see_differently_is_refused() {
    let server = start(&[]);
    for (lines, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 05\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: 5 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 5.0\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("Content-Length\t: 5\r\n", 400),
        ("Content-Length: 1048577\r\n", 413),
        ("Content-Length: 18446744073709551616\r\n", 413),
        ("Content-Length: 99999999999999999999999999999\r\n", 413),
        ("Expect: 100-continue\r\nContent-Length: 1048577\r\n", 413),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: , chunked\r\n", 400),
        ("Transfer-Encoding: chunked,\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding: chunked\x0b\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501), // the end is known, the coding is not
    ] {
        assert_refused(&server, get(lines).as_bytes(), status);
    }
    assert_refused(&server, b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    assert_served(&server);
}

/// Returns a request whose chunked body is sent as it is written here.
fn chunked(body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn a_chunked_body_is_read_and_the_next_request_follows_it() {
    let server = start(&[]);
    let ones: String = "1\r\nx\r\n".repeat(2_000) + "0\r\n\r\n";
    let large = format!("100000\r\n{}\r\n0\r\n\r\n", "y".repeat(1 << 20));
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "z".repeat(8_000));
    let mut all = Vec::new();
    let mut bodies = Vec::new();
    for (sent, body) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("0005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a\r\nhello\r\n0;b=c;d=\"e\"\r\n\r\n", "hello"),
        ("5 ; a = \"b;c\\\"d\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\t;a\r\nhello\r\n0\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "0\r\n\r\nGE"),
        ("5\r\nhello\r\n0\r\nTrailer: x\r\nContent-Length: 7\r\nTransfer-Encoding: y\r\n\r\n", "hello"),
        (&ones, &"x".repeat(2_000)),
        (&large, &"y".repeat(1 << 20)),
        (&extension, "abc"),
    ] {
        let request = chunked(sent);
        let mut reader = ask(&server, request.as_bytes());
        let answer = Answer::read(&mut reader);
        assert!(answer.status == 200 && answer.body == body.as_bytes(), "{sent:.100?}: {}", answer.head);
        if request.len() < 1_000 {
            all.extend_from_slice(request.as_bytes());
            bodies.push(body.to_owned());
        }
    }
    // A coding's name may be written in any case, and any method may have a body.
    let request = "GET / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: \tChunKed \r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(Answer::read(&mut ask(&server, request.as_bytes())).body, HELLO.as_bytes());

    let mut reader = ask(&server, &all);
    for body in &bodies {
        assert_eq!(Answer::read(&mut reader).body, body.as_bytes(), "all in one write");
    }
    let socket = server.connect();
    socket.set_nodelay(true).unwrap();
    scope(|scope| {
        scope.spawn(|| all.iter().for_each(|byte| (&socket).write_all(&[*byte]).unwrap()));
        let mut reader = BufReader::new(&socket);
        for body in &bodies {
            assert_eq!(Answer::read(&mut reader).body, body.as_bytes(), "byte by byte");
        }
    });
}

#[test]
fn a_malformed_chunked_body_is_refused() {
    let server = start(&[]);
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        ";a\r\nhello\r\n0\r\n\r\n",
        "5,a\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nspaced : x\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
    ] {
        assert_refused(&server, chunked(body).as_bytes(), 400);
    }
    assert_served(&server);
}

#[test]
fn a_chunked_body_has_limits_too() {
    let server = start(&["--body", "1000", "--head", "500"]);
    let full = format!("1f4\r\n{0}\r\n1f4\r\n{0}\r\n", "x".repeat(500));
    let answer = Answer::read(&mut ask(&server, chunked(&format!("{full}0\r\n\r\n")).as_bytes()));
    assert!(answer.status == 200 && answer.body.len() == 1_000);
    let extensions = format!("1;{}\r\nx\r\n", "y".repeat(100)).repeat(6);
    for (body, status) in [
        ("3e9\r\n".to_owned(), 413), // the size alone, because nothing has to be sent to see it
        (format!("{full}1\r\n"), 413),
        ("7fffffffffffffff\r\n".to_owned(), 413),
        ("ffffffffffffffff\r\n".to_owned(), 413),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n".to_owned(), 413), // 2^64 + 5
        (format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(600)), 413),
        (format!("5;{}\r\n", "x".repeat(600)), 413),
        (format!("5;{}", "x".repeat(600)), 413), // without its end
        (extensions, 413),
        (format!("0\r\nX: {}\r\n\r\n", "y".repeat(600)), 431),
        (format!("0\r\nX: {}", "y".repeat(600)), 431),
        (format!("0\r\n{}\r\n", "X: y\r\n".repeat(80)), 431),
    ] {
        assert_refused(&server, chunked(&body).as_bytes(), status);
    }
    assert_served(&server);
}

#[test]
fn the_refusal_of_a_head_request_has_no_body_either() {
    let server = start(&[]);
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ] {
        assert_refused(&server, request.as_bytes(), status);
    }
}

#[test]
fn a_refused_body_does_not_cost_the_client_its_answer() {
    let server = start(&["--body", "1000"]);
    let mut reader = BufReader::new(server.connect());
    let body = vec![0; 300_000];
    // The client can send all of it, because the server does not reset the connection before.
    reader.get_mut().write_all(&post(&body)).unwrap();
    let answer = Answer::read(&mut reader);
    assert!(answer.status == 413 && answer.closes());
    assert_closed(reader);
}

#[test]
fn a_client_gets_100_continue_only_if_its_body_is_wanted() {
    let server = start(&[]);
    let head = "HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    let mut reader = ask(&server, format!("POST /echo {head}").as_bytes());
    assert_eq!(Answer::read(&mut reader).status, 100);
    reader.get_mut().write_all(b"hello").unwrap();
    assert_eq!(Answer::read(&mut reader).body, b"hello");

    reader.get_mut().write_all(format!("POST /echo {head}hello").as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut reader).body, b"hello", "it did not wait");

    reader.get_mut().write_all(format!("POST /elsewhere {head}").as_bytes()).unwrap();
    let answer = Answer::read(&mut reader);
    assert!(answer.status == 404 && answer.closes());
    assert_closed(reader);

    let head = "HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut reader = ask(&server, format!("POST /echo {head}").as_bytes());
    assert_eq!(Answer::read(&mut reader).status, 100, "the body's length is not known yet");
    reader.get_mut().write_all(b"5\r\nhello\r\n0\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader).body, b"hello");

    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader).status, 200, "there is no body to wait for");

    let old = "HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut reader = ask(&server, format!("POST /echo {old}").as_bytes());
    reader.get_mut().write_all(b"hello").unwrap();
    assert_eq!(Answer::read(&mut reader).status, 200, "HTTP/1.0 knows no 100");
}

fn a_hundred() -> (Vec<u8>, Vec<Vec<u8>>) {
    let bodies: Vec<Vec<u8>> = (0..100).map(|number| format!("number {number}").into_bytes()).collect();
    (bodies.iter().flat_map(|body| post(body)).collect(), bodies)
}

#[test]
fn a_hundred_requests_in_one_write_are_answered_in_order() {
    let server = start(&[]);
    let (requests, bodies) = a_hundred();
    let mut reader = ask(&server, &requests);
    for body in bodies {
        assert_eq!(Answer::read(&mut reader).body, body);
    }
}

#[test]
fn a_hundred_requests_byte_by_byte_are_answered_in_order() {
    let server = start(&[]);
    let (requests, bodies) = a_hundred();
    let socket = server.connect();
    socket.set_nodelay(true).unwrap();
    scope(|scope| {
        scope.spawn(|| requests.iter().for_each(|byte| (&socket).write_all(&[*byte]).unwrap()));
        let mut reader = BufReader::new(&socket);
        for body in bodies {
            assert_eq!(Answer::read(&mut reader).body, body);
        }
    });
}

#[test]
fn a_client_that_ends_its_side_gets_the_rest() {
    let server = start(&[]);
    let (requests, bodies) = a_hundred();
    let mut reader = ask(&server, &requests);
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: half a request").unwrap();
    reader.get_mut().shutdown(Shutdown::Write).unwrap();
    for body in bodies {
        assert_eq!(Answer::read(&mut reader).body, body);
    }
    assert_closed(reader);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let server = start(&[]);
    let slow = server.connect();
    let bodies: Vec<Vec<u8>> = (0..30u8).map(|number| vec![number; 1024 * 1024]).collect();
    scope(|scope| {
        let sending = scope.spawn(|| bodies.iter().for_each(|body| (&slow).write_all(&post(body)).unwrap()));
        sleep(Duration::from_millis(500));
        assert!(!sending.is_finished(), "the server read what it could not answer");
        assert_served(&server);
        #[cfg(target_os = "linux")]
        server.assert_at_rest();
        let mut reader = BufReader::new(&slow);
        for body in &bodies {
            assert!(Answer::read(&mut reader).body == *body);
        }
    });
    #[cfg(target_os = "linux")]
    assert!(server.peak_memory() < 20_000, "{} kB were needed", server.peak_memory());
}

/// Eleven of these bodies fit.
#[test]
fn the_requests_of_all_clients_have_a_limit_together() {
    let server = start(&["--memory", "1050000", "--body", "100000"]);
    for is_chunked in [false, true] {
        let request = if is_chunked {
            chunked(&format!("186a0\r\n{}\r\n0\r\n\r\n", "x".repeat(100_000))).into_bytes()
        } else {
            post(&[b'x'; 100_000])
        };
        let mut readers: Vec<_> = (0..30)
            .map(|_| {
                let reader = ask(&server, &request[..95_000]);
                assert_served(&server);
                assert_served(&server); // so it has read all of the other request too
                reader
            })
            .collect();
        for mut refused in readers.split_off(11) {
            let answer = Answer::read(&mut refused);
            assert!(answer.status == 503 && answer.closes());
            assert_closed(refused);
        }
        for mut reader in readers {
            reader.get_mut().write_all(&request[95_000..]).unwrap();
            assert_eq!(Answer::read(&mut reader).body.len(), 100_000);
        }
    }
    assert_served(&server);
}

#[test]
fn the_answers_of_all_clients_have_a_limit_together() {
    let server = start(&["--memory", "0"]); // so two bodies fit
    let request = post(&[b'x'; 1024 * 1024]);
    let (sender, ended) = mpsc::channel();
    scope(|scope| {
        for _ in 0..3 {
            let (mut greedy, sender, request) = (server.connect(), sender.clone(), &request);
            scope.spawn(move || {
                while greedy.write_all(request).is_ok() {} // it reads no answer
                sender.send(()).unwrap();
            });
        }
        ended.recv_timeout(LONG).expect("one of them loses its connection");
        assert_served(&server);
        drop(server); // ends the others
    });
}

#[test]
fn a_client_that_takes_too_long_is_closed_and_gets_408_only_within_a_request() {
    let server = start(&["--idle", "1"]);
    server.freeze(); // so that each has sent what it sends before its time starts
    let idle = server.connect();
    let used = ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let half_a_head = ask(&server, b"GET / HTTP/1.1\r\nHo");
    let half_a_body = ask(&server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
    let start = Instant::now();
    server.send(Signal::CONT);
    assert_closed(idle);
    assert!(start.elapsed() >= Duration::from_secs(1), "closed before its time");
    let mut used = used;
    assert_eq!(Answer::read(&mut used).status, 200);
    assert_closed(used);
    for mut reader in [half_a_head, half_a_body] {
        let answer = Answer::read(&mut reader);
        assert!(answer.status == 408 && answer.closes());
        assert_closed(reader);
    }
    assert_served(&server);
    let last = server.interrupt();
    assert!(last.contains("(4 timed out"), "{last}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn what_came_in_time_is_answered_although_the_server_was_busy() {
    let program = Program { arguments: || vec!["--idle=4".to_owned()], ..PROGRAM };
    common::every_server::what_came_in_time_is_answered_although_the_server_was_busy(&program);
}

#[test]
fn an_empty_line_after_a_body_is_not_the_start_of_a_request() {
    let server = start(&["--idle", "1"]);
    for end in ["\r\n", "\n", "\r\n\r\n"] {
        let mut idle = ask_at_once(&server, &[&post(b"hello"), end.as_bytes()].concat());
        assert_eq!(Answer::read(&mut idle).body, b"hello");
        assert_closed(idle); // without a 408
        let mut new = ask_at_once(&server, &[end.as_bytes(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
        assert_eq!(Answer::read(&mut new).status, 200);
    }
}

#[test]
fn empty_lines_now_and_then_do_not_keep_a_connection_open() {
    let server = start(&["--idle", "1"]);
    let slow = server.connect();
    scope(|scope| {
        scope.spawn(|| {
            while (&slow).write_all(b"\r\n").is_ok() {
                sleep(Duration::from_millis(100));
            }
        });
        match (&slow).read_to_end(&mut Vec::new()) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        let _ = slow.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_byte_now_and_then_does_not_keep_a_connection_open() {
    let server = start(&["--idle", "1"]);
    let slow = server.connect();
    scope(|scope| {
        scope.spawn(|| {
            let request = b"GET / HTTP/1.1\r\nHost: a-host-with-quite-a-long-name-for-its-size\r\n\r\n";
            for byte in request {
                if (&slow).write_all(&[*byte]).is_err() {
                    break;
                }
                sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(Answer::read(&mut BufReader::new(&slow)).status, 408);
        assert_served(&server);
    });
}

#[test]
fn a_client_that_takes_its_time_to_read_is_served_while_it_reads() {
    let server = start(&["--idle", "4"]);
    let body = vec![7; 1024 * 1024];
    let slow = server.connect();
    SockRef::from(&slow).set_recv_buffer_size(64 * 1024).unwrap();
    scope(|scope| {
        scope.spawn(|| (0..24).for_each(|_| (&slow).write_all(&post(&body)).unwrap()));
        let mut reader = BufReader::new(&slow);
        for _ in 0..24 {
            assert!(Answer::read(&mut reader).body == body);
            sleep(Duration::from_millis(300));
        }
    });
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = start(&[]);
    for round in 0..2_000 {
        let mut socket = server.connect();
        if round % 2 == 0 {
            socket.write_all(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..round % 27]).unwrap();
            reset(socket);
        }
    }
    assert_served(&server);
    let last = server.interrupt();
    // macOS does not hand out a connection that was reset before it was accepted.
    let served: u32 = last.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_001..=2_001).contains(&served), "{last}");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_does_not_spin_and_serves_when_one_is_free() {
    let server = start(&[]);
    server.limit_fds(24);
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    server.assert_at_rest();
    let mut last = sockets.pop().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    sockets.clear();
    assert_eq!(Answer::read(&mut BufReader::new(last)).status, 200);
}

#[test]
fn a_client_of_a_full_server_is_served_when_another_one_leaves() {
    let server = start(&["--connections", "2"]);
    let held = [server.connect(), server.connect()];
    let mut waiting = ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    #[cfg(target_os = "linux")]
    server.assert_at_rest();
    waiting.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.fill_buf().is_err(), "it was served");
    waiting.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    drop(held);
    assert_eq!(Answer::read(&mut waiting).status, 200);
}

#[test]
#[cfg(target_os = "linux")]
fn connections_that_are_kept_cost_no_time() {
    let server = start(&[]);
    let mut kept: Vec<BufReader<TcpStream>> =
        (0..20).map(|_| ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    kept.iter_mut().for_each(|reader| assert_eq!(Answer::read(reader).status, 200));
    server.assert_at_rest();
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let server = start(&[]);
    let idle = server.connect();
    let mut used = ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut half = ask(&server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
    let mut unread = ask(&server, &post(&vec![3; 1024 * 1024]));
    assert_served(&server); // so all of them are accepted
    let start = Instant::now();
    server.signal();
    assert_closed(idle);
    assert_eq!(Answer::read(&mut used).status, 200);
    assert_closed(used);
    assert!(TcpStream::connect(server.address).is_err(), "it still accepts");
    half.get_mut().write_all(b"lo").unwrap();
    let answer = Answer::read(&mut half);
    assert!(answer.body == b"hello" && answer.closes());
    assert!(Answer::read(&mut unread).body == vec![3; 1024 * 1024]);
    drop(unread);
    // `half` stays open. The server waits for it, but not as long as for a client that may still send a request.
    let last = server.last_line();
    assert!(last.starts_with("served 5 connections") && last.contains("answered 4 requests"), "{last}");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_closed(half);
}

/// The server accepts 64 clients at a time, so no event follows the last one of these.
#[test]
fn a_stop_ends_the_server_once_its_queue_is_empty() {
    for clients in [64, 128] {
        let server = start(&["--idle", "60"]);
        server.freeze();
        let readers: Vec<_> =
            (0..clients).map(|_| ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
        let start = Instant::now();
        server.signal();
        server.send(Signal::CONT);
        for mut reader in readers {
            assert_eq!(Answer::read(&mut reader).status, 200);
        }
        server.last_line();
        assert!(start.elapsed() < Duration::from_secs(30), "it waited for nothing");
    }
}

#[test]
fn a_stop_ends_a_full_server_once_its_last_client_has_left() {
    let server = start(&["--idle", "60", "--connections", "1"]);
    let _silent = server.connect();
    let waiting = ask(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let start = Instant::now();
    server.signal();
    assert_eq!(Answer::read(&mut { waiting }).status, 200);
    server.last_line();
    assert!(start.elapsed() < Duration::from_secs(30), "it waited for nothing");
}

#[test]
fn a_stop_waits_for_a_client_that_does_not_read_only_until_its_deadline() {
    let server = start(&["--idle", "1"]);
    let slow = server.connect();
    scope(|scope| {
        scope.spawn(|| (0..30).try_for_each(|_| (&slow).write_all(&post(&[9; 1024 * 1024]))));
        sleep(Duration::from_millis(300));
        let start = Instant::now();
        server.interrupt();
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn bad_options_and_taken_ports_are_errors() {
    check_help_and_errors(HTTP, "127.0.0.1:8000");
    for arguments in [
        &["--idle", "0"][..],
        &["--idle", "soon"],
        &["--idle=1.5"],
        &["--connections", "0"],
        &["--connections=-1"],
        &["--connections", "-1"],
        &["--head=0"],
        &["--body=much"],
        &["--body=99999999999999999999"],
    ] {
        let output = run(HTTP, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let option = arguments[0].split('=').next().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(option) && said.contains("expected a whole number"), "{arguments:?}: {said}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs wrk")]
fn wrk_reports_no_error() {
    need("wrk");
    let server = start(&[]);
    let url = format!("http://{}/", server.address);
    let output =
        Command::new("wrk").args(["-t2", "-c200", "-d2s", "--timeout", "60s", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("Requests/sec"), "{text}");
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    assert_served(&server);
}

#[test]
fn curl_gets_what_it_asks_for() {
    need("curl");
    let server = start(&[]);
    let [root, echo] = ["/", "/echo"].map(|path| format!("http://{}{path}", server.address));
    let body = "x".repeat(100_000);
    let expect = "Expect: 100-continue";
    for (arguments, expected) in [
        (vec![&root[..]], format!("{HELLO}200")),
        (vec!["--http1.0", &root], format!("{HELLO}200")),
        (vec!["--http2", &root], format!("{HELLO}200")), // offers an upgrade
        (vec!["--data", &body, "--header", expect, &echo], format!("{body}200")),
        (vec!["--data", &body, "--header", "Transfer-Encoding: chunked", &echo], format!("{body}200")),
        (vec!["--request", "OPTIONS", &root], "405".to_owned()),
        (vec!["--request", "GET", "--data", "x", &root], format!("{HELLO}200")),
        (vec!["--path-as-is", "--url", &format!("{root}../../etc/passwd")], "Nothing here.\n404".to_owned()),
    ] {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                "--noproxy",
                "*",
                "--write-out",
                "%{http_code}",
            ])
            .args(&arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{arguments:?}");
    }
}
