-- +goose Up
-- Whether a delivery has failed or its receiver. An outage of a receiver begins with a failure and ends with its first sign of
-- life; they are counted. A delivery has the number of the outage in which its last attempt failed: if the next one
-- fails in the same outage, the receiver has given no sign of life in between. A process of an earlier version ends no outage: at worst a failure of a
-- delivery's own is taken for one of the receiver's meanwhile, and it is tried again within a minute.
ALTER TABLE receivers
    ADD COLUMN outages BIGINT NOT NULL DEFAULT 0, -- with the one that goes on
    ADD COLUMN failing_since BIGINT, -- NULL when none goes on
    ADD COLUMN paused_until BIGINT, -- by an answer of 429; waits is no earlier then
    ADD COLUMN recovered_at BIGINT NOT NULL DEFAULT 0; -- when its breaker closed last
ALTER TABLE lanes ADD COLUMN probed_at BIGINT; -- when it was a probe of its receiver last
ALTER TABLE deliveries
    ADD COLUMN failures INTEGER NOT NULL DEFAULT 0, -- of its own, among its attempts
    ADD COLUMN outage BIGINT NOT NULL DEFAULT 0; -- 0 for none

-- +goose Down
ALTER TABLE deliveries DROP COLUMN outage, DROP COLUMN failures;
ALTER TABLE lanes DROP COLUMN probed_at;
ALTER TABLE receivers DROP COLUMN recovered_at, DROP COLUMN paused_until, DROP COLUMN failing_since, DROP COLUMN outages;
