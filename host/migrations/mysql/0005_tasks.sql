-- Live tasks. A claim and a release change no indexed column: state and fence
-- stand in no index, so that rows in flight stay where they are in `due` and
-- are skipped there; their number is bounded by what the nodes prefetch.
--
-- A row's fence names the batch that holds or last held it, and the batch
-- names the node; 0 is no batch. Keys are bytes: no collation compares them.
CREATE TABLE IF NOT EXISTS tasks (
    id               BIGINT NOT NULL PRIMARY KEY,
    job              BIGINT NOT NULL,
    `key`            VARBINARY(1024) NOT NULL,
    state            TINYINT NOT NULL DEFAULT 0,
    priority         TINYINT NOT NULL,
    run_at           BIGINT NOT NULL,
    -- Attempts used, and nodes lost while they held the task.
    attempt          BIGINT NOT NULL DEFAULT 0,
    losses           BIGINT NOT NULL DEFAULT 0,
    -- Claimed alone after a loss: its start is on record, and another loss is
    -- an attempt.
    solo             TINYINT NOT NULL DEFAULT 0,
    -- Waits after a failed attempt: an enqueue does not shorten that.
    backoff          TINYINT NOT NULL DEFAULT 0,
    -- While it runs: the state in which a person wants it to end, and why.
    asked            TINYINT NOT NULL DEFAULT 0,
    fence            BIGINT NOT NULL DEFAULT 0,
    enqueued_at      BIGINT NOT NULL,
    postponed_since  BIGINT,
    -- One successor, asked for while the task ran; none where the first is null.
    next_enqueued_at BIGINT,
    next_run_at      BIGINT,
    next_priority    TINYINT,
    next_payload     MEDIUMTEXT,
    asked_why        TEXT,
    note             TEXT,
    payload          MEDIUMTEXT,
    UNIQUE KEY keyed (job, `key`),
    KEY due (job, priority, run_at, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
