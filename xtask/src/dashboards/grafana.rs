//! A dashboard as Grafana's JSON. What a field means is in Grafana's "Dashboard JSON model"; fields that are
//! not here have Grafana's defaults.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::expand::Expander;
use super::spec::{Dashboard, Panel, PanelKind, Query, Variable};

/// The version of the model that is written: that of Grafana 11, which later ones read.
const SCHEMA_VERSION: u32 = 39;
/// Columns of a dashboard.
const COLUMNS: u32 = 24;

/// The whole dashboard.
pub(super) fn dashboard(dashboard: &Dashboard, expander: &Expander) -> Result<Value> {
    let mut variables = vec![json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
    })];
    for chosen in &dashboard.variables {
        variables.push(variable(chosen, expander)?);
    }
    Ok(json!({
        "uid": format!("wattrace-{}", dashboard.name),
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["wattrace"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "links": [{
            "title": "Wattrace", "type": "dashboards", "tags": ["wattrace"], "asDropdown": true,
            "keepTime": true, "includeVars": false,
        }],
        "panels": panels(&dashboard.panels, expander)?,
    }))
}

fn variable(variable: &Variable, expander: &Expander) -> Result<Value> {
    let query = expander.expand(&variable.query)?;
    let mut json = json!({
        "name": variable.name,
        "label": variable.name.replace('_', " "),
        "type": "query",
        "datasource": source(),
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": variable.multi,
        "includeAll": variable.multi,
    });
    if variable.multi {
        json["allValue"] = json!(".*");
        json["current"] = json!({"text": "All", "value": "$__all"});
    }
    Ok(json)
}

/// Places panels in lines from left to right; a line is as high as its highest panel.
fn panels(panels: &[Panel], expander: &Expander) -> Result<Vec<Value>> {
    let (mut x, mut y, mut line) = (0, 0, 0);
    let mut placed = Vec::new();
    for panel in panels {
        if x + panel.width > COLUMNS || !panel.row.is_empty() {
            (x, y, line) = (0, y + line, 0);
        }
        if !panel.row.is_empty() {
            let position = json!({"x": 0, "y": y, "w": COLUMNS, "h": 1});
            placed.push(json!({
                "id": placed.len() + 1, "type": "row", "title": panel.row, "collapsed": false,
                "gridPos": position, "panels": [],
            }));
            y += 1;
        }
        let position = json!({"x": x, "y": y, "w": panel.width, "h": panel.height});
        let mut json = shape(panel, expander).with_context(|| format!("panel `{}`", panel.title))?;
        json["id"] = json!(placed.len() + 1);
        json["gridPos"] = position;
        placed.push(json);
        (x, line) = (x + panel.width, line.max(panel.height));
    }
    Ok(placed)
}

fn shape(panel: &Panel, expander: &Expander) -> Result<Value> {
    let targets = panel.queries.iter().zip('A'..).map(|(query, id)| target(panel.kind, query, id, expander));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    let mut json = json!({
        "type": match panel.kind {
            PanelKind::Timeseries => "timeseries",
            PanelKind::Stat => "stat",
            PanelKind::Table => "table",
        },
        "title": panel.title,
        "description": panel.description,
        "datasource": source(),
        "targets": targets,
        "fieldConfig": {"defaults": defaults(panel), "overrides": []},
    });
    match panel.kind {
        PanelKind::Timeseries => {
            json["options"] = json!({
                "legend": {"displayMode": "table", "placement": "right", "calcs": ["mean", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            });
        }
        PanelKind::Stat => {
            json["options"] = json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none"});
        }
        PanelKind::Table => table(&mut json, &panel.queries),
    }
    Ok(json)
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = json!({"unit": panel.unit});
    if panel.kind == PanelKind::Timeseries {
        let mode = if panel.stack { "normal" } else { "none" };
        defaults["min"] = json!(0);
        defaults["custom"] = json!({
            "fillOpacity": if panel.stack { 40 } else { 0 }, "stacking": {"mode": mode},
            "showPoints": "never",
        });
    }
    if let Some(limit) = panel.bad_from {
        defaults["thresholds"] = json!({"mode": "absolute", "steps": [
            {"color": "green", "value": null}, {"color": "red", "value": limit},
        ]});
    }
    defaults
}

/// A table has the labels of its queries, and a column for each query's value; the first one sorts it.
fn table(json: &mut Value, queries: &[Query]) {
    let (mut names, mut overrides) = (json!({}), Vec::new());
    for (query, id) in queries.iter().zip('A'..) {
        // Grafana calls the column of a single query `Value`.
        let field = if queries.len() == 1 { "Value".to_owned() } else { format!("Value #{id}") };
        names[&field] = json!(query.legend);
        overrides.push(json!({
            "matcher": {"id": "byName", "options": query.legend},
            "properties": [{"id": "unit", "value": query.unit}],
        }));
    }
    json["fieldConfig"]["overrides"] = json!(overrides);
    json["transformations"] = json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": true}, "renameByName": names}},
    ]);
    if let Some(first) = queries.first() {
        json["options"] = json!({"sortBy": [{"displayName": first.legend, "desc": true}]});
    }
}

fn target(kind: PanelKind, query: &Query, id: char, expander: &Expander) -> Result<Value> {
    let is_range = kind == PanelKind::Timeseries;
    Ok(json!({
        "refId": id.to_string(),
        "datasource": source(),
        "expr": expander.expand(&query.expr)?,
        "legendFormat": if is_range { query.legend.as_str() } else { "" },
        "range": is_range,
        "instant": !is_range,
        "format": if kind == PanelKind::Table { "table" } else { "time_series" },
    }))
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}
