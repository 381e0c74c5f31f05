"""From ranked candidates to the places of a slate: `choose_slate`, one function for every surface.

value → boosts → slots and pins set aside → diversity and caps → exploration → buried last

A rule only ever moves what is among the candidates: what may not be shown has left before, and no pin brings it back.
Letters: C candidates, L places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.reranking.config import ExplorationConfig, RerankConfig, SurfaceRules
from recsys.reranking.exploration import Drawn, mixed_in, plackett_luce, soft_choice
from recsys.reranking.groups import GroupsOf, OpenCaps
from recsys.reranking.mmr import Scores, contenders, fill, order_of, worth_of
from recsys.reranking.notes import RerankNote, RuleName

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Matcher = Callable[[str, Rows], Mask]
"""(filter expression, item rows int64 [C]) → bool [C]."""


def _no_matcher(when: str, rows: Rows) -> Mask:
    raise ValueError(f"the rule {when!r} needs a matcher: hand one to choose_slate")


def _no_groups(column: str, rows: Rows) -> NDArray[np.int32]:
    raise ValueError(f"the cap of {column!r} needs its groups: hand groups_of to choose_slate")


@dataclass(frozen=True, slots=True)
class SlateInput:
    """What a slate is chosen from.

    Attributes:
        rows: int64 [C], item rows of the candidates, all of which may be shown.
        value: float32 [C], falling.
        limit: places.
        diversity: item rows int64 [c] → compact content vectors float32 [c, K] (`CatalogView.diversity`).
        matches: evaluates the rules' filter expressions.
        groups_of: the codes that caps count by.
        pins: item row → place, the rules' pins in rows of this catalogue (`pinned_rows`).
        is_cold: bool [C], which candidates exploration may pick; None = none.
        seed: of every choice by chance.
        explain: note what diversity moved as well.
    """

    rows: Rows
    value: Floats
    limit: int
    diversity: Callable[[Rows], Floats]
    matches: Matcher = _no_matcher
    groups_of: GroupsOf = _no_groups
    pins: Mapping[int, int] = field(default_factory=dict)
    is_cold: Mask | None = None
    seed: int = 0
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """A slate.

    Attributes:
        at: int64 [L], the chosen candidates, as places in `SlateInput.rows`.
        value: float32 [L], with boosts.
        boost: float32 [L], what of the value the rules gave; None = nothing to any.
        propensity: float32 [L]; given the places before, the probability of this item at this place.
        notes: what the rules did.
    """

    at: Rows
    value: Floats
    boost: Floats | None
    propensity: Floats
    notes: tuple[RerankNote, ...]


def pinned_rows(pins: Mapping[str, int], row_of: Callable[[str], int | None]) -> dict[int, int]:
    """item row → place; ids that this catalogue does not know are left out."""
    known = ((row_of(item_id), place) for item_id, place in pins.items())
    return {row: place for row, place in known if row is not None}


def choose_slate(given: SlateInput, config: RerankConfig) -> Chosen:
    """The slate of these candidates, min(limit, C) places; see the module."""
    n_places = max(min(given.limit, len(given.rows)), 0)
    if config.rules.is_empty and config.exploration.is_off:
        at = _plain(given, n_places, config)
        notes = _moved(at) if given.explain else ()
        return Chosen(at, given.value[at], None, np.ones(n_places, np.float32), notes)
    return _Choice(given, config, n_places).made()


def _plain(given: SlateInput, n_places: int, config: RerankConfig) -> Rows:
    """Diversity alone, over the window; int64 [n_places]."""
    window = min(len(given.rows), max(n_places, config.window))
    if config.diversity == 0 or n_places < 2:
        return np.arange(n_places)
    worth = worth_of(given.value[:window], config.diversity)
    near = contenders(worth, n_places, config.diversity)
    return fill(worth[:near], given.diversity(given.rows[:near]), n_places, config.diversity)


def _moved(at: Rows) -> tuple[RerankNote, ...]:
    return tuple(
        RerankNote(came_from, place, "diversity", f"unlike those before it; by value alone at place {came_from}")
        for place, came_from in enumerate(at.tolist())
        if came_from > place
    )


class _Choice:
    """One slate under rules, while it is chosen."""

    def __init__(self, given: SlateInput, config: RerankConfig, n_places: int) -> None:
        self._given = given
        self._config = config
        self._rules: SurfaceRules = config.rules
        self._exploration: ExplorationConfig = config.exploration
        self._n_places = n_places
        self._rng = None if config.exploration.is_off else np.random.Generator(np.random.PCG64(given.seed))
        self._effects: list[tuple[RuleName, str, Mask]] = []
        self._left_out: list[RerankNote] = []

    def made(self) -> Chosen:
        value = self._boosted()
        by_value = order_of(value)
        pinned = self._pinned()
        is_buried = self._buried(list(pinned.values()))
        places = self._up(pinned | self._for_slots(by_value, is_buried, list(pinned.values())))
        free = by_value[~(self._mask(list(places.values())) | is_buried)[by_value]]
        n_free = self._n_places - len(places)
        drawn = self._filled(value, free, list(places.values()), min(n_free, len(free)))
        drawn = self._with_buried(drawn, by_value[is_buried[by_value]], n_free)
        drawn = self._explored(drawn, free, n_free)
        return self._joined(drawn, places, value)

    def _boosted(self) -> Floats:
        given, boosts = self._given, self._rules.boosts
        if not boosts:
            return given.value
        value = given.value.astype(np.float32, copy=True)
        for boost in boosts:
            mine = given.matches(boost.when, given.rows)
            factor = np.float32(boost.multiply)
            more = np.where(value > 0, value * factor, value / factor) + np.float32(boost.add)
            value = np.where(mine, more, value)
            self._note(mine, "boost", f"boosted: {boost.when}")
        return value

    def _pinned(self) -> dict[int, int]:
        """place → candidate."""
        rows = self._given.rows
        places: dict[int, int] = {}
        for row, place in self._given.pins.items():
            is_it = rows == row
            if place < self._given.limit and is_it.any():
                places[place] = int(is_it.argmax())
                self._note(is_it, "pin", f"pinned to place {place}")
        return places

    def _buried(self, pinned: list[int]) -> Mask:
        buried, may_be = self._mask([]), ~self._mask(pinned)
        for when in self._rules.bury:
            mine = self._given.matches(when, self._given.rows) & may_be
            self._note(mine & ~buried, "bury", f"below all others: {when}")
            buried |= mine
        return buried

    def _for_slots(self, by_value: Rows, is_buried: Mask, taken: list[int]) -> dict[int, int]:
        """place → candidate: for each slot in order the best of its kind that has no place yet."""
        places: dict[int, int] = {}
        for slot in self._rules.slots:
            if slot.position >= self._given.limit:
                continue
            free = ~(is_buried | self._mask([*taken, *places.values()]))
            fits = self._given.matches(slot.when, self._given.rows) & free
            if fits.any():
                best = int(by_value[fits[by_value].argmax()])
                places[slot.position] = best
                self._note(self._mask([best]), "slot", f"place {slot.position} is for {slot.when}")
        return places

    def _up(self, places: Mapping[int, int]) -> dict[int, int]:
        """A slate that is short has no place for the last ones: they move up."""
        kept = sorted(places)[: self._n_places]
        return {min(place, self._n_places - len(kept) + at): places[place] for at, place in enumerate(kept)}

    def _filled(self, value: Floats, free: Rows, aside: list[int], n_places: int) -> Drawn:
        """Diversity, caps and temperature over the window of the free candidates."""
        config, temperature = self._config, self._exploration.temperature
        window = free[: max(n_places, config.window)]
        worth = worth_of(value[window], config.diversity)
        if not (temperature or self._rules.all_caps or aside):
            if config.diversity == 0 or n_places < 2:
                return _certain(window[:n_places])
            near = window[: contenders(worth, n_places, config.diversity)]
            content = self._given.diversity(self._given.rows[near])
            return _certain(near[fill(worth[: len(near)], content, n_places, config.diversity)])
        if temperature and self._rng is not None and config.diversity == 0 and not self._rules.all_caps:
            drawn = plackett_luce(worth / np.float32(temperature), n_places, self._rng)
            return Drawn(window[drawn.chosen], drawn.propensity, drawn.by_chance)
        return self._one_by_one(window, worth, aside, n_places)

    def _one_by_one(self, window: Rows, worth: Floats, aside: list[int], n_places: int) -> Drawn:
        """The loop of `fill`, with caps, a beginning (what is set aside) and choices by chance."""
        given, weight = self._given, self._config.diversity
        n_aside = len(aside)
        counted = np.concatenate([np.array(aside, dtype=np.int64), window])
        caps = OpenCaps(self._rules.all_caps, given.rows[counted], given.groups_of)
        content = given.diversity(given.rows[counted]) if weight else np.empty((len(counted), 0), np.float32)
        scores = Scores(np.concatenate([np.zeros(n_aside, np.float32), worth]), content, n_places, weight)
        for at in range(n_aside):
            caps.count(at)
            scores.take(at)
        chosen, propensity = np.empty(n_places, dtype=np.int64), np.ones(n_places, dtype=np.float32)
        by_chance = np.zeros(n_places, dtype=np.bool_)
        is_capped = bool(self._rules.all_caps)
        for place in range(n_places):
            now = np.where(caps.open, scores.now, np.float32(-np.inf)) if is_capped else scores.now
            best = int(now.argmax())
            if now[best] == -np.inf:
                is_capped, now = False, scores.now
                best = int(now.argmax())
            if self._exploration.temperature and self._rng is not None:
                greedy = best
                best, propensity[place] = soft_choice(now, self._exploration.temperature, self._rng)
                by_chance[place] = best != greedy
            if not is_capped and not caps.open[best]:
                self._note(self._mask([int(counted[best])]), "caps_lifted", "nothing within the caps was left to show")
            chosen[place] = counted[best]
            scores.take(best)
            caps.count(best)
        self._note_capped(counted[n_aside:], caps.full_by[n_aside:], chosen)
        return Drawn(chosen, propensity, by_chance)

    def _note_capped(self, window: Rows, full_by: Rows, chosen: Rows) -> None:
        """Of candidates that value alone would have shown."""
        shown = set(chosen.tolist())
        for at, number in zip(window.tolist(), full_by.tolist(), strict=True):
            if number >= 0 and at < self._n_places and at not in shown:
                cap = self._rules.all_caps[number]
                self._left_out.append(
                    RerankNote(at, None, "cap", f"at most {cap.max} with the same {cap.column} are shown")
                )

    def _with_buried(self, drawn: Drawn, buried: Rows, n_free: int) -> Drawn:
        missing = n_free - len(drawn.chosen)
        if missing <= 0:
            return drawn
        last = _certain(buried[:missing])
        return Drawn(
            np.concatenate([drawn.chosen, last.chosen]),
            np.concatenate([drawn.propensity, last.propensity]),
            np.concatenate([drawn.by_chance, last.by_chance]),
        )

    def _explored(self, drawn: Drawn, free: Rows, n_free: int) -> Drawn:
        share, is_cold = self._exploration.explore_share, self._given.is_cold
        if not share or self._rng is None or is_cold is None or not n_free:
            return drawn
        pool = free[is_cold[free]][: self._exploration.explore_pool]
        return mixed_in(drawn.chosen, pool, n_free, share, self._rng)

    def _joined(self, drawn: Drawn, places: Mapping[int, int], value: Floats) -> Chosen:
        """The free places in order, around those that were set aside."""
        at = np.empty(self._n_places, dtype=np.int64)
        propensity = np.ones(self._n_places, dtype=np.float32)
        is_free = np.ones(self._n_places, dtype=np.bool_)
        is_free[list(places)] = False
        at[list(places)] = list(places.values())
        at[is_free], propensity[is_free] = drawn.chosen, drawn.propensity
        if drawn.by_chance.any():
            tried = self._mask(drawn.chosen[drawn.by_chance].tolist())
            self._note(tried, "exploration", "shown to learn whether people like it")
        boost = value[at] - self._given.value[at] if self._rules.boosts else None
        return Chosen(at, value[at], boost, propensity, (*self._notes(at), *self._left_out))

    def _mask(self, candidates: list[int]) -> Mask:
        mask = np.zeros(len(self._given.rows), dtype=np.bool_)
        mask[candidates] = True
        return mask

    def _note(self, mine: Mask, rule: RuleName, text: str) -> None:
        self._effects.append((rule, text, mine))

    def _notes(self, at: Rows) -> list[RerankNote]:
        notes = []
        told = np.zeros(len(at), dtype=np.bool_)
        for rule, text, mine in self._effects:
            here = mine[at]
            told |= here
            notes += [RerankNote(int(at[place]), int(place), rule, text) for place in np.flatnonzero(here)]
        if self._given.explain:
            notes += [note for note in _moved(at) if not told[note.position]]
        return notes


def _certain(chosen: Rows) -> Drawn:
    return Drawn(chosen, np.ones(len(chosen), np.float32), np.zeros(len(chosen), np.bool_))
