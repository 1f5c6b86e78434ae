-- What rowlock sends to SQLite. Written by tests/store/test_sql.py; do not edit.
--
-- Paste a statement in sqlite3 after its parameters: .parameter set :id "'0198…'". Instants are
-- microseconds since 1970. A batch is a JSON array of objects.
-- What changes the schema is shown by `rowlock db sql`.

-- A queue that opens: which file it is.
PRAGMA database_list;

-- A new connection.
PRAGMA busy_timeout = 10000;

-- The connection that writes, first.
PRAGMA journal_mode = WAL;

-- The connection that writes: what is committed is on disk.
PRAGMA synchronous = FULL;

-- The connection that writes.
PRAGMA journal_size_limit = 4194304;

-- Before all that writes.
BEGIN IMMEDIATE;

-- After it.
COMMIT;

-- After it, where it was refused.
ROLLBACK;

-- The watcher: has another connection committed?
PRAGMA data_version;

-- After a commit that left the log long.
PRAGMA wal_checkpoint(PASSIVE);

-- While a reader keeps the log from being cut.
PRAGMA wal_autocheckpoint = 0;

-- When it does no more.
PRAGMA wal_autocheckpoint = 1000;

-- attempt.succeed
-- A worker's finishes, those that succeeded.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status='success', lease_until=NULL, date_modified=:now,
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END,
    result=CAST(batch.result AS TEXT), error=NULL, cancel_requested=NULL
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.result') AS result
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id;

-- attempt.succeed_row
-- The same where a callback wants the tasks.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status='success', lease_until=NULL, date_modified=:now,
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END,
    result=CAST(batch.result AS TEXT), error=NULL, cancel_requested=NULL
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.result') AS result
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- attempt.fail
-- A worker's finishes, those that failed.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN :now + batch.wait * 1000 ELSE rowlock_task.run_at END,
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
    date_modified=:now,
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN :now
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END ELSE NULL END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN :now + :keep_failed * 1000
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END END,
    error=coalesce(CAST(batch.error AS TEXT), rowlock_task.error), cancel_requested=NULL,
    attempts=json_insert(
        (
            SELECT json_group_array(json(element.value)) AS json_group_array_1
            FROM json_each(
                CASE
                    WHEN (
                        json_valid(rowlock_task.attempts)
                        AND json_type(rowlock_task.attempts) = 'array'
                    ) THEN rowlock_task.attempts ELSE '[]' END
            ) AS element
            WHERE element."key" >= json_array_length(
                CASE
                    WHEN (
                        json_valid(rowlock_task.attempts)
                        AND json_type(rowlock_task.attempts) = 'array'
                    ) THEN rowlock_task.attempts ELSE '[]' END
            ) - 19 AND element.type = 'object'
        ), '$[#]',
        json_object(
            'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id, 'started',
            rowlock_task.date_started, 'ended', :now, 'outcome', batch.outcome, 'error',
            json(CAST(coalesce(batch.brief, batch.error) AS TEXT))
        )
    )
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.outcome') AS outcome,
        json_extract(item.value, '$.error') AS error,
        json_extract(item.value, '$.brief') AS brief,
        json_extract(item.value, '$.retry') AS retry,
        json_extract(item.value, '$.lost') AS lost, json_extract(item.value, '$.wait') AS wait
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- attempt.drop
-- A worker's finishes, those that are not kept.
-- Index: sqlite_autoindex_rowlock_task_1.
DELETE FROM rowlock_task
WHERE rowlock_task.id IN (
    SELECT rowlock_task.id
    FROM rowlock_task,
        (
            SELECT json_extract(item.value, '$.id') AS id,
                json_extract(item.value, '$.attempt') AS attempt
            FROM json_each(:batch) AS item
        ) AS batch
    WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
        AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
)
RETURNING id;

-- attempt.drop_row
-- The same where a callback wants the tasks.
-- Index: sqlite_autoindex_rowlock_task_1.
DELETE FROM rowlock_task
WHERE rowlock_task.id IN (
    SELECT rowlock_task.id
    FROM rowlock_task,
        (
            SELECT json_extract(item.value, '$.id') AS id,
                json_extract(item.value, '$.attempt') AS attempt
            FROM json_each(:batch) AS item
        ) AS batch
    WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
        AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
)
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts, :now AS now;

-- attempt.extend
-- The lease thread, several times in the length of a lease.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET lease_until=(:now + :lease * 1000)
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id;

