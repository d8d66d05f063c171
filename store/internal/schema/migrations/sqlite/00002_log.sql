-- +goose Up
ALTER TABLE status_changes ADD COLUMN skipped TEXT NOT NULL DEFAULT ''; -- ids of the agent's events of the other type then, separated by commas
ALTER TABLE status_changes ADD COLUMN repeated INTEGER NOT NULL DEFAULT 0; -- how often the same status was set again
ALTER TABLE status_changes ADD COLUMN repeated_at INTEGER; -- and when last

ALTER TABLE deliveries ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN replays INTEGER NOT NULL DEFAULT 0; -- how often it was sent again after it had ended
UPDATE deliveries SET client_id = (SELECT client_id FROM status_changes c WHERE c.id = change_id);
CREATE INDEX deliveries_client ON deliveries (client_id, id);
CREATE INDEX deliveries_event_all ON deliveries (event_id, id);
CREATE INDEX deliveries_missed ON deliveries (client_id, state, id) WHERE state IN ('failed', 'cancelled');

-- How an attempt was sent, where the delivery's own URL and method were corrected since; else they are empty.
ALTER TABLE attempts ADD COLUMN url TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN method TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN signature TEXT NOT NULL DEFAULT '';

-- Deliveries that are sent again, those that a filter fits and that had ended when it was asked for.
CREATE TABLE replays (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id   TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- empty for any
    agent_id    INTEGER NOT NULL, -- 0 for any
    event_id    INTEGER NOT NULL, -- 0 for any
    since       INTEGER,
    until       INTEGER,
    total       INTEGER NOT NULL,
    redelivered INTEGER NOT NULL DEFAULT 0,
    position    INTEGER NOT NULL DEFAULT 0, -- the delivery that was worked last
    created_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX replays_client ON replays (client_id, id);
CREATE INDEX replays_open ON replays (id) WHERE finished_at IS NULL;

-- Samples that were sent to try a registration.
CREATE TABLE samples (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id   INTEGER NOT NULL,
    webhook_id TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    method     TEXT    NOT NULL,
    event_type TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    duration   INTEGER NOT NULL, -- microseconds
    status     INTEGER NOT NULL, -- of the answer, 0 without one
    error      TEXT    NOT NULL,
    excerpt    TEXT    NOT NULL,
    verdict    TEXT    NOT NULL,
    signature  TEXT    NOT NULL
) STRICT;
CREATE INDEX samples_event ON samples (event_id, id);

-- Up to which sequence number changes of a client are no longer kept.
CREATE TABLE truncated (
    client_id TEXT    NOT NULL PRIMARY KEY,
    sequence  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE truncated;
DROP TABLE samples;
DROP TABLE replays;
ALTER TABLE attempts DROP COLUMN signature;
ALTER TABLE attempts DROP COLUMN method;
ALTER TABLE attempts DROP COLUMN url;
DROP INDEX deliveries_missed;
DROP INDEX deliveries_event_all;
DROP INDEX deliveries_client;
ALTER TABLE deliveries DROP COLUMN replays;
ALTER TABLE deliveries DROP COLUMN client_id;
ALTER TABLE status_changes DROP COLUMN repeated_at;
ALTER TABLE status_changes DROP COLUMN repeated;
ALTER TABLE status_changes DROP COLUMN skipped;
