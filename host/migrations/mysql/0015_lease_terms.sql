-- How long a node's lease is, in milliseconds; longer than any that is usual
-- for the nodes of an earlier version.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'nodes' AND column_name = 'lease'),
    'DO 0',
    'ALTER TABLE nodes ADD COLUMN lease BIGINT NOT NULL DEFAULT 600000');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
