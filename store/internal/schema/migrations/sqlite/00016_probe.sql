-- +goose Up

-- What readiness writes, as large as a change is with its deliveries.
ALTER TABLE probes ADD COLUMN room BLOB;

-- +goose Down
ALTER TABLE probes DROP COLUMN room;
