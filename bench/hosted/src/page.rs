//! The page of the documentation that shows a report.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::plot;
use crate::report::{Contest, Percentile, Report, Section, Unit};

/// What each section is about; in the order of the page.
const SECTIONS: [(&str, &str); 13] = [
    ("hop", "Following a pointer"),
    ("tx", "Durable transactions in memory"),
    ("tx-caches", "The same where caches survive a power cut"),
    ("disk", "Durable commits on a disk"),
    ("maps", "Maps"),
    ("maps-large", "Maps of 20,000,000 entries, values of 8 bytes (`--full`)"),
    ("maps-large-100", "Maps of 20,000,000 entries, values of 100 bytes (`--full`)"),
    ("maps-large-pmem", "Maps of 20,000,000 entries in persistent memory (`--full`)"),
    ("limit", "Maps larger than memory"),
    ("kv13", "A key-value store, against the same store over file I/O"),
    ("ycsb", "YCSB, and transfers between accounts"),
    ("open", "Opening a store, and what it costs in space"),
    ("open-large", "Opening a store of 10 GiB (`--full`)"),
];

/// Writes page and plots.
///
/// # Errors
/// The folder can't be written.
pub(crate) fn write(report: &Report, into: &Path) -> Result<()> {
    let folder = into.join("bench");
    std::fs::create_dir_all(&folder)?;
    for (name, section) in &report.sections {
        std::fs::write(folder.join(format!("hosted-{name}.svg")), plot::section(section)?)?;
    }
    std::fs::write(into.join("bench-hosted.md"), page(report)?)?;
    Ok(())
}

fn page(report: &Report) -> Result<String> {
    let mut page = String::from(
        "# Figures of the hosted runtime\n\n\
         Written by `cargo run -- bench hosted`; the same as JSON: [bench/hosted.json](bench/hosted.json). Native, release. In each table the\n\
         contenders took turns, round by round, where the section does not say otherwise. *Ratio* is the median of the rounds' ratios to the row whose ratio is 1, with the\n\
         range in which half of them lie. Where we lose, the table says so.\n\n\
         Sections marked `--full` are only measured where that is asked for, or where they are named: each section says when it was measured.\n\n\
         Not measured: media slower than DRAM, as real persistent memory is.\n",
    );
    goals(&mut page, report)?;
    for (name, title) in SECTIONS {
        if let Some(section) = report.sections.get(name) {
            show(&mut page, name, title, section)?;
        }
    }
    Ok(page)
}

/// All targets in one table.
fn goals(page: &mut String, report: &Report) -> Result<()> {
    page.push_str("\n## Targets\n\n| where | what | at most | measured | |\n|---|---|---|---|---|\n");
    for (name, title) in SECTIONS {
        let contests =
            report.sections.get(name).map(|section| section.contests.as_slice()).unwrap_or_default();
        for contest in contests {
            for goal in &contest.goals {
                writeln!(
                    page,
                    "| {title}: {} | {} | {} | {} | {} |",
                    contest.title,
                    goal.what,
                    number(goal.at_most),
                    number(goal.measured),
                    if goal.is_met() { "met" } else { "**missed**" },
                )?;
            }
        }
    }
    Ok(())
}

fn show(page: &mut String, name: &str, title: &str, section: &Section) -> Result<()> {
    let machine = &section.machine;
    writeln!(page, "\n## {title}\n\n![{title}](bench/hosted-{name}.svg)\n")?;
    for note in &section.notes {
        writeln!(page, "{note}\n")?;
    }
    writeln!(
        page,
        "Measured on {}: {}, {} processors (shared with other machines), {}, disk {}; load average {:.1} before, {:.1} after{}.",
        machine.date,
        machine.processor,
        machine.processors,
        machine.kernel,
        machine.disk,
        machine.load.0,
        machine.load.1,
        if machine.quick { "; a quick run, whose figures mean little" } else { "" },
    )?;
    for contest in &section.contests {
        table(page, contest)?;
    }
    Ok(())
}

fn table(page: &mut String, contest: &Contest) -> Result<()> {
    let unit = match contest.unit {
        Unit::Nanoseconds => "ns",
        Unit::PerSecond => "a second",
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "ms",
    };
    let tail = match contest.percentile {
        Percentile::OfRounds => "p99 of rounds",
        Percentile::OfOperations if contest.unit == Unit::PerSecond => "p99, us",
        Percentile::OfOperations => "p99",
    };
    let counts: Vec<&str> = {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in contest.rows.iter().flat_map(|row| &row.counts) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    };
    let heads: String = counts.iter().map(|name| format!(" {name} |")).collect();
    let lines: String = counts.iter().map(|_| "---|").collect();
    writeln!(
        page,
        "\n| {} | {unit} | {tail} | ratio | half of the ratios |{heads}\n|---|---|---|---|---|{lines}",
        contest.title
    )?;
    for row in &contest.rows {
        let cells: String = counts
            .iter()
            .map(|&name| {
                let found = row.counts.iter().find(|(count, _)| count == name);
                format!(" {} |", found.map_or(String::new(), |&(_, value)| number(value)))
            })
            .collect();
        writeln!(
            page,
            "| {} | {} | {} | {:.2} | {:.2}-{:.2} |{cells}",
            row.name,
            number(row.median),
            number(row.p99),
            row.ratio,
            row.ratio_low,
            row.ratio_high,
        )?;
    }
    for failure in &contest.failed {
        writeln!(page, "\nFailed: {failure}.")?;
    }
    Ok(())
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 0.1 || value == 0.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// A contest in a line, for whoever watches.
pub(crate) fn brief(contest: &Contest) -> String {
    let row = |row: &crate::report::Row| {
        let counts: String =
            row.counts.iter().map(|(name, count)| format!(", {} {name}", number(*count))).collect();
        format!("{} {} ({:.2}{counts})", row.name, number(row.median), row.ratio)
    };
    let rows: Vec<String> = contest.rows.iter().map(row).collect();
    let failed: String = contest.failed.iter().map(|failure| format!(", FAILED: {failure}")).collect();
    format!("{}: {}{failed}", contest.title, rows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::row;
    use crate::report::{Goal, Machine};

    #[test]
    fn losses_are_on_the_page() {
        let contest = Contest {
            title: "a race".into(),
            unit: Unit::Nanoseconds,
            percentile: Percentile::OfRounds,
            reference: "tortoise".into(),
            rows: vec![
                row("tortoise", &[10.0, 10.0], &[10.0, 10.0], 11.0, vec![]),
                row("hare", &[25.0, 25.0], &[10.0, 10.0], 31.0, vec![("naps".into(), 1.0)]),
            ],
            goals: vec![Goal { what: "of the tortoise's time".into(), measured: 2.5, at_most: 0.5 }],
            failed: Vec::new(),
        };
        let machine = Machine {
            date: "today".into(),
            processor: "slow".into(),
            processors: 1,
            kernel: "none".into(),
            disk: "none".into(),
            load: (0.0, 0.0),
            quick: true,
        };
        let section = Section { machine, notes: vec!["They ran.".into()], contests: vec![contest] };
        let report = Report { sections: [("hop".to_owned(), section)].into() };
        let page = page(&report).expect("strings can be written");
        assert!(
            page.contains(
                "| Following a pointer: a race | of the tortoise's time | 0.50 | 2.50 | **missed** |"
            )
        );
        assert!(page.contains("| hare | 25.0 | 31.0 | 2.50 | 2.50-2.50 | 1.00 |"), "{page}");
        assert!(page.contains("a quick run"));
    }
}
