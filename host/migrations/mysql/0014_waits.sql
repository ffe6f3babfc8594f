-- When this server's clock gave a task's due time, as "now" or as a wait from
-- then; null where whoever queued the task named the time. A clock that was set
-- back shows by it which due times lie in the future without being meant to.
ALTER TABLE tasks
    ADD COLUMN IF NOT EXISTS waits_from BIGINT,
    ADD COLUMN IF NOT EXISTS next_waits_from BIGINT;
