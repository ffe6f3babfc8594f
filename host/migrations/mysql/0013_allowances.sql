-- Jobs of which one sweep may go over the budget. A table of its own, for a
-- column cannot be added twice in words that all servers know.
CREATE TABLE IF NOT EXISTS allowances (
    job BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
