"""The hard rules: what may not be shown, in one ordered table. A rule is a mask, never a penalty.

An item whose own state cannot be told is hidden (`recsys.live`). What a user has seen or blocked is unknown while
the store does not answer: `FilterConfig.fail_open` says which of these rules lets items pass then, and the stage says
that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.errors import MissingArtifact
from recsys.expressions.columns import TAGS, UNSURE
from recsys.expressions.evaluation import allowed_by, mask_of, matches
from recsys.expressions.parsing import parse
from recsys.expressions.syntax import And, Column, Expression, Has, Or, Text
from recsys.live import CatalogView
from recsys.ports import AllowedRows
from recsys.release import LoadedRelease
from recsys.tags import MAX_TAG_CHARACTERS
from recsys.types import Query

UserRule = Literal["blocked", "seen"]
BlockedTag = Annotated[str, Field(min_length=1, max_length=MAX_TAG_CHARACTERS)]

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
NOTHING_MATCHES = "nothing_matches_the_filter"
NEVER_JUDGED = "blocked_tag_never_judged"
FEW_SHARE = 1 / 16
OUT_OF_STOCK = "attributes.in_stock = false or attributes.stock <= 0"


class FilterConfig(Config):
    """What the rules do. Expressions are written in the filter language of the API.

    Attributes:
        exclude_seen: never recommend what the user already interacted with. Who searches, or asks for given items or
            for those like one, finds it again.
        exclude_served_s: the same of what was served to the user in the last so many seconds; 0 switches it off, and
            spares a write a request.
        out_of_stock: items that match this are not shown; "" = all are in stock.
        never: items that match any of these are not shown, whoever asks (`tags has "nsfw"`).
        only: items must match all of these.
        blocked_tags: tags of which no item is shown that has one, nor any of which nobody can tell: because the model
            is too little sure, could not look, or has not seen the picture yet that the item has now. Where no head of
            a release can give the tag, nothing is shown: run `recsys tag`, and build a release.
        fail_open: rules that let items pass while the user's state is unknown. A rule that is left out drops
            everything then: take "blocked" out where no answer is better than a blocked item.
    """

    exclude_seen: bool = True
    exclude_served_s: Annotated[float, Field(ge=0)] = 0.0
    out_of_stock: str = OUT_OF_STOCK
    never: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    blocked_tags: tuple[BlockedTag, ...] = ()
    fail_open: tuple[UserRule, ...] = ("blocked", "seen")

    @property
    def expressions(self) -> tuple[str, ...]:
        """Every filter expression in it, for checking."""
        return (*((self.out_of_stock,) if self.out_of_stock else ()), *self.never, *self.only)


def _none64() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _none32() -> NDArray[np.uint32]:
    return np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class GateInput:
    """What the rules look at, for one user at one time.

    Attributes:
        now_ms: UTC milliseconds.
        seen, blocked, excluded, served: uint64 `hash64` of item ids, each sorted.
        user_is_known: False while the store does not answer: `seen` and `blocked` are then not all there is.
        paged: uint32 `hash32` of item ids on earlier pages, sorted.
        forbidden: rule → bool [N + M] over the catalogue's rows, True for those that may not be shown.
        matching: the items that the request's filter lets pass; None = all.
    """

    catalog: CatalogView
    now_ms: int
    seen: NDArray[np.uint64] = field(default_factory=_none64)
    blocked: NDArray[np.uint64] = field(default_factory=_none64)
    excluded: NDArray[np.uint64] = field(default_factory=_none64)
    user_is_known: bool = True
    served: NDArray[np.uint64] = field(default_factory=_none64)
    paged: NDArray[np.uint32] = field(default_factory=_none32)
    forbidden: tuple[tuple[str, Mask], ...] = ()
    matching: AllowedRows | None = None

    @property
    def n_matching(self) -> int:
        """Rows that the filter lets pass: no search finds more."""
        return len(self.catalog) if self.matching is None else self.matching.n_allowed


@dataclass(frozen=True, slots=True)
class Rule:
    """`drops(gate, rows)` is bool [C], True for the rows that may not be shown; None where the rule drops none."""

    name: str
    drops: Callable[[GateInput, Rows], Mask | None]


RULES: tuple[Rule, ...] = (
    Rule("hidden", lambda gate, rows: gate.catalog.hidden[rows]),
    Rule("not_yet_available", lambda gate, rows: _not_yet(gate, rows)),
    Rule("expired", lambda gate, rows: _expired(gate, rows)),
    Rule("blocked", lambda gate, rows: _is_in(gate, rows, gate.blocked)),
    Rule("excluded", lambda gate, rows: _is_in(gate, rows, gate.excluded)),
    Rule("filter", lambda gate, rows: None if gate.matching is None else ~gate.matching.mask[rows]),
    Rule("seen", lambda gate, rows: _is_in(gate, rows, gate.seen)),
    Rule("served_recently", lambda gate, rows: _is_in(gate, rows, gate.served)),
    Rule("on_an_earlier_page", lambda gate, rows: _is_paged(gate, rows)),
)


def allowed(gate: GateInput, rows: Rows, config: FilterConfig, dropped: dict[str, int] | None = None) -> Mask:
    """bool [C]: which rows may be shown. `dropped` is told how many each rule dropped that none before it had."""
    keep = np.ones(len(rows), dtype=np.bool_)
    if fails_closed(gate, config):
        _drop("user_unknown", np.ones(len(rows), dtype=np.bool_), keep, dropped)
        return keep
    for rule in RULES:
        if rule.name != "seen" or config.exclude_seen:
            mask = rule.drops(gate, rows)
            if mask is not None:
                _drop(rule.name, mask, keep, dropped)
    for name, forbidden in gate.forbidden:
        _drop(name, forbidden[rows], keep, dropped)
    return keep


def fails_closed(gate: GateInput, config: FilterConfig) -> bool:
    """Whether nothing may be shown, because a rule that must not fail open cannot be judged."""
    if gate.user_is_known:
        return False
    in_force = {"blocked", "seen"} if config.exclude_seen else {"blocked"}
    return not in_force <= set(config.fail_open)


def forbidden_by(config: FilterConfig, catalog: CatalogView) -> tuple[tuple[str, Mask], ...]:
    """What nobody may be shown by the configuration's own expressions."""
    rules = [(name, mask_of(when, catalog)) for name, when in _never(config)]
    if never_judged(config, catalog.release):
        rules.append(("blocked_tag", np.ones(len(catalog), dtype=np.bool_)))
    return tuple(rules)


