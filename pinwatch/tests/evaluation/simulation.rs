//! Simulated comparisons with a known truth: how often the evaluation reports a difference of identical
//! kernels whose runs have episodes, and how often it misses a real one.

use std::path::PathBuf;

use pinwatch::evaluation::capture::Capture;
use pinwatch::evaluation::compare::{Rules, compare};
use pinwatch::evaluation::evidence::Evidence;
use pinwatch::evaluation::group::Groups;
use pinwatch::evaluation::line::Change;
use pinwatch::model::session::Lost;
use pinwatch::model::state::State;
use pinwatch::recording::End;
use pinwatch_common::record::Pin;

use crate::support::*;

/// The rules of `pinwatch compare` without flags.
const RULES: Rules = Rules {
    threshold: 0.05,
    run_spread: 0.05,
};

/// Truth about one side.
#[derive(Clone, Copy)]
struct Truth {
    /// Typical duration of a pin, relative to 10 us.
    slowness: f64,
    /// Share of pins that fail, spread over the run.
    fails: f64,
    /// Share of runs with an episode.
    episodes: f64,
}

const QUIET: Truth = Truth {
    slowness: 1.0,
    fails: 0.0,
    episodes: 0.0,
};

const EPISODES: Truth = Truth {
    episodes: 0.5,
    ..QUIET
};

/// Size of the simulated comparisons.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Runs of each side.
    runs: usize,
    /// Pins of each run and group.
    pins: usize,
}

/// Standard deviation of the logarithm of durations between boots.
const BOOTS_DIFFER: f64 = 0.02;

/// A run: two groups of pins in turn. An episode takes 10 to 30 % of it, in which pins are 2 to 10 times as
/// slow, fail, or both.
fn run(truth: Truth, pins: usize, dice: &mut Dice) -> Capture {
    let normal = |dice: &mut Dice| (0..12).map(|_| dice.share()).sum::<f64>() - 6.0;
    let boot = (BOOTS_DIFFER * normal(dice)).exp();
    let mut episode = 0..0;
    let (mut slower, mut failing) = (1.0, 0.0);
    if dice.share() < truth.episodes {
        let length = (0.1 + 0.2 * dice.share()) * pins as f64;
        let start = dice.share() * (pins as f64 - length);
        episode = start as usize..(start + length) as usize;
        let kind = dice.next() % 3;
        if kind != 1 {
            slower = 2.0 + 8.0 * dice.share();
        }
        if kind != 0 {
            failing = 0.3 + 0.7 * dice.share();
        }
    }
    let mut groups = Groups::default();
    let mut evidence = Evidence::default();
    for n in 0..pins {
        let inside = episode.contains(&n);
        for name in ["touched", "threads"] {
            let (slower, failing) = if inside {
                (slower, failing)
            } else {
                (1.0, 0.0)
            };
            let fails = dice.share() < truth.fails + failing;
            // Durations have a long tail.
            let tail = 0.9 + 0.05 / (0.05 + dice.share());
            let duration_ns = (10_000.0 * truth.slowness * boot * slower * tail) as u64;
            let pin = Pin {
                start_ns: 1_000_000_000 + n as u64 * 1_000_000,
                duration_ns,
                phase_ns: [duration_ns, 0, 0, 0, 0],
                ..if fails { busy() } else { plain() }
            };
            let traced = named(name, pin);
            groups.add(&traced, Some(MOVABLE));
            evidence.add(&traced);
        }
    }
    Capture {
        path: PathBuf::from("simulated"),
        header: header(OLD),
        state: State::empty("6.12", "folios"),
        groups,
        evidence,
        outcomes: Vec::new(),
        holds: Default::default(),
        lost: Lost::default(),
        end: Some(Box::<End>::default()),
        damage: None,
    }
}

/// Number of comparisons of all `comparisons` in which `reported` holds for a figure and its verdict.
fn reports(
    [base, new]: [Truth; 2],
    size: Size,
    comparisons: u64,
    reported: impl Fn(&str, Change) -> bool,
) -> u64 {
    let mut count = 0;
    for seed in 0..comparisons {
        let mut dice = Dice(seed << 32 | size.runs as u64);
        let mut side = |truth| -> Vec<_> {
            (0..size.runs)
                .map(|_| run(truth, size.pins, &mut dice))
                .collect()
        };
        let (base, new) = (side(base), side(new));
        let comparison = compare(&base, &new, RULES).expect("it has pins");
        let mut lines = comparison.lines.iter();
        count += u64::from(lines.any(|line| reported(line.figure, line.verdict)));
    }
    count
}

