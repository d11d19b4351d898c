//! Plots of the page, as SVG with colours from the page's style sheet.

#![forbid(unsafe_code)]

use maud::{Markup, html};

use crate::evaluation::sample::Sample;
use crate::model::format::Clock;
use pinwatch_common::record::{PHASE_NAMES, PHASES};

/// Width of a plot, in SVG units.
const WIDTH: f64 = 460.0;
/// Height of a plot without its axis, in SVG units.
const HEIGHT: f64 = 150.0;
/// Height of the axis below a plot.
const AXIS: f64 = 22.0;
/// Maximum number of bins of a distribution.
const BINS: usize = 80;
/// Number of bins per octave, up to [`BINS`].
const PER_OCTAVE: f64 = 8.0;

/// Distribution of durations of both sides over a logarithmic axis, as shares of each side's pins.
pub fn durations(base: &[&Sample], new: &[&Sample], clock: Clock) -> Markup {
    let logs = |pins: &[&Sample]| -> Vec<f64> {
        pins.iter()
            .map(|pin| pin.duration_ns.max(1.0).log2())
            .collect()
    };
    let (base, new) = (logs(base), logs(new));
    let all = || base.iter().chain(&new);
    let least = all().fold(f64::INFINITY, |a, b| a.min(*b)).floor();
    let most = all()
        .fold(f64::NEG_INFINITY, |a, b| a.max(*b))
        .ceil()
        .max(least + 1.0);
    let bins = ((most - least) * PER_OCTAVE).clamp(1.0, BINS as f64) as usize;
    let shares = |logs: &[f64]| {
        let mut shares = vec![0.0; bins];
        for log in logs {
            let bin = ((log - least) / (most - least) * bins as f64) as usize;
            shares[bin.min(bins - 1)] += 1.0 / logs.len().max(1) as f64;
        }
        shares
    };
    let sides = [("base", shares(&base)), ("new", shares(&new))];
    let top = sides
        .iter()
        .flat_map(|(_, shares)| shares)
        .fold(1e-9f64, |a, b| a.max(*b));
    let step = ((most - least) / 6.0).ceil().max(1.0) as usize;
    let ticks = (least as i64..=most as i64).step_by(step);
    svg(
        HEIGHT + AXIS,
        "Distribution of durations, base and new",
        html! {
            @for (class, shares) in &sides {
                path class={ "area " (class) } d=(area(shares, top)) {}
            }
            @for tick in ticks {
                @let x = (tick as f64 - least) / (most - least) * WIDTH;
                line class="tick" x1=(x) x2=(x) y1=(HEIGHT) y2=(HEIGHT + 4.0) {}
                text x=(x) y=(HEIGHT + 17.0) text-anchor=(anchor(x)) { (clock.span(2f64.powi(tick as i32) as u64)) }
            }
            line class="axis" x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
        },
    )
}

/// Alignment of a tick's label, so that it stays inside the plot.
fn anchor(x: f64) -> &'static str {
    if x < 20.0 {
        "start"
    } else if x > WIDTH - 20.0 {
        "end"
    } else {
        "middle"
    }
}

/// SVG path of a step function, closed at the bottom.
fn area(shares: &[f64], top: f64) -> String {
    let mut path = format!("M0 {HEIGHT}");
    for (bin, share) in shares.iter().enumerate() {
        let x = |bin: usize| bin as f64 / shares.len() as f64 * WIDTH;
        let y = HEIGHT - share / top * (HEIGHT - 6.0);
        path += &format!("L{:.1} {y:.1}L{:.1} {y:.1}", x(bin), x(bin + 1));
    }
    path + &format!("L{WIDTH} {HEIGHT}Z")
}

