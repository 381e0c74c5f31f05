"""The stores of the contract suites, for what is built on a store."""

from tests.contracts.conftest import redis_server, store, store_url

__all__ = ["redis_server", "store", "store_url"]