-- attempt.release
-- A worker that stops, or has claimed more than it can run.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled' ELSE 'pending' END,
    thread_id=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN rowlock_task.thread_id ELSE '0'
        END, lease_until=NULL, date_modified=:now,
    date_retain_until=CASE
        WHEN (
            rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
        ) THEN :now
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END ELSE NULL END,
    cancel_requested=NULL,
    attempts=CASE
        WHEN batch.begun THEN json_insert(
            (
                SELECT json_group_array(json(element.value)) AS json_group_array_1
                FROM json_each(
                    CASE
                        WHEN (
                            json_valid(rowlock_task.attempts)
                            AND json_type(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]' END
                ) AS element
                WHERE element."key" >= json_array_length(
                    CASE
                        WHEN (
                            json_valid(rowlock_task.attempts)
                            AND json_type(rowlock_task.attempts) = 'array'
                        ) THEN rowlock_task.attempts ELSE '[]' END
                ) - 19 AND element.type = 'object'
            ), '$[#]',
            json_object(
                'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id, 'started',
                rowlock_task.date_started, 'ended', :now, 'outcome',
                CASE
                    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
                    ELSE 'released' END, 'error', json(CAST(NULL AS TEXT))
            )
        ) ELSE rowlock_task.attempts END
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.begun') AS begun
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- attempt.progress
-- A worker, for what handlers reported, about once a second.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET progress=CAST(batch.progress AS TEXT)
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.progress') AS progress
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
RETURNING id;

-- attempt.held
-- After a statement that left out locked rows: which are held.
-- Index: sqlite_autoindex_rowlock_task_1.
SELECT rowlock_task.id
FROM rowlock_task,
    (
        SELECT json_extract(item.value, '$.id') AS id,
            json_extract(item.value, '$.attempt') AS attempt
        FROM json_each(:batch) AS item
    ) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL;

-- attempt.cancel_requests
-- A worker, after a hint that some are to be cancelled.
-- Index: sqlite_autoindex_rowlock_task_1.
SELECT rowlock_task.id
FROM rowlock_task,
    (
        SELECT json_extract(item.value, '$.id') AS id,
            json_extract(item.value, '$.attempt') AS attempt
        FROM json_each(:batch) AS item
    ) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = :holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.cancel_requested IS NOT NULL;

-- claim.top_priority
-- A claim, first: the next lower priority of a type.
-- Index: ix_rowlock_task_claim.
SELECT priority
FROM rowlock_task
WHERE status = 'pending' AND type = :type AND priority < :below
ORDER BY priority DESC
LIMIT 1;

-- claim.due
-- A claim, second: what is due of a type and a priority.
-- Index: ix_rowlock_task_claim.
SELECT id, COALESCE(length(CAST(payload AS BLOB)), 0)
FROM rowlock_task
WHERE status = 'pending' AND type = :type AND priority = :priority AND run_at <= :now
    AND attempt < 2147483647
ORDER BY run_at, id
LIMIT :room;

-- claim.first_due
-- A worker that has found nothing: how long it may sleep.
-- Index: ix_rowlock_task_claim.
SELECT run_at
FROM rowlock_task
WHERE status = 'pending' AND type = :type AND priority = :priority
ORDER BY run_at
LIMIT 1;

-- claim.claim
-- A claim, last, with all columns.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status='processing', attempt=(rowlock_task.attempt + 1), thread_id=:holder,
    lease_until=(:now + :lease * 1000), date_modified=:now, date_started=:now
WHERE rowlock_task.id IN (SELECT item.value FROM json_each(:ids) AS item)
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- claim.claim_to_run
-- A claim, last, with what it takes to run the tasks.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status='processing', attempt=(rowlock_task.attempt + 1), thread_id=:holder,
    lease_until=(:now + :lease * 1000), date_modified=:now, date_started=:now
WHERE rowlock_task.id IN (SELECT item.value FROM json_each(:ids) AS item)
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for;

-- common.clock
-- The bulk insert and the scheduler ask what time it is; a keep-alive.
-- Index: none.
SELECT :now AS anon_1;

-- common.revision
-- A queue that opens asks whether the schema is there, and new enough.
-- Index: none.
SELECT version_num
FROM rowlock_alembic_version;

-- end.drop_cancelled
-- After a failure or a release: remove a task that turned out to be cancelled.
-- Index: sqlite_autoindex_rowlock_task_1 or ix_rowlock_task_status_id.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :id AND rowlock_task.status = 'cancelled'
    AND rowlock_task.retain_for IN (0, -2);

-- schedulerow.get
-- `add_task`, `pause_task`, `resume_task`, `trigger_task`: one row, locked.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason, :now AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id = :id;

-- schedulerow.write
-- Each change of a scheduled task: compare and set.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
UPDATE rowlock_scheduled_task
SET token=batch.new_token, times=CAST(batch.times AS TEXT), next_trigger=batch.next_trigger,
    paused_since=batch.paused_since, misfire=batch.misfire, overlap=batch.overlap,
    task_type=batch.task_type, payload=CAST(batch.payload AS TEXT),
    last_trigger=batch.last_trigger, last_outcome=batch.last_outcome,
    last_error=CAST(batch.last_error AS TEXT), last_task_id=batch.last_task_id,
    last_skip=batch.last_skip, last_skip_reason=batch.last_skip_reason,
    misfire_grace=batch.misfire_grace, template=CAST(batch.template AS TEXT)
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.token') AS token,
        json_extract(item.value, '$.times') AS times,
        json_extract(item.value, '$.next_trigger') AS next_trigger,
        json_extract(item.value, '$.paused_since') AS paused_since,
        json_extract(item.value, '$.misfire') AS misfire,
        json_extract(item.value, '$.overlap') AS overlap,
        json_extract(item.value, '$.task_type') AS task_type,
        json_extract(item.value, '$.payload') AS payload,
        json_extract(item.value, '$.last_trigger') AS last_trigger,
        json_extract(item.value, '$.last_outcome') AS last_outcome,
        json_extract(item.value, '$.last_error') AS last_error,
        json_extract(item.value, '$.last_task_id') AS last_task_id,
        json_extract(item.value, '$.last_skip') AS last_skip,
        json_extract(item.value, '$.last_skip_reason') AS last_skip_reason,
        json_extract(item.value, '$.misfire_grace') AS misfire_grace,
        json_extract(item.value, '$.template') AS template,
        json_extract(item.value, '$.new_token') AS new_token
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_scheduled_task.id = batch.id AND rowlock_scheduled_task.token = batch.token
RETURNING id;

-- schedule.insert
-- `add_task`.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
INSERT INTO rowlock_scheduled_task (
    id, token, times, next_trigger, paused_since, misfire, overlap, task_type, payload,
    last_trigger, last_outcome, last_error, last_task_id, last_skip, last_skip_reason,
    misfire_grace, template
)
SELECT batch.id, batch.token, CAST(batch.times AS TEXT) AS times, batch.next_trigger,
    batch.paused_since, batch.misfire, batch.overlap, batch.task_type,
    CAST(batch.payload AS TEXT) AS payload, batch.last_trigger, batch.last_outcome,
    CAST(batch.last_error AS TEXT) AS last_error, batch.last_task_id, batch.last_skip,
    batch.last_skip_reason, batch.misfire_grace, CAST(batch.template AS TEXT) AS template
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.token') AS token,
        json_extract(item.value, '$.times') AS times,
        json_extract(item.value, '$.next_trigger') AS next_trigger,
        json_extract(item.value, '$.paused_since') AS paused_since,
        json_extract(item.value, '$.misfire') AS misfire,
        json_extract(item.value, '$.overlap') AS overlap,
        json_extract(item.value, '$.task_type') AS task_type,
        json_extract(item.value, '$.payload') AS payload,
        json_extract(item.value, '$.last_trigger') AS last_trigger,
        json_extract(item.value, '$.last_outcome') AS last_outcome,
        json_extract(item.value, '$.last_error') AS last_error,
        json_extract(item.value, '$.last_task_id') AS last_task_id,
        json_extract(item.value, '$.last_skip') AS last_skip,
        json_extract(item.value, '$.last_skip_reason') AS last_skip_reason,
        json_extract(item.value, '$.misfire_grace') AS misfire_grace,
        json_extract(item.value, '$.template') AS template
    FROM json_each(:batch) AS item
) AS batch
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- schedule.look
-- `task_state`.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
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
WHERE rowlock_scheduled_task.id = :id;

