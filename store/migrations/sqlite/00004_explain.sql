-- +goose Up
-- Ids of the agent's events of this type then, separated by commas: those that the change fired, and those that were
-- disabled, whose deliveries it parked. They outlive the deliveries. Of earlier changes it is not known which were disabled.
ALTER TABLE status_changes ADD COLUMN fired TEXT NOT NULL DEFAULT '';
ALTER TABLE status_changes ADD COLUMN parked TEXT NOT NULL DEFAULT '';
UPDATE status_changes SET fired = (SELECT group_concat(event_id) FROM deliveries d WHERE d.change_id = status_changes.id)
    WHERE id IN (SELECT change_id FROM deliveries);

-- What receivers were sent as traceparent; empty for nothing.
ALTER TABLE attempts ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
ALTER TABLE samples ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE samples DROP COLUMN traceparent;
ALTER TABLE attempts DROP COLUMN traceparent;
ALTER TABLE status_changes DROP COLUMN parked;
ALTER TABLE status_changes DROP COLUMN fired;
