//! Text from strangers: cut into lines, and made safe to show to other people.

use std::fmt;
use std::net::SocketAddr;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_security::confusable_detection::skeleton;
use unicode_security::general_security_profile::IdentifierType;
use unicode_security::{GeneralSecurityProfile, RestrictionLevel, RestrictionLevelDetection};
use unicode_segmentation::UnicodeSegmentation;

/// The longest line in bytes. A longer line becomes several lines.
pub const LONGEST_LINE: usize = 4_096;

/// The most code points in one visible character. A taller stack of accents would draw over other people's lines.
const MOST_CODE_POINTS: usize = 8;

/// The most code points in a name.
const LONGEST_NAME: usize = 20;

/// Characters that Unicode calls symbols, letters or marks although nothing of them is seen: the braille pattern without
/// dots, the Egyptian hieroglyphs full blank and half blank, the Khitan filler, and the musical null notehead.
const BLANK_GLYPHS: [char; 5] = ['\u{2800}', '\u{13441}', '\u{13442}', '\u{16fe4}', '\u{1d159}'];

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// Adds bytes as they came from the socket. A line, and even a character, may arrive in several parts.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next line in printable form, or `None` if no line is complete.
    pub fn next_line(&mut self) -> Option<String> {
        let length = self.length_of_next()?;
        Some(self.take(length))
    }

    /// Returns whether [`next_line`](Self::next_line) returns one.
    pub fn has_line(&self) -> bool {
        self.length_of_next().is_some()
    }

    /// Returns whether nothing is left to take, not even a part of a line.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn length_of_next(&self) -> Option<usize> {
        let within_limit = &self.bytes[..self.bytes.len().min(LONGEST_LINE)];
        match within_limit.iter().position(|byte| *byte == b'\n') {
            Some(newline) => Some(newline + 1),
            None if self.bytes.len() > LONGEST_LINE => Some(end_of_last_whole_character(within_limit)),
            None => None,
        }
    }

    /// Returns what follows the last line end. The sender closed the stream, so nothing can complete it.
    pub fn last_line(&mut self) -> Option<String> {
        if self.bytes.is_empty() { None } else { Some(self.take(self.bytes.len())) }
    }

    fn take(&mut self, length: usize) -> String {
        let line: Vec<u8> = self.bytes.drain(..length).collect();
        printable(&String::from_utf8_lossy(&line))
    }
}

/// Returns where to cut `bytes` so that no visible character is split. The bytes that come later may continue the
/// last character, so the cut is before that.
fn end_of_last_whole_character(bytes: &[u8]) -> usize {
    let Some(chunk) = bytes.utf8_chunks().last() else { return bytes.len() };
    let start_of_chunk = bytes.len() - chunk.valid().len() - chunk.invalid().len();
    let last_character = chunk.valid().grapheme_indices(true).next_back();
    let cut = start_of_chunk + last_character.map_or(0, |(start, _)| start);
    // One endless stack of accents has no end to cut at. A code point does.
    if cut > 0 { cut } else { bytes.len() - chunk.invalid().len() }
}

/// Returns `text` without anything that could deceive its reader or control a terminal.
///
/// - Every kind of white space becomes a space. Tabs and line separators thus still part words.
/// - A symbol or letter whose glyph is blank becomes a space too.
/// - Control characters, such as those of escape sequences, are removed.
/// - Invisible characters are removed. Some reverse the direction of the text, others hide in a word.
/// - A character without a meaning that both ends share (private, or not assigned) becomes U+FFFD.
pub fn printable(text: &str) -> String {
    let visible: String = text.chars().filter_map(as_visible).collect();
    let trimmed = visible.trim_end();
    if trimmed.is_ascii() {
        return trimmed.to_owned();
    }
    trimmed.graphemes(true).flat_map(|character| character.chars().take(MOST_CODE_POINTS)).collect()
}

