-- +goose Up
-- What readiness writes and rolls back. A row nearly fills a page and is not compressed, so that each row needs a page of its own.
CREATE TABLE probe_room (
    filler TEXT NOT NULL
);
ALTER TABLE probe_room ALTER COLUMN filler SET STORAGE PLAIN;

-- +goose Down
DROP TABLE probe_room;
