-- Orders wait for their turn, and hold one of a number of slots while they keep the venues busy.
-- An order waits while it is `pending` or `triggered` and was not given a slot (started_at); it
-- holds one from then on until it is submitted, at rest or final. So what is used is always a
-- count of rows in a state, which nothing can leak.
ALTER TABLE orders
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    ADD COLUMN is_urgent boolean NOT NULL DEFAULT false,
    ADD COLUMN turn bigint NOT NULL DEFAULT 0,
    ADD COLUMN started_at timestamptz,
    ADD CONSTRAINT orders_priority_check CHECK (priority BETWEEN 0 AND 10);

-- Executions that are under way when this is applied have their slot already.
UPDATE orders SET started_at = updated_at WHERE status IN ('pending', 'triggered');

CREATE VIEW waiting_orders AS
    SELECT id, user_id, is_urgent, priority, turn, created_at FROM orders
    WHERE status IN ('pending', 'triggered') AND started_at IS NULL;
CREATE VIEW orders_with_slot AS
    SELECT id, user_id, is_urgent, turn FROM orders
    WHERE status IN ('routing', 'building')
        OR (status IN ('pending', 'triggered') AND started_at IS NOT NULL);

-- The conditions are those of the views, or the views could not use the indexes.
CREATE INDEX orders_waiting ON orders (is_urgent DESC, turn, id)
    WHERE status IN ('pending', 'triggered') AND started_at IS NULL;
CREATE INDEX orders_waiting_of_user ON orders (user_id, is_urgent, priority DESC, created_at, id)
    WHERE status IN ('pending', 'triggered') AND started_at IS NULL;
CREATE INDEX orders_turns_of_user ON orders (user_id, is_urgent, turn)
    WHERE status IN ('pending', 'triggered') AND started_at IS NULL;
CREATE INDEX orders_in_slots ON orders (is_urgent, turn) INCLUDE (user_id)
    WHERE status IN ('routing', 'building')
        OR (status IN ('pending', 'triggered') AND started_at IS NOT NULL);
CREATE INDEX orders_open_of_user ON orders (user_id) WHERE status = 'open';

-- Start-time fair queueing (Goyal, Vin, Cheng: "Start-Time Fair Queueing", SIGCOMM 1996): an order's
-- turn is the moment the queue has come to, or one behind its user's last unserved order. Turns belong
-- to the user: which of his orders uses the next one is for priority and age to say. An urgent order
-- goes before all others, so its turn is no mark of how far the queue has come.
CREATE FUNCTION take_turn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment bigint;
    last_own bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Orders that one user sends at once take their turns one after another. A function's
        -- statements each see what was committed before them, so also what the lock was held for.
        PERFORM pg_advisory_xact_lock(7305118, hashtext(NEW.user_id));
    END IF;
    SELECT coalesce(
        (SELECT turn FROM orders_with_slot WHERE NOT is_urgent ORDER BY turn DESC LIMIT 1),
        (SELECT turn FROM waiting_orders WHERE NOT is_urgent ORDER BY is_urgent DESC, turn LIMIT 1),
        0)
    INTO moment;
    SELECT greatest(
        (SELECT turn FROM waiting_orders WHERE user_id = NEW.user_id AND NOT is_urgent
         ORDER BY turn DESC LIMIT 1),
        (SELECT max(turn) FROM orders_with_slot WHERE user_id = NEW.user_id AND NOT is_urgent))
    INTO last_own;
    NEW.turn = greatest(moment, last_own + 1);
    RETURN NEW;
END $$;

CREATE TRIGGER take_turn_when_stored BEFORE INSERT ON orders
    FOR EACH ROW WHEN (NEW.status = 'pending' AND NEW.started_at IS NULL)
    EXECUTE FUNCTION take_turn();
CREATE TRIGGER take_turn_when_released BEFORE UPDATE OF status ON orders
    FOR EACH ROW WHEN (NEW.status = 'triggered' AND NEW.started_at IS NULL)
    EXECUTE FUNCTION take_turn();

-- An order that leaves the queue unserved leaves its turn to its user's last one, or the user would
-- wait for turns that nobody uses.
CREATE FUNCTION give_turn_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orders SET turn = OLD.turn WHERE id = (
        SELECT id FROM waiting_orders
        WHERE user_id = OLD.user_id AND NOT is_urgent AND turn > OLD.turn
        ORDER BY turn DESC LIMIT 1 FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;

CREATE TRIGGER give_turn_back AFTER UPDATE OF status ON orders
    FOR EACH ROW WHEN (OLD.status IN ('pending', 'triggered') AND OLD.started_at IS NULL
        AND NOT OLD.is_urgent AND NEW.status NOT IN ('pending', 'triggered', 'routing'))
    EXECUTE FUNCTION give_turn_back();

-- Give a free slot to the order whose turn it is: the head of the queue names the user, and of this
-- user's orders the one of highest priority, then the oldest, runs. It takes the head's turn, and the
-- head takes its.
CREATE FUNCTION claim_next_order(slots integer) RETURNS SETOF orders LANGUAGE plpgsql AS $$
DECLARE
    head record;
    chosen record;
BEGIN
    IF slots <= (SELECT count(*) FROM orders_with_slot) THEN
        RETURN;
    END IF;
    SELECT * INTO head FROM waiting_orders
    ORDER BY is_urgent DESC, turn, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO chosen FROM waiting_orders
    WHERE user_id = head.user_id AND is_urgent = head.is_urgent
    ORDER BY priority DESC, created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF chosen.id <> head.id THEN
        UPDATE orders SET turn = chosen.turn WHERE id = head.id;
    END IF;
    RETURN QUERY
        UPDATE orders SET started_at = now_in_milliseconds(), updated_at = now_in_milliseconds(),
            turn = head.turn
        WHERE id = chosen.id RETURNING *;
END $$;

-- The same for those who free no slot themselves. They take turns, or each would count a free slot
-- that the others take. Losing such a claim in a crash of Postgres loses nothing: the order waits
-- again, and an execution of its name is started once. So the lock need not outlast a disk write.
CREATE FUNCTION claim_next_order_alone(slots integer) RETURNS SETOF orders LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM waiting_orders) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock(7305119, 0);
    RETURN QUERY SELECT * FROM claim_next_order(slots);
END $$;

-- How many orders go before one that waits, counted up to a thousand; null for one that does not.
-- Its own place among its user's orders, by priority, is the place in the queue that the user has for
-- it.
CREATE FUNCTION orders_ahead_of(order_id uuid) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    waiting record;
    own_place bigint;
    place record;
BEGIN
    SELECT * INTO waiting FROM waiting_orders WHERE id = order_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO own_place FROM (
        SELECT FROM waiting_orders
        WHERE user_id = waiting.user_id AND is_urgent = waiting.is_urgent
            AND (priority > waiting.priority
                 OR (priority = waiting.priority
                     AND (created_at, id) < (waiting.created_at, waiting.id)))
        LIMIT 1000) AS own;
    SELECT * INTO place FROM waiting_orders
    WHERE user_id = waiting.user_id AND is_urgent = waiting.is_urgent
    ORDER BY turn, id OFFSET own_place LIMIT 1;
    RETURN (SELECT count(*) FROM (
        SELECT FROM waiting_orders
        WHERE is_urgent > waiting.is_urgent
            OR (is_urgent = waiting.is_urgent AND (turn, id) < (place.turn, place.id))
        LIMIT 1000) AS others);
END $$;
