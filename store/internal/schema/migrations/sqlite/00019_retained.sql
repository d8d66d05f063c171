-- +goose Up
-- The numbers of each client's rows, up to the counted change. Deliveries are counted with their change. A transaction that
-- deletes counted rows subtracts them.
CREATE TABLE retained (
    client_id  TEXT    NOT NULL PRIMARY KEY,
    changes    INTEGER NOT NULL,
    deliveries INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE retention (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    counted INTEGER NOT NULL -- the number of the last change that is counted
) STRICT;
INSERT INTO retention (id, counted) VALUES (1, 0);

-- +goose Down
DROP TABLE retention;
DROP TABLE retained;
