-- What rowlock sends to PostgreSQL. Written by tests/store/test_sql.py; do not edit.
--
-- Paste a statement in psql after its parameters: \set id '0198…'. A parameter `now` that is not
-- given is \set now now. What begins with all_ is an array: \set all_id '{…}'.
-- What changes the schema is shown by `rowlock db sql`.

-- A new connection.
SET jit = off;
SET enable_sort = off;
SET enable_seqscan = off;
SET plan_cache_mode = force_generic_plan;

-- A new connection of a worker.
SET jit = off;
SET enable_sort = off;
SET enable_seqscan = off;
SET plan_cache_mode = force_generic_plan;
SET lock_timeout = 1000;

-- Before a bulk insert.
BEGIN ISOLATION LEVEL READ COMMITTED;

-- Before what is true together or not at all.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL idle_in_transaction_session_timeout = '10s';

-- Before a page.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL enable_sort = off;
SET LOCAL enable_incremental_sort = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL jit = off;

-- After it.
COMMIT;

-- `create_many` without keys.
COPY rowlock_task(
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, key, run_at,
    date_created, date_modified, status, attempt, thread_id, lost_workers
)
FROM STDIN (FORMAT binary);

-- The listener, from now on for tasks.
LISTEN "rowlock_task";

-- The listener, from now on for requests to cancel.
LISTEN "rowlock_cancel";

-- The listener, from now on for scheduled tasks.
LISTEN "rowlock_schedule";

-- The listener, no longer for tasks.
UNLISTEN "rowlock_task";

-- The listener, no longer for requests to cancel.
UNLISTEN "rowlock_cancel";

-- The listener, no longer for scheduled tasks.
UNLISTEN "rowlock_schedule";

-- The listener, every ten seconds: is the server the primary?
SHOW transaction_read_only;

-- attempt.succeed
-- A worker's finishes, those that succeeded.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status='success', lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END,
    result=CAST(batch.result AS JSON), error=NULL, cancel_requested=NULL
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_result'::VARCHAR AS TEXT[]) AS anon_3)
) AS batch(id, attempt, result)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.succeed, without what others have locked
-- A worker's finishes, those that succeeded.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status='success', lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END,
    result=CAST(batch.result AS JSON), error=NULL, cancel_requested=NULL
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.result AS result
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_result'::VARCHAR AS TEXT[]) AS anon_3)
    ) AS given(id, attempt, result)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.succeed_row
-- The same where a callback wants the tasks.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status='success', lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END,
    result=CAST(batch.result AS JSON), error=NULL, cancel_requested=NULL
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_result'::VARCHAR AS TEXT[]) AS anon_3)
) AS batch(id, attempt, result)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.succeed_row, without what others have locked
-- The same where a callback wants the tasks.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status='success', lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END,
    result=CAST(batch.result AS JSON), error=NULL, cancel_requested=NULL
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.result AS result
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_result'::VARCHAR AS TEXT[]) AS anon_3)
    ) AS given(id, attempt, result)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.fail
-- A worker's finishes, those that failed.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.wait * INTERVAL '1 millisecond' ELSE rowlock_task.run_at END,
    thread_id=CASE
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN '0'
        ELSE rowlock_task.thread_id END, lease_until=NULL,
    lost_workers=(
        CASE
            WHEN (rowlock_task.lost_workers < 2147483647) THEN rowlock_task.lost_workers ELSE 0
            END + batch.lost
    ),
    retries_remaining=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN rowlock_task.retries_remaining - 1 ELSE rowlock_task.retries_remaining END,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN coalesce(
                    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
                ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL
            END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'keep_failed'::BIGINT * INTERVAL '1 millisecond'
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END END,
    error=coalesce(CAST(batch.error AS JSON), rowlock_task.error), cancel_requested=NULL,
    attempts=CAST(
        '[' || concat_ws(
            ',',
            (
                SELECT string_agg(
                    CAST(element.value AS TEXT), ',' ORDER BY element.place
                ) AS string_agg_1
                FROM json_array_elements(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) WITH ORDINALITY AS element(value, place)
                WHERE element.place > json_array_length(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) - 19
            ),
            CAST(
                json_build_object(
                    'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                    'started', rowlock_task.date_started, 'ended',
                    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                    'outcome', batch.outcome, 'error',
                    CAST(coalesce(batch.brief, batch.error) AS JSON)
                ) AS TEXT
            )
        ) || ']' AS JSON
    )
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_outcome'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_error'::VARCHAR AS TEXT[]) AS anon_4),
    (SELECT CAST(:'all_brief'::VARCHAR AS TEXT[]) AS anon_5),
    (SELECT CAST(:'all_retry'::VARCHAR AS BOOLEAN[]) AS anon_6),
    (SELECT CAST(:'all_lost'::VARCHAR AS INTEGER[]) AS anon_7),
    (SELECT CAST(:'all_wait'::VARCHAR AS BIGINT[]) AS anon_8)
) AS batch(id, attempt, outcome, error, brief, retry, lost, wait)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.fail, without what others have locked
-- A worker's finishes, those that failed.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.wait * INTERVAL '1 millisecond' ELSE rowlock_task.run_at END,
    thread_id=CASE
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN '0'
        ELSE rowlock_task.thread_id END, lease_until=NULL,
    lost_workers=(
        CASE
            WHEN (rowlock_task.lost_workers < 2147483647) THEN rowlock_task.lost_workers ELSE 0
            END + batch.lost
    ),
    retries_remaining=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN rowlock_task.retries_remaining - 1 ELSE rowlock_task.retries_remaining END,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN coalesce(
                    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
                ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL
            END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'keep_failed'::BIGINT * INTERVAL '1 millisecond'
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END END,
    error=coalesce(CAST(batch.error AS JSON), rowlock_task.error), cancel_requested=NULL,
    attempts=CAST(
        '[' || concat_ws(
            ',',
            (
                SELECT string_agg(
                    CAST(element.value AS TEXT), ',' ORDER BY element.place
                ) AS string_agg_1
                FROM json_array_elements(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) WITH ORDINALITY AS element(value, place)
                WHERE element.place > json_array_length(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) - 19
            ),
            CAST(
                json_build_object(
                    'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                    'started', rowlock_task.date_started, 'ended',
                    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                    'outcome', batch.outcome, 'error',
                    CAST(coalesce(batch.brief, batch.error) AS JSON)
                ) AS TEXT
            )
        ) || ']' AS JSON
    )
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.outcome AS outcome,
        given.error AS error, given.brief AS brief, given.retry AS retry, given.lost AS lost,
        given.wait AS wait
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_outcome'::VARCHAR AS TEXT[]) AS anon_3),
        (SELECT CAST(:'all_error'::VARCHAR AS TEXT[]) AS anon_4),
        (SELECT CAST(:'all_brief'::VARCHAR AS TEXT[]) AS anon_5),
        (SELECT CAST(:'all_retry'::VARCHAR AS BOOLEAN[]) AS anon_6),
        (SELECT CAST(:'all_lost'::VARCHAR AS INTEGER[]) AS anon_7),
        (SELECT CAST(:'all_wait'::VARCHAR AS BIGINT[]) AS anon_8)
    ) AS given(id, attempt, outcome, error, brief, retry, lost, wait)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.drop
