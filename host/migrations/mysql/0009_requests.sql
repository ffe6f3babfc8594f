-- Requests that named themselves, and what they were answered. An empty answer
-- is that of a request which is being done.
CREATE TABLE IF NOT EXISTS requests (
    job    BIGINT NOT NULL,
    `key`  VARBINARY(255) NOT NULL,
    digest VARBINARY(32) NOT NULL,
    answer MEDIUMTEXT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (job, `key`),
    KEY asked (at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