-- schedule.looks
-- The scheduler: the rows of its own functions.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
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
    FROM (
        SELECT json_extract(item.value, '$.id') AS id,
            json_extract(item.value, '$.token') AS token
        FROM json_each(:batch) AS item
    ) AS batch
);

-- schedule.times
-- `tasks_info`; all rows, in the order of ids.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
SELECT rowlock_scheduled_task.id, CAST(rowlock_scheduled_task.times AS TEXT) AS times
FROM rowlock_scheduled_task
ORDER BY rowlock_scheduled_task.id;

-- schedule.remove
-- `remove_task`.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
DELETE FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.id = :id
RETURNING id;

-- schedule.remove_others
-- `only`: what no process adds any more. It reads all rows, which are few.
-- Index: none.
DELETE FROM rowlock_scheduled_task
WHERE substr(rowlock_scheduled_task.id, 1, length(:prefix)) = :prefix
    AND (
        rowlock_scheduled_task.id NOT IN (
            SELECT batch.id
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
        )
    )
RETURNING id;

-- sweep.expired
-- The sweeper: leases that have run out.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing' AND rowlock_task.lease_until <= :now
LIMIT :limit OFFSET 0;

-- sweep.fail
-- The sweeper: tasks of lost workers, put back or failed.
-- Index: sqlite_autoindex_rowlock_task_1.
UPDATE rowlock_task
SET status=CASE
    WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN 'cancelled'
    WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN 'pending' ELSE 'failed'
    END,
    run_at=CASE
        WHEN (
            batch.retry AND rowlock_task.cancel_requested IS NULL
        ) THEN :now + batch.wait * 1000 ELSE rowlock_task.run_at END,
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
    date_modified=:now,
    date_retain_until=CASE
        WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
            WHEN (
                rowlock_task.cancel_requested IS NOT NULL AND rowlock_task.retain_for IN (0, -2)
            ) THEN :now
            WHEN (rowlock_task.cancel_requested IS NOT NULL) THEN CASE
                WHEN (
                    rowlock_task.retain_for BETWEEN 1 AND 3153600000000
                ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END ELSE NULL END
        WHEN (batch.retry AND rowlock_task.cancel_requested IS NULL) THEN NULL
        WHEN (rowlock_task.retain_for = -2) THEN :now + :keep_failed * 1000
        ELSE CASE
            WHEN (
                rowlock_task.retain_for BETWEEN 1 AND 3153600000000
            ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END END,
    error=coalesce(CAST(batch.error AS TEXT), rowlock_task.error), cancel_requested=NULL,
    attempts=json_insert(
        (
            SELECT json_group_array(json(element.value)) AS json_group_array_1
            FROM json_each(
                CASE
                    WHEN (
                        json_valid(rowlock_task.attempts)
                        AND json_type(rowlock_task.attempts) = 'array'
                    ) THEN rowlock_task.attempts ELSE '[]' END
            ) AS element
            WHERE element."key" >= json_array_length(
                CASE
                    WHEN (
                        json_valid(rowlock_task.attempts)
                        AND json_type(rowlock_task.attempts) = 'array'
                    ) THEN rowlock_task.attempts ELSE '[]' END
            ) - 19 AND element.type = 'object'
        ), '$[#]',
        json_object(
            'attempt', rowlock_task.attempt, 'worker', rowlock_task.thread_id, 'started',
            rowlock_task.date_started, 'ended', :now, 'outcome', batch.outcome, 'error',
            json(CAST(coalesce(batch.brief, batch.error) AS TEXT))
        )
    )
FROM (
    SELECT json_extract(item.value, '$.id') AS id,
        json_extract(item.value, '$.attempt') AS attempt,
        json_extract(item.value, '$.outcome') AS outcome,
        json_extract(item.value, '$.error') AS error,
        json_extract(item.value, '$.brief') AS brief,
        json_extract(item.value, '$.retry') AS retry,
        json_extract(item.value, '$.lost') AS lost, json_extract(item.value, '$.wait') AS wait,
        json_extract(item.value, '$.holder') AS holder
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
    AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
    AND rowlock_task.lease_until <= :now
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- sweep.drop
-- The sweeper: tasks of lost workers that are not kept.
-- Index: sqlite_autoindex_rowlock_task_1.
DELETE FROM rowlock_task
WHERE rowlock_task.id IN (
    SELECT rowlock_task.id
    FROM rowlock_task,
        (
            SELECT json_extract(item.value, '$.id') AS id,
                json_extract(item.value, '$.attempt') AS attempt,
                json_extract(item.value, '$.holder') AS holder
            FROM json_each(:batch) AS item
        ) AS batch
    WHERE rowlock_task.id = batch.id AND rowlock_task.attempt = batch.attempt
        AND rowlock_task.thread_id = batch.holder AND rowlock_task.lease_until IS NOT NULL
) AND rowlock_task.lease_until <= :now
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts, :now AS now;

-- sweep.prune
-- The sweeper: tasks past their retention.
-- Index: ix_rowlock_task_retain, sqlite_autoindex_rowlock_task_1.
DELETE FROM rowlock_task
WHERE rowlock_task.id IN (
    SELECT rowlock_task.id
    FROM rowlock_task
    WHERE rowlock_task.date_retain_until <= :now
    ORDER BY rowlock_task.date_retain_until
    LIMIT :limit OFFSET 0
)
RETURNING id;

-- task.insert
-- `create` of one task without a key.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, "key", payload
)
VALUES (
    :id, :type, 'pending', :priority, coalesce(:run_at, :now + :delay * 1000), 0, '0', 0,
    :retries_remaining, :retry_interval, :retain_for, :date_created, :now, :key,
    CAST(:payload AS TEXT)
);

-- task.insert_and_notify
-- `create` of one task; others see the change of the file.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, "key", payload
)
VALUES (
    :id, :type, 'pending', :priority, coalesce(:run_at, :now + :delay * 1000), 0, '0', 0,
    :retries_remaining, :retry_interval, :retain_for, :date_created, :now, :key,
    CAST(:payload AS TEXT)
);

-- task.insert_batch
-- `create` calls that come together share one statement; the scheduler creates what is due.
-- Index: none.
INSERT INTO rowlock_task (
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, "key", run_at,
    date_created, schedule_id, scheduled_for, status, attempt, thread_id, lost_workers,
    date_modified
)
SELECT batch.id, batch.type, CAST(batch.payload AS TEXT) AS payload, batch.retries_remaining,
    batch.retry_interval, batch.retain_for, batch.priority, batch."key",
    coalesce(batch.run_at, :now + batch.delay * 1000) AS coalesce_1, batch.date_created,
    batch.schedule_id, batch.scheduled_for, 'pending', 0, '0', 0, :now AS anon_1
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.type') AS type,
        json_extract(item.value, '$.payload') AS payload,
        json_extract(item.value, '$.retries_remaining') AS retries_remaining,
        json_extract(item.value, '$.retry_interval') AS retry_interval,
        json_extract(item.value, '$.retain_for') AS retain_for,
        json_extract(item.value, '$.priority') AS priority,
        json_extract(item.value, '$.key') AS "key",
        json_extract(item.value, '$.run_at') AS run_at,
        json_extract(item.value, '$.delay') AS delay,
        json_extract(item.value, '$.date_created') AS date_created,
        json_extract(item.value, '$.schedule_id') AS schedule_id,
        json_extract(item.value, '$.scheduled_for') AS scheduled_for
    FROM json_each(:batch) AS item
) AS batch
WHERE true;

