//! What people read: tables and fields; with `--json` what programs read.

use serde_json::Value;

/// For whom output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    People,
    Json,
}

/// Prints a list: a table of these columns (heading, field), or the items as they are.
pub(crate) fn list(form: Form, items: &[Value], columns: &[(&str, &str)]) {
    match form {
        Form::Json => println!("{}", pretty(&Value::Array(items.to_vec()))),
        Form::People => print!("{}", table(items, columns)),
    }
}

/// Prints one object: a line for each field, or the object as it is.
pub(crate) fn object(form: Form, value: &Value) {
    match form {
        Form::Json => println!("{}", pretty(value)),
        Form::People => print!("{}", fields(value)),
    }
}

/// Prints that something was done: a sentence, or the object.
pub(crate) fn done(form: Form, sentence: &str, value: &Value) {
    match form {
        Form::Json => println!("{}", pretty(value)),
        Form::People => println!("{sentence}"),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A table with as much space as its widest cells need, the last column excepted.
fn table(items: &[Value], columns: &[(&str, &str)]) -> String {
    if items.is_empty() {
        return "none\n".to_owned();
    }
    let heading: Vec<String> = columns.iter().map(|(name, _)| name.to_uppercase()).collect();
    let rows = items
        .iter()
        .map(|item| columns.iter().map(|(_, field)| cell(at(item, field))).collect::<Vec<_>>());
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let mut widths = vec![0; columns.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A field, or one within another: `certificate.serial`.
fn at<'a>(item: &'a Value, field: &str) -> &'a Value {
    field.split('.').fold(item, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// One line, whatever is in it: what came from elsewhere moves no cursor.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) if text.is_empty() => return "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => return "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => return "-".to_owned(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", cell(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    clean(&text, "\u{b6}")
}

/// Without control characters; a new line is shown as `line`.
fn clean(text: &str, line: &str) -> String {
    let mut clean = String::new();
    for c in text.trim_end().chars() {
        match c {
            '\n' => clean.push_str(line),
            c if c.is_control() => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
    }
    clean
}

/// A line for each field; those within others by their path, texts of several lines below their name.
fn fields(value: &Value) -> String {
    let mut flat = Vec::new();
    flatten("", value, &mut flat);
    let width = flat.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in flat {
        let lines = value.as_str().filter(|text| text.trim_end().contains('\n'));
        let line = match lines {
            Some(lines) => format!("{name}:\n{}\n", clean(lines, "\n")),
            None => format!("{:<width$}  {}\n", format!("{name}:"), cell(value), width = width + 1),
        };
        text.push_str(&line);
    }
    text
}

fn flatten<'a>(path: &str, value: &'a Value, into: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        value => into.push((path.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_line_up_and_hold_no_control_characters() {
        let items = [
            json!({ "id": "a", "state": { "now": "on" }, "names": ["x", "y"] }),
            json!({ "id": "longer\u{1b}[2J\nline", "names": [] }),
        ];
        let columns = [("id", "id"), ("now", "state.now"), ("names", "names")];
        let expected = "ID               NOW  NAMES\n\
                        a                on   x, y\n\
                        longer\u{fffd}[2J\u{b6}line  -    -\n";
        assert_eq!(table(&items, &columns), expected);
        assert_eq!(table(&[], &columns), "none\n");
    }

    #[test]
    fn fields_have_their_path_and_long_texts_their_lines() {
        let value = json!({ "id": "a", "in": { "n": 1, "t": "b\u{7}" }, "toml": "x = 1\ny = 2\n" });
        let expected = "id:    a\nin.n:  1\nin.t:  b\u{fffd}\ntoml:\nx = 1\ny = 2\n";
        assert_eq!(fields(&value), expected);
    }
}
