"""Weights by name: from the local cache or the model hub, or a clear error; never a hang without a network."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

from recsys.errors import WeightsUnavailable

CONNECT_TIMEOUT_S = 3.0


@contextmanager
def quiet_loading() -> Iterator[None]:
    """transformers without its progress bars and load reports, for as long as this lasts."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def weights_by_name(spec: str, *, bring: str, local: bool = False) -> Iterator[None]:
    """Run a library's loading code; without a network it sees its cache only, and fails at once.

    Args:
        spec: the encoder asked for.
        bring: how to bring its weights to a machine without a hub, for the error message.
        local: all that is needed lies on this machine, so the hub is not asked.

    Raises:
        WeightsUnavailable: whatever kept the library from loading.
    """
    offline_before = constants.HF_HUB_OFFLINE
    # The hub client retries for minutes on a network that swallows packets; its offline switch is this constant.
    constants.HF_HUB_OFFLINE = offline_before or local or not hub_answers()
    # What they log on the way to an exception, the exception says too.
    logged_before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        no_hub = constants.HF_HUB_OFFLINE and not local
        where = "the model hub cannot be reached" if no_hub else "loading failed"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailable(f"the weights of {spec} cannot be had here ({where}: {reason}). {bring}") from error
    finally:
        logging.disable(logged_before)
        constants.HF_HUB_OFFLINE = offline_before


def hub_answers(timeout_s: float = CONNECT_TIMEOUT_S) -> bool:
    """Whether the hub, or the proxy on the way to it, takes a connection within `timeout_s`."""
    target = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    answered = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((target.hostname or "", target.port or 443), timeout=timeout_s):
                answered.set()
        except OSError:
            pass

    # In a thread of its own: looking up a name has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answered.is_set()