def _never(config: FilterConfig) -> list[tuple[str, Expression]]:
    """Rules that an expression makes, and the expression: what matches it is not shown."""
    rules = [("out_of_stock", config.out_of_stock), *(("never", text) for text in config.never)]
    parsed = [(name, parse(text)) for name, text in rules if text]
    return [*parsed, ("blocked_tag", _has_or_may_have(config.blocked_tags))] if config.blocked_tags else parsed


@lru_cache(maxsize=512)
def _has_or_may_have(tags: tuple[str, ...]) -> Expression:
    """`tags has any (...) or tags_unsure has any (...)`."""
    names = tuple(map(Text, tags))
    return Expression(Or((Has(Column(TAGS), "any", names), Has(Column(UNSURE), "any", names))))


def never_judged(config: FilterConfig, release: LoadedRelease) -> tuple[str, ...]:
    """Blocked tags that no head of the release can give: of no item is it known whether it has them."""
    return tuple(tag for tag in config.blocked_tags if tag not in release.covered_tags)


def require_judged(config: FilterConfig, release: LoadedRelease) -> None:
    """Raises MissingArtifact: a tag is blocked that no head of the release can give, so that nothing could be shown."""
    unknown = never_judged(config, release)
    if unknown:
        raise MissingArtifact(
            f"no head of release {release.release_id[:12]} covers {', '.join(map(repr, unknown))} of blocked_tags: run "
            "`recsys tag` and `recsys release build`"
        )