-- A worker's finishes, those that are not kept.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
) AS batch(id, attempt)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.drop, without what others have locked
-- A worker's finishes, those that are not kept.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING (
    SELECT given.id AS id, given.attempt AS attempt
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
    ) AS given(id, attempt)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.drop_row
-- The same where a callback wants the tasks.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
) AS batch(id, attempt)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now;

-- attempt.drop_row, without what others have locked
-- The same where a callback wants the tasks.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING (
    SELECT given.id AS id, given.attempt AS attempt
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
    ) AS given(id, attempt)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now;

-- attempt.extend
-- The lease thread, several times in the length of a lease.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET lease_until=(
    coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    ) + :'lease'::BIGINT * INTERVAL '1 millisecond'
)
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
) AS batch(id, attempt)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.extend, without what others have locked
-- The lease thread, several times in the length of a lease.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET lease_until=(
    coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    ) + :'lease'::BIGINT * INTERVAL '1 millisecond'
)
FROM (
    SELECT given.id AS id, given.attempt AS attempt
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
    ) AS given(id, attempt)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.release
-- A worker that stops, or has claimed more than it can run.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled' ELSE 'pending' END,
    thread_id=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN rowlock_task.thread_id ELSE '0'
        END, lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
        ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL END,
    cancel_requested=NULL,
    attempts=CASE
        WHEN batch.begun THEN CAST(
            '[' || concat_ws(
                ',',
                (
                    SELECT string_agg(
                        CAST(element.value AS TEXT), ','
                        ORDER BY element.place
                    ) AS string_agg_1
                    FROM json_array_elements(
                        CASE
                            WHEN (
                                json_typeof(rowlock_task.attempts) = 'array'
                            ) THEN rowlock_task.attempts ELSE '[]'::json END
                    ) WITH ORDINALITY AS element(value, place)
                    WHERE element.place > json_array_length(
                        CASE
                            WHEN (
                                json_typeof(rowlock_task.attempts) = 'array'
                            ) THEN rowlock_task.attempts ELSE '[]'::json END
                    ) - 19
                ),
                CAST(
                    json_build_object(
                        'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                        'started', rowlock_task.date_started, 'ended',
                        coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                        'outcome',
                        CASE
                            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
                            ELSE 'released' END, 'error', CAST(NULL AS JSON)
                    ) AS TEXT
                )
            ) || ']' AS JSON
        ) ELSE rowlock_task.attempts END
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_begun'::VARCHAR AS BOOLEAN[]) AS anon_3)
) AS batch(id, attempt, begun)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.release, without what others have locked
-- A worker that stops, or has claimed more than it can run.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled' ELSE 'pending' END,
    thread_id=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN rowlock_task.thread_id ELSE '0'
        END, lease_until=NULL,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
        ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL END,
    cancel_requested=NULL,
    attempts=CASE
        WHEN batch.begun THEN CAST(
            '[' || concat_ws(
                ',',
                (
                    SELECT string_agg(
                        CAST(element.value AS TEXT), ','
                        ORDER BY element.place
                    ) AS string_agg_1
                    FROM json_array_elements(
                        CASE
                            WHEN (
                                json_typeof(rowlock_task.attempts) = 'array'
                            ) THEN rowlock_task.attempts ELSE '[]'::json END
                    ) WITH ORDINALITY AS element(value, place)
                    WHERE element.place > json_array_length(
                        CASE
                            WHEN (
                                json_typeof(rowlock_task.attempts) = 'array'
                            ) THEN rowlock_task.attempts ELSE '[]'::json END
                    ) - 19
                ),
                CAST(
                    json_build_object(
                        'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                        'started', rowlock_task.date_started, 'ended',
                        coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                        'outcome',
                        CASE
                            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
                            ELSE 'released' END, 'error', CAST(NULL AS JSON)
                    ) AS TEXT
                )
            ) || ']' AS JSON
        ) ELSE rowlock_task.attempts END
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.begun AS begun
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_begun'::VARCHAR AS BOOLEAN[]) AS anon_3)
    ) AS given(id, attempt, begun)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- attempt.progress
-- A worker, for what handlers reported, about once a second.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET progress=CAST(batch.progress AS JSON)
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_progress'::VARCHAR AS TEXT[]) AS anon_3)
) AS batch(id, attempt, progress)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.progress, without what others have locked
-- A worker, for what handlers reported, about once a second.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET progress=CAST(batch.progress AS JSON)
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.progress AS progress
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_progress'::VARCHAR AS TEXT[]) AS anon_3)
    ) AS given(id, attempt, progress)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
RETURNING rowlock_task.id;

-- attempt.held
-- After a statement that left out locked rows: which are held.
-- Index: rowlock_task_pkey.
SELECT rowlock_task.id
FROM rowlock_task,
    unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
    ) AS batch(id, attempt)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL;

-- attempt.cancel_requests
-- A worker, after a hint that some are to be cancelled.
-- Index: rowlock_task_pkey.
SELECT rowlock_task.id
FROM rowlock_task,
    unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2)
    ) AS batch(id, attempt)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :'holder'::VARCHAR AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.cancel_requested IS NOT NULL;

