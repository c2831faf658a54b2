//! Draws curves as SVG with logarithmic axes.

use crate::figures::number;
use crate::records::Chart;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// A chart's curves, by name, and the lines of text below the chart.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// The points of each curve, in any order.
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
    /// The lines of text.
    pub notes: Vec<String>,
}

const WIDTH: u32 = 900;
const HEIGHT: u32 = 400;
const NOTE_HEIGHT: i32 = 16;
const FONT: (&str, i32) = ("sans-serif", 12);
const POINT_SIZE: u32 = 3;

/// Okabe and Ito's colours, which can be distinguished with any kind of colour vision.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// Draws a chart. Points with a coordinate that is not positive are left out because logarithmic
/// axes cannot show them.
pub fn draw(chart: &Chart, curves: &Curves) -> String {
    let height = HEIGHT + NOTE_HEIGHT as u32 * curves.notes.len() as u32;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    draw_on(&area, chart, curves).expect("writing to a string cannot fail");
    drop(area);
    svg
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_on<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    chart: &Chart,
    curves: &Curves,
) -> Drawn<'a> {
    area.fill(&WHITE)?;
    let (plot, below) = area.split_vertically(HEIGHT);
    let visible = |points: &[(f64, f64)]| -> Vec<_> {
        let mut points = points.to_vec();
        points.retain(|(x, y)| *x > 0.0 && *y > 0.0);
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        points
    };
    let points: Vec<_> = curves
        .series
        .values()
        .flat_map(|points| visible(points))
        .collect();
    let (x_range, x_ticks) = axis(points.iter().map(|point| point.0));
    let (y_range, y_ticks) = axis(points.iter().map(|point| point.1));
    let mut plot = ChartBuilder::on(&plot)
        .caption(&chart.title, FONT)
        .margin(10)
        .margin_right(200)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(
            x_range.log_scale().with_key_points(x_ticks),
            y_range.log_scale().with_key_points(y_ticks),
        )?;
    plot.configure_mesh()
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (((name, points), colour), y) in curves
        .series
        .iter()
        .zip(COLOURS.into_iter().cycle())
        .zip((40..).step_by(18))
    {
        let points = visible(points);
        let label = points.last().map_or(name.clone(), |(x, y)| {
            format!("{name}, at {}: {}", short(*x), number(*y))
        });
        plot.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(POINT_SIZE))?;
        // The legend is drawn by hand because plotters would draw it over the curves.
        let legend = EmptyElement::at((WIDTH as i32 - 190, y))
            + Circle::new((0, 0), POINT_SIZE, colour.filled())
            + Text::new(label, (10, -5), FONT);
        area.draw(&legend)?;
    }
    for (note, y) in curves.notes.iter().zip((0..).step_by(NOTE_HEIGHT as usize)) {
        below.draw(&Text::new(note.as_str(), (10, y), FONT))?;
    }
    area.present()
}

/// Returns the range of an axis, which begins and ends at round numbers, and the positions of its
/// labels. Each power of ten has a label. If that gives too few labels, 2 and 5 times each power
/// are labelled too.
fn axis(values: impl Iterator<Item = f64> + Clone) -> (Range<f64>, Vec<f64>) {
    let steps = || (-9..13).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
    // An axis is drawn even if there are no values.
    let least = values.clone().reduce(f64::min).unwrap_or(1.0) * (1.0 + 1e-9);
    let greatest = values.reduce(f64::max).unwrap_or(1.0) * (1.0 - 1e-9);
    let low = steps().rfind(|step| *step <= least).unwrap_or(least);
    let high = steps()
        .find(|step| *step >= greatest && *step > low)
        .unwrap_or(greatest);
    let is_long = high / low > 1_000.0 * (1.0 + 1e-9);
    let ticks = steps()
        .filter(|step| (low..=high).contains(step))
        .filter(|step| !is_long || (step.log10().fract().abs() < 1e-9))
        .collect();
    (low..high, ticks)
}

/// Formats a number for an axis label.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart::new("a", "bytes & <more>", "processes", "bytes")
    }

    /// Returns the values of an attribute on all elements with a given name.
    fn attributes(svg: &str, element: &str, name: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with(&format!("<{element} ")))
            .filter_map(|line| line.split_once(&format!(" {name}=\""))?.1.split_once('"'))
            .map(|(value, _)| value.parse().expect("the attribute is a number"))
            .collect()
    }

    #[test]
    fn an_axis_is_logarithmic_and_ends_at_round_numbers() {
        let (range, ticks) = axis([30.0, 4_000.0].into_iter());
        assert_eq!(range, 20.0..5_000.0);
        assert_eq!(
            ticks,
            [20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0]
        );
        assert_eq!(axis([1e3, 1e7].into_iter()).1, [1e3, 1e4, 1e5, 1e6, 1e7]);
        let points = vec![(10.0, 1.0), (100.0, 1.0), (1_000.0, 1.0)];
        let curves = Curves {
            series: BTreeMap::from([("ours".to_string(), points)]),
            notes: Vec::new(),
        };
        let places = attributes(&draw(&chart(), &curves), "circle", "cx");
        let difference = (places[1] - places[0]) - (places[2] - places[1]);
        assert!(
            difference.abs() <= 1.0,
            "{places:?}, rounded to whole pixels"
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
        let svg = draw(&chart(), &curves);
        for colour in ["#D55E00", "#0072B2"] {
            let is_curve = |line: &&str| line.starts_with("<polyline ") && line.contains(colour);
            assert_eq!(svg.lines().filter(is_curve).count(), 1, "{svg}");
        }
        // Three points are positive, and the legend has one circle for each curve.
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        assert!(
            svg.contains("bytes &amp; &lt;more&gt;") && svg.contains("the curve ends: a &lt; b"),
            "{svg}"
        );
        assert!(svg.contains("at 1 k: 20.0"), "{svg}");
    }

    #[test]
    fn a_chart_may_have_no_points_or_a_single_point() {
        for points in [vec![], vec![(5.0, 5.0)]] {
            let curves = Curves {
                series: BTreeMap::from([("ours".to_string(), points)]),
                notes: Vec::new(),
            };
            assert!(!draw(&chart(), &curves).contains("NaN"));
        }
    }
}
