-- +goose Up
-- The latest time that a process has seen by the clock of all due times, so that one that is started later notices that the
-- clock was put back meanwhile.
CREATE TABLE clock (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    seen_at    INTEGER NOT NULL,
    stepped_at INTEGER NOT NULL -- when it was last noticed that the clock was put back
) STRICT;
INSERT INTO clock (id, seen_at, stepped_at) VALUES (1, 0, 0);

-- +goose Down
DROP TABLE clock;
