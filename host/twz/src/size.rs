//! Sizes on the command line: `1G`, `512M`, `4096K`, or bytes.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 1 MiB.
    pub const MIB: u64 = 1 << 20;
    /// 1 GiB.
    pub const GIB: u64 = 1 << 30;
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write a number with K, M, G or T, such as 512M or 1G");
        let upper = text.trim().to_ascii_uppercase();
        let upper = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
        let (digits, shift) = match upper.chars().last() {
            Some('K') => (&upper[..upper.len() - 1], 10),
            Some('M') => (&upper[..upper.len() - 1], 20),
            Some('G') => (&upper[..upper.len() - 1], 30),
            Some('T') => (&upper[..upper.len() - 1], 40),
            _ => (upper, 0),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|&(shift, _)| self.0 >= 1 << shift)
            .unwrap_or((0, "bytes"));
        let (whole, rest) = (self.0 >> unit, self.0 & ((1 << unit) - 1));
        if rest == 0 {
            write!(f, "{whole} {name}")
        } else {
            write!(f, "{:.1} {name}", self.0 as f64 / (1u64 << unit) as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [
            ("1G", 1 << 30),
            ("512m", 512 << 20),
            ("7", 7),
            ("4096K", 4 << 20),
            ("2GiB", 2 << 30),
            ("3MB", 3 << 20),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        assert_eq!(Bytes(1 << 30).to_string(), "1 GiB");
        assert_eq!(Bytes(3 << 19).to_string(), "1.5 MiB");
        assert_eq!(Bytes(5).to_string(), "5 bytes");
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in ["", "G", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
