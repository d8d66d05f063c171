-- +goose Up
-- Whether a delivery has failed or its receiver. An outage of a receiver begins with a failure and ends with its first sign of
-- life; they are counted. A delivery has the number of the outage in which its last attempt failed: if the next one
-- fails in the same outage, the receiver has given no sign of life in between.
ALTER TABLE receivers ADD COLUMN outages INTEGER NOT NULL DEFAULT 0; -- with the one that goes on
ALTER TABLE receivers ADD COLUMN failing_since INTEGER; -- NULL when none goes on
ALTER TABLE receivers ADD COLUMN paused_until INTEGER; -- by an answer of 429; waits is no earlier then
ALTER TABLE receivers ADD COLUMN recovered_at INTEGER NOT NULL DEFAULT 0; -- when its breaker closed last
ALTER TABLE deliveries ADD COLUMN failures INTEGER NOT NULL DEFAULT 0; -- of its own, among its attempts
ALTER TABLE deliveries ADD COLUMN outage INTEGER NOT NULL DEFAULT 0; -- 0 for none
ALTER TABLE lanes ADD COLUMN probed_at INTEGER; -- when it was a probe of its receiver last

-- +goose Down
ALTER TABLE lanes DROP COLUMN probed_at;
ALTER TABLE deliveries DROP COLUMN outage;
ALTER TABLE deliveries DROP COLUMN failures;
ALTER TABLE receivers DROP COLUMN recovered_at;
ALTER TABLE receivers DROP COLUMN paused_until;
ALTER TABLE receivers DROP COLUMN failing_since;
ALTER TABLE receivers DROP COLUMN outages;
