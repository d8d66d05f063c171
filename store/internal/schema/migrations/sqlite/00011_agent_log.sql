-- +goose Up
-- What an agent's changes have made lies together here, in their order: a page of the agent's log need not look for each.
CREATE INDEX deliveries_agent ON deliveries (client_id, kind, agent_id, change_id, id);

-- +goose Down
DROP INDEX deliveries_agent;