-- claim.claim
-- A claim with all columns, of tests and of a worker with callbacks.
-- Index: ix_rowlock_task_claim.
UPDATE rowlock_task
SET status='processing', attempt=(rowlock_task.attempt + 1), thread_id=:'holder'::VARCHAR,
    lease_until=(
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'lease'::BIGINT * INTERVAL '1 millisecond'
    ),
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_started=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
WHERE ctid = ANY(
    ARRAY(
        SELECT taken.ctid
        FROM (
            SELECT chosen.ctid,
                SUM(chosen.bytes) OVER (ROWS UNBOUNDED PRECEDING) - chosen.bytes AS before
            FROM unnest(
                (SELECT CAST(CAST(:'types' AS text) AS text[])),
                (SELECT CAST(CAST(:'wholes' AS text) AS boolean[])) ,
                (SELECT CAST(CAST(:'rooms' AS text) AS integer[]))
            ) AS wanted(type, whole, room)
            CROSS JOIN LATERAL (
                SELECT due.ctid, due.bytes
                FROM (
                    SELECT r.priority, r.since - INTERVAL '500 ms',
                        CAST('00000000-0000-0000-0000-000000000000' AS uuid)
                    FROM unnest(
                        (SELECT CAST(CAST(:'lane_types' AS text) AS text[])),
                        (SELECT CAST(CAST(:'lane_priorities' AS text) AS integer[])),
                        (SELECT CAST(CAST(:'lane_sinces' AS text) AS timestamptz[]))
                    ) AS r(type, priority, since)
                    WHERE r.type = wanted.type
                    UNION ALL (
                        WITH RECURSIVE lane(priority, run_at, id) AS (
                            (
                                SELECT k.priority, k.run_at, k.id
                                FROM rowlock_task k
                                WHERE wanted.whole AND k.status = 'pending'
                                    AND k.type = wanted.type
                                ORDER BY k.priority DESC, k.run_at, k.id
                                LIMIT 1
                            )
                            UNION ALL
                            SELECT below.*
                            FROM lane
                            CROSS JOIN LATERAL (
                                SELECT k.priority, k.run_at, k.id
                                FROM rowlock_task k
                                WHERE k.status = 'pending' AND k.type = wanted.type
                                    AND k.priority < lane.priority
                                ORDER BY k.priority DESC, k.run_at, k.id
                                LIMIT 1
                            ) AS below
                        )
                        SELECT *
                        FROM lane
                    )
                ) AS lane(priority, run_at, id)
                CROSS JOIN LATERAL (
                    SELECT k.ctid, COALESCE(octet_length(CAST(k.payload AS text)), 0) AS bytes
                    FROM rowlock_task k
                    WHERE k.status = 'pending' AND k.type = wanted.type
                        AND k.priority = lane.priority AND k.attempt < 2147483647
                        AND (k.run_at, k.id) >= (lane.run_at, lane.id)
                        AND k.run_at <= COALESCE(
                            CAST(:'now' AS timestamptz), statement_timestamp()
                        )
                    ORDER BY k.run_at, k.id
                    LIMIT 1000
                    FOR UPDATE SKIP LOCKED
                ) AS due
                LIMIT wanted.room
            ) AS chosen
            LIMIT 1000
        ) AS taken
        WHERE taken.before < 16777216
    )
)
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- claim.claim_to_run
-- A worker's claim: what it takes to run the tasks.
-- Index: ix_rowlock_task_claim.
UPDATE rowlock_task
SET status='processing', attempt=(rowlock_task.attempt + 1), thread_id=:'holder'::VARCHAR,
    lease_until=(
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'lease'::BIGINT * INTERVAL '1 millisecond'
    ),
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_started=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
WHERE ctid = ANY(
    ARRAY(
        SELECT taken.ctid
        FROM (
            SELECT chosen.ctid,
                SUM(chosen.bytes) OVER (ROWS UNBOUNDED PRECEDING) - chosen.bytes AS before
            FROM unnest(
                (SELECT CAST(CAST(:'types' AS text) AS text[])),
                (SELECT CAST(CAST(:'wholes' AS text) AS boolean[])) ,
                (SELECT CAST(CAST(:'rooms' AS text) AS integer[]))
            ) AS wanted(type, whole, room)
            CROSS JOIN LATERAL (
                SELECT due.ctid, due.bytes
                FROM (
                    SELECT r.priority, r.since - INTERVAL '500 ms',
                        CAST('00000000-0000-0000-0000-000000000000' AS uuid)
                    FROM unnest(
                        (SELECT CAST(CAST(:'lane_types' AS text) AS text[])),
                        (SELECT CAST(CAST(:'lane_priorities' AS text) AS integer[])),
                        (SELECT CAST(CAST(:'lane_sinces' AS text) AS timestamptz[]))
                    ) AS r(type, priority, since)
                    WHERE r.type = wanted.type
                    UNION ALL (
                        WITH RECURSIVE lane(priority, run_at, id) AS (
                            (
                                SELECT k.priority, k.run_at, k.id
                                FROM rowlock_task k
                                WHERE wanted.whole AND k.status = 'pending'
                                    AND k.type = wanted.type
                                ORDER BY k.priority DESC, k.run_at, k.id
                                LIMIT 1
                            )
                            UNION ALL
                            SELECT below.*
                            FROM lane
                            CROSS JOIN LATERAL (
                                SELECT k.priority, k.run_at, k.id
                                FROM rowlock_task k
                                WHERE k.status = 'pending' AND k.type = wanted.type
                                    AND k.priority < lane.priority
                                ORDER BY k.priority DESC, k.run_at, k.id
                                LIMIT 1
                            ) AS below
                        )
                        SELECT *
                        FROM lane
                    )
                ) AS lane(priority, run_at, id)
                CROSS JOIN LATERAL (
                    SELECT k.ctid, COALESCE(octet_length(CAST(k.payload AS text)), 0) AS bytes
                    FROM rowlock_task k
                    WHERE k.status = 'pending' AND k.type = wanted.type
                        AND k.priority = lane.priority AND k.attempt < 2147483647
                        AND (k.run_at, k.id) >= (lane.run_at, lane.id)
                        AND k.run_at <= COALESCE(
                            CAST(:'now' AS timestamptz), statement_timestamp()
                        )
                    ORDER BY k.run_at, k.id
                    LIMIT 1000
                    FOR UPDATE SKIP LOCKED
                ) AS due
                LIMIT wanted.room
            ) AS chosen
            LIMIT 1000
        ) AS taken
        WHERE taken.before < 16777216
    )
)
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for;

-- claim.next_due
-- A worker that has found nothing: how long it may sleep.
-- Index: ix_rowlock_task_claim.
SELECT EXTRACT(
    EPOCH FROM MIN(first.run_at) - COALESCE(CAST(:'now' AS timestamptz), statement_timestamp())
)::float8
FROM unnest(
    (SELECT CAST(CAST(:'types' AS text) AS text[])),
    (SELECT CAST(CAST(:'wholes' AS text) AS boolean[]))
) AS wanted(type, whole)
CROSS JOIN LATERAL (
    SELECT r.priority, r.since - INTERVAL '500 ms',
        CAST('00000000-0000-0000-0000-000000000000' AS uuid)
    FROM unnest(
        (SELECT CAST(CAST(:'lane_types' AS text) AS text[])),
        (SELECT CAST(CAST(:'lane_priorities' AS text) AS integer[])),
        (SELECT CAST(CAST(:'lane_sinces' AS text) AS timestamptz[]))
    ) AS r(type, priority, since)
    WHERE r.type = wanted.type
    UNION ALL (
        WITH RECURSIVE lane(priority, run_at, id) AS (
            (
                SELECT k.priority, k.run_at, k.id
                FROM rowlock_task k
                WHERE wanted.whole AND k.status = 'pending' AND k.type = wanted.type
                ORDER BY k.priority DESC, k.run_at, k.id
                LIMIT 1
            )
            UNION ALL
            SELECT below.*
            FROM lane
            CROSS JOIN LATERAL (
                SELECT k.priority, k.run_at, k.id
                FROM rowlock_task k
                WHERE k.status = 'pending' AND k.type = wanted.type
                    AND k.priority < lane.priority
                ORDER BY k.priority DESC, k.run_at, k.id
                LIMIT 1
            ) AS below
        )
        SELECT *
        FROM lane
    )
) AS lane(priority, run_at, id)
CROSS JOIN LATERAL (
    SELECT k.run_at
    FROM rowlock_task k
    WHERE k.status = 'pending' AND k.type = wanted.type AND k.priority = lane.priority
        AND (k.run_at, k.id) >= (lane.run_at, lane.id)
    ORDER BY k.run_at, k.id
    LIMIT 1
) AS first;