-- task.insert_keyed
-- `create` of one task with a key.
-- Index: uq_rowlock_task_type_key.
INSERT INTO rowlock_task (
    id, type, status, priority, run_at, attempt, thread_id, lost_workers, retries_remaining,
    retry_interval, retain_for, date_created, date_modified, "key", payload
)
VALUES (
    :id, :type, 'pending', :priority, coalesce(:run_at, :now + :delay * 1000), 0, '0', 0,
    :retries_remaining, :retry_interval, :retain_for, :date_created, :now, :key,
    CAST(:payload AS TEXT)
)
ON CONFLICT (type, "key")
WHERE "key" IS NOT NULL AND (status NOT IN ('failed', 'cancelled')) DO NOTHING
RETURNING id;

-- task.insert_batch_keyed
-- `create_many` where a task has a key, and all of it on a connection of the caller's.
-- Index: uq_rowlock_task_type_key.
INSERT INTO rowlock_task (
    id, type, payload, retries_remaining, retry_interval, retain_for, priority, "key", run_at,
    date_created, schedule_id, scheduled_for, status, attempt, thread_id, lost_workers,
    date_modified
)
SELECT batch.id, batch.type, CAST(batch.payload AS TEXT) AS payload, batch.retries_remaining,
    batch.retry_interval, batch.retain_for, batch.priority, batch."key",
    coalesce(batch.run_at, :now + batch.delay * 1000) AS coalesce_1, batch.date_created,
    batch.schedule_id, batch.scheduled_for, 'pending', 0, '0', 0, :now AS anon_1
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.type') AS type,
        json_extract(item.value, '$.payload') AS payload,
        json_extract(item.value, '$.retries_remaining') AS retries_remaining,
        json_extract(item.value, '$.retry_interval') AS retry_interval,
        json_extract(item.value, '$.retain_for') AS retain_for,
        json_extract(item.value, '$.priority') AS priority,
        json_extract(item.value, '$.key') AS "key",
        json_extract(item.value, '$.run_at') AS run_at,
        json_extract(item.value, '$.delay') AS delay,
        json_extract(item.value, '$.date_created') AS date_created,
        json_extract(item.value, '$.schedule_id') AS schedule_id,
        json_extract(item.value, '$.scheduled_for') AS scheduled_for
    FROM json_each(:batch) AS item
) AS batch
WHERE true
ON CONFLICT (type, "key")
WHERE "key" IS NOT NULL AND (status NOT IN ('failed', 'cancelled')) DO NOTHING
RETURNING id;

