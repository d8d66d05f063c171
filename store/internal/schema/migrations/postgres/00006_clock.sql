-- +goose Up
-- The latest time that a process has seen by the clock of all due times. When the clock is put back, all processes notice,
-- and the one that puts this back too changes what waits.
CREATE TABLE clock (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    seen_at    BIGINT NOT NULL,
    stepped_at BIGINT NOT NULL -- when it was last noticed that the clock was put back
);
INSERT INTO clock (id, seen_at, stepped_at) VALUES (1, 0, 0);

-- +goose Down
DROP TABLE clock;
