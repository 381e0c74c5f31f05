"""Why an item is not shown, in words that whoever runs the shop understands."""

from __future__ import annotations

from recsys.filtering import FilterConfig, rules_against
from recsys.live import CatalogView

NOT_FOR_APPLICATIONS = frozenset({"hidden", "never", "blocked_tag"})
"""Rules whose items an application is not even told about; what is sold out, or comes tomorrow, it may know."""

_IN_WORDS = {
    "hidden": "hidden, or deleted",
    "not_yet_available": "available_from lies ahead",
    "expired": "available_until is past",
    "out_of_stock": "it is out of stock",
    "never": "the configuration says never",
    "filter": "the surface's filter does not let it pass",
}


def reasons_against(catalog: CatalogView, row: int, config: FilterConfig, now_ms: int) -> dict[str, str]:
    """Rule → why it keeps the item from everybody's slates; empty where none does."""
    rules = rules_against(catalog, row, config, now_ms)
    return {rule: _IN_WORDS.get(rule) or _blocked(catalog, row, config) for rule in rules}


def _blocked(catalog: CatalogView, row: int, config: FilterConfig) -> str:
    """Which tags it has, or may have."""
    fields, blocked = catalog.fields(row), set(config.blocked_tags)
    names = {name: sorted(blocked & set(fields.get(name) or ())) for name in ("tags", "tags_unsure")}
    if names["tags"]:
        return f"it has a blocked tag: {', '.join(names['tags'])}"
    if names["tags_unsure"]:
        return f"nobody can tell whether it has a blocked tag: {', '.join(names['tags_unsure'])}"
    return "blocked_tags names a tag that no head covers: run `recsys tag` and `recsys release build`"
