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

#[cfg(test)]
mod tests {
    use super::{address, number, seconds};

    #[test]
    fn numbers_are_whole_and_in_range() {
        let number = number(1..=255_usize);
        assert_eq!((number("1"), number("255")), (Ok(1), Ok(255)));
        for wrong in ["0", "256", "-1", "1.0", "", " 1", "99999999999999999999"] {
            assert_eq!(number(wrong), Err("expected a whole number from 1 to 255".to_owned()));
        }
    }

    #[test]
    fn seconds_are_at_most_a_day() {
        assert_eq!(seconds("86400").map(|time| time.as_secs()), Ok(86_400));
        assert!(seconds("0").is_err() && seconds("86401").is_err() && seconds("-1").is_err());
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "[::1]:65535", "localhost:80"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for wrong in
            ["", ":80", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:+80"]
        {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
