//! A server's half of HTTP/1.1: requests out of bytes, answers into bytes. Nothing here reads or writes a socket.

use std::fmt::Write;
use std::time::SystemTime;

use bytes::{BufMut, BytesMut};
use httparse::Header;

/// The code and the reason that an answer starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub &'static str);

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
    /// How many bytes follow the head.
    pub body: usize,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client sends the body only when told to go on.
    pub expects_continue: bool,
    is_http_1_0: bool,
}

/// Says that the body may come.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const MOST_HEADERS: usize = 64;

impl Request {
    /// The request that these bytes start with, and the length of its head; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// Why it is refused. Where the next request starts is unknown then, so nothing that follows can be answered.
    pub fn parse(received: &[u8], limits: Limits) -> Result<Option<(Self, usize)>, Status> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let complete = parsed.parse(received).map_err(|error| match error {
            httparse::Error::TooManyHeaders => Status("431 Request Header Fields Too Large"),
            httparse::Error::Version => Status("505 HTTP Version Not Supported"),
            _ => Status("400 Bad Request"),
        })?;
        let head = match complete {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => received.len(),
        };
        if head > limits.head {
            return Err(Status("431 Request Header Fields Too Large"));
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Ok(None);
        };
        if complete.is_partial() {
            return Ok(None);
        }
        let is_http_1_0 = version == 0;
        let hosts = values(parsed.headers, "host").count();
        if hosts > 1 || (hosts == 0 && !is_http_1_0) {
            return Err(Status("400 Bad Request"));
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

    /// Appends the answer to it. `headers` are whole lines; `keep_alive` may only be true if the request's is.
    pub fn answer(
        &self,
        output: &mut BytesMut,
        status: Status,
        headers: &str,
        body: &[u8],
        keep_alive: bool,
    ) {
        let connection = match keep_alive {
            true if self.is_http_1_0 => "Connection: keep-alive\r\n",
            true => "",
            false => "Connection: close\r\n",
        };
        write_head(output, status, [headers, connection], body.len());
        if self.method != "HEAD" {
            output.put_slice(body);
        }
    }
}

/// Appends the answer to what is no request, after which the connection is closed.
pub fn refuse(output: &mut BytesMut, status: Status) {
    let body = format!("{}\n", status.0);
    write_head(output, status, ["Content-Type: text/plain\r\n", "Connection: close\r\n"], body.len());
    output.put_slice(body.as_bytes());
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
        return Err(Status(if is_plain { "501 Not Implemented" } else { "400 Bad Request" }));
    }
    let Some(length) = length else { return Ok(0) };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != length) {
        return Err(Status("400 Bad Request"));
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
