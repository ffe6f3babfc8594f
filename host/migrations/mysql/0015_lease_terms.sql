-- How long a node's lease is, in milliseconds; longer than any that is usual
-- for the nodes of an earlier version.
ALTER TABLE nodes ADD COLUMN IF NOT EXISTS lease BIGINT NOT NULL DEFAULT 600000;
