"""How the peers' data lies in Redis."""

from __future__ import annotations

import struct

# Log popularity, price, year, colour, available, seller, and two to come.
PACKED_ITEM = struct.Struct("<8f")
POPULARITY_AT, AVAILABLE_AT = 0, 4


def textbook_item(item_id: str) -> str:
    """A hash of the item's features."""
    return f"textbook:item:{item_id}"


def textbook_user(user_id: str) -> str:
    """JSON: the user's interactions."""
    return f"textbook:user:{user_id}"


def tuned_item(row: int) -> str:
    """`PACKED_ITEM`."""
    return f"t:i:{row}"


def tuned_user(user_id: str) -> str:
    """Item rows int32 [H], then event types uint8 [H]."""
    return f"t:u:{user_id}"
