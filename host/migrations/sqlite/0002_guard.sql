-- What the guarded sandbox keeps on record.

-- Whether one sweep may go over the job's budget.
ALTER TABLE jobs ADD COLUMN once_over_budget INTEGER NOT NULL DEFAULT 0;

-- What plugins did to files. Results: 0 done, 1 failed, 2 unknown. Fates of
-- what went into a trash: 0 kept, 1 restored, 2 purged; null for all else.
-- Operations are numbered from 0 as in `domain/effect.rs`. An inode has all 64
-- bits and may stand here as a negative number.
CREATE TABLE effects (
    journal     INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    job         INTEGER NOT NULL,
    task        INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    operation   INTEGER NOT NULL,
    mount       TEXT NOT NULL,
    path        TEXT NOT NULL,
    to_path     TEXT,
    to_mount    TEXT,
    size        INTEGER NOT NULL,
    modified    INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    result      INTEGER NOT NULL,
    error       TEXT,
    trashed     INTEGER NOT NULL,
    -- What it takes of a budget.
    spent_files INTEGER NOT NULL,
    spent_bytes INTEGER NOT NULL,
    fate        INTEGER,
    fate_at     INTEGER,
    PRIMARY KEY (journal, number)
) STRICT, WITHOUT ROWID;

-- The last hour's spending is summed up in the index alone.
CREATE INDEX effects_listed ON effects (job, at, journal, number, spent_files, spent_bytes);
CREATE INDEX effects_of_task ON effects (task, at, journal, number);
CREATE INDEX effects_trash ON effects (job, fate, at, journal, number) WHERE fate IS NOT NULL;

-- What no plugin may touch, until the time given; one that was removed ended
-- then.
CREATE TABLE holds (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL,
    pattern    TEXT NOT NULL,
    held_until INTEGER,
    why        TEXT NOT NULL,
    since      INTEGER NOT NULL
) STRICT;

CREATE INDEX holds_of_job ON holds (job, id);
CREATE INDEX holds_ended ON holds (held_until);

-- By what the directory is known that a job sees at a path.
CREATE TABLE mounts (
    job INTEGER NOT NULL,
    at  TEXT NOT NULL,
    id  TEXT NOT NULL,
    PRIMARY KEY (job, at)
) STRICT, WITHOUT ROWID;
