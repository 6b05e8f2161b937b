//! The measured times as a picture: both axes logarithmic, one line for each time.

use std::{fmt::Write as _, time::Duration};

use super::Times;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;

/// Name, colour and value of a line.
type Line = (&'static str, &'static str, fn(&Times) -> Duration);

const LINES: [Line; 4] = [
    ("formation", "#1b6ca8", |times| times.formation),
    ("new ring", "#c0392b", |times| times.recovery),
    ("detection", "#e08e0b", |times| times.detection),
    ("rotation", "#3a7d44", |times| times.rotation),
];

/// Where a range of positive values is drawn.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low).ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + share * (self.to - self.from)
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// The picture; empty axes without rows.
#[must_use]
pub fn svg(rows: &[Times]) -> String {
    let most = rows.iter().map(|row| row.nodes).max().unwrap_or(2).max(3);
    let values = rows.iter().flat_map(|row| LINES.map(|(_, _, value)| millis(value(row))));
    let (low, high) =
        values.fold((1.0, 10.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let x = Axis { low: 2.0, high: most.into(), from: LEFT, to: WIDTH - RIGHT };
    let decade = |value: f64, round: fn(f64) -> f64| 10_f64.powf(round(value.max(0.01).log10()));
    let y =
        Axis { low: decade(low, f64::floor), high: decade(high, f64::ceil), from: HEIGHT - BOTTOM, to: TOP };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    grid(&mut out, rows, &x, &y);
    for (name, colour, value) in LINES {
        let place = |row: &Times| (x.at(row.nodes.into()), y.at(millis(value(row))));
        let points: Vec<String> =
            rows.iter().map(place).map(|(across, up)| format!("{across:.1},{up:.1}")).collect();
        let points = points.join(" ");
        _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        if let Some((across, up)) = rows.last().map(place) {
            _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                across + 6.0,
                up + 4.0
            );
        }
    }
    out + "</svg>\n"
}

fn grid(out: &mut String, rows: &[Times], x: &Axis, y: &Axis) {
    let mut value = y.low;
    while value <= y.high * 1.001 {
        let up = y.at(value);
        _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{up:.1}\" x2=\"{:.1}\" y2=\"{up:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value} ms</text>",
            x.to,
            LEFT - 6.0,
            up + 4.0
        );
        value *= 10.0;
    }
    for row in rows {
        let across = x.at(row.nodes.into());
        _ = writeln!(
            out,
            "<line x1=\"{across:.1}\" y1=\"{TOP}\" x2=\"{across:.1}\" y2=\"{:.1}\" stroke=\"#eee\"/>\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y.from,
            y.from + 16.0,
            row.nodes
        );
    }
    let (middle, below) = ((x.from + x.to) / 2.0, HEIGHT - 12.0);
    _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{below}\" text-anchor=\"middle\">nodes</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_point_for_each_row_within_the_picture() {
        let row = |nodes, millis| Times {
            nodes,
            formation: Duration::from_millis(millis),
            rotation: Duration::from_micros(millis),
            detection: Duration::from_millis(2 * millis),
            recovery: Duration::from_millis(3 * millis),
            formation_datagrams: 1,
        };

        let text = svg(&[row(2, 50), row(8, 500), row(128, 90_000)]);

        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("<polyline")).collect();
        assert_eq!(lines.len(), LINES.len());
        for line in lines {
            let points: Vec<f64> =
                line.split('"').nth(1).unwrap().split([' ', ',']).map(|n| n.parse().unwrap()).collect();
            assert_eq!(points.len(), 6);
            assert!(points.iter().all(|n| (0.0..=WIDTH).contains(n)), "{line}");
            assert!(
                points[0] < points[2] && points[1] > points[3],
                "later is further right and higher: {line}"
            );
        }
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
