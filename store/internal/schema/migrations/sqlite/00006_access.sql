-- +goose Up
ALTER TABLE clients ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)); -- its applications are refused

-- Who may ask for tokens. Those of the operator have access 'operator' and no client.
CREATE TABLE applications (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    client_id  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    access     TEXT    NOT NULL CHECK (access IN ('operator', 'all', 'call_api', 'read_only')),
    hash_key   BLOB    NOT NULL, -- a key of its own, under which
    hash       BLOB    NOT NULL, -- its secret is hashed
    created_at INTEGER NOT NULL,
    CHECK ((access = 'operator') = (client_id = ''))
) STRICT;
CREATE INDEX applications_client ON applications (client_id, number);

CREATE TABLE tokens (
    hash        BLOB    NOT NULL PRIMARY KEY, -- of the token, by SHA-256
    application INTEGER NOT NULL REFERENCES applications (number),
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_application ON tokens (application, expires_at);
CREATE INDEX tokens_expired ON tokens (expires_at);

-- +goose Down
DROP TABLE tokens;
DROP TABLE applications;
ALTER TABLE clients DROP COLUMN blocked;
