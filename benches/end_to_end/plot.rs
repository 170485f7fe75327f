//! The ratios of CPU per message as a plot.

use std::fmt::Write as _;

use super::figures::Figure;
use super::report::{Cell, Report, median};

impl Report {
    /// The ratios of CPU per message as bars: one group a size, one bar a contender, a line at 1.
    pub(crate) fn svg(&self) -> String {
        let sizes = self.places(Figure::CpuPerMessage);
        let mut out = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"300\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"760\" height=\"300\" fill=\"white\"/>\n\
             <text x=\"40\" y=\"20\">CPU per message against HAProxy (1.0 is the line; less is better)</text>\n",
        );
        let group = 680 / sizes.len().max(1);
        for (g, size) in sizes.iter().enumerate() {
            let left = g.saturating_mul(group).saturating_add(50);
            let _ = writeln!(out, "<text x=\"{left}\" y=\"275\">{} B</text>", size);
            for (n, contender) in self.contenders.iter().enumerate() {
                let cell = Cell {
                    figure: Figure::CpuPerMessage,
                    at: *size,
                    contender: contender.clone(),
                };
                let Some(ratios) = self.ratios(&cell) else {
                    continue;
                };
                let height = (median(&ratios) * 100.0).min(220.0);
                let (x, y) = (left.saturating_add(n.saturating_mul(11)), 260.0 - height);
                let color = COLORS
                    .get(n.checked_rem(COLORS.len()).unwrap_or(0))
                    .unwrap_or(&"gray");
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{y:.1}\" width=\"10\" height=\"{height:.1}\" fill=\"{color}\">\
                     <title>{contender} {:.2}</title></rect>",
                    median(&ratios)
                );
            }
        }
        for (n, contender) in self.contenders.iter().enumerate() {
            let x = n.saturating_mul(100).saturating_add(50);
            let color = COLORS
                .get(n.checked_rem(COLORS.len()).unwrap_or(0))
                .unwrap_or(&"gray");
            let _ = writeln!(
                out,
                "<text x=\"{x}\" y=\"293\" fill=\"{color}\">{contender}</text>"
            );
        }
        out.push_str("<path d=\"M40 160H740\" stroke=\"black\" stroke-dasharray=\"4\"/>\n</svg>\n");
        out
    }
}

const COLORS: [&str; 9] = [
    "#888888", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#000000",
    "#994400",
];
