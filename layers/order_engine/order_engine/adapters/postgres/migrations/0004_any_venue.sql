-- Which venues there are says order_engine.venues.registry; here only what a venue's name looks like.
ALTER TABLE orders
    DROP CONSTRAINT orders_chosen_dex_check,
    ADD CONSTRAINT orders_chosen_dex_check CHECK (chosen_dex ~ '^[a-z][a-z0-9]{0,31}$'),
    DROP CONSTRAINT orders_tx_venue_check,
    ADD CONSTRAINT orders_tx_venue_check CHECK (tx_venue ~ '^[a-z][a-z0-9]{0,31}$');
