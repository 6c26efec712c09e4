//! Plots: a bar for each contender of each contest, with the contest's reference in the same group.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{Contest, Section, Unit};

const WIDTH: u32 = 960;
const ROW_HEIGHT: u32 = 16;
const TITLE_HEIGHT: u32 = 30;
/// Where bars begin; left of it are the names.
const NAMES_WIDTH: i32 = 330;
/// Right of the longest bar: its number.
const NUMBERS_WIDTH: i32 = 110;

const OTHERS: RGBColor = RGBColor(150, 160, 170);
const REFERENCE: RGBColor = RGBColor(90, 100, 110);
const OURS: RGBColor = RGBColor(30, 120, 200);

/// All contests of a section, one below the other.
///
/// # Errors
/// None that a drawing into memory could have.
pub(crate) fn section(section: &Section) -> Result<String> {
    let height: u32 = section.contests.iter().map(height).sum();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height.max(1))).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        let mut rest = area;
        for contest in &section.contests {
            let (part, below) = rest.split_vertically(height_i32(contest));
            draw(&part, contest)?;
            rest = below;
        }
    }
    Ok(svg)
}

fn height(contest: &Contest) -> u32 {
    TITLE_HEIGHT + ROW_HEIGHT * contest.rows.len() as u32
}

fn height_i32(contest: &Contest) -> i32 {
    height(contest) as i32
}

/// True for the contenders that are this project's.
fn is_ours(name: &str) -> bool {
    name.starts_with("invariant pointer") || name.starts_with("Twizzler")
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, contest: &Contest) -> Result<()> {
    let say = |text: String, x: i32, y: i32, size: i32, bold: bool| {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = FontDesc::new(FontFamily::SansSerif, f64::from(size), style);
        area.draw(&Text::new(text, (x, y), font)).map_err(|error| anyhow!("{error}"))
    };
    let unit = match contest.unit {
        Unit::Nanoseconds => "ns, less is better",
        Unit::PerSecond => "a second, more is better",
        Unit::Bytes => "bytes, less is better",
        Unit::Milliseconds => "ms, less is better",
    };
    say(format!("{} ({unit})", contest.title), 8, 10, 16, true)?;
    let longest = contest.rows.iter().map(|row| row.median).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(WIDTH as i32 - NAMES_WIDTH - NUMBERS_WIDTH);
    for (i, row) in contest.rows.iter().enumerate() {
        let top = (TITLE_HEIGHT + ROW_HEIGHT * i as u32) as i32;
        let end = NAMES_WIDTH + (row.median / longest * room) as i32;
        let color = if is_ours(&row.name) {
            OURS
        } else if row.name == contest.reference {
            REFERENCE
        } else {
            OTHERS
        };
        let bar =
            Rectangle::new([(NAMES_WIDTH, top + 2), (end.max(NAMES_WIDTH + 1), top + 13)], color.filled());
        area.draw(&bar).map_err(|error| anyhow!("{error}"))?;
        say(row.name.clone(), 16, top + 1, 14, is_ours(&row.name))?;
        say(format!("{:.4} ({:.2})", Short(row.median), row.ratio), end + 6, top + 1, 14, false)?;
    }
    Ok(())
}

/// A number with as many digits as mean something.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value >= 100.0 => write!(f, "{value:.0}"),
            value => write!(f, "{value:.1}"),
        }
    }
}
