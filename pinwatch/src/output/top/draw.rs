//! Draws the screen of `pinwatch top`. It is designed for 80 columns and 24 lines, and uses more if there
//! are more.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Clear, Paragraph, Row, Table};

use super::groups::Group;
use super::keys::HELP;
use super::screen::{By, EDGES_NS, ROWS, Sort, Top};
use crate::model::bounded;
use crate::model::format::{Clock, fit, pad, printable};
use crate::model::holders::BlockedRow;
use crate::model::in_flight;
use crate::model::view::{PinnedNow, View};

/// Number of pins in flight on a small screen.
const FEW: u16 = 4;
/// Width from which names are shown in full, in columns.
const WIDE: u16 = 100;
/// Width of the heat map's labels, in columns.
const LABEL: u16 = 9;
/// Shades of the heat map, from no pin to the most pins.
const SHADES: [&str; 6] = [" ", "·", "░", "▒", "▓", "█"];

/// Draws the screen into a frame of any size.
pub fn draw(top: &Top, frame: &mut Frame<'_>) {
    let area = frame.area();
    let in_flight = u16::try_from(top.in_flight().len()).unwrap_or(u16::MAX);
    let most = FEW.max(area.height / 5);
    let view = &top.shown().view;
    let more = u16::from(view.pinned.is_some()) + u16::from(!view.blockers.is_empty());
    let [head, flight, table, heat, foot] = Layout::vertical([
        Constraint::Length(2 + more),
        Constraint::Length(1 + in_flight.clamp(1, most) + u16::from(in_flight > 0)),
        Constraint::Min(4),
        Constraint::Length(1 + ROWS as u16),
        Constraint::Length(1),
    ])
    .areas(area);
    top.head(frame, head);
    top.flight(frame, flight);
    top.table(frame, table);
    top.heat(frame, heat);
    top.foot(frame, foot);
    if top.help {
        help(frame, area);
    }
}

fn title(text: String) -> Line<'static> {
    Line::from(text).bold()
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

/// Formats a rate or count in at most six characters: exact if it is short, else with `k`, `M` or an
/// exponent.
fn figure(n: f64) -> String {
    if n < 10.0 && n.fract() != 0.0 {
        return format!("{n:.1}");
    }
    match n {
        ..100_000.0 => format!("{n:.0}"),
        ..10_000_000.0 => format!("{:.0}k", n / 1e3),
        ..10_000_000_000.0 => format!("{:.0}M", n / 1e6),
        _ => format!("{n:.1e}"),
    }
}

