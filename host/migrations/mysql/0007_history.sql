-- Ended tasks, each with its last attempt.
CREATE TABLE IF NOT EXISTS history (
    id          BIGINT NOT NULL PRIMARY KEY,
    job         BIGINT NOT NULL,
    `key`       VARBINARY(1024) NOT NULL,
    state       TINYINT NOT NULL,
    priority    TINYINT NOT NULL,
    run_at      BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    losses      BIGINT NOT NULL,
    fence       BIGINT NOT NULL,
    enqueued_at BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    node        BIGINT NOT NULL,
    outcome     VARCHAR(16) NOT NULL,
    digest      VARBINARY(32),
    note        TEXT,
    payload     MEDIUMTEXT,
    KEY listed (job, state, id),
    KEY finished (finished_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