def rules_against(catalog: CatalogView, row: int, config: FilterConfig, now_ms: int) -> tuple[str, ...]:
    """The rules that keep an item from everybody, in their order, each once; none where slates may show it."""
    rows, nobody = np.array([row], dtype=np.int64), GateInput(catalog, now_ms)
    against = [rule.name for rule in RULES if (mask := rule.drops(nobody, rows)) is not None and mask[0]]
    against += [name for name, when in _never(config) if matches(when, catalog, rows)[0]]
    against += ["blocked_tag"] if never_judged(config, catalog.release) else []
    against += ["filter"] if not all(matches(parse(text), catalog, rows)[0] for text in config.only) else []
    return tuple(dict.fromkeys(against))


def fallback_of(gate: GateInput, config: FilterConfig) -> str:
    """What the rules cannot tell, and what came of it; "" where they can."""
    if gate.user_is_known:
        return unjudged_note(config, gate.catalog)
    return "nothing_is_shown" if fails_closed(gate, config) else "without_stored_seen_and_blocked"


def unjudged_note(config: FilterConfig, catalog: CatalogView) -> str:
    """Why nothing at all is shown for a blocked tag; "" where something may be."""
    return NEVER_JUDGED if config.blocked_tags and never_judged(config, catalog.release) else ""


def matching_of(text: str, config: FilterConfig, catalog: CatalogView) -> AllowedRows | None:
    """The rows that the request's filter and the configuration's let pass; None = everything.

    Raises:
        InvalidRequest: the text is no expression; the border has checked it.
    """
    texts = (*config.only, text) if text else config.only
    return allowed_by(_all_of(texts), catalog) if texts else None


@lru_cache(maxsize=512)
def _all_of(texts: tuple[str, ...]) -> Expression:
    """One expression, so that its mask is kept like that of any other."""
    parts = [parse(each) for each in texts]
    return parts[0] if len(parts) == 1 else Expression(And(tuple(each.root for each in parts)))


def still_allowed(
    gate: GateInput,
    latest: CatalogView,
    rows: Rows,
    text: str,
    config: FilterConfig,
    dropped: dict[str, int] | None = None,
) -> Mask:
    """bool [C]: which of the gate's rows may be shown by what is known of them in a later snapshot. Looks at these
    alone: no mask is made for it.

    An item that the later snapshot does not know is dropped. `text` is the request's filter: what matched it before
    must match it still.
    """
    rows_now, is_known = _rows_in(latest, gate.catalog, rows)
    keep = is_known.copy()
    if dropped is not None and not keep.all():
        dropped["hidden"] = dropped.get("hidden", 0) + int(np.count_nonzero(~keep))
    now = replace(gate, catalog=latest, forbidden=(), matching=None)
    judged = allowed(now, rows_now[is_known], config, dropped)
    for name, forbids in _never(config):
        _drop(name, matches(forbids, latest, rows_now[is_known]), judged, dropped)
    if never_judged(config, latest.release):
        _drop("blocked_tag", np.ones(len(judged), dtype=np.bool_), judged, dropped)
    for when in config.only:
        _drop("filter", ~matches(parse(when), latest, rows_now[is_known]), judged, dropped)
    if text and gate.matching is not None:
        # Where the filter was lifted because nothing matched it, nothing is asked of these rows.
        matched = gate.matching.mask[rows[is_known]]
        _drop("filter", matched & ~matches(parse(text), latest, rows_now[is_known]), judged, dropped)
    keep[is_known] = judged
    return keep


