-- By what the directory is known that a job sees at a path.
CREATE TABLE IF NOT EXISTS mounts (
    job BIGINT NOT NULL,
    at  VARBINARY(3000) NOT NULL,
    id  TEXT NOT NULL,
    PRIMARY KEY (job, at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
