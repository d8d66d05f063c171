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

-- What was not delivered, or not yet, for filters. By event and by agent it costs nothing to write what is delivered. The
-- expression keeps apart what else is found by event, since the planner takes either.
DROP INDEX deliveries_missed;
CREATE INDEX deliveries_undelivered ON deliveries (client_id, state, id) WHERE state <> 'delivered';
CREATE INDEX deliveries_missed_event ON deliveries (event_id + 0, state, id) WHERE state IN ('failed', 'cancelled');
CREATE INDEX deliveries_missed_lane ON deliveries (lane_id, state, id) WHERE state IN ('failed', 'cancelled', 'parked');
-- By a kind of agents alone, which was a filter, all would be sent again now.
UPDATE replays SET finished_at = created_at WHERE kind <> '' AND agent_id = 0 AND finished_at IS NULL;

-- +goose Down
DROP INDEX deliveries_missed_lane;
DROP INDEX deliveries_missed_event;
DROP INDEX deliveries_undelivered;
CREATE INDEX deliveries_missed ON deliveries (client_id, state, id) WHERE state IN ('failed', 'cancelled');
ALTER TABLE samples DROP COLUMN traceparent;
ALTER TABLE attempts DROP COLUMN traceparent;
ALTER TABLE status_changes DROP COLUMN parked;
ALTER TABLE status_changes DROP COLUMN fired;
