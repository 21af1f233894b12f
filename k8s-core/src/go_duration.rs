//! Durations as upstream's flags and files write them: `1h30m`, `15s`, `500ms`.

use std::{str::FromStr, time::Duration};

use serde::Deserialize;

/// A duration in that form. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration such as 1h30m, 15s or 500ms");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut rest, mut sum) = (text, Duration::ZERO);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let amount: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let seconds = match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
            sum += Duration::try_from_secs_f64(amount * seconds).map_err(|_| wrong())?;
            rest = &rest[unit..];
        }
        Ok(Self(sum))
    }
}

impl TryFrom<String> for GoDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases =
            [("1h30m", 5_400_000), ("15s", 15_000), ("1.5s", 1_500), ("500ms", 500), ("0", 0), ("2m0.5s", 120_500)];
        for (text, millis) in cases {
            assert_eq!(text.parse::<GoDuration>(), Ok(GoDuration(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "15", "s", "-1s", "1d", "1 s", "1s1"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }
}
