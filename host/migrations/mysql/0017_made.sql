-- What is made has a budget, too, and effects of one call that cancel out are
-- folded into one row. The weight is about how many bytes a row takes of the
-- disk, with its part of the indexes. The last hour's spending, and all weights,
-- are summed up in the index alone.
-- It looks first, for a column cannot be added twice in words that all servers
-- know.
SET @step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'effects' AND column_name = 'times'),
    'DO 0',
    'ALTER TABLE effects
         ADD COLUMN times   BIGINT NOT NULL DEFAULT 1,
         ADD COLUMN made    BIGINT NOT NULL DEFAULT 0,
         ADD COLUMN written BIGINT NOT NULL DEFAULT 0,
         ADD COLUMN weight  BIGINT NOT NULL DEFAULT 400,
         DROP KEY listed,
         ADD KEY listed (job, at, journal, number, spent_files, spent_bytes, made, written, weight)');
PREPARE step FROM @step;
EXECUTE step;
DEALLOCATE PREPARE step;
