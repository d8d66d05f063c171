-- +goose Up
-- What a client may have and do. Agents and events are counted by whoever adds or deletes one, in the same transaction.
ALTER TABLE clients ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN event_limit INTEGER NOT NULL DEFAULT 1000 CHECK (event_limit BETWEEN 0 AND 2147483647);
ALTER TABLE clients ADD COLUMN agents INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN agent_limit INTEGER NOT NULL DEFAULT 10000 CHECK (agent_limit BETWEEN 0 AND 2147483647);
ALTER TABLE clients ADD COLUMN request_limit INTEGER NOT NULL DEFAULT 100000 CHECK (request_limit BETWEEN 0 AND 2147483647);
UPDATE clients SET
    agents = (SELECT count(*) FROM agents a WHERE a.client_id = clients.id),
    events = (SELECT count(*) FROM agents a JOIN agent_events e ON e.agent = a.id WHERE a.client_id = clients.id);

-- How many requests a client's applications have made in an hour, by all processes together.
CREATE TABLE requests (
    hour      INTEGER NOT NULL, -- since 1970
    client_id TEXT    NOT NULL,
    made      INTEGER NOT NULL,
    PRIMARY KEY (hour, client_id)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE requests;
ALTER TABLE clients DROP COLUMN request_limit;
ALTER TABLE clients DROP COLUMN agent_limit;
ALTER TABLE clients DROP COLUMN agents;
ALTER TABLE clients DROP COLUMN event_limit;
ALTER TABLE clients DROP COLUMN events;
