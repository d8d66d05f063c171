-- +goose NO TRANSACTION
-- +goose Up
-- What an agent's changes have made lies together here, in their order: a page of the agent's log need not look for each.
-- Whoever serves meanwhile goes on. The index is made once all who have looked at the database before are done, however
-- long that takes: nobody waits behind it. One whose making was interrupted is of no use.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('deliveries_agent') AND NOT indisvalid) THEN
        DROP INDEX deliveries_agent;
    END IF;
END
$$;
-- +goose StatementEnd
SET lock_timeout = 0;
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_agent ON deliveries (client_id, kind, agent_id, change_id, id);
RESET lock_timeout;

-- +goose Down
DROP INDEX deliveries_agent;
