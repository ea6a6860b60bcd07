-- Which status may follow which. Filled from order_engine.statuses by every migration run.
CREATE TABLE order_transitions (
    from_status text NOT NULL,
    to_status   text NOT NULL,
    PRIMARY KEY (from_status, to_status)
);

-- Times are kept to the millisecond that clients are shown, so that both compare equal.
CREATE FUNCTION now_in_milliseconds() RETURNS timestamptz LANGUAGE sql VOLATILE
    RETURN date_trunc('milliseconds', clock_timestamp());

CREATE FUNCTION milestone(status text, instant timestamptz) RETURNS jsonb LANGUAGE sql STABLE
    RETURN jsonb_build_object(
        status, to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));

CREATE TABLE orders (
    id                    uuid PRIMARY KEY,
    user_id               text NOT NULL,
    client_order_id       text,
    idempotency_key       text,
    terms_digest          text NOT NULL,

    type                  text NOT NULL CHECK (type IN ('market', 'limit', 'sniper')),
    side                  text CHECK (side IN ('buy', 'sell')),
    token_in              text NOT NULL,
    token_out             text NOT NULL,
    amount_in             numeric(38, 18) NOT NULL CHECK (amount_in > 0),
    slippage_bps          integer NOT NULL CHECK (slippage_bps BETWEEN 0 AND 10000),
    max_retries           integer NOT NULL CHECK (max_retries BETWEEN 0 AND 10),
    limit_price           numeric(38, 18) CHECK (limit_price > 0),
    expires_at            timestamptz,
    sniper_trigger        jsonb,

    status                text NOT NULL CHECK (status IN (
        'pending', 'open', 'triggered', 'routing', 'building', 'submitted',
        'confirmed', 'failed', 'canceled', 'expired')),
    previous_status       text,
    seq                   integer NOT NULL DEFAULT 1,
    attempt               integer NOT NULL DEFAULT 0,
    retries               integer NOT NULL DEFAULT 0,
    execution             text NOT NULL,
    generation            integer NOT NULL DEFAULT 0,
    claimed_by            text,

    route_meta            jsonb NOT NULL DEFAULT '[]',
    chosen_dex            text CHECK (chosen_dex IN ('raydium', 'meteora')),
    quoted_price          numeric(38, 18),
    min_amount_out        numeric(38, 18),
    amount_out            numeric(38, 18),
    executed_price        numeric(38, 18),
    realized_slippage_bps numeric(12, 2),

    tx_hash               text,
    tx_payload            text,
    tx_last_valid_block_height bigint,
    tx_venue              text CHECK (tx_venue IN ('raydium', 'meteora')),
    tx_resolution         text CHECK (tx_resolution IN ('landed', 'reverted', 'expired')),

    failure               jsonb,
    error                 text GENERATED ALWAYS AS
        ((failure ->> 'code') || ': ' || (failure ->> 'detail')) STORED,
    milestones            jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,

    -- The names under which older systems' reports read the same facts.
    amount                numeric GENERATED ALWAYS AS (amount_in) STORED,
    dex                   text GENERATED ALWAYS AS (chosen_dex) STORED,

    CHECK (token_in <> token_out),
    CHECK (status <> 'submitted' OR tx_hash IS NOT NULL),
    CHECK (status <> 'failed' OR failure IS NOT NULL),
    CONSTRAINT confirmed_within_bounds CHECK (
        status <> 'confirmed'
        OR (tx_resolution = 'landed' AND amount_out >= min_amount_out))
);

CREATE UNIQUE INDEX orders_idempotency_key ON orders (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX orders_client_order_id ON orders (user_id, client_order_id)
    WHERE client_order_id IS NOT NULL;
CREATE INDEX orders_by_user ON orders (user_id, created_at DESC, id DESC);
CREATE INDEX orders_newest ON orders (created_at DESC, id DESC);
CREATE INDEX orders_by_status ON orders (status, created_at DESC, id DESC);
CREATE INDEX orders_unfinished ON orders (updated_at)
    WHERE status NOT IN ('confirmed', 'failed', 'canceled', 'expired');

CREATE TABLE order_events (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    order_id        uuid NOT NULL REFERENCES orders (id),
    seq             integer NOT NULL CHECK (seq > 0),
    event           text NOT NULL,
    previous_status text,
    attempt         integer NOT NULL,
    execution       text,
    meta            jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL,
    streamed_at     timestamptz,
    PRIMARY KEY (order_id, seq)
);

-- One execution enters a status once per attempt: what makes a retried call recognizable.
CREATE UNIQUE INDEX order_events_once ON order_events (order_id, execution, attempt, event);
-- The outbox: what the order stream has not seen yet.
CREATE INDEX order_events_unstreamed ON order_events (created_at) WHERE streamed_at IS NULL;

CREATE FUNCTION guard_order_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM order_transitions WHERE from_status = OLD.status) THEN
        RAISE check_violation USING MESSAGE =
            format('order %s is final (%s) and cannot change', OLD.id, OLD.status);
    END IF;
    IF NEW.status = OLD.status THEN
        IF NEW.seq <> OLD.seq THEN
            RAISE check_violation USING MESSAGE =
                format('order %s: seq may only change with the status', OLD.id);
        END IF;
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM order_transitions
                   WHERE from_status = OLD.status AND to_status = NEW.status) THEN
        RAISE check_violation USING MESSAGE =
            format('order %s may not go from %s to %s', OLD.id, OLD.status, NEW.status);
    END IF;
    IF NEW.seq <> OLD.seq + 1 THEN
        RAISE check_violation USING MESSAGE =
            format('order %s: a transition counts seq up by one', OLD.id);
    END IF;
    IF OLD.status = 'submitted' AND NEW.status <> 'confirmed'
       AND NEW.tx_resolution IS DISTINCT FROM 'reverted'
       AND NEW.tx_resolution IS DISTINCT FROM 'expired' THEN
        RAISE check_violation USING MESSAGE =
            format('order %s: transaction %s may still land', OLD.id, OLD.tx_hash);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_order_update BEFORE UPDATE ON orders
    FOR EACH ROW EXECUTE FUNCTION guard_order_update();

CREATE FUNCTION guard_order_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE'
       OR (OLD.order_id, OLD.seq, OLD.event, OLD.previous_status, OLD.attempt, OLD.meta,
           OLD.created_at)
          IS DISTINCT FROM
          (NEW.order_id, NEW.seq, NEW.event, NEW.previous_status, NEW.attempt, NEW.meta,
           NEW.created_at) THEN
        RAISE check_violation USING MESSAGE = 'order events are never changed or deleted';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_order_event BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION guard_order_event();
