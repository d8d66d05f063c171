-- +goose Up
-- The numbers of each client's rows, up to the counted change. Deliveries are counted with their change. A transaction that
-- deletes counted rows subtracts them.
CREATE TABLE retained (
    client_id  TEXT    NOT NULL PRIMARY KEY,
    changes    BIGINT  NOT NULL,
    deliveries BIGINT  NOT NULL
);
CREATE TABLE retention (
    id      BIGINT  PRIMARY KEY CHECK (id = 1),
    counted BIGINT  NOT NULL -- the number of the last change that is counted
);
INSERT INTO retention (id, counted) VALUES (1, 0);

-- +goose Down
DROP TABLE retention;
DROP TABLE retained;