/// Returns what to show for `char`, or `None` if nothing.
fn as_visible(char: char) -> Option<char> {
    if char.is_ascii_graphic() {
        return Some(char); // most are, so this saves the tables
    }
    if char.is_whitespace() || BLANK_GLYPHS.contains(&char) {
        return Some(' ');
    }
    match char.general_category() {
        GeneralCategory::Control | GeneralCategory::Format => None,
        _ if char.identifier_type() == Some(IdentifierType::Default_Ignorable) => None,
        GeneralCategory::PrivateUse | GeneralCategory::Unassigned => Some(char::REPLACEMENT_CHARACTER),
        _ => Some(char),
    }
}

/// A person's name, which readers cannot mistake for another part of a line.
#[derive(Clone, Debug)]
pub struct Name {
    text: String,
    lower_case: String,
    /// What it looks like: the same for names whose letters look the same.
    shape: String,
}

impl Name {
    /// Returns `text` as a name if it consists of 1 to 20 letters, digits, `-` or `_`.
    ///
    /// A name begins with a letter or a digit. Unicode must recommend its letters for names, and they must be of one
    /// script or of scripts that people write together (Unicode Technical Standard 39).
    pub fn new(text: &str) -> Option<Self> {
        let is_mark = |char: char| char.general_category_group() == GeneralCategoryGroup::Mark;
        let is_name = text.starts_with(|first: char| first.is_alphanumeric() && !is_mark(first))
            && text.chars().all(|char| char.is_alphanumeric() || matches!(char, '-' | '_'))
            && text.chars().count() <= LONGEST_NAME
            && text.check_restriction_level(RestrictionLevel::HighlyRestrictive);
        is_name.then(|| Name::unchecked(text.to_owned()))
    }

    fn unchecked(text: String) -> Self {
        Name {
            lower_case: text.to_lowercase(),
            shape: skeleton(&text).collect::<String>().to_lowercase(),
            text,
        }
    }

    /// Returns whether a reader could mistake one name for the other. They may differ only in case, or in letters that
    /// look the same, such as `l`, `I` and `1`, or the Latin and the Cyrillic `a`.
    pub fn looks_like(&self, other: &Name) -> bool {
        self.lower_case == other.lower_case || self.shape == other.shape
    }
}

