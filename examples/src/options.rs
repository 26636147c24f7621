//! The values on a command line: each function is a clap `value_parser` whose error says what was expected.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Returns a parser of whole numbers in `range`.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
    }
}

/// Parses a whole number of seconds, at most a day.
///
/// # Errors
///
/// What was expected.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a whole number of seconds, from 1 to 86400".to_owned()),
    }
}

/// Checks that `text` has the form HOST:PORT. The host's name is resolved later, by the program.
///
/// # Errors
///
/// What was expected.
pub fn address(text: &str) -> Result<String, String> {
    let has_the_form = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !port.starts_with('+') && port.parse::<u16>().is_ok()
    });
    if has_the_form {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, for example localhost:8000".to_owned())
    }
}
