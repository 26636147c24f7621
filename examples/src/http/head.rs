//! The head of a request: its first line and its headers.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{Limits, Status};

pub(super) const MOST_HEADERS: usize = 64;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, in the client's own letters: methods are case-sensitive.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) is_http_1_0: bool,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

impl Request {
    /// Returns the request that these bytes start with, and the length of its head. Returns `None` if the head is
    /// not complete.
    pub(super) fn parse(received: &[u8], limits: Limits) -> Result<Option<(Self, usize)>, Status> {
        let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(received, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length <= limits.head => length,
            Ok(httparse::Status::Partial) if received.len() <= limits.head => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Status::HEAD_TOO_LARGE),
            Err(httparse::Error::Version) => return Err(Status("505 HTTP Version Not Supported")),
            Err(_) => return Err(Status::BAD_REQUEST),
        };
        if !ends_each_line_alike(received.get(..length).unwrap_or_default()) {
            return Err(Status::BAD_REQUEST);
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Status::BAD_REQUEST);
        };
        let is_http_1_0 = version == 0;
        check_host(parsed.headers, is_http_1_0)?;
        let request = Request {
            method: method.to_owned(),
            path: path(target).to_owned(),
            framing: framing(parsed.headers, is_http_1_0, limits)?,
            keep_alive: keeps_alive(parsed.headers, is_http_1_0),
            expects_continue: expects_continue(parsed.headers, is_http_1_0)?,
            is_http_1_0,
        };
        Ok(Some((request, length)))
    }
}

/// Returns whether all lines end in CRLF, or all in LF alone.
///
/// A server may take LF alone for a line's end (RFC 9112, section 2.2), and people type such requests into `nc`.
/// But a line feed between lines that end in CRLF is a part of a value to some servers and a line's end to others.
pub(super) fn ends_each_line_alike(lines: &[u8]) -> bool {
    let mut ends = lines.split_inclusive(|byte| *byte == b'\n').map(|line| line.ends_with(b"\r\n"));
    let first = ends.next();
    ends.all(|end| Some(end) == first)
}

/// Refuses a request without its one valid `Host`, as RFC 9112, section 3.2, demands.
fn check_host(headers: &[Header<'_>], is_http_1_0: bool) -> Result<(), Status> {
    let mut hosts = values(headers, "host");
    let is_valid = match hosts.next() {
        Some(host) => {
            host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(byte))
        }
        None => is_http_1_0,
    };
    if is_valid && hosts.next().is_none() { Ok(()) } else { Err(Status::BAD_REQUEST) }
}

/// Finds out how the body is framed.
///
/// If two servers on a request's way disagree about this, one of them takes a part of the body for a request of its
/// own. So this accepts one plain length or one plain `chunked`, and refuses all else (RFC 9112, section 6.3).
fn framing(headers: &[Header<'_>], is_http_1_0: bool, limits: Limits) -> Result<Framing, Status> {
    let mut lengths = values(headers, "content-length");
    let mut codings = values(headers, "transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(length), None) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            if !is_number || lengths.any(|other| other != length) {
                return Err(Status::BAD_REQUEST);
            }
            // Digits alone fail to be a number only if they are too many.
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            match length {
                Some(length) if length <= limits.body => Ok(Framing::Length(length)),
                _ => Err(Status::CONTENT_TOO_LARGE),
            }
        }
        (None, Some(coding)) if !is_http_1_0 && codings.next().is_none() => {
            if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else {
                Err(refusal_of_coding(coding))
            }
        }
        _ => Err(Status::BAD_REQUEST),
    }
}

/// A coding that the server does not know is 501 if `chunked` still marks the body's end. Anything else is an error
/// of the client's (RFC 9112, sections 6.1 and 6.3).
fn refusal_of_coding(coding: &[u8]) -> Status {
    let mut codings = coding.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let is_last = codings.next().is_some_and(is_chunked);
    if is_last && !codings.any(|coding| coding.is_empty() || is_chunked(coding)) {
        Status("501 Not Implemented")
    } else {
        Status::BAD_REQUEST
    }
}

fn keeps_alive(headers: &[Header<'_>], is_http_1_0: bool) -> bool {
    let has_option = |option: &str| {
        values(headers, "connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    !has_option("close") && (!is_http_1_0 || has_option("keep-alive"))
}

/// HTTP/1.0 does not know `Expect`, so the header is ignored there (RFC 9110, section 10.1.1).
fn expects_continue(headers: &[Header<'_>], is_http_1_0: bool) -> Result<bool, Status> {
    let mut expectations = values(headers, "expect").filter(|_| !is_http_1_0).peekable();
    let expects = expectations.peek().is_some();
    if expectations.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        Ok(expects)
    } else {
        Err(Status("417 Expectation Failed"))
    }
}

fn values<'h>(headers: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// Returns the path in a request's target. A client that believes to talk to a proxy sends a whole URL.
fn path(target: &str) -> &str {
    let target = target.split('?').next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    }
}
