//! Writes a dashboard in the JSON model of Grafana.

use super::dashboards::{Dashboard, Panel, Shape, Unit, Variable};
use serde_json::{Value, json};

/// Width of the grid.
const COLUMNS: u32 = 24;
/// Schema version of Grafana 10.
const SCHEMA: u32 = 39;

pub fn json(dashboard: &Dashboard) -> String {
    let source = json!({
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    });
    let variables = dashboard.variables.iter().map(variable);
    let value = json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": ["pinwatch"],
        "schemaVersion": SCHEMA,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "browser",
        "templating": { "list": std::iter::once(source).chain(variables).collect::<Vec<_>>() },
        "panels": panels(dashboard),
    });
    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variable(
    Variable {
        name,
        label,
        values,
    }: &Variable,
) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "query": { "query": values, "refId": name },
        "refresh": 2,
        "sort": 1,
    })
}

/// All rows and panels with their grid positions: from left to right, each row on a new line.
fn panels(dashboard: &Dashboard) -> Vec<Value> {
    let mut panels = Vec::new();
    let mut y = 0;
    for row in dashboard.rows {
        let id = panels.len() + 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for shown in row.panels {
            let (w, h) = size(shown.shape);
            if x + w > COLUMNS {
                (x, y) = (0, y + tallest);
                tallest = 0;
            }
            let mut made = panel(shown);
            made["id"] = (panels.len() + 1).into();
            made["gridPos"] = json!({ "x": x, "y": y, "w": w, "h": h });
            panels.push(made);
            x += w;
            tallest = tallest.max(h);
        }
        y += tallest;
    }
    panels
}

/// Width and height of a panel, in grid units.
fn size(shape: Shape) -> (u32, u32) {
    match shape {
        Shape::Figure => (3, 4),
        Shape::Lines | Shape::Heatmap | Shape::Table => (12, 8),
    }
}

fn panel(panel: &Panel) -> Value {
    let Panel {
        title,
        help,
        shape,
        unit,
        queries,
    } = panel;
    let now = matches!(shape, Shape::Figure | Shape::Table);
    let targets = queries.iter().flat_map(|query| query.targets());
    let targets = ('A'..).zip(targets).map(|(id, (expr, legend))| {
        json!({
            "refId": id.to_string(),
            "datasource": source(),
            "expr": expr,
            "legendFormat": legend,
            "instant": now,
            "range": !now,
            "format": if *shape == Shape::Heatmap { "heatmap" } else { "time_series" },
        })
    });
    let kind = match shape {
        Shape::Figure => "stat",
        Shape::Lines => "timeseries",
        Shape::Heatmap => "heatmap",
        Shape::Table => "bargauge",
    };
    let unit = match unit {
        Unit::Number => "short",
        Unit::PerSecond => "ops",
        Unit::Seconds => "s",
        Unit::Share => "percentunit",
        Unit::Bytes => "bytes",
    };
    json!({
        "type": kind,
        "title": title,
        "description": help,
        "datasource": source(),
        "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
        "options": {},
        "targets": targets.collect::<Vec<_>>(),
    })
}
