-- What the reconciler keeps: how often an order was restarted, and when it was last looked at.
ALTER TABLE orders ADD COLUMN restarts integer NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN reconciled_at timestamptz;
