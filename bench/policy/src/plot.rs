//! A picture of what the policies come to: added latency of the median Function and of the third quartile, over memory-time and over pod creations. Nearer
//! to the lower left is better.

use std::fmt::Write as _;

use crate::report::{Figures, Row};

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
/// From the left edge of one panel to that of the next.
const PITCH: f64 = WIDTH + 80.0;
const COLOURS: [&str; 2] = ["#0a66c2", "#8aa9c9"];

/// From the upper edge of one panel to that of the next.
const DROP: f64 = HEIGHT + 70.0;

/// What lies on an axis.
#[derive(Clone, Copy)]
struct Axis {
    name: &'static str,
    of: fn(&Figures) -> f64,
}

const ACROSS: [Axis; 2] = [
    Axis { name: "GB-minutes", of: |figures| figures.gb_minutes },
    Axis { name: "pod creations", of: |figures| figures.pod_creations as f64 },
];
const UP: [Axis; 2] = [
    Axis { name: "p50", of: |figures| figures.p50_added_ms },
    Axis { name: "p75", of: |figures| figures.p75_added_ms },
];

/// The picture, as SVG: each policy a point, and the adaptive one a line for each set of rungs, by the price of waiting.
pub(crate) fn svg(rows: &[Row], lines: &[(&str, Vec<Figures>); 2]) -> String {
    let (width, height) = (LEFT + PITCH * 2.0, TOP + DROP * 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<title>Idle policies: added latency, memory-time and pod creations</title>\n"
    );
    for (place, (name, _)) in lines.iter().enumerate() {
        let x = LEFT + 210.0 * place as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"18\" fill=\"{}\">― {name}, by the price of waiting</text>",
            COLOURS[place]
        );
    }
    for (row, up) in UP.into_iter().enumerate() {
        for (column, across) in ACROSS.into_iter().enumerate() {
            let corner = (LEFT + PITCH * column as f64, TOP + DROP * row as f64);
            draw(&mut svg, corner, across, up, rows, lines);
        }
    }
    svg + "</svg>\n"
}

fn draw(
    svg: &mut String,
    (left, top): (f64, f64),
    across: Axis,
    up: Axis,
    rows: &[Row],
    lines: &[(&str, Vec<Figures>); 2],
) {
    let all = || rows.iter().map(|row| &row.figures).chain(lines.iter().flat_map(|(_, line)| line));
    // Both axes cover orders of magnitude and are logarithmic.
    let range = |axis: Axis| {
        let values = all().map(|figures| (axis.of)(figures).max(1.0));
        let (low, high) = values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (low / 1.15, high * 1.15)
    };
    let ((low, high), (least, most)) = (range(across), range(up));
    let share = |value: f64, low: f64, high: f64| (value.max(1.0) / low).ln() / (high / low).ln();
    let x = |figures: &Figures| left + WIDTH * share((across.of)(figures), low, high);
    let y = |figures: &Figures| top + HEIGHT * (1.0 - share((up.of)(figures), least, most));
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (at, ms) = (top + HEIGHT * (1.0 - share), least * (most / least).powf(share));
        let _ = writeln!(svg, "<path d=\"M{left:.1} {at:.1}h{WIDTH}\" stroke=\"#e5e7eb\"/>");
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms:.0}</text>", left - 6.0, at + 4.0);
        let (at, value) = (left + WIDTH * share, low * (high / low).powf(share));
        let below = top + HEIGHT + 16.0;
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{value:.0}</text>");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{:.1}\" fill=\"#6b7280\">added ms of a Function, {} of all Functions, over {}</text>",
        top - 10.0,
        up.name,
        across.name
    );
    for ((_, line), colour) in lines.iter().zip(COLOURS) {
        let points: Vec<String> = line.iter().map(|f| format!("{:.1},{:.1}", x(f), y(f))).collect();
        let points = points.join(" ");
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>");
    }
    for row in rows {
        let (x, y) = (x(&row.figures), y(&row.figures));
        let colour = if row.name.starts_with("adaptive") { COLOURS[0] } else { "#d1495b" };
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        // Names of what lies far to the right end at their points.
        let (at, anchor) = if x > left + WIDTH * 0.7 { (x - 6.0, "end") } else { (x + 6.0, "start") };
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
            y - 5.0,
            row.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures;
    use crate::world::Outcome;

    #[test]
    fn every_policy_is_a_point_in_each_panel() {
        let outcome =
            Outcome { requests: 2, waits: vec![100], memory: 1 << 40, pod_creations: 3, ..Outcome::default() };
        let figures = figures(&[outcome]);
        let rows = ["adaptive", "fixed_1m"].map(|name| Row { name: name.to_owned(), figures });
        let svg = svg(&rows, &[("one", vec![figures; 2]), ("other", vec![figures])]);
        assert_eq!(svg.matches("<circle").count(), 8);
        assert_eq!(svg.matches("<polyline").count(), 8);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
