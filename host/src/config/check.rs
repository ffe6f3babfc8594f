//! Names and types, checked against the schema.

use toml::{Table, Value};

use crate::domain::nearest::nearest;

use super::error::Problem;
use super::origins::Origins;
use super::schema::{self, Kind, Shape};

const MOUNT_KEYS: [&str; 4] = ["path", "at", "rights", "cross_mounts"];

/// Checks names and types against the schema and takes out what is wrong, so
/// that what is left can be read and checked further.
pub(super) fn check(table: &mut Table, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_table(table, &schema::ROOT, "", &mut |path, message, help| {
        problems.push(Problem { place: origins.place(path), key: format!("`{}`", bare(path)), message, help });
    });
    problems
}

/// `job[0].limits.memory` without its numbers.
pub(super) fn bare(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut within = false;
    for c in path.chars() {
        match c {
            '[' => within = true,
            ']' => within = false,
            _ if !within => text.push(c),
            _ => {}
        }
    }
    text
}

type Report<'a> = &'a mut dyn FnMut(&str, String, Option<String>);

fn check_table(table: &mut Table, schema: &'static schema::Table, prefix: &str, report: Report<'_>) {
    table.retain(|name, value| {
        let path = format!("{prefix}{name}");
        if let Some(field) = schema.field(name) {
            return check_value(value, field.kind, &path, report);
        }
        let Some(inner) = schema.table(name) else {
            let hint = nearest(name, schema.names());
            let help = match hint {
                Some(hint) => format!("did you mean `{hint}`?"),
                None => format!("known here: {}", schema.names().collect::<Vec<_>>().join(", ")),
            };
            report(&path, "unknown key".to_owned(), Some(help));
            return false;
        };
        match (inner.shape, value) {
            (Shape::One, Value::Table(value)) => check_table(value, inner, &format!("{path}."), report),
            (Shape::Free, Value::Table(value)) => check_free(value, &path, report),
            (Shape::Many, Value::Array(values)) if values.iter().all(Value::is_table) => {
                for (index, value) in values.iter_mut().filter_map(Value::as_table_mut).enumerate() {
                    check_table(value, inner, &format!("{path}[{index}]."), report);
                }
            }
            (shape, value) => {
                let help = if shape == Shape::Many {
                    format!("write [[{name}]], in double brackets, once for each")
                } else {
                    format!("write [{}]", bare(&path))
                };
                report(&path, format!("must be a table, not {}", describe(value)), Some(help));
                return false;
            }
        }
        true
    });
}

fn check_value(value: &Value, kind: Kind, path: &str, report: Report<'_>) -> bool {
    let good = match kind {
        Kind::Text | Kind::Duration | Kind::Size => value.is_str(),
        Kind::Integer => value.is_integer(),
        Kind::Boolean => value.is_bool(),
        Kind::Texts => is_texts(value),
        Kind::Mounts => return check_mounts(value, path, report),
    };
    if !good {
        report(path, format!("must be {}, not {}", kind.describe(), describe(value)), None);
    }
    good
}

fn check_mounts(value: &Value, path: &str, report: Report<'_>) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(elements) => {
            let mut good = true;
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{path}[{index}]");
                good &= match element {
                    Value::String(_) => true,
                    Value::Table(mount) => check_mount(mount, &path, report),
                    _ => {
                        let message = format!("must be a path or a table with `path`, not {}", describe(element));
                        report(&path, message, None);
                        false
                    }
                };
            }
            good
        }
        Value::Table(mount) => check_mount(mount, path, report),
        _ => {
            report(path, format!("must be {}, not {}", Kind::Mounts.describe(), describe(value)), None);
            false
        }
    }
}

fn check_mount(mount: &Table, path: &str, report: Report<'_>) -> bool {
    let mut good = true;
    for (name, value) in mount {
        let inner = format!("{path}.{name}");
        if !MOUNT_KEYS.contains(&name.as_str()) {
            let hint = nearest(name, MOUNT_KEYS).map_or_else(|| MOUNT_KEYS.join(", "), str::to_owned);
            report(&inner, "unknown key".to_owned(), Some(format!("a mount has: {hint}")));
            good = false;
        } else if name == "cross_mounts" {
            if !value.is_bool() {
                report(&inner, format!("must be true or false, not {}", describe(value)), None);
                good = false;
            }
        } else if !(value.is_str() || name == "rights" && is_texts(value)) {
            report(&inner, format!("must be a string, not {}", describe(value)), None);
            good = false;
        }
    }
    if !mount.contains_key("path") {
        report(path, "has no `path`".to_owned(), Some("write { path = \"./videos\" }".to_owned()));
        good = false;
    }
    good
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|all| all.iter().all(Value::is_str))
}

fn check_free(table: &mut Table, path: &str, report: Report<'_>) {
    table.retain(|name, value| {
        let good = !value.is_table() && !value.is_array();
        if !good {
            let message = format!("must be a string, a number or a boolean, not {}", describe(value));
            let help = "a plugin gets text: write a nested value as one string, and quote a key that has dots";
            report(&format!("{path}.{name}"), message, Some(help.to_owned()));
        }
        good
    });
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string {text:?}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => format!("the date {time}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