impl Top {
    fn in_flight(&self) -> Vec<&in_flight::Row> {
        let rows = self.shown().view.oldest.iter();
        rows.filter(|row| {
            let comm = row.thread.comm.as_deref().unwrap_or_default();
            self.finds(comm, Some(row.pid)) || row.origin.contains(&self.find)
        })
        .collect()
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let data = self.shown();
        let (pins, failed) = data.rates;
        let kernel = data.start.as_ref().map_or("", |start| &start.release);
        let mut first = vec![
            Span::from("pinwatch top").bold(),
            Span::from(format!("  {kernel}  {} pins/s  ", figure(pins))),
            Span::from(format!("{} failed/s", figure(failed))),
        ];
        if self.clock == Clock::Instructions {
            first.push(Span::from("  durations in instructions"));
        }
        if self.paused.is_some() {
            first.push(Span::from("  PAUSED").yellow().bold());
        }
        if !data.view.silenced.is_empty() {
            first.push(Span::from("  HOOKS DO NOT RUN: see /readyz").red().bold());
        }
        if data.ended {
            first.push(Span::from("  the source has ended").red().bold());
        }
        let mut causes = BTreeMap::new();
        for failures in &data.view.failures {
            let count: &mut u64 = causes.entry(failures.cause.as_str()).or_default();
            *count = count.saturating_add(failures.count);
        }
        let mut second = format!("{} pins, {} failed", data.view.pins(), data.view.failed());
        if !causes.is_empty() {
            second += &format!(": {}", listed(causes));
        }
        if data.view.refused() > 0 {
            second += &format!("; {} refused (RLIMIT_MEMLOCK)", data.view.refused());
        }
        if data.lost.total() > 0 {
            second += &format!("; {} events lost", data.lost.total());
        }
        let measured = bounded::sum(data.view.lost.iter().map(|(_, n)| *n));
        if measured > data.lost.ring {
            second += &format!("; {measured} not measured");
        }
        let mut lines = vec![Line::from(first), second.into()];
        lines.extend(in_the_way(&data.view, self.clock).map(Line::from));
        lines.extend(
            data.view
                .pinned
                .as_ref()
                .map(|pinned| Line::from(pinned_now(pinned))),
        );
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn flight(&self, frame: &mut Frame<'_>, area: Rect) {
        let pins = self.in_flight();
        let all = self.shown().view.in_flight;
        let rows_fit = usize::from(area.height.saturating_sub(2));
        let mut text = match all {
            0 => "IN FLIGHT: none".to_owned(),
            _ if pins.len() > rows_fit || pins.len() < all as usize => {
                format!("IN FLIGHT: {all}, the oldest of them")
            }
            _ => format!("IN FLIGHT: {all}"),
        };
        let behind: BTreeMap<u32, u32> = pins
            .iter()
            .filter_map(|pin| Some((pin.pid, pin.behind?.threads())))
            .collect();
        match behind.into_values().fold(0, u32::saturating_add) {
            0 => {}
            1 => text += "; 1 other thread of their processes waits",
            threads => text += &format!("; {threads} other threads of their processes wait"),
        }
        let [above, below] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(title(text), above);
        if pins.is_empty() {
            return;
        }
        let rows = pins.iter().take(rows_fit).map(|pin| {
            let style = if pin.stuck {
                Style::new().red()
            } else {
                Style::new().yellow()
            };
            Row::new([
                right(self.clock.short((pin.age_seconds * 1e9) as u64)),
                Cell::from(process(pin.thread.comm.as_deref().unwrap_or("?"))),
                right(pin.pid.to_string()),
                Cell::from(pin.origin.clone()),
                right(figure(pin.pages_requested as f64)),
                right(figure(pin.passes.into())),
                Cell::from(pin.activity.clone()),
            ])
            .style(style)
        });
        let header = Row::new([
            right("AGE".to_owned()),
            "PROCESS".into(),
            right("PID".to_owned()),
            "ORIGIN".into(),
            right("PAGES".to_owned()),
            right("PASSES".to_owned()),
            "DOING".into(),
        ]);
        let widths = [
            Constraint::Length(7),
            Constraint::Length(15),
            Constraint::Length(7),
            Constraint::Length(10),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Min(10),
        ];
        frame.render_widget(Table::new(rows, widths).header(header.underlined()), below);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect) {
        let [above, below] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        let rows = self.rows();
        let heading = match self.by {
            By::Process => "PROCESSES",
            By::Origin => "ORIGINS, since the daemon's start",
        };
        let mut text = format!("{heading}: {}", rows.len());
        if !self.find.is_empty() || self.typing {
            let cursor = if self.typing { "_" } else { "" };
            text += &format!("  containing: {}{cursor}", printable(&self.find));
        }
        frame.render_widget(title(text), above);
        let head = |sort: Option<Sort>, text: &str| {
            let mark = if sort == Some(self.sort) { "▼" } else { "" };
            right(format!("{mark}{text}"))
        };
        let header = Row::new([
            "NAME".into(),
            head(None, "PID"),
            head(Some(Sort::Rate), "PINS/S"),
            head(Some(Sort::Pins), "PINS"),
            head(Some(Sort::Failed), "FAILED"),
            head(None, "P50"),
            head(Some(Sort::P99), "P99"),
            head(Some(Sort::Max), "MAX"),
            head(Some(Sort::Passes), "PASS"),
            "CAUSES".into(),
        ]);
        let name = if area.width < WIDE { 12 } else { 15 };
        let widths = [name, 7, 7, 6, 7, 6, 6, 6, 5];
        let taken: u16 = widths.iter().map(|width| width + 1).sum();
        let causes = area.width.saturating_sub(taken);
        let widths = widths.into_iter().chain([causes]).map(Constraint::Length);
        let lines = rows.into_iter().skip(self.scroll);
        let lines = lines.map(|group| row(group, name.into(), causes.into(), self.clock));
        frame.render_widget(Table::new(lines, widths).header(header.underlined()), below);
    }

    fn heat(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = usize::from(area.width.saturating_sub(LABEL));
        let heat = &self.shown().heat;
        let shown = heat.len().min(columns);
        let recent = heat.range(heat.len() - shown..);
        let most = recent.clone().flatten().copied().max().unwrap_or(0);
        let mut lines = vec![title(
            "LATENCY, a column per second, newest right".to_owned(),
        )];
        for row in (0..ROWS).rev() {
            let label = match EDGES_NS.get(row) {
                Some(edge) => format!("≤ {}", edge_text(*edge, self.clock)),
                None => "more".to_owned(),
            };
            let mut cells = " ".repeat(columns - shown);
            cells.extend(recent.clone().map(|column| shade(column[row], most)));
            let label = pad(&label, usize::from(LABEL) - 1, true) + " ";
            lines.push(Line::from(vec![label.dim(), cells.fg(Color::Cyan)]));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn foot(&self, frame: &mut Frame<'_>, area: Rect) {
        let text = "Tab processes/origins  s sort  / find  p pause  arrows scroll  h help  q quit";
        frame.render_widget(Line::from(text).reversed(), area);
    }
}

/// Memory that is pinned now: pages of the machine, and the largest users with their `VmPin` and `VmLck`.
fn pinned_now(pinned: &PinnedNow) -> String {
    let mut text = match pinned.pages {
        Some(pages) => format!("{} pages pinned now", figure(pages as f64)),
        None => "pinned now".to_owned(),
    };
    for (n, user) in pinned.largest.iter().enumerate() {
        text += if n == 0 { ": " } else { ", " };
        text += &format!(
            "{}[{}] {} + {} locked",
            process(&user.comm),
            user.pid,
            bytes(user.pinned_bytes),
            bytes(user.locked_bytes)
        );
    }
    text
}

/// What was in the way of failed migrations, and the newest known holder.
fn in_the_way(view: &View, clock: Clock) -> Option<String> {
    if view.blockers.is_empty() {
        return None;
    }
    let kinds = view.blockers.iter();
    let kinds = kinds.map(|folios| (format!("{} {}", folios.kind, folios.memory), folios.folios));
    let mut text = format!("in the way: {}", listed(kinds));
    if let Some(newest) = view.blocked.first() {
        let BlockedRow { holder, holds, .. } = newest;
        let (name, time) = (process(&holder.comm), clock.short(holder.held_ns));
        let verb = if *holds { "held by" } else { "was held by" };
        text += &format!("; {verb} {name}[{}] for {time}", holder.pid);
    }
    Some(text)
}

/// Bytes in the largest fitting unit.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (n.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
    let value = n as f64 / f64::from(1 << 10).powi(unit as i32);
    format!("{value:.0} {}", UNITS[unit])
}

/// Printable name of a process, cut to 15 columns.
fn process(name: &str) -> String {
    fit(&printable(name), 15).into_owned()
}

/// Lists causes with their counts, most frequent first.
fn listed<K: std::fmt::Display>(causes: impl IntoIterator<Item = (K, u64)>) -> String {
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let texts: Vec<_> = causes
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    texts.join(", ")
}

/// Table row of a group, with the widths of its first and last column.
fn row(group: &Group, name: usize, causes: usize, clock: Clock) -> Row<'static> {
    let time = |ns: Option<f64>| right(ns.map_or_else(String::new, |ns| clock.short(ns as u64)));
    let row = Row::new([
        Cell::from(fit(&printable(&group.name), name).into_owned()),
        right(group.pid.map_or_else(String::new, |pid| pid.to_string())),
        right(figure(group.rate)),
        right(figure(group.pins as f64)),
        right(figure(group.failed() as f64)),
        time(group.quantile_ns(0.5)),
        time(group.quantile_ns(0.99)),
        time(Some(group.max_ns as f64)),
        right(format!("{:.2}", group.passes_mean())),
        Cell::from(fit(&listed(group.causes.clone()), causes).into_owned()),
    ]);
    if group.failed() > 0 { row.red() } else { row }
}

/// Edge of a row, a power of ten.
fn edge_text(ns: u64, clock: Clock) -> String {
    let (unit, names) = match ns {
        ..1_000_000 => (1_000, ["us", "k"]),
        1_000_000..1_000_000_000 => (1_000_000, ["ms", "M"]),
        _ => (1_000_000_000, ["s", "G"]),
    };
    let name = match clock {
        Clock::Time => names[0],
        Clock::Instructions => names[1],
    };
    format!("{}{name}", ns / unit)
}

/// Shade of a cell by the logarithm of its count, so that one slow pin among thousands is visible.
fn shade(n: u64, most: u64) -> &'static str {
    if n == 0 {
        return SHADES[0];
    }
    let steps = (SHADES.len() - 2) as f64;
    let share = (n as f64).ln_1p() / (most as f64).ln_1p();
    SHADES[1 + (steps * share).round() as usize]
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines = vec![title("Keys".to_owned()), Line::default()];
    lines.extend(
        HELP.iter()
            .map(|(keys, action)| Line::from(format!("{keys:<27}{action}"))),
    );
    lines.extend([
        Line::default(),
        Line::from("Origins, failures and latency are counted in the kernel. Processes come from"),
        Line::from("events, one per pin. The second line shows how many events were lost."),
    ]);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}
