INSERT IGNORE INTO sequences (name, value) VALUES ('task', 0);
