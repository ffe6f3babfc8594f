-- The queue. A claim and a release change no indexed column: state and fence
-- stand in no index, so that rows in flight stay where they are in `due` and
-- are skipped there; their number is bounded by what the host prefetches.
--
-- Times are milliseconds since the Unix epoch. States: 0 pending, 1 running,
-- 2 done, 3 dead, 4 cancelled. Priorities: 0 urgent to 3 low.

-- The last number given out, one row a sequence. Fences and task ids rise for
-- ever, also when the newest rows are gone.
CREATE TABLE sequences (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO sequences (name, value) VALUES ('fence', 0), ('task', 0);

CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    paused        TEXT,
    -- The scan's place, and the component that wrote it.
    cursor        TEXT,
    cursor_digest BLOB,
    -- The life that scans, as long as it lasts.
    scan_owner    INTEGER,
    -- The last time of the schedule that was scanned.
    scheduled     INTEGER NOT NULL
) STRICT;

-- Lives of nodes. One host has the file, and the lock beside it is its lease.
-- Ended lives stay as long as the history that names them.
CREATE TABLE nodes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    labels     TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    -- How often a person asked for a running task of this life to end.
    asked      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Live tasks. A row's fence names the batch that holds or last held it, and
-- the batch names the node; 0 is no batch.
CREATE TABLE tasks (
    id               INTEGER PRIMARY KEY,
    job              INTEGER NOT NULL,
    key              BLOB NOT NULL,
    state            INTEGER NOT NULL DEFAULT 0,
    priority         INTEGER NOT NULL,
    run_at           INTEGER NOT NULL,
    -- Attempts used, and nodes lost while they held the task.
    attempt          INTEGER NOT NULL DEFAULT 0,
    losses           INTEGER NOT NULL DEFAULT 0,
    -- Claimed alone after a loss: its start is on record, and another loss is
    -- an attempt.
    solo             INTEGER NOT NULL DEFAULT 0,
    -- Waits after a failed attempt: an enqueue does not shorten that.
    backoff          INTEGER NOT NULL DEFAULT 0,
    -- While it runs: the state in which a person wants it to end, and why.
    asked            INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER NOT NULL DEFAULT 0,
    enqueued_at      INTEGER NOT NULL,
    postponed_since  INTEGER,
    -- One successor, asked for while the task ran; none where the first is null.
    next_enqueued_at INTEGER,
    next_run_at      INTEGER,
    next_priority    INTEGER,
    next_payload     TEXT,
    asked_why        TEXT,
    note             TEXT,
    payload          TEXT,
    UNIQUE (job, key)
) STRICT;

CREATE INDEX due ON tasks (job, priority, run_at, id);

-- What a node holds: written with the claim, so that a dead node's tasks are
-- found without a scan. `ids` is a JSON array.
CREATE TABLE batches (
    fence      INTEGER PRIMARY KEY,
    node       INTEGER NOT NULL,
    job        INTEGER NOT NULL,
    claimed_at INTEGER NOT NULL,
    ids        TEXT NOT NULL
) STRICT;

-- Ended tasks, each with its last attempt.
CREATE TABLE history (
    id          INTEGER PRIMARY KEY,
    job         INTEGER NOT NULL,
    key         BLOB NOT NULL,
    state       INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    run_at      INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    losses      INTEGER NOT NULL,
    fence       INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    digest      BLOB,
    note        TEXT,
    payload     TEXT
) STRICT;

CREATE INDEX history_listed ON history (job, state, id);
CREATE INDEX history_finished ON history (finished_at);

-- Earlier attempts of tasks, live or ended. A lost one has no fence: nobody
-- may write back under it.
CREATE TABLE attempts (
    task       INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    fence      INTEGER,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    node       INTEGER NOT NULL,
    digest     BLOB,
    outcome    TEXT NOT NULL,
    error      TEXT NOT NULL,
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;

-- Requests that named themselves, and what they were answered.
CREATE TABLE requests (
    job    INTEGER NOT NULL,
    key    TEXT NOT NULL,
    digest BLOB NOT NULL,
    answer TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (job, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_at ON requests (at);
