-- +goose Up
-- Which life of the database sequence numbers are of. Whatever goes on from an earlier state of it, such as a backup that
-- was restored, gives numbers out once more, and so has another one. A backup has none until it is served.
CREATE TABLE epochs (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT    NOT NULL -- 16 random digits of 0-9 a-f; '' in a backup
) STRICT;
INSERT INTO epochs (id, epoch) VALUES (1, lower(hex(randomblob(8))));

-- +goose Down
DROP TABLE epochs;
