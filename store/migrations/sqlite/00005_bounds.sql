-- +goose Up
-- By which retention finds what is too old.
CREATE INDEX replays_finished ON replays (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX samples_started ON samples (started_at);

-- +goose Down
DROP INDEX samples_started;
DROP INDEX replays_finished;