fn differs(change: Change) -> bool {
    matches!(change, Change::Worse | Change::Better | Change::Different)
}

fn is_worse(figure: &'static str) -> impl Fn(&str, Change) -> bool {
    move |name, change| name == figure && change == Change::Worse
}

const SLOWER: Truth = Truth {
    slowness: 1.2,
    ..QUIET
};

const FAILING: Truth = Truth {
    fails: 0.008,
    ..QUIET
};

#[test]
fn identical_kernels_with_episodes_differ_in_at_most_5_percent() {
    for runs in [1, 3] {
        let size = Size { runs, pins: 500 };
        let wrong = reports([EPISODES; 2], size, 60, |_, change| differs(change));
        assert!(wrong <= 3, "{size:?}: {wrong} of 60");
    }
}

/// The unlucky case: every run of one side has an episode, and no run of the other has one.
#[test]
fn episodes_on_one_side_alone_do_not_decide() {
    let size = Size { runs: 3, pins: 500 };
    let all = Truth {
        episodes: 1.0,
        ..QUIET
    };
    for sides in [[QUIET, all], [all, QUIET]] {
        let wrong = reports(sides, size, 40, |_, change| differs(change));
        assert!(wrong <= 2, "{wrong} of 40");
    }
}

#[test]
fn four_boots_show_a_fifth_more_latency_and_failures_of_0_8_percent() {
    let size = Size {
        runs: 4,
        pins: 1000,
    };
    let shown = reports([QUIET, SLOWER], size, 20, is_worse("duration, median"));
    assert!(shown >= 18, "latency: {shown} of 20");
    let shown = reports([QUIET, FAILING], size, 20, is_worse("failed pins"));
    assert!(shown >= 18, "failures: {shown} of 20");
}

#[test]
fn the_number_of_boots_that_a_verdict_needs_is_about_right() {
    let mut dice = Dice(7);
    let mut side =
        |truth, runs: u64| -> Vec<_> { (0..runs).map(|_| run(truth, 1000, &mut dice)).collect() };
    for (truth, figure) in [(SLOWER, "duration, median"), (FAILING, "failed pins")] {
        let one = compare(&side(QUIET, 1), &side(truth, 1), RULES).expect("it has pins");
        let mut unresolved = one.unresolved().filter(|one| one.figure == figure);
        let needed = unresolved.next().and_then(|one| one.boots_needed);
        let needed = needed.expect("one boot does not resolve it");
        assert!((3..=30).contains(&needed), "{figure}: {needed}");
        let many = compare(&side(QUIET, needed), &side(truth, needed), RULES).expect("it has pins");
        assert!(
            many.with(Change::Worse).any(|line| line.figure == figure),
            "{figure}: {needed}"
        );
    }
}

/// Prints a table. Run it with `--ignored --nocapture`, optimised.
#[test]
#[ignore = "takes minutes"]
fn rates_of_wrong_and_of_shown_differences() {
    const COMPARISONS: u64 = 400;
    for runs in [1, 2, 3, 4, 6] {
        let size = Size { runs, pins: 1000 };
        let rate = |sides, reported: &dyn Fn(&str, Change) -> bool| {
            100.0 * reports(sides, size, COMPARISONS, reported) as f64 / COMPARISONS as f64
        };
        let wrong = rate([EPISODES; 2], &|_, change| differs(change));
        let latency = rate([QUIET, SLOWER], &is_worse("duration, median"));
        let failures = rate([QUIET, FAILING], &is_worse("failed pins"));
        println!(
            "{runs} runs: {wrong:.1} % wrong; latency {latency:.1} %, failures {failures:.1} % shown"
        );
        assert!(wrong <= 5.0, "{size:?}: {wrong} %");
        assert!(
            runs < 4 || (latency >= 90.0 && failures >= 85.0),
            "{size:?}"
        );
    }
}
