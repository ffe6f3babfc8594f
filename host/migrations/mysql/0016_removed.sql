-- How many files the calls for a task removed so far, for a call that goes on
-- with it. A change of the schema commits by itself, and may be repeated after
-- its answer was lost; in words that MySQL knows as well, which cannot add a
-- column only if it is not there.
SET @ddl = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'tasks' AND column_name = 'removed'),
    'DO 0',
    'ALTER TABLE tasks ADD COLUMN removed BIGINT NOT NULL DEFAULT 0');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
