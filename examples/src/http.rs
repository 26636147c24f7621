//! A server's half of HTTP/1.1: bytes in, bytes out. Nothing here reads or writes a socket, or knows of time.

use std::fmt::Write;
use std::time::SystemTime;

use bytes::{Buf, BufMut, BytesMut};
use httparse::Header;

/// The code and the reason that an answer starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub &'static str);

impl Status {
    /// All went well.
    pub const OK: Status = Status("200 OK");
    const BAD_REQUEST: Status = Status("400 Bad Request");
    const HEAD_TOO_LARGE: Status = Status("431 Request Header Fields Too Large");
}

/// How large a request may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The request line and the headers.
    pub head: usize,
    /// The body.
    pub body: usize,
}

/// What the head of a request says.
#[derive(Clone, Debug)]
pub struct Request {
    /// Case matters: GET.
    pub method: String,
    /// Without the query.
    pub path: String,
    body: usize,
    keep_alive: bool,
    /// The client sends the body only when told to go on.
    expects_continue: bool,
    is_http_1_0: bool,
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'b> {
    /// How it went.
    pub status: Status,
    /// Whole lines.
    pub headers: &'static str,
    /// What follows the head.
    pub body: &'b [u8],
}

/// What a server does: the answer to a request and its body.
pub type Route = for<'b> fn(&Request, &'b [u8]) -> Answer<'b>;

const MOST_HEADERS: usize = 64;

/// What was received on one connection, and what is to be sent.
#[derive(Debug)]
pub struct Conversation {
    limits: Limits,
    route: Route,
    received: BytesMut,
    unsent: BytesMut,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body(Request),
    Over,
}

impl Conversation {
    /// Nothing said so far.
    pub fn new(limits: Limits, route: Route) -> Self {
        Conversation { limits, route, received: BytesMut::new(), unsent: BytesMut::new(), stage: Stage::Head }
    }

    /// Takes in what came.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.is_over() {
            self.received.extend_from_slice(bytes);
        }
    }

    /// What is to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Notes that so many bytes of it are sent.
    pub fn sent(&mut self, count: usize) {
        self.unsent.advance(count);
    }

    /// Whether no further request will be answered.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether no request has begun to arrive, since the last one.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.received.is_empty()
    }

    /// Answers one request, and says how. `None` if none has arrived whole.
    pub fn answer_next(&mut self, keep_alive: bool) -> Option<Status> {
        if matches!(self.stage, Stage::Head) {
            match Request::parse(&self.received, self.limits) {
                Ok(read) => {
                    let (request, head) = read?;
                    self.received.advance(head);
                    self.begin(request);
                }
                Err(status) => {
                    self.refuse(status);
                    return Some(status);
                }
            }
        }
        let Stage::Body(request) = &self.stage else { return None };
        let body = self.received.get(..request.body)?;
        let keep_alive = keep_alive && request.keep_alive;
        let answer = (self.route)(request, body);
        let status = answer.status;
        request.answer(&mut self.unsent, answer, keep_alive);
        self.received.advance(request.body);
        self.stage = if keep_alive { Stage::Head } else { Stage::Over };
        Some(status)
    }

    fn begin(&mut self, mut request: Request) {
        if request.expects_continue && self.received.len() < request.body {
            match (self.route)(&request, b"").status {
                Status::OK => self.unsent.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
                // The client may then send the body or not, so what follows cannot be understood.
                _ => (request.body, request.keep_alive) = (0, false),
            }
        }
        self.stage = Stage::Body(request);
    }

    /// Says why no further request is answered.
    pub fn refuse(&mut self, Status(status): Status) {
        let headers = ["Content-Type: text/plain\r\n", "Connection: close\r\n"];
        write_head(&mut self.unsent, Status(status), headers, status.len() + 1);
        self.unsent.put_slice(status.as_bytes());
        self.unsent.put_u8(b'\n');
        self.stage = Stage::Over;
    }

    /// Leaves a connection between requests without memory, whatever it needed for a large one.
    pub fn free(&mut self) {
        for buffer in [&mut self.received, &mut self.unsent] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }
}

impl Request {
    /// The request that these bytes start with, and the length of its head; `None` if more bytes are needed.
    /// After an error it is unknown where the next one starts, so nothing that follows can be answered.
    fn parse(received: &[u8], limits: Limits) -> Result<Option<(Self, usize)>, Status> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let head = match parsed.parse(received) {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if received.len() <= limits.head => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Status::HEAD_TOO_LARGE),
            Err(httparse::Error::Version) => return Err(Status("505 HTTP Version Not Supported")),
            Err(_) => return Err(Status::BAD_REQUEST),
        };
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Status::BAD_REQUEST);
        };
        let is_http_1_0 = version == 0;
        let hosts = values(parsed.headers, "host").count();
        if hosts > 1 || (hosts == 0 && !is_http_1_0) {
            return Err(Status::BAD_REQUEST);
        }
        let body = body_length(parsed.headers, is_http_1_0)?;
        if body > limits.body as u64 {
            return Err(Status("413 Content Too Large"));
        }
        let expects_continue = match values(parsed.headers, "expect").next() {
            None => false,
            Some(_) if is_http_1_0 => false,
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
            Some(_) => return Err(Status("417 Expectation Failed")),
        };
        let keep_alive = if is_http_1_0 {
            has_option(parsed.headers, "keep-alive") && !has_option(parsed.headers, "close")
        } else {
            !has_option(parsed.headers, "close")
        };
        let (method, path) = (method.to_owned(), path(target).to_owned());
        let request =
            Request { method, path, body: body as usize, keep_alive, expects_continue, is_http_1_0 };
        Ok(Some((request, head)))
    }

    fn answer(&self, output: &mut BytesMut, answer: Answer<'_>, keep_alive: bool) {
        let connection = match keep_alive {
            true if self.is_http_1_0 => "Connection: keep-alive\r\n",
            true => "",
            false => "Connection: close\r\n",
        };
        write_head(output, answer.status, [answer.headers, connection], answer.body.len());
        if self.method != "HEAD" {
            output.put_slice(answer.body);
        }
    }
}

fn write_head(
    output: &mut BytesMut,
    Status(status): Status,
    [headers, connection]: [&str; 2],
    length: usize,
) {
    let date = httpdate::HttpDate::from(SystemTime::now());
    // Writing to memory does not fail.
    let _ = write!(
        output,
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\n{headers}{connection}\r\n"
    );
}

/// Where two servers could differ about the length, one of them takes a part of the body for a request of its own:
/// so whatever is not plain is refused.
fn body_length(headers: &[Header<'_>], is_http_1_0: bool) -> Result<u64, Status> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    if values(headers, "transfer-encoding").next().is_some() {
        let is_plain = length.is_none() && !is_http_1_0;
        return Err(if is_plain { Status("501 Not Implemented") } else { Status::BAD_REQUEST });
    }
    let Some(length) = length else { return Ok(0) };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != length) {
        return Err(Status::BAD_REQUEST);
    }
    // Digits alone fail to be a number only where there are too many.
    Ok(std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX))
}

fn values<'h>(headers: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// Whether the Connection headers list it.
fn has_option(headers: &[Header<'_>], option: &str) -> bool {
    values(headers, "connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// The path in a request's target, which may be a whole URL, as it is for proxies.
fn path(target: &str) -> &str {
    let target = target.split('?').next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    }
}
