-- What a node holds: written with the claim, so that a dead node's tasks are
-- found without a scan. `ids` is a JSON array. The fence is given out when the
-- rows are locked already, so that for each key fences rise; the server keeps
-- its counter over a restart.
CREATE TABLE IF NOT EXISTS batches (
    fence      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    node       BIGINT NOT NULL,
    job        BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    ids        MEDIUMTEXT NOT NULL,
    KEY held (node)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
