-- +goose NO TRANSACTION
-- +goose Up
-- The changes of events that not all unfinished deliveries of the event have followed yet. Those up to the position
-- have.
CREATE TABLE IF NOT EXISTS event_sweeps (
    event_id   BIGINT NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL CHECK (state IN ('pending', 'parked', 'cancelled')), -- what the deliveries become
    lane_id    BIGINT REFERENCES lanes (id), -- where they go if they become pending
    version_id BIGINT NOT NULL, -- the URL and the method that they get; 0 for cancelled ones
    position   BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_sweeps_lane ON event_sweeps (lane_id);
-- The unfinished deliveries of an event are read in the order of their ids. An index whose creation was interrupted is
-- invalid and of no use.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('deliveries_unfinished') AND NOT indisvalid) THEN
        DROP INDEX deliveries_unfinished;
    END IF;
END
$$;
-- +goose StatementEnd
SET lock_timeout = 0;
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_unfinished ON deliveries (event_id, id)
    WHERE state IN ('pending', 'parked');
DROP INDEX CONCURRENTLY IF EXISTS deliveries_event;
RESET lock_timeout;

-- +goose Down
CREATE INDEX deliveries_event ON deliveries (event_id) WHERE state IN ('pending', 'parked');
DROP INDEX deliveries_unfinished;
DROP TABLE event_sweeps;
