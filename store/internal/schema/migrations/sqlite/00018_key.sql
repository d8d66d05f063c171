-- +goose Up
-- The key that the signing secrets are encrypted with, by its id; empty while they are stored as they are.
ALTER TABLE epochs ADD COLUMN key_id TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE epochs DROP COLUMN key_id;
