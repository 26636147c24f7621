//! The server's side of HTTP/1.1: bytes in, bytes out. This module does no I/O and has no clock.
//!
//! - `head` parses the request line and the headers, and finds out how the body is framed.
//! - `chunked` decodes a body of unknown length.
//! - [`Conversation`] puts both together for one connection.

mod chunked;
mod head;

use std::fmt::Write;

use bytes::{Buf, BufMut, BytesMut};

use chunked::Chunked;
use head::Framing;
pub use head::Request;

/// The code and the reason that an answer starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub &'static str);

impl Status {
    /// The request was answered as asked.
    pub const OK: Status = Status("200 OK");
    const BAD_REQUEST: Status = Status("400 Bad Request");
    const CONTENT_TOO_LARGE: Status = Status("413 Content Too Large");
    const HEAD_TOO_LARGE: Status = Status("431 Request Header Fields Too Large");
}

/// How large a request may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The request line and the headers. The trailers and the chunk extensions of a chunked body get as much each.
    pub head: usize,
    /// The body.
    pub body: usize,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'b> {
    /// The status line's code and reason.
    pub status: Status,
    /// Complete header lines, each with its CRLF.
    pub headers: &'static str,
    /// The body.
    pub body: &'b [u8],
}

/// Returns the answer to a request and its body.
pub type Route = for<'b> fn(&Request, &'b [u8]) -> Answer<'b>;

/// What one connection has received and not answered, and what it has not sent yet.
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
    /// The next bytes are a request's head.
    Head,
    /// The next bytes are this request's body.
    Body(Request, Body),
    /// Every further byte is ignored.
    Over,
}

#[derive(Debug)]
enum Body {
    Length(usize),
    Chunked(Chunked),
}

impl Conversation {
    /// Returns the conversation of a new connection.
    pub fn new(limits: Limits, route: Route) -> Self {
        Conversation { limits, route, received: BytesMut::new(), unsent: BytesMut::new(), stage: Stage::Head }
    }

    /// Takes in bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.is_over() {
            self.received.extend_from_slice(bytes);
            self.drop_empty_lines();
        }
    }

    /// A server should ignore an empty line before a request. Some clients send one after a body (RFC 9112,
    /// section 2.2).
    fn drop_empty_lines(&mut self) {
        while matches!(self.stage, Stage::Head) {
            match self.received.as_ref() {
                [b'\n', ..] => self.received.advance(1),
                [b'\r', b'\n', ..] => self.received.advance(2),
                _ => return,
            }
        }
    }

    /// Returns the bytes that are still to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Removes the first `count` bytes from [`unsent`](Self::unsent).
    pub fn sent(&mut self, count: usize) {
        self.unsent.advance(count);
    }

    /// Returns whether the last answer has been given.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Returns whether the client has sent only complete requests so far.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.received.is_empty()
    }

    /// Answers one request and returns the answer's status. Returns `None` if no complete request has arrived.
    /// If `keep_alive` is false, this is the last answer of the connection. The answer carries `date`.
    pub fn answer_next(&mut self, keep_alive: bool, date: &str) -> Option<Status> {
        let answered = self.try_answer_next(keep_alive, date);
        answered.unwrap_or_else(|status| {
            self.refuse(status, date);
            Some(status)
        })
    }

    /// After an error the start of the next request is unknown, so the conversation ends with it.
    fn try_answer_next(&mut self, keep_alive: bool, date: &str) -> Result<Option<Status>, Status> {
        if matches!(self.stage, Stage::Head) {
            let Some((request, length)) = Request::parse(&self.received, self.limits)? else {
                return Ok(None);
            };
            self.received.advance(length);
            self.begin_body(request);
        }
        let Stage::Body(request, body) = &mut self.stage else { return Ok(None) };
        let content = match body {
            Body::Length(length) if self.received.len() < *length => return Ok(None),
            Body::Length(length) => self.received.split_to(*length),
            Body::Chunked(chunked) => match chunked.decode(&mut self.received, self.limits)? {
                Some(content) => content,
                None => return Ok(None),
            },
        };
        let keep_alive = keep_alive && request.keep_alive;
        let answer = (self.route)(request, &content);
        request.write_answer(&mut self.unsent, answer, keep_alive, date);
        let status = answer.status;
        self.stage = if keep_alive { Stage::Head } else { Stage::Over };
        self.drop_empty_lines();
        Ok(Some(status))
    }

    /// Prepares for the body. A client that waits for `100 Continue` gets it only if its request will succeed.
    fn begin_body(&mut self, mut request: Request) {
        let mut body = match request.framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunked::default()),
        };
        let has_body = !matches!(body, Body::Length(0));
        if request.expects_continue && has_body && self.received.is_empty() {
            if (self.route)(&request, b"").status == Status::OK {
                self.unsent.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            } else {
                // The client may now send the body or leave it out, so its next bytes are ambiguous.
                body = Body::Length(0);
                request.keep_alive = false;
            }
        }
        self.stage = Stage::Body(request, body);
    }

    /// Answers with an error, as the last answer of the connection.
    pub fn refuse(&mut self, status: Status, date: &str) {
        let text = format!("{}\n", status.0);
        let lines = ["Content-Type: text/plain\r\n", "Connection: close\r\n"];
        write_head(&mut self.unsent, status, date, lines, text.len());
        let is_head = match &self.stage {
            Stage::Body(request, _) => request.method == "HEAD",
            _ => self.received.starts_with(b"HEAD "),
        };
        if !is_head {
            self.unsent.put_slice(text.as_bytes());
        }
        self.stage = Stage::Over;
    }

    /// Returns how many bytes of requests and answers it holds.
    pub fn held(&self) -> usize {
        let decoded = match &self.stage {
            Stage::Body(_, Body::Chunked(chunked)) => chunked.decoded(),
            _ => 0,
        };
        self.received.len() + decoded + self.unsent.len()
    }

    /// Frees the memory that an earlier request needed, so that an idle connection is small.
    pub fn free(&mut self) {
        if self.is_over() {
            self.received.clear();
        }
        for buffer in [&mut self.received, &mut self.unsent] {
            if buffer.is_empty() && buffer.capacity() > 0 {
                *buffer = BytesMut::new();
            }
        }
    }
}

impl Request {
    fn write_answer(&self, output: &mut BytesMut, answer: Answer<'_>, keep_alive: bool, date: &str) {
        let connection = match (keep_alive, self.is_http_1_0) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        write_head(output, answer.status, date, [answer.headers, connection], answer.body.len());
        if self.method != "HEAD" {
            output.put_slice(answer.body);
        }
    }
}

/// The most bytes of a head, apart from the answer's own headers.
const HEAD_ROOM: usize = 192;

fn write_head(
    output: &mut BytesMut,
    Status(status): Status,
    date: &str,
    [headers, connection]: [&str; 2],
    length: usize,
) {
    output.reserve(HEAD_ROOM + headers.len() + length);
    // Writing to memory does not fail.
    let _ = write!(
        output,
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\n{headers}{connection}\r\n"
    );
}