-- common.clock
-- The bulk insert and the scheduler ask what time it is; a keep-alive.
-- Index: none.
SELECT coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS coalesce_1;

-- common.revision
-- A queue that opens asks whether the schema is there, and new enough.
-- Index: none.
SELECT version_num
FROM rowlock_alembic_version;

-- end.drop_cancelled
-- After a failure or a release: remove a task that turned out to be cancelled.
-- Index: rowlock_task_pkey or ix_rowlock_task_status_id.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :'id'::UUID AND rowlock_task.status = 'cancelled'
    AND rowlock_task.retain_for IN (0, -2);

-- listen.notify_on
-- The same in a transaction of the caller's.
-- Index: none.
SELECT pg_notify(channel, hint)
FROM unnest(
    CAST(CAST(:'channels' AS text) AS text[]), CAST(CAST(:'hints' AS text) AS text[])
) AS sent (channel, hint);

-- listen.notify
-- A hint that tasks, cancellations or scheduled tasks are there.
-- Index: none.
SELECT pg_notify(channel, hint), set_config('synchronous_commit', 'off', true)
FROM unnest(
    CAST(CAST(:'channels' AS text) AS text[]), CAST(CAST(:'hints' AS text) AS text[])
) AS sent (channel, hint);

-- schedulerow.get
-- `add_task`, `pause_task`, `resume_task`, `trigger_task`: one row, locked.
-- Index: rowlock_scheduled_task_pkey.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id = :'id'::VARCHAR
FOR UPDATE;

