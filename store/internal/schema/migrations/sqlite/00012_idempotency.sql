-- +goose Up
-- What requests with an Idempotency-Key were answered, for a day. Neither a key nor a secret is here: the hash is derived
-- from the key, and the answer is encrypted under another value that is derived from it.
CREATE TABLE idempotency_keys (
    application INTEGER NOT NULL REFERENCES applications (number) ON DELETE CASCADE,
    hash        BLOB    NOT NULL, -- of the key
    client_id   TEXT    NOT NULL, -- that the request was about
    fingerprint BLOB    NOT NULL, -- of the request
    answer      TEXT    NOT NULL, -- encrypted
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (application, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_client ON idempotency_keys (client_id);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys;
