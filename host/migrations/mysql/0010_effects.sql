-- What plugins did to files. Results: 0 done, 1 failed, 2 unknown. Fates of
-- what went into a trash: 0 kept, 1 restored, 2 purged; null for all else.
-- Operations are numbered from 0 as in `domain/effect.rs`. An inode has all 64
-- bits and may stand here as a negative number. Paths are bytes: no collation
-- compares them, and none is too long.
CREATE TABLE IF NOT EXISTS effects (
    journal     BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    job         BIGINT NOT NULL,
    task        BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    modified    BIGINT NOT NULL,
    inode       BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    -- What it takes of a budget.
    spent_files BIGINT NOT NULL,
    spent_bytes BIGINT NOT NULL,
    fate_at     BIGINT,
    operation   TINYINT NOT NULL,
    result      TINYINT NOT NULL,
    fate        TINYINT,
    trashed     TINYINT NOT NULL,
    digest      VARBINARY(32) NOT NULL,
    mount       BLOB NOT NULL,
    path        BLOB NOT NULL,
    to_path     BLOB,
    to_mount    BLOB,
    error       TEXT,
    PRIMARY KEY (journal, number),
    -- The last hour's spending is summed up in the index alone.
    KEY listed (job, at, journal, number, spent_files, spent_bytes),
    KEY of_task (task, at, journal, number),
    KEY trash (job, fate, at, journal, number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