-- task.with_key
-- After an insert that a key refused: who has the key.
-- Index: uq_rowlock_task_type_key.
SELECT rowlock_task.id
FROM rowlock_task
WHERE rowlock_task.type = :type AND rowlock_task."key" = :key AND rowlock_task."key" IS NOT NULL
    AND (rowlock_task.status NOT IN ('failed', 'cancelled'));

-- task.with_keys
-- The same for a batch.
-- Index: uq_rowlock_task_type_key.
SELECT batch.id, rowlock_task.id AS id_1
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.type') AS type,
        json_extract(item.value, '$.key') AS "key"
    FROM json_each(:batch) AS item
) AS batch, rowlock_task
WHERE rowlock_task.type = batch.type AND rowlock_task."key" = batch."key"
    AND rowlock_task."key" IS NOT NULL AND (rowlock_task.status NOT IN ('failed', 'cancelled'));

-- task.get
-- `get`, and whoever awaits a task.
-- Index: sqlite_autoindex_rowlock_task_1.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.id = :id;

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
WHERE rowlock_task.type = :type AND rowlock_task.status != 'processing'
GROUP BY rowlock_task.status
UNION ALL
SELECT rowlock_task.status, count(*) AS count_1
FROM rowlock_task
WHERE rowlock_task.type = :type AND rowlock_task.status = 'processing'
GROUP BY rowlock_task.status;

