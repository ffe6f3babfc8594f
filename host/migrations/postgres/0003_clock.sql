-- When this server's clock gave a task's due time, as "now" or as a wait from
-- then; null where whoever queued the task named the time. A clock that was set
-- back shows by it which due times lie in the future without being meant to.
ALTER TABLE tasks ADD COLUMN waits_from BIGINT;
ALTER TABLE tasks ADD COLUMN next_waits_from BIGINT;

-- How long a node's lease is, in milliseconds; longer than any that is usual
-- for the nodes of an earlier version.
ALTER TABLE nodes ADD COLUMN lease BIGINT NOT NULL DEFAULT 600000;