/// Mean time or instructions per page of both sides, stacked by phase. Pins that returned no page are left out;
/// `None` if no other is left.
pub fn phases(base: &[&Sample], new: &[&Sample], clock: Clock) -> Option<Markup> {
    const BAR: f64 = 26.0;
    let each = |pins: &[&Sample]| {
        let done: Vec<_> = pins.iter().filter(|pin| pin.returned > 0.0).collect();
        (!done.is_empty()).then(|| {
            let mut sums = [0.0; PHASES];
            for pin in &done {
                for (sum, ns) in sums.iter_mut().zip(pin.phase_ns) {
                    *sum += f64::from(ns) / pin.returned / done.len() as f64;
                }
            }
            sums
        })
    };
    let sides = [("base", each(base)), ("new", each(new))];
    let total = |sums: &[f64; PHASES]| sums.iter().sum::<f64>();
    let totals = sides
        .iter()
        .filter_map(|(_, sums)| sums.as_ref().map(total));
    let most = totals.reduce(f64::max)?.max(1e-9);
    let bars = html! {
        @for (row, (name, sums)) in sides.iter().enumerate() {
            @let y = row as f64 * (BAR + 18.0);
            @if let Some(sums) = sums {
                @for (phase, ns) in sums.iter().enumerate() {
                    @let before: f64 = sums[..phase].iter().sum();
                    rect class={ "phase" (phase) } x=(before / most * WIDTH) y=(y + 14.0) width=(ns / most * WIDTH) height=(BAR) {
                        title { (PHASE_NAMES[phase]) ": " (clock.fine(*ns)) " per page" }
                    }
                }
                text x="0" y=(y + 10.0) { (name) ": " (clock.fine(total(sums))) " per page" }
            } @else {
                text x="0" y=(y + 10.0) { (name) ": no pin succeeded" }
            }
        }
    };
    let label = format!("{} per page by phase, base and new", clock.words());
    Some(svg(2.0 * (BAR + 18.0), &label, bars))
}

/// Legend for the colours of [`phases`].
pub fn phase_legend() -> Markup {
    html! {
        @for (phase, name) in PHASE_NAMES.iter().enumerate() {
            span.key { svg.swatch viewBox="0 0 10 10" { rect class={ "phase" (phase) } width="10" height="10" {} } (name) }
        }
    }
}

/// Shares of pins by passes: 0, 1, 2, 3, 4 to 10, 11 to 100, more.
pub fn passes(base: &[&Sample], new: &[&Sample]) -> Markup {
    const EDGES: [(&str, u32); 7] = [
        ("0", 0),
        ("1", 1),
        ("2", 2),
        ("3", 3),
        ("4-10", 10),
        ("11-100", 100),
        (">100", u32::MAX),
    ];
    let shares = |pins: &[&Sample]| {
        let mut shares = [0.0; EDGES.len()];
        for pin in pins {
            let bin = EDGES
                .iter()
                .position(|(_, most)| pin.passes <= *most)
                .unwrap_or(EDGES.len() - 1);
            shares[bin] += 1.0 / pins.len() as f64;
        }
        shares
    };
    let sides = [("base", shares(base)), ("new", shares(new))];
    let slot = WIDTH / EDGES.len() as f64;
    let height = HEIGHT * 0.6;
    svg(
        height + AXIS,
        "Passes per pin, base and new",
        html! {
            @for (side, (class, shares)) in sides.iter().enumerate() {
                @for (bin, share) in shares.iter().enumerate() {
                    @let x = slot * (bin as f64 + 0.1 + 0.4 * side as f64);
                    rect class={ "bar " (class) } x=(x) width=(slot * 0.38) y=(height * (1.0 - share)) height=(height * share) {
                        title { (class) ": " (format!("{:.1} %", 100.0 * share)) }
                    }
                }
            }
            @for (bin, (name, _)) in EDGES.iter().enumerate() {
                text x=(slot * (bin as f64 + 0.5)) y=(height + 15.0) text-anchor="middle" { (name) }
            }
            line class="axis" x1="0" x2=(WIDTH) y1=(height) y2=(height) {}
        },
    )
}

fn svg(height: f64, label: &str, inside: Markup) -> Markup {
    html! {
        svg role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (height) } { (inside) }
    }
}
