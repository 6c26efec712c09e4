//! Sizes and times, rounded so that people can read them.

use alloc::format;
use alloc::string::String;

/// A size: `512 B`, `3.0 KiB`, `1.2 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of the largest unit that gives at least 1.
    let power = (count.ilog2() / 10) as usize;
    let tenths = (u128::from(count) * 10 + (1 << (10 * power - 1))) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power - 1])
}

/// A time: `850 ns`, `1.50 us`, `2.00 ms`, `3.20 s`, `5 min 3 s`, `2 h 5 min`.
#[must_use]
pub fn duration(ns: u64) -> String {
    let hundredths = |unit: u64| {
        let value = ns / (unit / 100);
        format!("{}.{:02}", value / 100, value % 100)
    };
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => hundredths(1_000) + " us",
        1_000_000..1_000_000_000 => hundredths(1_000_000) + " ms",
        _ if seconds < 60 => hundredths(1_000_000_000) + " s",
        _ if seconds < 3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let texts = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) + (1 << 29), u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.5 GiB", "16.0 EiB"]);
    }

    #[test]
    fn times() {
        let texts = [7, 1_500, 2_000_000, 3_210_000_000, 303_000_000_000, 7_500_000_000_000].map(duration);
        assert_eq!(texts, ["7 ns", "1.50 us", "2.00 ms", "3.21 s", "5 min 3 s", "2 h 5 min"]);
    }
}
