-- Lives of nodes, each with its lease. Ended lives stay as long as the history
-- that names them.
CREATE TABLE IF NOT EXISTS nodes (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       TEXT NOT NULL,
    labels     TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- When it is given up, if nothing more is heard.
    expires    BIGINT NOT NULL,
    ended_at   BIGINT,
    -- How often a person asked for a running task of this life to end.
    asked      BIGINT NOT NULL DEFAULT 0,
    KEY ended (ended_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
