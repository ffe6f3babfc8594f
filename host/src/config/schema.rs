//! Every key there is: the one list from which unknown names are told, defaults
//! are taken, the environment is matched and the reference is checked.

/// What may stand at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// Strings.
    Texts,
    /// A string such as `3s`.
    Duration,
    /// A string such as `64MiB`.
    Size,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Paths or `{ path, at, rights }`.
    Mounts,
}

impl Kind {
    /// For messages.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Texts => "a list of strings",
            Self::Duration => "a duration as a string, such as \"3s\"",
            Self::Size => "a size as a string, such as \"64MiB\"",
            Self::Integer => "a whole number",
            Self::Boolean => "true or false",
            Self::Mounts => "a list of paths, such as [\"./videos\"]",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it would be written; `None` where there is none, or it is computed.
    pub(super) default: Option<&'static str>,
}

/// A table of keys.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) tables: &'static [Table],
    pub(super) shape: Shape,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[name]`.
    One,
    /// `[[name]]`.
    Many,
    /// `[name]`, with keys that the user invents.
    Free,
}

const fn field(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field { name, kind, default: Some(default) }
}

const fn plain(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, default: None }
}

/// The whole file.
pub(super) static ROOT: Table = Table {
    name: "",
    shape: Shape::One,
    fields: &[
        plain("node", Kind::Text),
        plain("labels", Kind::Texts),
        field("state", Kind::Text, "./state"),
        field("state_min_free", Kind::Size, "128MiB"),
        plain("cache", Kind::Text),
        field("cache_max", Kind::Size, "1GiB"),
        field("shutdown_grace", Kind::Duration, "10s"),
        field("lease", Kind::Duration, "6s"),
    ],
    tables: &[SERVER, DATABASE, SANDBOX, JOB],
};

const SERVER: Table = Table {
    name: "server",
    shape: Shape::One,
    fields: &[
        field("listen", Kind::Text, "127.0.0.1:25601"),
        plain("hosts", Kind::Texts),
        plain("video_delete_record", Kind::Text),
        field("max_body", Kind::Size, "8MiB"),
        field("header_timeout", Kind::Duration, "10s"),
        field("request_timeout", Kind::Duration, "30s"),
        field("max_requests", Kind::Integer, "1024"),
        field("max_connections", Kind::Integer, "4096"),
    ],
    tables: &[],
};

const DATABASE: Table = Table {
    name: "database",
    shape: Shape::One,
    fields: &[
        field("url", Kind::Text, "sqlite://sweepd.db"),
        field("max_connections", Kind::Integer, "8"),
        field("wait", Kind::Duration, "1m"),
        field("history", Kind::Duration, "30d"),
        field("effects", Kind::Duration, "90d"),
        field("effects_max", Kind::Size, "4GiB"),
    ],
    tables: &[],
};

const SANDBOX: Table = Table {
    name: "sandbox",
    shape: Shape::One,
    fields: &[
        field("landlock", Kind::Text, "best-effort"),
        field("stack", Kind::Size, "512KiB"),
        field("max_compiled", Kind::Size, "256MiB"),
        field("compile_time", Kind::Duration, "2m"),
        field("compile_memory", Kind::Size, "6GiB"),
    ],
    tables: &[],
};

const JOB: Table = Table {
    name: "job",
    shape: Shape::Many,
    fields: &[
        plain("name", Kind::Text),
        plain("plugin", Kind::Text),
        plain("mounts", Kind::Mounts),
        plain("labels", Kind::Texts),
        field("interval", Kind::Duration, "3s"),
        plain("schedule", Kind::Text),
        field("time_zone", Kind::Text, "UTC"),
        field("capacity", Kind::Integer, "500"),
        field("concurrency", Kind::Integer, "2"),
        field("max_sweep", Kind::Duration, "30s"),
        field("max_postponed", Kind::Duration, "30d"),
        field("isolation", Kind::Text, "thread"),
        field("breaker", Kind::Integer, "10"),
        field("preflight", Kind::Boolean, "false"),
        plain("trash", Kind::Duration),
        plain("trash_min_free", Kind::Size),
        field("purge_rate", Kind::Text, "1000 files, 1GiB"),
    ],
    tables: &[
        Table {
            name: "budget",
            shape: Shape::One,
            fields: &[
                plain("sweep_files", Kind::Integer),
                plain("sweep_bytes", Kind::Size),
                plain("sweep_share", Kind::Text),
                plain("sweep_made", Kind::Integer),
                plain("sweep_written", Kind::Size),
                plain("hour_files", Kind::Integer),
                plain("hour_bytes", Kind::Size),
                plain("hour_share", Kind::Text),
                plain("hour_made", Kind::Integer),
                plain("hour_written", Kind::Size),
            ],
            tables: &[],
        },
        Table {
            name: "limits",
            shape: Shape::One,
            fields: &[
                field("memory", Kind::Size, "64MiB"),
                field("memories", Kind::Integer, "20"),
                field("tables", Kind::Integer, "100"),
                field("table_elements", Kind::Integer, "1000000"),
                field("instances", Kind::Integer, "100"),
                plain("fuel", Kind::Integer),
                field("answer", Kind::Size, "16MiB"),
                field("descriptors", Kind::Integer, "256"),
                field("folder_entries", Kind::Integer, "10000000"),
                field("dispatch_deadline", Kind::Duration, "10s"),
                field("task_deadline", Kind::Duration, "30s"),
                field("output", Kind::Size, "64KiB"),
                field("output_rate", Kind::Size, "1MiB"),
                field("tasks_per_instance", Kind::Integer, "10000"),
                field("changes", Kind::Integer, "1000000"),
                field("written", Kind::Size, "1GiB"),
            ],
            tables: &[],
        },
        Table {
            name: "retry",
            shape: Shape::One,
            fields: &[
                field("max_attempts", Kind::Integer, "5"),
                field("backoff", Kind::Duration, "5s"),
                field("max_backoff", Kind::Duration, "1h"),
            ],
            tables: &[],
        },
        Table { name: "config", shape: Shape::Free, fields: &[], tables: &[] },
    ],
};

impl Table {
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(super) fn table(&self, name: &str) -> Option<&'static Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The names of its keys and tables.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name).chain(self.tables.iter().map(|table| table.name))
    }
}

/// The default of `path` (`job.limits.memory`).
///
/// # Panics
/// Where the key is unknown or has none: the caller names keys of this list.
pub(super) fn default(path: &str) -> &'static str {
    let mut table = &ROOT;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_some() {
            table = table.table(name).expect("the resolver names tables of the schema");
        } else if let Some(default) = table.field(name).and_then(|field| field.default) {
            return default;
        }
    }
    unreachable!("`{path}` has no default in the schema")
}

/// Every key as `(path, field)`, in the order of the schema.
#[cfg(test)]
pub(super) fn all() -> Vec<(String, &'static Field)> {
    fn walk(table: &'static Table, prefix: &str, found: &mut Vec<(String, &'static Field)>) {
        found.extend(table.fields.iter().map(|field| (format!("{prefix}{}", field.name), field)));
        for inner in table.tables {
            walk(inner, &format!("{prefix}{}.", inner.name), found);
        }
    }
    let mut found = Vec::new();
    walk(&ROOT, "", &mut found);
    found
}
