-- What orders at rest need: when one that was released in vain may be tried again, and the
-- watch's way to the orders of a pair, best price first, oldest first within a price.
ALTER TABLE orders ADD COLUMN rests_until timestamptz;
ALTER TABLE orders ADD CHECK (type <> 'limit' OR (limit_price IS NOT NULL AND expires_at IS NOT NULL));
ALTER TABLE orders ADD CHECK (type <> 'sniper' OR (sniper_trigger IS NOT NULL AND expires_at IS NOT NULL));

CREATE INDEX orders_at_rest ON orders (type, token_in, token_out, limit_price, created_at)
    WHERE status = 'open';
CREATE INDEX orders_expiring ON orders (expires_at) WHERE status = 'open';
