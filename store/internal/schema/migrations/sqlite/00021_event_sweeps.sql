-- +goose Up
-- The changes of events that not all unfinished deliveries of the event have followed yet. Those up to the position
-- have.
CREATE TABLE event_sweeps (
    event_id   INTEGER NOT NULL PRIMARY KEY,
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'parked', 'cancelled')), -- what the deliveries become
    lane_id    INTEGER REFERENCES lanes (id), -- where they go if they become pending
    version_id INTEGER NOT NULL, -- the URL and the method that they get; 0 for cancelled ones
    position   INTEGER NOT NULL
) STRICT;
CREATE INDEX event_sweeps_lane ON event_sweeps (lane_id);

-- +goose Down
DROP TABLE event_sweeps;
