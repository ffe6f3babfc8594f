-- When this server's clock gave a task's due time, as "now" or as a wait from
-- then; null where whoever queued the task named the time. A clock that was set
-- back shows by it which due times lie in the future without being meant to.
-- It looks first, for a column cannot be added twice in words that all servers
-- know.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'tasks' AND column_name = 'waits_from'),
    'DO 0',
    'ALTER TABLE tasks ADD COLUMN waits_from BIGINT, ADD COLUMN next_waits_from BIGINT');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
