-- +goose Up
-- The events that each agent of the client may have. What an agent has beyond it stays.
ALTER TABLE clients ADD COLUMN events_per_agent_limit INTEGER NOT NULL DEFAULT 100 CHECK (events_per_agent_limit BETWEEN 0 AND 2147483647);

-- +goose Down
ALTER TABLE clients DROP COLUMN events_per_agent_limit;
