//! Draws curves: SVG as text, with both axes logarithmic. It needs no font of its own and no library.

use crate::records::Picture;
use crate::rows::number;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The curves of one picture, by name, and what is said below it.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Points of each curve; they need not be in order.
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
    /// Sentences.
    pub notes: Vec<String>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const NOTE: f64 = 16.0;

/// Colours that people who see few of them can tell apart (Okabe and Ito's).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// Draws a picture. A point that is not positive has no place on a logarithmic axis and is left out.
pub fn draw(picture: &Picture, curves: &Curves) -> String {
    let points = curves
        .series
        .values()
        .flatten()
        .filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let across = Axis::of(points.clone().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let up = Axis::of(points.map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let height = HEIGHT + NOTE * curves.notes.len() as f64;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        (WIDTH - RIGHT + LEFT) / 2.0,
        20.0,
        "middle",
        &picture.title,
    );
    text(
        &mut svg,
        (WIDTH - RIGHT + LEFT) / 2.0,
        HEIGHT - 12.0,
        "middle",
        &picture.x,
    );
    text(&mut svg, LEFT - 70.0, TOP - 8.0, "start", &picture.y);
    for mark in across.marks() {
        let x = across.place(mark);
        line(&mut svg, (x, TOP), (x, HEIGHT - BOTTOM));
        text(&mut svg, x, HEIGHT - BOTTOM + 16.0, "middle", &short(mark));
    }
    for mark in up.marks() {
        let y = up.place(mark);
        line(&mut svg, (LEFT, y), (WIDTH - RIGHT, y));
        text(&mut svg, LEFT - 6.0, y + 4.0, "end", &short(mark));
    }
    for (place, (name, points)) in curves.series.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let mut points: Vec<_> = points
            .iter()
            .copied()
            .filter(|(x, y)| *x > 0.0 && *y > 0.0)
            .collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        let placed: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", across.place(*x), up.place(*y)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            placed.join(" ")
        );
        for (x, y) in &points {
            let (x, y) = (across.place(*x), up.place(*y));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let y = TOP + 10.0 + 36.0 * place as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{colour}\"/>",
            WIDTH - RIGHT + 16.0,
            y - 4.0
        );
        text(&mut svg, WIDTH - RIGHT + 26.0, y, "start", name);
        if let Some((x, y_of_last)) = points.last() {
            let last = format!("at {}: {}", short(*x), number(*y_of_last));
            text(&mut svg, WIDTH - RIGHT + 26.0, y + 14.0, "start", &last);
        }
    }
    for (place, note) in curves.notes.iter().enumerate() {
        text(
            &mut svg,
            10.0,
            HEIGHT + NOTE * place as f64 + 4.0,
            "start",
            note,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A logarithmic axis, from one place of the picture to another.
struct Axis {
    /// The exponents of the least and the greatest, to the base of ten.
    exponents: (f64, f64),
    places: (f64, f64),
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (least, greatest) = values.fold((f64::INFINITY, 0.0f64), |(least, greatest), value| {
            (least.min(value), greatest.max(value))
        });
        // Nothing to draw, or all in one place: there is an axis all the same.
        let (least, greatest) = if least <= greatest {
            (least, greatest)
        } else {
            (1.0, 1.0)
        };
        let (low, high) = (step_below(least), step_above(greatest));
        let high = if high > low { high } else { low * 2.0 };
        Axis {
            exponents: (low.log10(), high.log10()),
            places: (from, to),
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.exponents.0) / (self.exponents.1 - self.exponents.0);
        self.places.0 + part * (self.places.1 - self.places.0)
    }

    /// Returns what is written at the axis: every power of ten, and 2 and 5 times it where there are few.
    fn marks(&self) -> Vec<f64> {
        let (low, high) = (self.exponents.0 - 1e-9, self.exponents.1 + 1e-9);
        let factors: &[f64] = if high - low > 3.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let powers = low.floor() as i32..=high.ceil() as i32;
        let marks =
            powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        marks
            .filter(|mark| (low..=high).contains(&mark.log10()))
            .collect()
    }
}

/// Returns the greatest of …, 1, 2, 5, 10, 20, … that is not greater.
fn step_below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let step = [5.0, 2.0]
        .into_iter()
        .find(|step| step * power <= value * (1.0 + 1e-9));
    step.unwrap_or(1.0) * power
}

/// Returns the least of …, 1, 2, 5, 10, 20, … that is not smaller.
fn step_above(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|step| step * power >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Writes a number for an axis.
fn short(value: f64) -> String {
    let (value, suffix) = match value {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = format!("{value:.3}");
    format!(
        "{}{suffix}",
        digits.trim_end_matches('0').trim_end_matches('.')
    )
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        Picture::new("a", "bytes & <more>", "processes", "bytes")
    }

    #[test]
    fn an_axis_is_logarithmic_and_ends_at_round_numbers() {
        let axis = Axis::of([30.0, 4_000.0].into_iter(), 0.0, 100.0);
        assert_eq!(axis.place(20.0).round(), 0.0);
        assert_eq!(axis.place(5_000.0).round(), 100.0);
        assert_eq!(
            axis.marks(),
            [20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0]
        );
        assert_eq!(
            Axis::of([1e3, 1e7].into_iter(), 0.0, 1.0).marks(),
            [1e3, 1e4, 1e5, 1e6, 1e7]
        );
    }

    #[test]
    fn every_curve_and_note_is_drawn_and_text_cannot_be_markup() {
        let mut curves = Curves::default();
        curves.series.insert(
            "ours".into(),
            vec![(1_000.0, 20.0), (10.0, 10.0), (0.0, 1.0)],
        );
        curves.series.insert("Erlang".into(), vec![(10.0, 12.0)]);
        curves.notes.push("the curve ends: a < b".into());
        let svg = draw(&picture(), &curves);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // Three points have a place, and each curve a mark beside its name.
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        assert!(
            svg.contains("bytes &amp; &lt;more&gt;") && svg.contains("the curve ends: a &lt; b"),
            "{svg}"
        );
        assert!(svg.contains("at 1 k: 20.0"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_and_a_single_point_are_pictures_too() {
        for points in [vec![], vec![(5.0, 5.0)]] {
            let curves = Curves {
                series: BTreeMap::from([("ours".to_string(), points)]),
                notes: Vec::new(),
            };
            assert!(!draw(&picture(), &curves).contains("NaN"));
        }
    }
}
