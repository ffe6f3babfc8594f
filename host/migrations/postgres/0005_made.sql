-- What is made has a budget, too, and effects of one call that cancel out are
-- folded into one row. The weight is about how many bytes a row takes of the
-- disk, with its part of the indexes.
ALTER TABLE effects
    ADD COLUMN times   BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN made    BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN written BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN weight  BIGINT NOT NULL DEFAULT 400;

-- The last hour's spending, and all weights, are summed up in the index alone.
DROP INDEX effects_listed;
CREATE INDEX effects_listed ON effects (job, at, journal, number)
    INCLUDE (spent_files, spent_bytes, made, written, weight);