-- task.retry_waiting
-- `retry`, first: of a task that waits.
-- Index: sqlite_autoindex_rowlock_task_1 or ix_rowlock_task_status_id.
UPDATE rowlock_task
SET run_at=:now, date_modified=:now
WHERE rowlock_task.id = :id AND rowlock_task.status = 'pending' AND rowlock_task.run_at > :now
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- task.retry_ended
-- `retry`, second: of a task that has ended, unless another has its key.
-- Index: sqlite_autoindex_rowlock_task_1, uq_rowlock_task_type_key.
UPDATE rowlock_task
SET status='pending', run_at=:now, thread_id='0', lost_workers=0, date_modified=:now,
    date_retain_until=NULL, cancel_requested=NULL
WHERE rowlock_task.id = :id
    AND rowlock_task.status IN ('processing', 'failed', 'cancelled')
    AND rowlock_task.status != 'processing'
    AND NOT (
        EXISTS (
            SELECT *
            FROM rowlock_task AS other
            WHERE other.type = rowlock_task.type AND other."key" = rowlock_task."key"
                AND other."key" IS NOT NULL AND (other.status NOT IN ('failed', 'cancelled'))
        )
    )
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- task.cancel_keep
-- `cancel`, first: of a pending task that is kept.
-- Index: sqlite_autoindex_rowlock_task_1 or ix_rowlock_task_status_id.
UPDATE rowlock_task
SET status='cancelled', date_modified=:now,
    date_retain_until=CASE
        WHEN (
            rowlock_task.retain_for BETWEEN 1 AND 3153600000000
        ) THEN :now + rowlock_task.retain_for * 1000 ELSE NULL END
WHERE rowlock_task.id = :id AND rowlock_task.status = 'pending'
    AND (rowlock_task.retain_for NOT IN (0, -2))
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- task.cancel_drop
-- `cancel`, second: of one that is not kept.
-- Index: sqlite_autoindex_rowlock_task_1 or ix_rowlock_task_status_id.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :id AND rowlock_task.status = 'pending'
    AND rowlock_task.retain_for IN (0, -2)
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts, :now AS now;

-- task.request_cancel
-- `cancel`, third: of a task that runs.
-- Index: sqlite_autoindex_rowlock_task_1 or ix_rowlock_task_processing.
UPDATE rowlock_task
SET cancel_requested=coalesce(rowlock_task.cancel_requested, :now)
WHERE rowlock_task.id = :id AND rowlock_task.status = 'processing'
RETURNING id, type, attempt, CAST(payload AS TEXT) AS payload, retries_remaining, retain_for,
    retry_interval, lost_workers, priority, run_at, CAST(progress AS TEXT) AS progress,
    schedule_id, scheduled_for, status, thread_id, date_created, date_modified,
    date_retain_until, "key", CAST(result AS TEXT) AS result, CAST(error AS TEXT) AS error,
    cancel_requested, date_started, CAST(attempts AS TEXT) AS attempts;

-- task.remove
-- `remove`.
-- Index: sqlite_autoindex_rowlock_task_1.
DELETE FROM rowlock_task
WHERE rowlock_task.id = :id
RETURNING id;

-- trigger.next_due
-- The scheduler: how long it may sleep.
-- Index: ix_rowlock_scheduled_task_due.
SELECT min(rowlock_scheduled_task.next_trigger) AS min_1, :now AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger IS NOT NULL
    AND (
        rowlock_scheduled_task.task_type IS NOT NULL
        OR rowlock_scheduled_task.id IN (
            SELECT batch.id
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
        )
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
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
    rowlock_scheduled_task.last_skip_reason, :now AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger <= :now
    AND (
        rowlock_scheduled_task.task_type IS NOT NULL
        OR rowlock_scheduled_task.id IN (
            SELECT batch.id
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
        )
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
        )
    )
