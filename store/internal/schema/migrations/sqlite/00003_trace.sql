-- +goose Up
-- Of which trace a change is, as W3C's Trace Context writes it; empty for none.
ALTER TABLE status_changes ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';

-- What metrics count, so that they read nothing else.
CREATE INDEX receivers_open ON receivers (id) WHERE failures >= 5;
CREATE INDEX agent_events_disabled ON agent_events (id) WHERE state = 'disabled';

-- +goose Down
DROP INDEX agent_events_disabled;
DROP INDEX receivers_open;
ALTER TABLE status_changes DROP COLUMN traceparent;
