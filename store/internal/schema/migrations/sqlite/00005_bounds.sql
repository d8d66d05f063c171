-- +goose Up
-- By which retention finds what is too old.
CREATE INDEX replays_finished ON replays (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX samples_started ON samples (started_at);

-- What is not a client's, but of one that had the id before: changes up to this number, deliveries up to this id.
ALTER TABLE clients ADD COLUMN changes_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN deliveries_before INTEGER NOT NULL DEFAULT 0;
DELETE FROM replays WHERE client_id NOT IN (SELECT id FROM clients);

-- Of the attempts at a delivery the last hundred are kept.
DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM deliveries WHERE attempts > 100)
    AND number <= (SELECT d.attempts FROM deliveries d WHERE d.id = delivery_id) - 100;

-- +goose Down
ALTER TABLE clients DROP COLUMN deliveries_before;
ALTER TABLE clients DROP COLUMN changes_before;
DROP INDEX samples_started;
DROP INDEX replays_finished;