-- schedulerow.write
-- Each change of a scheduled task: compare and set.
-- Index: rowlock_scheduled_task_pkey.
UPDATE rowlock_scheduled_task
SET token=batch.new_token, times=CAST(batch.times AS JSON), next_trigger=batch.next_trigger,
    paused_since=batch.paused_since, misfire=batch.misfire, overlap=batch.overlap,
    task_type=batch.task_type, payload=CAST(batch.payload AS JSON),
    last_trigger=batch.last_trigger, last_outcome=batch.last_outcome,
    last_error=CAST(batch.last_error AS JSON), last_task_id=batch.last_task_id,
    last_skip=batch.last_skip, last_skip_reason=batch.last_skip_reason,
    misfire_grace=batch.misfire_grace, template=CAST(batch.template AS JSON)
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
    (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2),
    (SELECT CAST(:'all_times'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_next_trigger'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_4),
    (SELECT CAST(:'all_paused_since'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_5),
    (SELECT CAST(:'all_misfire'::VARCHAR AS TEXT[]) AS anon_6),
    (SELECT CAST(:'all_overlap'::VARCHAR AS TEXT[]) AS anon_7),
    (SELECT CAST(:'all_task_type'::VARCHAR AS TEXT[]) AS anon_8),
    (SELECT CAST(:'all_payload'::VARCHAR AS TEXT[]) AS anon_9),
    (SELECT CAST(:'all_last_trigger'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_10),
    (SELECT CAST(:'all_last_outcome'::VARCHAR AS TEXT[]) AS anon_11),
    (SELECT CAST(:'all_last_error'::VARCHAR AS TEXT[]) AS anon_12),
    (SELECT CAST(:'all_last_task_id'::VARCHAR AS UUID[]) AS anon_13),
    (SELECT CAST(:'all_last_skip'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_14),
    (SELECT CAST(:'all_last_skip_reason'::VARCHAR AS TEXT[]) AS anon_15),
    (SELECT CAST(:'all_misfire_grace'::VARCHAR AS BIGINT[]) AS anon_16),
    (SELECT CAST(:'all_template'::VARCHAR AS TEXT[]) AS anon_17),
    (SELECT CAST(:'all_new_token'::VARCHAR AS UUID[]) AS anon_18)
) AS batch(
    id, token, times, next_trigger, paused_since, misfire, overlap, task_type, payload,
    last_trigger, last_outcome, last_error, last_task_id, last_skip, last_skip_reason,
    misfire_grace, template, new_token
)
WHERE rowlock_scheduled_task.id = batch.id AND rowlock_scheduled_task.token = batch.token
RETURNING rowlock_scheduled_task.id;

-- schedule.insert
-- `add_task`.
-- Index: rowlock_scheduled_task_pkey.
INSERT INTO rowlock_scheduled_task (
    id, token, times, next_trigger, paused_since, misfire, overlap, task_type, payload,
    last_trigger, last_outcome, last_error, last_task_id, last_skip, last_skip_reason,
    misfire_grace, template
)
SELECT batch.id, batch.token, CAST(batch.times AS JSON) AS times, batch.next_trigger,
    batch.paused_since, batch.misfire, batch.overlap, batch.task_type,
    CAST(batch.payload AS JSON) AS payload, batch.last_trigger, batch.last_outcome,
    CAST(batch.last_error AS JSON) AS last_error, batch.last_task_id, batch.last_skip,
    batch.last_skip_reason, batch.misfire_grace, CAST(batch.template AS JSON) AS template
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
    (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2),
    (SELECT CAST(:'all_times'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_next_trigger'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_4),
    (SELECT CAST(:'all_paused_since'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_5),
    (SELECT CAST(:'all_misfire'::VARCHAR AS TEXT[]) AS anon_6),
    (SELECT CAST(:'all_overlap'::VARCHAR AS TEXT[]) AS anon_7),
    (SELECT CAST(:'all_task_type'::VARCHAR AS TEXT[]) AS anon_8),
    (SELECT CAST(:'all_payload'::VARCHAR AS TEXT[]) AS anon_9),
    (SELECT CAST(:'all_last_trigger'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_10),
    (SELECT CAST(:'all_last_outcome'::VARCHAR AS TEXT[]) AS anon_11),
    (SELECT CAST(:'all_last_error'::VARCHAR AS TEXT[]) AS anon_12),
    (SELECT CAST(:'all_last_task_id'::VARCHAR AS UUID[]) AS anon_13),
    (SELECT CAST(:'all_last_skip'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_14),
    (SELECT CAST(:'all_last_skip_reason'::VARCHAR AS TEXT[]) AS anon_15),
    (SELECT CAST(:'all_misfire_grace'::VARCHAR AS BIGINT[]) AS anon_16),
    (SELECT CAST(:'all_template'::VARCHAR AS TEXT[]) AS anon_17)
) AS batch(
    id, token, times, next_trigger, paused_since, misfire, overlap, task_type, payload,
    last_trigger, last_outcome, last_error, last_task_id, last_skip, last_skip_reason,
    misfire_grace, template
)
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING rowlock_scheduled_task.id;

-- schedule.look
-- `task_state`.
-- Index: rowlock_scheduled_task_pkey.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id = :'id'::VARCHAR;

-- schedule.looks
-- The scheduler: the rows of its own functions.
-- Index: rowlock_scheduled_task_pkey.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id IN (
    SELECT batch.id
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
        (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2)
    ) AS batch(id, token)
);

-- schedule.times
-- `tasks_info`; all rows, in the order of ids.
-- Index: rowlock_scheduled_task_pkey.
SELECT rowlock_scheduled_task.id, CAST(rowlock_scheduled_task.times AS TEXT) AS times
FROM rowlock_scheduled_task
ORDER BY rowlock_scheduled_task.id;

-- schedule.remove
-- `remove_task`.
-- Index: rowlock_scheduled_task_pkey.
DELETE FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id = :'id'::VARCHAR
RETURNING rowlock_scheduled_task.id;

-- schedule.remove_others
-- `only`: what no process adds any more. It reads all rows, which are few.
-- Index: none.
DELETE FROM rowlock_scheduled_task
WHERE substr(rowlock_scheduled_task.id, 1, length(:'prefix'::VARCHAR)) = :'prefix'::VARCHAR
    AND (
        rowlock_scheduled_task.id NOT IN (
            SELECT batch.id
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2)
            ) AS batch(id, token)
        )
    )
RETURNING rowlock_scheduled_task.id;

-- session.look
-- A queue that opens: where the table is, and whether it can be used.
-- Index: none.
SELECT current_setting('server_encoding'), CAST(c.relkind AS text),
    EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),
    (
        SELECT string_agg(quote_ident(n.nspname), ', ')
        FROM pg_class AS k
        JOIN pg_namespace AS n ON n.oid = k.relnamespace
        WHERE k.relname = 'rowlock_task' AND k.relkind IN ('r', 'p')
    )
FROM (SELECT to_regclass('rowlock_task') AS oid) AS found
LEFT JOIN pg_class AS c ON c.oid = found.oid;

-- session.identity
-- For a connection of the caller's: whose database it finds.
-- Index: none.
SELECT CAST(pg_postmaster_start_time() AS text), CAST(oid AS bigint),
    CAST(CAST(to_regclass('rowlock_task') AS oid) AS bigint)
FROM pg_database
WHERE datname = current_database();

-- sweep.expired
-- The sweeper: leases that have run out.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
    AND rowlock_task.lease_until <= coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    )
LIMIT :'limit'::INTEGER
FOR UPDATE SKIP LOCKED;

-- sweep.fail
-- The sweeper: tasks of lost workers, put back or failed.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.wait * INTERVAL '1 millisecond' ELSE rowlock_task.run_at END,
    thread_id=CASE
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN '0'
        ELSE rowlock_task.thread_id END, lease_until=NULL,
    lost_workers=(
        CASE
            WHEN (rowlock_task.lost_workers < 2147483647) THEN rowlock_task.lost_workers ELSE 0
            END + batch.lost
    ),
    retries_remaining=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN rowlock_task.retries_remaining - 1 ELSE rowlock_task.retries_remaining END,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN coalesce(
                    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
                ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL
            END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'keep_failed'::BIGINT * INTERVAL '1 millisecond'
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END END,
    error=coalesce(CAST(batch.error AS JSON), rowlock_task.error), cancel_requested=NULL,
    attempts=CAST(
        '[' || concat_ws(
            ',',
            (
                SELECT string_agg(
                    CAST(element.value AS TEXT), ',' ORDER BY element.place
                ) AS string_agg_1
                FROM json_array_elements(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) WITH ORDINALITY AS element(value, place)
                WHERE element.place > json_array_length(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) - 19
            ),
            CAST(
                json_build_object(
                    'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                    'started', rowlock_task.date_started, 'ended',
                    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                    'outcome', batch.outcome, 'error',
                    CAST(coalesce(batch.brief, batch.error) AS JSON)
                ) AS TEXT
            )
        ) || ']' AS JSON
    )
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_outcome'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_error'::VARCHAR AS TEXT[]) AS anon_4),
    (SELECT CAST(:'all_brief'::VARCHAR AS TEXT[]) AS anon_5),
    (SELECT CAST(:'all_retry'::VARCHAR AS BOOLEAN[]) AS anon_6),
    (SELECT CAST(:'all_lost'::VARCHAR AS INTEGER[]) AS anon_7),
    (SELECT CAST(:'all_wait'::VARCHAR AS BIGINT[]) AS anon_8),
    (SELECT CAST(:'all_holder'::VARCHAR AS TEXT[]) AS anon_9)
) AS batch(id, attempt, outcome, error, brief, retry, lost, wait, holder)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.lease_until <= coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    )
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- sweep.fail, without what others have locked
-- The sweeper: tasks of lost workers, put back or failed.
-- Index: rowlock_task_pkey.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.wait * INTERVAL '1 millisecond' ELSE rowlock_task.run_at END,
    thread_id=CASE
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN '0'
        ELSE rowlock_task.thread_id END, lease_until=NULL,
    lost_workers=(
        CASE
            WHEN (rowlock_task.lost_workers < 2147483647) THEN rowlock_task.lost_workers ELSE 0
            END + batch.lost
    ),
    retries_remaining=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN rowlock_task.retries_remaining - 1 ELSE rowlock_task.retries_remaining END,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN coalesce(
                    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
                ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END ELSE NULL
            END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'keep_failed'::BIGINT * INTERVAL '1 millisecond'
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END END,
    error=coalesce(CAST(batch.error AS JSON), rowlock_task.error), cancel_requested=NULL,
    attempts=CAST(
        '[' || concat_ws(
            ',',
            (
                SELECT string_agg(
                    CAST(element.value AS TEXT), ',' ORDER BY element.place
                ) AS string_agg_1
                FROM json_array_elements(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) WITH ORDINALITY AS element(value, place)
                WHERE element.place > json_array_length(
                    CASE
                        WHEN (
                            json_typeof(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]'::json END
                ) - 19
            ),
            CAST(
                json_build_object(
                    'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id,
                    'started', rowlock_task.date_started, 'ended',
                    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
                    'outcome', batch.outcome, 'error',
                    CAST(coalesce(batch.brief, batch.error) AS JSON)
                ) AS TEXT
            )
        ) || ']' AS JSON
    )
FROM (
    SELECT given.id AS id, given.attempt AS attempt, given.outcome AS outcome,
        given.error AS error, given.brief AS brief, given.retry AS retry, given.lost AS lost,
        given.wait AS wait, given.holder AS holder
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_outcome'::VARCHAR AS TEXT[]) AS anon_3),
        (SELECT CAST(:'all_error'::VARCHAR AS TEXT[]) AS anon_4),
        (SELECT CAST(:'all_brief'::VARCHAR AS TEXT[]) AS anon_5),
        (SELECT CAST(:'all_retry'::VARCHAR AS BOOLEAN[]) AS anon_6),
        (SELECT CAST(:'all_lost'::VARCHAR AS INTEGER[]) AS anon_7),
        (SELECT CAST(:'all_wait'::VARCHAR AS BIGINT[]) AS anon_8),
        (SELECT CAST(:'all_holder'::VARCHAR AS TEXT[]) AS anon_9)
    ) AS given(id, attempt, outcome, error, brief, retry, lost, wait, holder)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.lease_until <= coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    )
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- sweep.drop
-- The sweeper: tasks of lost workers that are not kept.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
    (SELECT CAST(:'all_holder'::VARCHAR AS TEXT[]) AS anon_3)
) AS batch(id, attempt, holder)
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.lease_until <= coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    )
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now;

