//! A picture of one load: replicas over time of each autoscaler, above the requests that arrived.

use std::fmt::Write as _;

use crate::world::{Outcome, SECOND, Scenario};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
/// Name, colour and width of each line, in the order of the outcomes.
const LINES: [(&str, &str, f64); 3] =
    [("Pilotlight", "#0a66c2", 2.0), ("KPA", "#d1495b", 1.5), ("omniscient", "#6b7280", 1.0)];

/// The picture, as SVG.
pub(crate) fn svg(name: &str, scenario: &Scenario, outcomes: [&Outcome; 3]) -> String {
    let most = outcomes.iter().flat_map(|o| o.replicas.iter().map(|(_, replicas)| *replicas)).max().unwrap_or(1).max(1);
    let x = |at: u64| LEFT + WIDTH * at as f64 / scenario.end as f64;
    let y = |share: f64| TOP + HEIGHT * (1.0 - share);
    let (width, height) = (LEFT + WIDTH + 20.0, TOP + HEIGHT + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<title>{name}: replicas over time</title>\n"
    );
    let _ = writeln!(svg, "<polygon fill=\"#e5e7eb\" points=\"{}\"/>", arrivals(scenario, x, y));
    for share in [0.0, 0.5, 1.0] {
        let replicas = f64::from(most) * share;
        let at = y(share);
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{replicas:.0}</text>", LEFT - 6.0, at + 4.0);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#d1d5db\"/>", LEFT + WIDTH);
    }
    for (place, ((label, colour, stroke), outcome)) in LINES.iter().zip(outcomes).enumerate().rev() {
        let mut path = format!("M{LEFT} {:.1}", y(0.0));
        for (at, replicas) in &outcome.replicas {
            let _ = write!(path, "H{:.1}V{:.1}", x(*at), y(f64::from(*replicas) / f64::from(most)));
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}H{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{stroke}\"/>",
            LEFT + WIDTH
        );
        let _ = writeln!(svg, "<text x=\"{}\" y=\"18\" fill=\"{colour}\">{label}</text>", LEFT + 110.0 * place as f64);
    }
    let minutes = scenario.end / SECOND / 60;
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"18\" fill=\"#6b7280\" text-anchor=\"end\">{name}: replicas; grey: requests a second</text>",
        LEFT + WIDTH
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{minutes} min</text>",
        LEFT + WIDTH,
        TOP + HEIGHT + 20.0
    );
    svg + "</svg>\n"
}

/// The outline of the requests that arrived, each five seconds, the busiest at the top.
fn arrivals(scenario: &Scenario, x: impl Fn(u64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let step = 5 * SECOND;
    let mut counts = vec![0_u32; (scenario.end / step) as usize + 1];
    for request in &scenario.requests {
        counts[(request.at / step) as usize] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(1).max(1));
    let mut points = format!("{LEFT},{:.1}", y(0.0));
    for (place, count) in counts.iter().enumerate() {
        let _ = write!(points, " {:.1},{:.1}", x((place as u64 * step).min(scenario.end)), y(f64::from(*count) / most));
    }
    let _ = write!(points, " {:.1},{:.1}", LEFT + WIDTH, y(0.0));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Request;

    #[test]
    fn every_line_is_drawn_within_the_picture() {
        let requests = vec![Request { at: SECOND, service: SECOND }];
        let scenario = Scenario { requests, starts: vec![SECOND], slots: 1, end: 60 * SECOND };
        let outcome = Outcome { replicas: vec![(SECOND, 2), (50 * SECOND, 0)], ..Outcome::default() };
        let svg = svg("one", &scenario, [&outcome; 3]);
        assert_eq!(svg.matches("stroke-width").count(), 3);
        assert!(svg.contains("H64.3V30.0"), "{svg}");
    }
}