/// The name of somebody who has not chosen one.
impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Self {
        Name::unchecked(address.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for part in parts {
            lines.push(part);
            while let Some(line) = lines.next_line() {
                found.push(line);
            }
            assert!(lines.bytes.len() <= LONGEST_LINE);
        }
        found.extend(lines.last_line());
        found
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let text = "one\r\n\nżółw 👩‍🚀 e\u{301}\nno end".as_bytes();
        let whole = lines_of(&[text]);
        assert_eq!(whole, ["one", "", "żółw 👩🚀 e\u{301}", "no end"]);
        for first in 0..text.len() {
            for second in first..text.len() {
                assert_eq!(lines_of(&[&text[..first], &text[first..second], &text[second..]]), whole);
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        for character in ["x", "ż", "漢", "🦀", "e\u{301}", "👍🏽", "🇵🇱", "각", "👩\u{200d}🚀"]
        {
            for offset in 0..character.len() {
                let text = "-".repeat(offset) + &character.repeat(3_000) + "\n";
                let lines = lines_of(&[text.as_bytes()]);
                let shown = printable(character);
                for line in &lines {
                    let is_whole = line.trim_start_matches('-').replace(&shown, "").is_empty();
                    assert!(is_whole && line.len() <= LONGEST_LINE, "{character}, {offset}");
                }
                assert_eq!(lines.concat(), printable(&text));
            }
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_cut_too() {
        for bytes in [&b"\xff"[..], b"\xe2\x82", b"\x80", b"a\xcc", b"\xf0\x9f\xa6"] {
            let line = bytes.repeat(4_000);
            let shown = lines_of(&[&line]).concat();
            assert_eq!(shown, String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn a_stack_of_accents_is_cut_and_lowered() {
        let lines = lines_of(&[("z".to_owned() + &"\u{30d}".repeat(10_000)).as_bytes()]);
        assert!(lines.iter().all(|line| line.chars().count() <= MOST_CODE_POINTS), "{lines:?}");
    }

    #[test]
    fn white_space_of_every_kind_parts_words() {
        let white = [
            '\t', '\u{b}', '\u{c}', '\r', '\u{85}', '\u{a0}', '\u{2003}', '\u{2028}', '\u{2029}', '\u{3000}',
        ];
        for white in white {
            assert_eq!(printable(&format!("two{white}words{white}")), "two words", "{white:?}");
        }
    }

    #[test]
    fn a_blank_glyph_is_white_space() {
        for blank in BLANK_GLYPHS {
            assert_eq!(printable(&format!("two{blank}words{blank}")), "two words", "{blank:?}");
            assert!(Name::new(&format!("ada{blank}")).is_none(), "{blank:?}");
        }
    }

    #[test]
    fn nothing_invisible_passes() {
        let controls = "\0\u{7}\u{8}\u{1b}\u{7f}\u{9b}";
        let zero_width = "\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}";
        let directions = "\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}";
        let without_a_glyph = "\u{34f}\u{115f}\u{3164}\u{ffa0}\u{fe0f}\u{e0041}\u{e0100}";
        let other_formats = "\u{600}\u{fff9}\u{110bd}\u{1d173}";
        for char in [controls, zero_width, directions, without_a_glyph, other_formats].concat().chars() {
            assert_eq!(printable(&format!("a{char}b")), "ab", "U+{:04X}", char as u32);
        }
        for char in ['\u{e000}', '\u{f8ff}', '\u{10ffff}', '\u{fffe}', '\u{378}', '\u{fdd0}'] {
            assert_eq!(printable(&format!("a{char}b")), "a\u{fffd}b", "U+{:04X}", char as u32);
        }
    }

    #[test]
    fn ordinary_text_passes_unchanged() {
        for text in [
            "Zażółć gęślą jaźń!",
            "漢字かな交じり文",
            "שלום עולם",
            "नमस्ते",
            "สวัสดี",
            "👍🏽🇵🇱 §½ ∀x∈ℝ ☃",
            "  a  b",
        ] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn names_are_letters_and_digits_of_scripts_that_go_together() {
        for name in ["ada", "Bo_b-2", "7of9", "Łucja", "Ольга", "さくら", "漢字かな", "12345678901234567890"]
        {
            assert!(Name::new(name).is_some(), "{name}");
        }
        let cyrillic_a_in_latin = "аda";
        for name in [
            "",
            " ",
            "*",
            "* ada",
            "a: b",
            "a b",
            "127.0.0.1:1",
            "::1",
            "[31m",
            "-ada",
            "_",
            "a\u{301}da",
            "\u{345}",
            "\u{3164}",
            "ｂｏｂ",
            "Ⓐda",
            "a.b",
            "a'b",
            "a\u{b7}b",
            cyrillic_a_in_latin,
            "123456789012345678901",
        ] {
            assert!(Name::new(name).is_none(), "{name}");
        }
    }

    fn look_alike(name: &str, other: &str) -> bool {
        Name::unchecked(name.to_owned()).looks_like(&Name::unchecked(other.to_owned()))
    }

    #[test]
    fn names_that_look_alike_are_found() {
        for (name, other) in [
            ("ada", "ada"),
            ("ada", "ADA"),
            ("paul", "pauI"),
            ("paul", "pau1"),
            ("Bob", "B0b"),
            ("сор", "cop"),
            ("Ivan", "ivan"),
        ] {
            assert!(look_alike(name, other) && look_alike(other, name), "{name}, {other}");
        }
        for (name, other) in [("ada", "adam"), ("Bo_b", "Bo-b"), ("Łucja", "Lucja"), ("ω", "w2")] {
            assert!(!look_alike(name, other), "{name}, {other}");
        }
    }
}
