-- +goose Up
-- The events that each agent of the client may have. What an agent has beyond it stays.
ALTER TABLE clients ADD COLUMN events_per_agent_limit BIGINT NOT NULL DEFAULT 100
    CHECK (events_per_agent_limit BETWEEN 0 AND 2147483647);
-- The pending deliveries from which the client's own applications may cause no more.
ALTER TABLE clients ADD COLUMN pending_limit BIGINT NOT NULL DEFAULT 100000
    CHECK (pending_limit BETWEEN 0 AND 2147483647);

-- +goose Down
ALTER TABLE clients DROP COLUMN pending_limit;
ALTER TABLE clients DROP COLUMN events_per_agent_limit;