-- sweep.drop, without what others have locked
-- The sweeper: tasks of lost workers that are not kept.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task USING (
    SELECT given.id AS id, given.attempt AS attempt, given.holder AS holder
    FROM unnest(
        (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
        (SELECT CAST(:'all_attempt'::VARCHAR AS INTEGER[]) AS anon_2),
        (SELECT CAST(:'all_holder'::VARCHAR AS TEXT[]) AS anon_3)
    ) AS given(id, attempt, holder)
    JOIN LATERAL (
        SELECT locked.id AS id
        FROM rowlock_task AS locked
        WHERE locked.id = ANY (ARRAY[given.id])
        FOR UPDATE SKIP LOCKED
    ) AS free ON true
) AS batch
WHERE rowlock_task.id = ANY (ARRAY[batch.id]) AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.lease_until <= coalesce(
        :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
    )
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now;

-- sweep.prune
-- The sweeper: tasks past their retention.
-- Index: ix_rowlock_task_retain, rowlock_task_pkey.
DELETE FROM rowlock_task
WHERE rowlock_task.id = ANY (
    array(
        (
            SELECT rowlock_task.id
            FROM rowlock_task
            WHERE rowlock_task.date_retain_until <= coalesce(
                :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
            )
            ORDER BY rowlock_task.date_retain_until
            LIMIT :'limit'::INTEGER
            FOR UPDATE SKIP LOCKED
        )
    )
)
RETURNING rowlock_task.id;

-- task.insert
-- `create` of one task without a key.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, key, payload
)
VALUES (
    :'id'::UUID, :'type'::VARCHAR, 'pending', :'priority'::INTEGER,
    coalesce(
        :'run_at'::TIMESTAMP WITH TIME ZONE,
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'delay'::BIGINT * INTERVAL '1 millisecond'
    ), 0, '0', 0, :'retries_remaining'::INTEGER, :'retry_interval'::BIGINT,
    :'retain_for'::BIGINT, :'date_created'::TIMESTAMP WITH TIME ZONE,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()), :'key'::VARCHAR,
    CAST(:'payload'::VARCHAR AS JSON)
);

-- task.insert_and_notify
-- `create` of one task, with its hint to other processes.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, key, payload
)
VALUES (
    :'id'::UUID, :'type'::VARCHAR, 'pending', :'priority'::INTEGER,
    coalesce(
        :'run_at'::TIMESTAMP WITH TIME ZONE,
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'delay'::BIGINT * INTERVAL '1 millisecond'
    ), 0, '0', 0, :'retries_remaining'::INTEGER, :'retry_interval'::BIGINT,
    :'retain_for'::BIGINT, :'date_created'::TIMESTAMP WITH TIME ZONE,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()), :'key'::VARCHAR,
    CAST(:'payload'::VARCHAR AS JSON)
)
RETURNING pg_notify('rowlock_task', rowlock_task.type) AS pg_notify_1;

