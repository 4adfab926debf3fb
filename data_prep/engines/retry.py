"""Retries of a work item, as every engine runs it."""

import dataclasses
import errno
from collections.abc import Callable, Iterator

from data_prep import shards
from data_prep.shards import Shard, Summary

ATTEMPTS = 3
# Errors after which neither a retry nor the other shards can succeed.
FATAL_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG))


@dataclasses.dataclass(frozen=True)
class Failure:
    """A shard that could not be written, and the reason; the job continues with the others."""

    reason: str


Outcomes = Iterator[tuple[Shard, Summary | Failure]]


def attempt(shard: Shard, advance: Callable[[int], None]) -> Summary | Failure:
    """Writes a shard; retries if that fails.

    Args:
      shard: the work item.
      advance: called after each image with the number of images finished in this attempt.

    Raises:
      OSError: the disk is full or cannot be written at all.
    """
    for _ in range(ATTEMPTS):
        try:
            return shards.write(shard, advance)
        except OSError as error:
            if error.errno in FATAL_ERRNOS:
                raise
            reason = str(error)
        except Exception as error:  # whatever it is, the other shards are not affected
            reason = f"{type(error).__name__}: {error}"
    return Failure(" ".join(reason.split()))
