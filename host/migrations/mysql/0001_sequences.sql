-- Times are milliseconds since the Unix epoch. States: 0 pending, 1 running,
-- 2 done, 3 dead, 4 cancelled. Priorities: 0 urgent to 3 low. One statement a
-- file, each repeatable: the server commits every one of them by itself.
--
-- The last number given out, one row a sequence. Numbers of tasks rise for
-- ever, also when the newest rows are gone.
CREATE TABLE IF NOT EXISTS sequences (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