ORDER BY rowlock_scheduled_task.next_trigger
LIMIT :limit OFFSET 0;

-- trigger.due_here
-- The scheduler: what is due of functions that few may call.
-- Index: ix_rowlock_scheduled_task_due or sqlite_autoindex_rowlock_scheduled_task_1.
SELECT rowlock_scheduled_task.id, rowlock_scheduled_task.token,
    CAST(rowlock_scheduled_task.times AS TEXT) AS times, rowlock_scheduled_task.next_trigger,
    rowlock_scheduled_task.paused_since, rowlock_scheduled_task.misfire,
    rowlock_scheduled_task.misfire_grace, rowlock_scheduled_task.overlap,
    rowlock_scheduled_task.task_type, CAST(rowlock_scheduled_task.payload AS TEXT) AS payload,
    CAST(rowlock_scheduled_task.template AS TEXT) AS template,
    rowlock_scheduled_task.last_trigger, rowlock_scheduled_task.last_outcome,
    CAST(rowlock_scheduled_task.last_error AS TEXT) AS last_error,
    rowlock_scheduled_task.last_task_id, rowlock_scheduled_task.last_skip,
    rowlock_scheduled_task.last_skip_reason, :now AS now
FROM rowlock_scheduled_task
WHERE rowlock_scheduled_task.next_trigger <= :now
    AND rowlock_scheduled_task.id IN (
        SELECT batch.id
        FROM (
            SELECT json_extract(item.value, '$.id') AS id,
                json_extract(item.value, '$.token') AS token
            FROM json_each(:batch) AS item
        ) AS batch
    )
    AND (
        rowlock_scheduled_task.token NOT IN (
            SELECT batch.token
            FROM (
                SELECT json_extract(item.value, '$.id') AS id,
                    json_extract(item.value, '$.token') AS token
                FROM json_each(:batch) AS item
            ) AS batch
        )
    )
ORDER BY rowlock_scheduled_task.next_trigger
LIMIT :limit OFFSET 0;

-- trigger.statuses
-- The scheduler, where overlap="skip": how the last tasks stand.
-- Index: sqlite_autoindex_rowlock_task_1.
SELECT rowlock_task.id, rowlock_task.status
FROM rowlock_task
WHERE rowlock_task.id IN (
    SELECT batch.id
    FROM (SELECT json_extract(item.value, '$.id') AS id FROM json_each(:batch) AS item) AS batch
);

-- trigger.ended
-- The scheduler: how the call of a function ended.
-- Index: sqlite_autoindex_rowlock_scheduled_task_1.
UPDATE rowlock_scheduled_task
SET last_outcome=batch.outcome, last_error=CAST(batch.error AS TEXT)
FROM (
    SELECT json_extract(item.value, '$.id') AS id, json_extract(item.value, '$.due') AS due,
        json_extract(item.value, '$.outcome') AS outcome,
        json_extract(item.value, '$.error') AS error
    FROM json_each(:batch) AS item
) AS batch
WHERE rowlock_scheduled_task.id = batch.id AND rowlock_scheduled_task.last_trigger = batch.due
    AND rowlock_scheduled_task.last_outcome = 'started';

-- page by id, any status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: sqlite_autoindex_rowlock_task_1.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE (rowlock_task.id) > (:id)
ORDER BY rowlock_task.id
LIMIT :limit OFFSET 0;

-- page by id, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_status_id.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (rowlock_task.status, rowlock_task.id) > ('pending', :id)
    AND (rowlock_task.status) <= ('pending')
ORDER BY rowlock_task.status, rowlock_task.id
LIMIT :limit OFFSET 0;

-- page by id, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:id)
ORDER BY rowlock_task.id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('cancelled', :value, :id) AND (rowlock_task.status) <= ('cancelled')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :value, :id) AND (rowlock_task.status) <= ('failed')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('pending', :value, :id) AND (rowlock_task.status) <= ('pending')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing'
            AND (rowlock_task.date_modified, rowlock_task.id) > (:value, :id)
        ORDER BY rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :value, :id) AND (rowlock_task.status) <= ('success')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_6
) AS anon_1
ORDER BY date_modified, id
LIMIT :limit OFFSET 0;

-- page by date_modified and id, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_status_modified.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (
        rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
    ) > ('pending', :value, :id) AND (rowlock_task.status) <= ('pending')
ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
LIMIT :limit OFFSET 0;

-- page by date_modified and id, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
    AND (rowlock_task.date_modified, rowlock_task.id) > (:value, :id)
