//! Kinds of panels, and the functions that make them.

/// The variables that replace `$kernel`.
const SIDES: [&str; 2] = ["base", "new"];

/// Replacement for `$of_kernel`: a join with the hosts of one kernel.
const OF_KERNEL: &str =
    r#"* on (job, instance) group_left () pinwatch_kernel_info{release="$kernel"}"#;

pub struct Dashboard {
    /// Name of the file. Links contain it, so it must not change.
    pub uid: &'static str,
    pub title: &'static str,
    pub help: &'static str,
    pub variables: &'static [Variable],
    pub rows: &'static [PanelRow],
}

/// A choice at the top of a dashboard.
pub struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    /// Query for the values, in the syntax of Grafana's Prometheus data source.
    pub values: &'static str,
}

pub struct PanelRow {
    pub title: &'static str,
    pub panels: &'static [Panel],
}

pub struct Panel {
    pub title: &'static str,
    pub help: &'static str,
    pub shape: Shape,
    pub unit: Unit,
    pub queries: &'static [Query],
}

pub struct Query {
    expr: &'static str,
    /// May contain labels of the result, as `{{label}}`.
    legend: &'static str,
}

impl Query {
    /// Expressions and legends for Grafana. A query with `$kernel` returns two: one for each compared kernel.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, String)> {
        let expr = self.expr.replace("$of_kernel", OF_KERNEL);
        if !expr.contains("$kernel") {
            return vec![(expr, self.legend.to_owned())];
        }
        let side = |text: &str, side| text.replace("$kernel", &format!("${side}"));
        let sides = SIDES.iter();
        sides
            .map(|name| (side(&expr, name), side(self.legend, name)))
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One figure; an eighth of a row.
    Figure,
    /// Lines over time; half a row.
    Lines,
    /// Buckets of a histogram over time; half a row.
    Heatmap,
    /// A line of text per series; half a row.
    Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Number,
    PerSecond,
    Seconds,
    Share,
    Bytes,
}

pub const fn row(title: &'static str, panels: &'static [Panel]) -> PanelRow {
    PanelRow { title, panels }
}

pub const fn query(legend: &'static str, expr: &'static str) -> Query {
    Query { expr, legend }
}

pub const fn figure(
    title: &'static str,
    help: &'static str,
    unit: Unit,
    queries: &'static [Query],
) -> Panel {
    Panel {
        title,
        help,
        shape: Shape::Figure,
        unit,
        queries,
    }
}

pub const fn lines(
    title: &'static str,
    help: &'static str,
    unit: Unit,
    queries: &'static [Query],
) -> Panel {
    Panel {
        shape: Shape::Lines,
        ..figure(title, help, unit, queries)
    }
}

pub const fn heatmap(title: &'static str, help: &'static str, queries: &'static [Query]) -> Panel {
    Panel {
        shape: Shape::Heatmap,
        ..figure(title, help, Unit::Seconds, queries)
    }
}

pub const fn table(title: &'static str, help: &'static str, queries: &'static [Query]) -> Panel {
    Panel {
        shape: Shape::Table,
        ..figure(title, help, Unit::Number, queries)
    }
}
