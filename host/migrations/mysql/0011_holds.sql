-- What no plugin may touch, until the time given; one that was removed ended
-- then.
CREATE TABLE IF NOT EXISTS holds (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job        BIGINT NOT NULL,
    held_until BIGINT,
    since      BIGINT NOT NULL,
    pattern    BLOB NOT NULL,
    why        MEDIUMTEXT NOT NULL,
    KEY of_job (job, id),
    KEY ended (held_until)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