ORDER BY rowlock_task.date_modified, rowlock_task.id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :value, :id) AND (rowlock_task.status) <= ('failed')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :value, :id) AND (rowlock_task.status) <= ('success')
        ORDER BY rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_3
) AS anon_1
ORDER BY date_modified, id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :id)
            AND (rowlock_task.status) <= ('cancelled')
        ORDER BY rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :id)
            AND (rowlock_task.status) <= ('pending')
        ORDER BY rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:id)
        ORDER BY rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_4
) AS anon_1
ORDER BY id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :id)
            AND (rowlock_task.status) <= ('cancelled') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('failed', :id)
            AND (rowlock_task.status) <= ('failed') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :id)
            AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:id)
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('success', :id)
            AND (rowlock_task.status) <= ('success') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_6
) AS anon_1
ORDER BY id
LIMIT :limit OFFSET 0;

-- page by id, of a type, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_type_status_id.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (rowlock_task.status, rowlock_task.id) > ('pending', :id)
    AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :type
ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
LIMIT :limit OFFSET 0;

-- page by id, of a type, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:id)
    AND rowlock_task.type = :type
ORDER BY rowlock_task.type, rowlock_task.id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('cancelled', :value, :id) AND (rowlock_task.status) <= ('cancelled')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :value, :id) AND (rowlock_task.status) <= ('failed')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('pending', :value, :id) AND (rowlock_task.status) <= ('pending')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing'
            AND (rowlock_task.date_modified, rowlock_task.id) > (:value, :id)
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.date_modified, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :value, :id) AND (rowlock_task.status) <= ('success')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_6
) AS anon_1
ORDER BY date_modified, id
LIMIT :limit OFFSET 0;

-- page by date_modified and id, of a type, a status
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_type_status_modified.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status != 'processing'
    AND (
        rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
    ) > ('pending', :value, :id) AND (rowlock_task.status) <= ('pending')
    AND rowlock_task.type = :type
ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
LIMIT :limit OFFSET 0;

-- page by date_modified and id, of a type, processing
-- `query`; descending with < and >= for > and <=, and DESC.
-- Index: ix_rowlock_task_processing.
SELECT rowlock_task.id, rowlock_task.type, rowlock_task.attempt,
    CAST(rowlock_task.payload AS TEXT) AS payload, rowlock_task.retries_remaining,
    rowlock_task.retain_for, rowlock_task.retry_interval, rowlock_task.lost_workers,
    rowlock_task.priority, rowlock_task.run_at, CAST(rowlock_task.progress AS TEXT) AS progress,
    rowlock_task.schedule_id, rowlock_task.scheduled_for, rowlock_task.status,
    rowlock_task.thread_id, rowlock_task.date_created, rowlock_task.date_modified,
    rowlock_task.date_retain_until, rowlock_task."key",
    CAST(rowlock_task.result AS TEXT) AS result, CAST(rowlock_task.error AS TEXT) AS error,
    rowlock_task.cancel_requested, rowlock_task.date_started,
    CAST(rowlock_task.attempts AS TEXT) AS attempts
FROM rowlock_task
WHERE rowlock_task.status = 'processing'
    AND (rowlock_task.date_modified, rowlock_task.id) > (:value, :id)
    AND rowlock_task.type = :type
ORDER BY rowlock_task.type, rowlock_task.date_modified, rowlock_task.id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('failed', :value, :id) AND (rowlock_task.status) <= ('failed')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (
                rowlock_task.status, rowlock_task.date_modified, rowlock_task.id
            ) > ('success', :value, :id) AND (rowlock_task.status) <= ('success')
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.date_modified,
            rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_3
) AS anon_1
ORDER BY date_modified, id
LIMIT :limit OFFSET 0;

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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('cancelled', :id)
            AND (rowlock_task.status) <= ('cancelled') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status != 'processing'
            AND (rowlock_task.status, rowlock_task.id) > ('pending', :id)
            AND (rowlock_task.status) <= ('pending') AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.status, rowlock_task.id
        LIMIT :limit OFFSET 0
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
            rowlock_task.date_retain_until AS date_retain_until, rowlock_task."key" AS "key",
            CAST(rowlock_task.result AS TEXT) AS result,
            CAST(rowlock_task.error AS TEXT) AS error,
            rowlock_task.cancel_requested AS cancel_requested,
            rowlock_task.date_started AS date_started,
            CAST(rowlock_task.attempts AS TEXT) AS attempts
        FROM rowlock_task
        WHERE rowlock_task.status = 'processing' AND (rowlock_task.id) > (:id)
            AND rowlock_task.type = :type
        ORDER BY rowlock_task.type, rowlock_task.id
        LIMIT :limit OFFSET 0
    ) AS anon_4
) AS anon_1
ORDER BY id
LIMIT :limit OFFSET 0;
