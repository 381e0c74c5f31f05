"""What the service says of a release that it pulls."""

from __future__ import annotations

import logging

from recsys.storage.transfers import Transfer
from serving.telemetry import log


def log_transfer(transfer: Transfer) -> None:
    """One line for each file that arrived, and every few seconds for one that takes long."""
    log(
        logging.INFO,
        "a file of a release arrived" if transfer.done_bytes == transfer.size_bytes else "a file of a release comes in",
        release=transfer.release_id,
        file=transfer.name,
        done_bytes=transfer.done_bytes,
        size_bytes=transfer.size_bytes,
        seconds=round(transfer.seconds, 3),
    )
