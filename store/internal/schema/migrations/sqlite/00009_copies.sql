-- +goose Up
-- What marks a copy to another database that is under way, there and here. Whoever serves this one takes it away: what was
-- copied before is out of date then.
CREATE TABLE copies (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    mark TEXT    NOT NULL
) STRICT;

-- +goose Down
DROP TABLE copies;
