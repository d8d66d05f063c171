-- +goose Up
-- Whether the last rotation was taken back (1). Only a rotation that was not can be taken back, so that a retry does nothing.
ALTER TABLE secrets ADD COLUMN taken_back INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE secrets DROP COLUMN taken_back;
