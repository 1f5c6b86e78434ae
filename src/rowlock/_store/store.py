"""What a queue does in its database: the operations, over one `Database`."""

from __future__ import annotations

from rowlock._store.attempts import Attempts
from rowlock._store.database import LOCK_TIMEOUT, Database
from rowlock._store.ends import Ends, Policy
from rowlock._store.paging import Pages
from rowlock._store.sweep import Sweep
from rowlock._store.tasks import Tasks


class Store:
    """The operations, by what they are about.

    Attributes:
        database: where.
        policy: what the queue was told about failures.
        tasks: as clients see them.
        attempts: of workers.
        sweep: of the sweeper.
        pages: of tasks.
    """

    def __init__(self, database: Database, policy: Policy) -> None:
        self.database = database
        self.policy = policy
        self.ends = Ends(database, policy)
        self.tasks = Tasks(database)
        self.attempts = Attempts(database, self.ends)
        self.sweep = Sweep(database, self.ends)
        self.pages = Pages(database)

    def sibling(self, lock_timeout: int = LOCK_TIMEOUT) -> Store:
        """Return the same with connections of its own; see `Database.sibling`."""
        return Store(self.database.sibling(lock_timeout), self.policy)

    def for_worker(self) -> Store:
        """Return the same for a worker in this loop; see `Database.for_worker`."""
        database = self.database.for_worker()
        return self if database is self.database else Store(database, self.policy)
