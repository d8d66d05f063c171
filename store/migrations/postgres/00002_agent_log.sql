-- +goose NO TRANSACTION
-- +goose Up
-- What an agent's changes have made lies together here, in their order: a page of the agent's log need not look for each.
-- Who serves meanwhile goes on. An index whose making was interrupted is of no use.
DROP INDEX IF EXISTS deliveries_agent;
CREATE INDEX CONCURRENTLY deliveries_agent ON deliveries (client_id, kind, agent_id, change_id, id);

-- +goose Down
DROP INDEX deliveries_agent;
