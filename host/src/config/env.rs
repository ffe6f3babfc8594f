//! Overrides from the environment: `SWEEPD_` and the path of a key in upper
//! case, `__` between its levels and `_` for `-`; a job by its name.
//!
//! `SWEEPD_SERVER__LISTEN`, `SWEEPD_JOB__VIDEO_CLEAR__LIMITS__MEMORY`. A value
//! is read as TOML where that gives what the key takes, and as text otherwise.

use serde::Deserialize as _;
use toml::{Table, Value};

use crate::domain::nearest::nearest;

use super::error::{Place, Problem};
use super::origins::Origins;
use super::schema::{self, Kind, Shape};

const PREFIX: &str = "SWEEPD_";

/// The command line's own, which are no keys of the file.
const RESERVED: [&str; 4] = ["CONFIG", "LEGACY_URL", "LOG", "LOG_FORMAT"];

/// Lays the overrides among `variables` over `table`; an unknown one is a
/// problem.
pub(super) fn overlay(
    table: &mut Table,
    origins: &mut Origins,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut variables: Vec<_> = variables
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
        .filter(|(name, _)| !RESERVED.contains(&name.as_str()) && !is_service_link(name))
        .filter(|(name, _)| !crate::faults::reads(&format!("{PREFIX}{name}")))
        .collect();
    variables.sort();
    for (name, text) in variables {
        let variable = format!("{PREFIX}{name}");
        let Some(target) = Target::find(&name, table) else {
            problems.push(unknown(variable, &name, table));
            continue;
        };
        origins.overridden(target.path(), &variable);
        if let Some(spot) = target.table(table) {
            spot.insert(target.key.clone(), read(&text, target.kind));
        }
    }
    problems
}

/// What Kubernetes sets in every pod beside a service called `sweepd`; nobody
/// wrote these as overrides.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_HOST") || name.starts_with("SERVICE_PORT")
}

/// The key that a variable names.
struct Target {
    /// The tables on the way to it.
    tables: Vec<Step>,
    key: String,
    /// `None` for a value of a plugin's own configuration.
    kind: Option<Kind>,
}

enum Step {
    Table(&'static str),
    Job(usize),
}

impl Target {
    fn find(name: &str, table: &Table) -> Option<Self> {
        let mut levels = name.split("__").peekable();
        let mut schema = &schema::ROOT;
        let mut tables = Vec::new();
        loop {
            let level = levels.next()?;
            if levels.peek().is_none() {
                let field = schema.fields.iter().find(|field| env_name(field.name) == level)?;
                return Some(Self { tables, key: field.name.to_owned(), kind: Some(field.kind) });
            }
            schema = schema.tables.iter().find(|table| env_name(table.name) == level)?;
            tables.push(Step::Table(schema.name));
            match schema.shape {
                Shape::One => {}
                Shape::Many => {
                    let wanted = levels.next()?;
                    tables.push(Step::Job(jobs(table).position(|job| env_name(job) == wanted)?));
                }
                Shape::Free => {
                    let wanted = levels.next().filter(|wanted| !wanted.is_empty() && levels.peek().is_none())?;
                    let mut target = Self { tables, key: String::new(), kind: None };
                    target.key = target.known_key(table, wanted).unwrap_or_else(|| wanted.to_lowercase());
                    return Some(target);
                }
            }
        }
    }

    /// The key of a plugin's configuration that is in the file under another
    /// spelling (`Max-Age` for `MAX_AGE`).
    fn known_key(&self, table: &Table, wanted: &str) -> Option<String> {
        let mut copy = table.clone();
        self.table(&mut copy)?.keys().find(|key| env_name(key) == wanted).cloned()
    }

    /// The table that holds the key, made where there is none; `None` where
    /// something else stands there, which the check against the schema tells.
    fn table<'t>(&self, root: &'t mut Table) -> Option<&'t mut Table> {
        let mut spot = root;
        let mut steps = self.tables.iter();
        while let Some(step) = steps.next() {
            let Step::Table(name) = step else { return None };
            let inner = spot.entry(*name).or_insert_with(|| Value::Table(Table::new()));
            spot = match inner {
                Value::Table(table) => table,
                Value::Array(tables) => match steps.next()? {
                    Step::Job(index) => tables.get_mut(*index)?.as_table_mut()?,
                    Step::Table(_) => return None,
                },
                _ => return None,
            };
        }
        Some(spot)
    }

    /// As [`Origins`] names it.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.tables {
            match step {
                Step::Table(name) if path.is_empty() => path.push_str(name),
                Step::Table(name) => path.extend([".", name]),
                Step::Job(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        path + &self.key
    }
}

fn jobs(table: &Table) -> impl Iterator<Item = &str> {
    let jobs = table.get("job").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    jobs.iter().map(|job| job.get("name").and_then(Value::as_str).unwrap_or_default())
}

fn env_name(name: &str) -> String {
    name.to_uppercase().replace(['-', '.', ' '], "_")
}

/// A value as its key takes it; what is of another type stays as it is, and the
/// check against the schema tells.
fn read(text: &str, kind: Option<Kind>) -> Value {
    let parsed = toml::de::ValueDeserializer::parse(text).ok().and_then(|value| Value::deserialize(value).ok());
    let wanted = |value: &Value| match kind {
        Some(Kind::Integer) => value.is_integer(),
        Some(Kind::Boolean) => value.is_bool(),
        Some(Kind::Mounts | Kind::Texts) => value.is_array() || value.is_table() || value.is_str(),
        Some(Kind::Text | Kind::Duration | Kind::Size) | None => value.is_str(),
    };
    let value = parsed.filter(wanted).unwrap_or_else(|| Value::String(text.to_owned()));
    match (kind, value) {
        (Some(Kind::Texts), Value::String(only)) => Value::Array(vec![Value::String(only)]),
        (_, value) => value,
    }
}

fn unknown(variable: String, name: &str, table: &Table) -> Problem {
    let known = known_names(table);
    let help = match nearest(name, known.iter().map(String::as_str)) {
        Some(hint) => format!("did you mean {PREFIX}{hint}?"),
        None => format!(
            "an override is {PREFIX} and a key of the file in upper case, such as {PREFIX}SERVER__LISTEN or {PREFIX}JOB__VIDEO_CLEAR__INTERVAL"
        ),
    };
    Problem {
        place: Place::Env(variable),
        key: String::new(),
        message: "is no key of the configuration".to_owned(),
        help: Some(help),
    }
}

fn known_names(table: &Table) -> Vec<String> {
    fn walk(schema: &'static schema::Table, prefix: &str, jobs: &[String], known: &mut Vec<String>) {
        known.extend(schema.fields.iter().map(|field| format!("{prefix}{}", env_name(field.name))));
        for inner in schema.tables {
            let prefix = format!("{prefix}{}__", env_name(inner.name));
            match inner.shape {
                Shape::Many => jobs.iter().for_each(|job| walk(inner, &format!("{prefix}{job}__"), jobs, known)),
                Shape::One | Shape::Free => walk(inner, &prefix, jobs, known),
            }
        }
    }
    let jobs: Vec<_> = jobs(table).filter(|job| !job.is_empty()).map(env_name).collect();
    let mut known = RESERVED.map(str::to_owned).to_vec();
    walk(&schema::ROOT, "", &jobs, &mut known);
    known
}