def _rows_in(latest: CatalogView, earlier: CatalogView, rows: Rows) -> tuple[Rows, Mask]:
    """The rows int64 [C] of the same items in another snapshot, and whether it knows them."""
    if latest.lineage is earlier.lineage:
        return rows, np.ones(len(rows), dtype=np.bool_)
    found = [latest.row(earlier.item_id(row)) for row in rows.tolist()]
    return (
        np.array([-1 if row is None else row for row in found], dtype=np.int64),
        np.array([row is not None for row in found], dtype=np.bool_),
    )


def unfiltered(gate: GateInput, config: FilterConfig) -> GateInput:
    """The same gate without the request's own filter."""
    return replace(gate, matching=matching_of("", config, gate.catalog))


def top_up(gate: GateInput, tried: Rows, n_missing: int, config: FilterConfig, block: int = 4096) -> Rows:
    """Allowed rows that were no candidates, the most popular first, newcomers last: short only when all is tried."""
    found = np.empty(0, np.int64)
    if fails_closed(gate, config):
        return found
    for order in _most_popular_first(gate):
        for start in range(0, len(order), block):
            if len(found) >= n_missing:
                return found[:n_missing]
            rows = order[start : start + block]
            rows = rows[~np.isin(rows, tried)]
            found = np.concatenate([found, rows[allowed(gate, rows, config)]])
    return found[:n_missing]


def _most_popular_first(gate: GateInput) -> Iterator[Rows]:
    """The rows that match the filter: those of the release by falling popularity, then newcomers, the latest first."""
    release, n_now, matching = gate.catalog.release, len(gate.catalog), gate.matching
    n = release.n_items
    if matching is None:
        yield release.popular_rows
        yield np.arange(n_now - 1, n - 1, -1, dtype=np.int64)
    elif matching.n_allowed < FEW_SHARE * n_now:  # putting them in order costs less than passing over all
        of_release, newcomers = np.split(matching.rows, [np.searchsorted(matching.rows, n)])
        yield of_release[np.argsort(-release.log_popularity[of_release], kind="stable")]
        yield newcomers[::-1]
    else:
        yield release.popular_rows[matching.mask[release.popular_rows]]
        yield n_now - 1 - np.flatnonzero(matching.mask[n:][::-1])


def lets_go(query: Query, gate: GateInput) -> bool:
    """Whether a request whose filter nothing matches any more is answered without it: not where it is strict, nor where
    earlier pages showed what matches: it has then come to its end."""
    if not query.filter or query.strict_filtering or gate.matching is None:
        return False
    matched_before = _is_paged(gate, gate.matching.rows)
    return matched_before is None or not matched_before.any()


def _drop(name: str, mask: Mask, keep: Mask, dropped: dict[str, int] | None) -> None:
    """Take the rows of `mask` out of `keep`."""
    if dropped is not None:
        n = int(np.count_nonzero(mask & keep))
        if n:
            dropped[name] = dropped.get(name, 0) + n
    np.greater(keep, mask, out=keep)


def _not_yet(gate: GateInput, rows: Rows) -> Mask | None:
    when = gate.catalog.availability
    return when.from_ms[rows] > gate.now_ms if when.some_start else None


def _expired(gate: GateInput, rows: Rows) -> Mask | None:
    when = gate.catalog.availability
    return when.until_ms[rows] <= gate.now_ms if when.some_end else None


def _is_in(gate: GateInput, rows: Rows, hashes: NDArray[np.uint64]) -> Mask | None:
    """Membership by binary search: `hashes` is sorted and may be far longer than the candidates."""
    return _among(gate.catalog.item_hashes[rows], hashes) if len(hashes) else None


def _is_paged(gate: GateInput, rows: Rows) -> Mask | None:
    return _among(gate.catalog.item_hashes[rows].astype(np.uint32), gate.paged) if len(gate.paged) else None


def _among(mine: NDArray[np.unsignedinteger], hashes: NDArray[np.unsignedinteger]) -> Mask:
    at = np.searchsorted(hashes, mine)
    at[at == len(hashes)] = 0
    return np.asarray(hashes[at] == mine)
