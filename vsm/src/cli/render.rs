//! Tables and trees, as NX-OS text or JSON.
//!
//! Every leaf is a string: clients read the JSON with readers that know neither `true` nor `null`. A table of one row is
//! an object, one of several a list, as on NX-OS.

use serde_json::{Map, Value};

/// What a command prints: text, and the same as JSON where it is a table.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Output {
    /// NX-OS text, lines ended by `\n`; empty prints nothing.
    pub text: String,
    /// What `| json` prints; every leaf is a string, as on NX-OS. `None`: the command has no JSON form.
    pub json: Option<serde_json::Value>,
}

impl Output {
    /// Prints nothing.
    pub fn none() -> Self {
        Output::default()
    }

    /// The same with every piece of text changed, in both forms.
    pub fn map_text(self, change: fn(&str) -> String) -> Self {
        fn map(value: Value, change: fn(&str) -> String) -> Value {
            match value {
                Value::String(text) => Value::String(change(&text)),
                Value::Array(items) => items.into_iter().map(|item| map(item, change)).collect(),
                Value::Object(items) => items.into_iter().map(|(key, item)| (key, map(item, change))).collect(),
                other => other,
            }
        }
        Output { text: change(&self.text), json: self.json.map(|json| map(json, change)) }
    }

    /// Text without a JSON form.
    pub fn text(text: impl Into<String>) -> Self {
        Output { text: text.into(), json: None }
    }

    /// Text and its JSON form.
    pub fn with_json(text: impl Into<String>, json: Value) -> Self {
        Output { text: text.into(), json: Some(json) }
    }
}

/// How a column is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Flush left.
    Left,
    /// Flush right.
    Right,
}

#[derive(Clone, Debug)]
struct Column {
    header: &'static str,
    key: &'static str,
    width: usize,
    align: Align,
}

/// A table: columns, each with its JSON key, and rows.
#[derive(Clone, Debug)]
pub struct Table {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    always_list: bool,
}

impl Table {
    /// A table that is `TABLE_name` / `ROW_name` in JSON.
    pub fn new(name: &'static str) -> Self {
        Table { name, columns: Vec::new(), rows: Vec::new(), always_list: false }
    }

    /// Another column, flush left, at least `width` wide.
    pub fn left(self, header: &'static str, key: &'static str, width: usize) -> Self {
        self.column(header, key, width, Align::Left)
    }

    /// Another column, flush right, at least `width` wide.
    pub fn right(self, header: &'static str, key: &'static str, width: usize) -> Self {
        self.column(header, key, width, Align::Right)
    }

    /// One row is a list too, where a client insists.
    pub fn always_list(mut self) -> Self {
        self.always_list = true;
        self
    }

    fn column(mut self, header: &'static str, key: &'static str, width: usize, align: Align) -> Self {
        self.columns.push(Column { header, key, width, align });
        self
    }

    /// A row; one cell per column.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// It has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let cell =
            |index: usize| self.rows.iter().filter_map(move |row| row.get(index)).map(|c| c.chars().count()).max();
        let wide = |(index, column): (usize, &Column)| {
            column.width.max(column.header.chars().count()).max(cell(index).unwrap_or(0))
        };
        self.columns.iter().enumerate().map(wide).collect()
    }

    fn line(&self, widths: &[usize], cells: &[impl AsRef<str>]) -> String {
        let pad = |((cell, column), width): ((&_, &Column), &usize)| {
            let cell: &str = AsRef::<str>::as_ref(cell);
            match column.align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            }
        };
        let cells: Vec<String> = cells.iter().zip(&self.columns).zip(widths).map(pad).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    }

    /// Header, a line of dashes under each column, rows.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let headers: Vec<&str> = self.columns.iter().map(|c| c.header).collect();
        let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut text = self.line(&widths, &headers);
        text.push_str(&self.line(&widths, &dashes));
        text.extend(self.rows.iter().map(|row| self.line(&widths, row)));
        text
    }

    /// `{"TABLE_name": {"ROW_name": ...}}`
    pub fn json(&self) -> Value {
        let object = |row: &Vec<String>| {
            let leaf = |(column, cell): (&Column, &String)| (column.key.to_owned(), Value::String(cell.clone()));
            Value::Object(self.columns.iter().zip(row).filter(|(c, _)| !c.key.is_empty()).map(leaf).collect())
        };
        let rows = self.rows.iter().map(object).collect();
        if self.always_list { table_list(self.name, rows) } else { table(self.name, rows) }
    }

    /// Both forms.
    pub fn output(&self) -> Output {
        Output::with_json(self.text(), self.json())
    }
}

/// `{"TABLE_name": {"ROW_name": ...}}`; one row is an object, none are an empty object.
pub fn table(name: &str, mut rows: Vec<Value>) -> Value {
    match rows.len() {
        0 => Value::Object(Map::new()),
        1 => wrap(name, rows.remove(0)),
        _ => wrap(name, Value::Array(rows)),
    }
}

/// As [`table`], with a list whatever the number of rows.
pub fn table_list(name: &str, rows: Vec<Value>) -> Value {
    wrap(name, Value::Array(rows))
}

fn wrap(name: &str, rows: Value) -> Value {
    object([(format!("TABLE_{name}"), object([(format!("ROW_{name}"), rows)]))])
}

/// An object.
pub fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// An object of strings.
pub fn leaves<K: Into<String>, V: ToString>(members: impl IntoIterator<Item = (K, V)>) -> Value {
    object(members.into_iter().map(|(key, value)| (key.into(), Value::String(value.to_string()))))
}

/// The members of several objects in one.
pub fn merged(objects: impl IntoIterator<Item = Value>) -> Value {
    let members = objects.into_iter().flat_map(|value| match value {
        Value::Object(members) => members,
        _ => Map::new(),
    });
    Value::Object(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_as_text_and_json() {
        let mut table = Table::new("port").left("Port", "interface", 6).right("Frames", "frames", 3).left("", "x", 0);
        assert_eq!(table.json(), serde_json::json!({}));
        table.row(["Veth1", "12"]);
        assert_eq!(table.text(), "Port    Frames\n------  ------\nVeth1       12\n");
        let one = serde_json::json!({"interface": "Veth1", "frames": "12", "x": ""});
        assert_eq!(table.json(), serde_json::json!({"TABLE_port": {"ROW_port": one}}));
        table.row(["Ethernet3/2", "1234567"]);
        assert_eq!(table.json()["TABLE_port"]["ROW_port"].as_array().map(Vec::len), Some(2));
        assert_eq!(table.text().lines().last(), Some("Ethernet3/2  1234567"));
        assert_eq!(merged([leaves([("a", 1)]), leaves([("b", 2)])]), serde_json::json!({"a": "1", "b": "2"}));
    }
}
