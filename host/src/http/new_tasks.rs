//! The body of an enqueue: read in one pass where it is right; where it is not,
//! read again to name everything that is wrong.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::nearest::nearest;
use crate::domain::task::{Key, NewTask, Payload, Priority};

use super::error::{FieldError, Problem};
use super::instant::{self, Written};
use super::object::Object;

/// Most tasks in one body.
const MAX_TASKS: usize = 10_000;

const FIELDS: [&str; 4] = ["key", "payload", "run_at", "priority"];

/// What was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NewTasks {
    One(NewTask),
    Many(Vec<NewTask>),
}

/// A task as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    key: String,
    payload: Option<String>,
    run_at: Option<Written>,
    #[serde(default)]
    priority: Option<Priority>,
}

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<NewTasks, Problem> {
    quick(body).map_or_else(|| Err(diagnose(body)), Ok)
}

/// Reads one task; the error says all that is wrong with it.
pub(super) fn parse_line(line: &[u8]) -> Result<NewTask, String> {
    if let Some(task) = serde_json::from_slice(line).ok().and_then(|Object(item)| task(item)) {
        return Ok(task);
    }
    // A stream's lines have numbers of their own: serde's, which is always 1,
    // would be taken for one of them.
    let placed = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {}", placed(error)))?;
    let errors = wrong_with(&value, None);
    if errors.is_empty() {
        // What a JSON value cannot show, such as a field given twice.
        let error = serde_json::from_slice::<Object<Item>>(line).err();
        return Err(error.map_or_else(|| "the line cannot be read".to_owned(), placed));
    }
    let told = errors.into_iter().map(|error| match error.field {
        Some(field) if error.detail.starts_with("is ") => format!("`{field}` {}", error.detail),
        Some(field) => format!("`{field}`: {}", error.detail),
        None => error.detail,
    });
    Err(told.collect::<Vec<_>>().join("; "))
}

fn quick(body: &[u8]) -> Option<NewTasks> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let items: Vec<Object<Item>> =
            serde_json::from_slice(body).ok().filter(|items: &Vec<_>| items.len() <= MAX_TASKS)?;
        items.into_iter().map(|Object(item)| task(item)).collect::<Option<_>>().map(NewTasks::Many)
    } else {
        serde_json::from_slice(body).ok().and_then(|Object(item)| task(item)).map(NewTasks::One)
    }
}

fn task(item: Item) -> Option<NewTask> {
    let run_at = item.run_at.map(Written::read).transpose().ok()?;
    Some(NewTask {
        key: Key::new(item.key).ok()?,
        payload: item.payload.map(Payload::new).transpose().ok()?,
        run_at,
        priority: item.priority.unwrap_or_default(),
    })
}

/// What is wrong with a body that [`quick`] could not read.
fn diagnose(body: &[u8]) -> Problem {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return Problem::malformed(format!("the body is no JSON: {error}")),
    };
    let (errors, total) = match &value {
        Value::Array(items) if items.len() > MAX_TASKS => {
            return Problem::too_many("tasks", None, items.len(), MAX_TASKS);
        }
        Value::Array(items) => {
            let errors = items.iter().enumerate().flat_map(|(index, item)| wrong_with(item, Some(index)));
            (errors.collect::<Vec<_>>(), items.len())
        }
        item => (wrong_with(item, None), 1),
    };
    if errors.is_empty() {
        // What a JSON value cannot show, such as a field given twice.
        let error = if value.is_array() {
            serde_json::from_slice::<Vec<Object<Item>>>(body).err()
        } else {
            serde_json::from_slice::<Object<Item>>(body).err()
        };
        return Problem::malformed(
            error.map_or_else(|| "the body cannot be read".to_owned(), |error| error.to_string()),
        );
    }
    let mut wrong: Vec<_> = errors.iter().map(|error| error.index).collect();
    wrong.dedup();
    Problem::invalid(format!("{} of {total} tasks cannot be queued; none was", wrong.len()), errors)
}

fn wrong_with(item: &Value, index: Option<usize>) -> Vec<FieldError> {
    let error =
        |field: Option<&str>, detail: String| FieldError { index, line: None, field: field.map(str::to_owned), detail };
    let Value::Object(fields) = item else {
        return vec![error(None, "a task is an object with a `key`".to_owned())];
    };
    let mut errors = Vec::new();
    if !fields.contains_key("key") {
        errors.push(error(Some("key"), "is missing".to_owned()));
    }
    for (name, value) in fields {
        let wrong = match name.as_str() {
            "key" => text(value).and_then(|text| Key::new(text).map(drop).map_err(|error| error.to_string())),
            "payload" | "run_at" | "priority" if value.is_null() => Ok(()),
            "payload" => payload(value),
            "run_at" => run_at(value),
            "priority" => Priority::deserialize(value)
                .map(drop)
                .map_err(|_| "must be \"urgent\", \"high\", \"normal\" or \"low\"".to_owned()),
            unknown => Err(nearest(unknown, FIELDS).map_or_else(
                || format!("unknown field; a task has {}", FIELDS.join(", ")),
                |hint| format!("unknown field; did you mean `{hint}`?"),
            )),
        };
        errors.extend(wrong.err().map(|detail| error(Some(name), detail)));
    }
    errors
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a string".to_owned())
}

fn payload(value: &Value) -> Result<(), String> {
    let text = value.as_str().ok_or_else(|| "must be a string; send JSON as text".to_owned())?;
    Payload::new(text).map(drop).map_err(|error| error.to_string())
}

fn run_at(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => instant::parse(text).map(drop),
        Value::Number(number) => {
            let millis = number.as_u64().ok_or("must be a whole number of milliseconds since 1970")?;
            instant::from_millis(millis).map(drop)
        }
        _ => Err("must be RFC 3339 text or milliseconds since 1970".to_owned()),
    }
}
