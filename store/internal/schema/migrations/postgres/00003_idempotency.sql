-- +goose Up
-- What requests with an Idempotency-Key were answered, for a day. Neither a key nor a secret is here: the hash is derived
-- from the key, and the answer is encrypted under another value that is derived from it. The rows of an application go with
-- it by themselves, since a process of an earlier version, which may revoke it meanwhile, does not know of them.
CREATE TABLE idempotency_keys (
    application BIGINT NOT NULL REFERENCES applications (number) ON DELETE CASCADE,
    hash        BYTEA  NOT NULL,
    client_id   TEXT   NOT NULL,
    fingerprint BYTEA  NOT NULL,
    answer      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (application, hash)
);
CREATE INDEX idempotency_keys_client ON idempotency_keys (client_id);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys;
