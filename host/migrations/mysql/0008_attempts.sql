-- Earlier attempts of tasks, live or ended. A lost one has no fence: nobody
-- may write back under it.
CREATE TABLE IF NOT EXISTS attempts (
    task       BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    fence      BIGINT,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    node       BIGINT NOT NULL,
    digest     VARBINARY(32),
    outcome    VARCHAR(16) NOT NULL,
    error      TEXT NOT NULL,
    PRIMARY KEY (task, number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
