//! The chunked transfer coding (RFC 9112, section 7.1), which every server must be able to read.
//!
//! Two servers that disagree about the end of a body can be made to see different requests. So this decoder
//! follows the grammar to the letter, and refuses what some other decoders forgive.

use bytes::{Buf, BytesMut};

use super::head::{MOST_HEADERS, ends_each_line_alike};
use super::{Limits, Status};

/// Decodes a body while it arrives.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    next: Part,
    content: BytesMut,
    /// The bytes of all chunk extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    /// A line with the size of a chunk.
    #[default]
    Size,
    /// So many bytes of data, and CRLF.
    Data(usize),
    /// Trailer fields, and an empty line.
    Trailers,
}

impl Chunked {
    /// Returns how many bytes of content it holds.
    pub(super) fn decoded(&self) -> usize {
        self.content.len()
    }

    /// Moves what `received` has of this body to the content. Returns the content once it is complete.
    pub(super) fn decode(
        &mut self,
        received: &mut BytesMut,
        limits: Limits,
    ) -> Result<Option<BytesMut>, Status> {
        loop {
            self.next = match self.next {
                Part::Size => {
                    let Some(length) = line_length(received, limits.head)? else { return Ok(None) };
                    let line = received.get(..length).unwrap_or_default();
                    let (size, extensions) = chunk_size(line)?;
                    self.extensions += extensions;
                    let room = limits.body - self.content.len();
                    if size > room || self.extensions > limits.head {
                        return Err(Status::CONTENT_TOO_LARGE);
                    }
                    received.advance(length + CRLF.len());
                    if size == 0 { Part::Trailers } else { Part::Data(size) }
                }
                Part::Data(0) => match received.get(..CRLF.len()) {
                    None => return Ok(None),
                    Some(CRLF) => {
                        received.advance(CRLF.len());
                        Part::Size
                    }
                    Some(_) => return Err(Status::BAD_REQUEST),
                },
                Part::Data(left) => {
                    let arrived = received.split_to(left.min(received.len()));
                    if arrived.is_empty() {
                        return Ok(None);
                    }
                    self.content.extend_from_slice(&arrived);
                    Part::Data(left - arrived.len())
                }
                Part::Trailers => {
                    let Some(length) = trailers_length(received, limits.head)? else { return Ok(None) };
                    received.advance(length);
                    return Ok(Some(std::mem::take(&mut self.content)));
                }
            }
        }
    }
}

const CRLF: &[u8] = b"\r\n";

/// Returns the length of the first line without its CRLF, or `None` if the line is not complete.
/// A line that contains a control character is refused. This includes a CR or an LF that stands alone.
fn line_length(received: &[u8], most: usize) -> Result<Option<usize>, Status> {
    let end = received.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t');
    if end.unwrap_or(received.len()) > most {
        return Err(Status::CONTENT_TOO_LARGE);
    }
    match end.and_then(|end| received.get(end..)) {
        None | Some(b"\r") => Ok(None),
        Some([b'\r', b'\n', ..]) => Ok(end),
        Some(_) => Err(Status::BAD_REQUEST),
    }
}

/// Returns a chunk's size, and how many bytes of extensions follow it. Extensions are ignored.
fn chunk_size(line: &[u8]) -> Result<(usize, usize), Status> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let is_extension = extensions.is_empty() || extensions.trim_ascii_start().starts_with(b";");
    if digits.is_empty() || !is_extension {
        return Err(Status::BAD_REQUEST);
    }
    // Digits alone fail to be a number only if they are too many.
    let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    Ok((size.unwrap_or(usize::MAX), extensions.len()))
}

/// Returns the length of the trailer fields and the empty line after them, or `None` if they are not complete.
/// Trailer fields are dropped. Nothing in them can change how this request or the next one is framed.
fn trailers_length(received: &[u8], most: usize) -> Result<Option<usize>, Status> {
    let mut trailers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    match httparse::parse_headers(received, &mut trailers) {
        Ok(httparse::Status::Complete((length, _))) if length <= most => {
            let trailers = received.get(..length).unwrap_or_default();
            if ends_each_line_alike(trailers) && trailers.ends_with(CRLF) {
                Ok(Some(length))
            } else {
                Err(Status::BAD_REQUEST)
            }
        }
        Ok(httparse::Status::Partial) if received.len() <= most => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Status::HEAD_TOO_LARGE),
        Err(_) => Err(Status::BAD_REQUEST),
    }
}
