"""How `rowlock worker` writes its log."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

_FIELDS: Final = ("task_id", "task_type", "attempt", "worker")


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, what rowlock says beside it, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        instant = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        text = "\n".join(filter(None, (record.exc_text, record.stack_info)))
        if text:
            line["exception"] = text
        # In ASCII: whatever the terminal's encoding is, and a lone surrogate, is no error.
        return json.dumps(line, default=str)


def set_up(level: LogLevel, form: LogFormat) -> None:
    """Log to stderr, unless the application has set up logging itself."""
    handler = logging.StreamHandler(sys.stderr)
    if form is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
