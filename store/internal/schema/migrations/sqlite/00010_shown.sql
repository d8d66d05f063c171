-- +goose Up
-- What the log shows of a delivery's change, as that is, and the last of its attempts, NULL without any, so that a page of
-- the log looks for neither.
ALTER TABLE deliveries ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN agent_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN new_status TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN last_attempt INTEGER;
UPDATE deliveries SET kind = c.kind, agent_id = c.agent_id, new_status = c.new_status, changed_at = c.changed_at,
    last_attempt = (SELECT max(a.id) FROM attempts a WHERE a.delivery_id = deliveries.id)
    FROM status_changes c WHERE c.id = deliveries.change_id;

-- +goose Down
ALTER TABLE deliveries DROP COLUMN last_attempt;
ALTER TABLE deliveries DROP COLUMN changed_at;
ALTER TABLE deliveries DROP COLUMN new_status;
ALTER TABLE deliveries DROP COLUMN agent_id;
ALTER TABLE deliveries DROP COLUMN kind;