-- task.insert_batch
-- `create` calls that come together share one statement; the scheduler creates what is due.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, key, run_at,
    date_created, schedule_id, scheduled_for, status, attempt, thread_id, lost_workers,
    date_modified
)
SELECT batch.id, batch.type, CAST(batch.payload AS JSON) AS payload, batch.retries_remaining,
    batch.retry_interval, batch.retain_for, batch.priority, batch.key,
    coalesce(
        batch.run_at,
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.delay * INTERVAL '1 millisecond'
    ) AS coalesce_1, batch.date_created, batch.schedule_id, batch.scheduled_for, 'pending', 0,
    '0', 0,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS coalesce_2
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_type'::VARCHAR AS TEXT[]) AS anon_2),
    (SELECT CAST(:'all_payload'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_retries_remaining'::VARCHAR AS INTEGER[]) AS anon_4),
    (SELECT CAST(:'all_retry_interval'::VARCHAR AS BIGINT[]) AS anon_5),
    (SELECT CAST(:'all_retain_for'::VARCHAR AS BIGINT[]) AS anon_6),
    (SELECT CAST(:'all_priority'::VARCHAR AS INTEGER[]) AS anon_7),
    (SELECT CAST(:'all_key'::VARCHAR AS TEXT[]) AS anon_8),
    (SELECT CAST(:'all_run_at'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_9),
    (SELECT CAST(:'all_delay'::VARCHAR AS BIGINT[]) AS anon_10),
    (SELECT CAST(:'all_date_created'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_11),
    (SELECT CAST(:'all_schedule_id'::VARCHAR AS TEXT[]) AS anon_12),
    (SELECT CAST(:'all_scheduled_for'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_13)
) AS batch(
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, key, run_at,
    delay, date_created, schedule_id, scheduled_for
)
WHERE true;

-- task.insert_keyed
-- `create` of one task with a key.
-- Index: uq_rowlock_task_type_key.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, key, payload
)
VALUES (
    :'id'::UUID, :'type'::VARCHAR, 'pending', :'priority'::INTEGER,
    coalesce(
        :'run_at'::TIMESTAMP WITH TIME ZONE,
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + :'delay'::BIGINT * INTERVAL '1 millisecond'
    ), 0, '0', 0, :'retries_remaining'::INTEGER, :'retry_interval'::BIGINT,
    :'retain_for'::BIGINT, :'date_created'::TIMESTAMP WITH TIME ZONE,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()), :'key'::VARCHAR,
    CAST(:'payload'::VARCHAR AS JSON)
)
ON CONFLICT (type, key)
WHERE key IS NOT NULL AND (status NOT IN ('failed', 'cancelled')) DO NOTHING
RETURNING rowlock_task.id;

-- task.insert_batch_keyed
-- `create_many` where a task has a key, and all of it on a connection of the caller's.
-- Index: uq_rowlock_task_type_key.
INSERT INTO rowlock_task (
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, key, run_at,
    date_created, schedule_id, scheduled_for, status, attempt, thread_id, lost_workers,
    date_modified
)
SELECT batch.id, batch.type, CAST(batch.payload AS JSON) AS payload, batch.retries_remaining,
    batch.retry_interval, batch.retain_for, batch.priority, batch.key,
    coalesce(
        batch.run_at,
        coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + batch.delay * INTERVAL '1 millisecond'
    ) AS coalesce_1, batch.date_created, batch.schedule_id, batch.scheduled_for, 'pending', 0,
    '0', 0,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS coalesce_2
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_type'::VARCHAR AS TEXT[]) AS anon_2),
    (SELECT CAST(:'all_payload'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_retries_remaining'::VARCHAR AS INTEGER[]) AS anon_4),
    (SELECT CAST(:'all_retry_interval'::VARCHAR AS BIGINT[]) AS anon_5),
    (SELECT CAST(:'all_retain_for'::VARCHAR AS BIGINT[]) AS anon_6),
    (SELECT CAST(:'all_priority'::VARCHAR AS INTEGER[]) AS anon_7),
    (SELECT CAST(:'all_key'::VARCHAR AS TEXT[]) AS anon_8),
    (SELECT CAST(:'all_run_at'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_9),
    (SELECT CAST(:'all_delay'::VARCHAR AS BIGINT[]) AS anon_10),
    (SELECT CAST(:'all_date_created'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_11),
    (SELECT CAST(:'all_schedule_id'::VARCHAR AS TEXT[]) AS anon_12),
    (SELECT CAST(:'all_scheduled_for'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_13)
) AS batch(
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, key, run_at,
    delay, date_created, schedule_id, scheduled_for
)
WHERE true
ON CONFLICT (type, key)
WHERE key IS NOT NULL AND (status NOT IN ('failed', 'cancelled')) DO NOTHING
RETURNING rowlock_task.id;

-- task.with_key
-- After an insert that a key refused: who has the key.
-- Index: uq_rowlock_task_type_key.
SELECT rowlock_task.id
FROM rowlock_task
WHERE rowlock_task.type = :'type'::VARCHAR AND rowlock_task.key = :'key'::VARCHAR
    AND rowlock_task.key IS NOT NULL AND (rowlock_task.status NOT IN ('failed', 'cancelled'));

-- task.with_keys
-- The same for a batch.
-- Index: uq_rowlock_task_type_key.
SELECT batch.id, rowlock_task.id AS id_1
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1),
    (SELECT CAST(:'all_type'::VARCHAR AS TEXT[]) AS anon_2),
    (SELECT CAST(:'all_key'::VARCHAR AS TEXT[]) AS anon_3)
) AS batch(id, type, key), rowlock_task
WHERE rowlock_task.type = ANY (ARRAY[batch.type]) AND rowlock_task.key = ANY (ARRAY[batch.key])
    AND rowlock_task.key IS NOT NULL AND (rowlock_task.status NOT IN ('failed', 'cancelled'));

-- task.get
-- `get`, and whoever awaits a task.
-- Index: rowlock_task_pkey.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.id = :'id'::UUID;

-- task.counts
-- `counts` of all types.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_status_id or ix_rowlock_task_status_modified.
SELECT rowlock_task.status, count(*) AS count_1
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
GROUP BY rowlock_task.status
UNION ALL
SELECT rowlock_task.status, count(*) AS count_1
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
GROUP BY rowlock_task.status;

-- task.counts_of_type
-- `counts` of one type.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_type_status_id or ix_rowlock_task_type_status_modified.
SELECT rowlock_task.status, count(*) AS count_1
FROM rowlock_task
WHERE rowlock_task.type = :'type'::VARCHAR AND rowlock_task.status != 'processing'
GROUP BY rowlock_task.status
UNION ALL
SELECT rowlock_task.status, count(*) AS count_1
FROM rowlock_task
WHERE rowlock_task.type = :'type'::VARCHAR AND rowlock_task.status = 'processing'
GROUP BY rowlock_task.status;

-- task.retry_waiting
-- `retry`, first: of a task that waits.
-- Index: rowlock_task_pkey or ix_rowlock_task_status_id.
UPDATE rowlock_task
SET run_at=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
WHERE rowlock_task.id = :'id'::UUID AND rowlock_task.status = 'pending'
    AND rowlock_task.run_at > coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- task.retry_ended
-- `retry`, second: of a task that has ended, unless another has its key.
-- Index: rowlock_task_pkey, uq_rowlock_task_type_key.
UPDATE rowlock_task
SET status='pending',
    run_at=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()), thread_id='0',
    lost_workers=0,
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=NULL, cancel_requested=NULL
WHERE rowlock_task.id = :'id'::UUID
    AND rowlock_task.status IN ('processing', 'failed', 'cancelled')
    AND rowlock_task.status != 'processing'
    AND NOT (
        EXISTS (
            SELECT *
            FROM rowlock_task AS other
            WHERE other.type = rowlock_task.type AND other.key = rowlock_task.key
                AND other.key IS NOT NULL AND (other.status NOT IN ('failed', 'cancelled'))
        )
    )
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- task.cancel_keep
-- `cancel`, first: of a pending task that is kept.
-- Index: rowlock_task_pkey or ix_rowlock_task_status_id.
UPDATE rowlock_task
SET status='cancelled',
    date_modified=coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()),
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN coalesce(
            :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
        ) + rowlock_task.retain_for * INTERVAL '1 millisecond' ELSE NULL END
WHERE rowlock_task.id = :'id'::UUID AND rowlock_task.status = 'pending'
    AND (rowlock_task.retain_for NOT IN (0, -2))
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- task.cancel_drop
-- `cancel`, second: of one that is not kept.
-- Index: rowlock_task_pkey or ix_rowlock_task_status_id.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :'id'::UUID AND rowlock_task.status = 'pending'
    AND rowlock_task.retain_for IN (0, -2)
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now;

-- task.request_cancel
-- `cancel`, third: of a task that runs.
-- Index: rowlock_task_pkey or ix_rowlock_task_processing.
UPDATE rowlock_task
SET cancel_requested=coalesce(
    rowlock_task.cancel_requested,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp())
)
WHERE rowlock_task.id = :'id'::UUID AND rowlock_task.status = 'processing'
RETURNING rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts;

-- task.remove
-- `remove`.
-- Index: rowlock_task_pkey.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :'id'::UUID
RETURNING rowlock_task.id;

-- trigger.next_due
-- The scheduler: how long it may sleep.
-- Index: ix_rowlock_scheduled_task_due.
SELECT min(rowlock_scheduled_task.next_trigger) AS min_1,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger IS NOT NULL
    AND (
        rowlock_scheduled_task.task_type IS NOT NULL
        OR rowlock_scheduled_task.id IN (
            SELECT batch.id
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2)
            ) AS batch(id, token)
        )
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_3),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_4)
            ) AS batch(id, token)
        )
    );

-- trigger.due
-- The scheduler: what is due, locked.
-- Index: ix_rowlock_scheduled_task_due.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger <= coalesce(
    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
)
    AND (
        rowlock_scheduled_task.task_type IS NOT NULL
        OR rowlock_scheduled_task.id IN (
            SELECT batch.id
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2)
            ) AS batch(id, token)
        )
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_3),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_4)
            ) AS batch(id, token)
        )
    )
ORDER BY rowlock_scheduled_task.next_trigger
LIMIT :'limit'::INTEGER
FOR UPDATE SKIP LOCKED;

