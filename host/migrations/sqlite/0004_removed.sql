-- How many files the calls for a task removed so far, for a call that goes on
-- with it.
ALTER TABLE tasks ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
