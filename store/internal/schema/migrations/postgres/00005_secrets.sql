-- +goose Up
-- Secrets that were replaced before the previous one and still sign: a list in JSON, the newest first; empty without any. A
-- process of an earlier version leaves it as it is.
ALTER TABLE secrets ADD COLUMN older TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE secrets DROP COLUMN older;