-- trigger.due_here
-- The scheduler: what is due of functions that few may call.
-- Index: ix_rowlock_scheduled_task_due or rowlock_scheduled_task_pkey.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason,
    coalesce(:'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()) AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger <= coalesce(
    :'now'::TIMESTAMP WITH TIME ZONE, statement_timestamp()
)
    AND rowlock_scheduled_task.id IN (
        SELECT batch.id
        FROM unnest(
            (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
            (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_2)
        ) AS batch(id, token)
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM unnest(
                (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_3),
                (SELECT CAST(:'all_token'::VARCHAR AS UUID[]) AS anon_4)
            ) AS batch(id, token)
        )
    )
ORDER BY rowlock_scheduled_task.next_trigger
LIMIT :'limit'::INTEGER
FOR UPDATE SKIP LOCKED;

-- trigger.statuses
-- The scheduler, where overlap="skip": how the last tasks stand.
-- Index: rowlock_task_pkey.
SELECT rowlock_task.id, rowlock_task.status
FROM rowlock_task
WHERE rowlock_task.id = ANY (
    array(
        (
            SELECT batch.id
            FROM unnest((SELECT CAST(:'all_id'::VARCHAR AS UUID[]) AS anon_1)) AS batch(id)
        )
    )
);

-- trigger.ended
-- The scheduler: how the call of a function ended.
-- Index: rowlock_scheduled_task_pkey.
UPDATE rowlock_scheduled_task
SET last_outcome=batch.outcome, last_error=CAST(batch.error AS JSON)
FROM unnest(
    (SELECT CAST(:'all_id'::VARCHAR AS TEXT[]) AS anon_1),
    (SELECT CAST(:'all_due'::VARCHAR AS TIMESTAMP WITH TIME ZONE[]) AS anon_2),
    (SELECT CAST(:'all_outcome'::VARCHAR AS TEXT[]) AS anon_3),
    (SELECT CAST(:'all_error'::VARCHAR AS TEXT[]) AS anon_4)
) AS batch(id, due, outcome, error)
WHERE rowlock_scheduled_task.id = batch.id AND rowlock_scheduled_task.last_trigger = batch.due
    AND rowlock_scheduled_task.last_outcome = 'started';

-- page by id, any status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: rowlock_task_pkey.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE (rowlock_task.id) > (:'id'::UUID)
ORDER BY rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by id, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_status_id.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (rowlock_task.status, rowlock_task.id) > ('pending', :'id'::UUID)
    AND (rowlock_task.status) <= ('pending')
ORDER BY rowlock_task.status, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by id, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:'id'::UUID)
ORDER BY rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, cancelled, failed, pending, processing, success
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_status_modified.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('cancelled', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('cancelled')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('failed')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('pending', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('pending')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_4
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing'
            AND (
                rowlock_task.date_modified, rowlock_task.id
            ) > (:'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
        ORDER BY rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_5
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('success')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_6
) AS anon_1
ORDER BY date_modified, id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_status_modified.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (
        rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
    ) > ('pending', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
    AND (rowlock_task.status) <= ('pending')
ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
    AND (
        rowlock_task.date_modified, rowlock_task.id
    ) > (:'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
ORDER BY rowlock_task.date_modified, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, failed, success
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_status_modified.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('failed')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('success')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
) AS anon_1
ORDER BY date_modified, id
LIMIT :'limit'::INTEGER;

-- page by id, cancelled, pending, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_status_id.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :'id'::UUID)
            AND (rowlock_task.status) <= ('cancelled')
        ORDER BY rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :'id'::UUID)
            AND (rowlock_task.status) <= ('pending')
        ORDER BY rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:'id'::UUID)
        ORDER BY rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_4
) AS anon_1
ORDER BY id
LIMIT :'limit'::INTEGER;

-- page by id, of a type, cancelled, failed, pending, processing, success
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_type_status_id.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :'id'::UUID)
            AND (rowlock_task.status) <= ('cancelled') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('failed', :'id'::UUID)
            AND (rowlock_task.status) <= ('failed') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :'id'::UUID)
            AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_4
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:'id'::UUID)
            AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_5
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('success', :'id'::UUID)
            AND (rowlock_task.status) <= ('success') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_6
) AS anon_1
ORDER BY id
LIMIT :'limit'::INTEGER;

-- page by id, of a type, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_type_status_id.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (rowlock_task.status, rowlock_task.id) > ('pending', :'id'::UUID)
    AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :'type'::VARCHAR
ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by id, of a type, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:'id'::UUID)
    AND rowlock_task.type = :'type'::VARCHAR
ORDER BY rowlock_task.type, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, of a type, cancelled, failed, pending, processing, success
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_type_status_modified.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('cancelled', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('cancelled') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('failed') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('pending', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_4
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing'
            AND (
                rowlock_task.date_modified, rowlock_task.id
            ) > (:'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.date_modified, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_5
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('success') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_6
) AS anon_1
ORDER BY date_modified, id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, of a type, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_type_status_modified.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (
        rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
    ) > ('pending', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
    AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :'type'::VARCHAR
ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, of a type, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task.key,
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
    AND (
        rowlock_task.date_modified, rowlock_task.id
    ) > (:'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
    AND rowlock_task.type = :'type'::VARCHAR
ORDER BY rowlock_task.type, rowlock_task.date_modified, rowlock_task.id
LIMIT :'limit'::INTEGER;

-- page by date_modified and id, of a type, failed, success
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_type_status_modified.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('failed') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :'value'::TIMESTAMP WITH TIME ZONE, :'id'::UUID)
            AND (rowlock_task.status) <= ('success') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
) AS anon_1
ORDER BY date_modified, id
LIMIT :'limit'::INTEGER;

-- page by id, of a type, cancelled, pending, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing, ix_rowlock_task_type_status_id.
SELECT *
FROM (
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :'id'::UUID)
            AND (rowlock_task.status) <= ('cancelled') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_2
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :'id'::UUID)
            AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_3
    UNION ALL
    SELECT *
    FROM (
        SELECT rowlock_task.id AS id, rowlock_task.type AS type,
            rowlock_task.attempt AS attempt, CAST(rowlock_task.payload AS TEXT) AS payload,
            rowlock_task.retries_remaining AS retries_remaining,
            rowlock_task.retain_for AS retain_for,
            rowlock_task.retry_interval AS retry_interval,
            rowlock_task.lost_workers AS lost_workers, rowlock_task.priority AS priority,
            rowlock_task.run_at AS run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
            rowlock_task.schedule_id AS schedule_id,
            rowlock_task.scheduled_for AS scheduled_for, rowlock_task.status AS status,
            rowlock_task.thread_id AS thread_id, rowlock_task.date_created AS date_created,
            rowlock_task.date_modified AS date_modified,
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task.key AS key,
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:'id'::UUID)
            AND rowlock_task.type = :'type'::VARCHAR
        ORDER BY rowlock_task.type, rowlock_task.id
        LIMIT :'limit'::INTEGER
    ) AS anon_4
) AS anon_1
ORDER BY id
LIMIT :'limit'::INTEGER;
