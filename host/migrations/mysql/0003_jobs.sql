CREATE TABLE IF NOT EXISTS jobs (
    id            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name          VARCHAR(64) NOT NULL,
    paused        TEXT,
    -- The scan's place, and the component that wrote it.
    scan_cursor   MEDIUMTEXT,
    cursor_digest VARBINARY(32),
    -- The life that scans, as long as it lasts.
    scan_owner    BIGINT,
    -- The last time of the schedule that was scanned.
    scheduled     BIGINT NOT NULL,
    UNIQUE KEY named (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
