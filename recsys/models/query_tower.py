"""From a history of item vectors to the query vector.

Letters: B queries, T interactions, D width, P width of a profile's text vector, S = T + 1 states (the learned start
token comes first, so state t has seen t interactions).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.models.config import ModelConfig

INIT_STD = 0.02
FIRST_LOG_RATES = (-1.0, -2.5, -4.0)
"""Logarithms of three forgetting rates: halved after about 2, 8 and 38 interactions."""


class Block(nn.Module):
    """One pre-norm transformer block (Xiong et al., "On layer normalization in the transformer architecture", 2020)."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, at: Tensor | None = None) -> Tensor:
        """All states float32 [B, S, D], or with `at` int64 [B] only that one of each row, float32 [B, 1, D].

        Args:
            x: float32 [B, S, D].
            mask: bool [B or 1, 1, S, S] (with `at`: [B, 1, 1, S]), True where a state (row) may look.
            at: the wanted states; None = all.
        """
        n, s, dim = x.shape
        heads = self.qkv(self.attention_norm(x)).view(n, s, 3, self.n_heads, dim // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # B x H x S x D/H
        if at is not None:
            wanted = at[:, None, None]
            x = x.gather(1, wanted.expand(-1, 1, dim))
            query = query.gather(2, wanted[:, None].expand(-1, self.n_heads, 1, dim // self.n_heads))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.dropout(self.attended(attended.transpose(1, 2).flatten(2)))
        fed: Tensor = x + self.dropout(self.narrow(functional.gelu(self.widen(self.feed_norm(x)))))
        return fed


class QueryTower(nn.Module):
    """A causal transformer over the history, beside recency-weighted means of the same item vectors.

    The means (one a forgetting rate, each with its own map that starts as the identity) make the tower a good
    nearest-neighbour recommender from the first step, and one that carries over to items it knows by content alone;
    the transformer learns the rest. Without order there are no positions, every state sees all interactions, and the
    means forget nothing, so that the result does not depend on the order of the input.
    """

    def __init__(self, config: ModelConfig, n_event_types: int, user_text_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.ordered = config.ordered
        self.input_scale = math.sqrt(dim)
        self.start = nn.Parameter(torch.randn(dim) * INIT_STD)
        self.event_types = nn.Parameter(torch.zeros(n_event_types, dim))
        self.positions = nn.Parameter(torch.randn(config.max_history + 1, dim) * INIT_STD) if config.ordered else None
        self.blocks = nn.ModuleList(Block(dim, config.n_heads, config.dropout) for _ in range(config.n_blocks))
        self.final_norm = nn.LayerNorm(dim)
        n_means = len(FIRST_LOG_RATES) if config.ordered else 1
        self.log_rates = nn.Parameter(torch.tensor(FIRST_LOG_RATES)) if config.ordered else None
        self.means = nn.Parameter(torch.eye(dim).repeat(n_means, 1, 1))
        self.user_text = nn.Linear(user_text_dim, dim) if user_text_dim else None
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        history: Tensor,
        event_types: Tensor,
        lengths: Tensor,
        user_text: Tensor | None = None,
        user_text_mask: Tensor | None = None,
    ) -> Tensor:
        """Query vectors float32 [B, D]: the state that has seen the whole history. Arguments as in `states`.

        The last block is computed for that state alone, so it costs about half of `states`.
        """
        x = self._inputs(history, event_types, user_text, user_text_mask)
        at = lengths if self.ordered else torch.zeros_like(lengths)
        if not self.blocks:
            x = x.gather(1, at[:, None, None].expand(-1, 1, x.shape[2]))
        mask = self._mask(x, lengths)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        for block in self.blocks[-1:]:
            keys = torch.arange(x.shape[1], device=x.device)
            x = block(x, (keys[None, :] <= lengths[:, None])[:, None, None, :], at)
        return self._finished(x[:, 0], self._mean(history, lengths))

    def states(
        self,
        history: Tensor,
        event_types: Tensor,
        lengths: Tensor,
        user_text: Tensor | None = None,
        user_text_mask: Tensor | None = None,
    ) -> Tensor:
        """All states, float32 [B, S, D], each as long as the temperature; its product with an item vector is a logit.

        Without order all states of a row but the first (the start token's) are of no use.

        Args:
            history: float32 [B, T, D], item vectors, oldest first, padded on the right.
            event_types: int64 [B, T].
            lengths: int64 [B], 0..T.
            user_text: float32 [B, P], where the model has profiles.
            user_text_mask: bool [B], False = no profile.
        """
        x = self._inputs(history, event_types, user_text, user_text_mask)
        mask = self._mask(x, lengths)
        for block in self.blocks:
            x = block(x, mask)
        means = self._running_means(history) if self.ordered else self._mean(history, lengths)[:, None]
        return self._finished(x, means)

    def _inputs(
        self, history: Tensor, event_types: Tensor, user_text: Tensor | None, user_text_mask: Tensor | None
    ) -> Tensor:
        """float32 [B, S, D]: the start token (with the profile), then the interactions."""
        start = self.start.expand(history.shape[0], -1)
        if self.user_text is not None and user_text is not None and user_text_mask is not None:
            start = start + torch.where(user_text_mask[:, None], self.user_text(user_text), 0.0)
        x = torch.cat([start[:, None], history * self.input_scale + self.event_types[event_types]], dim=1)
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        dropped: Tensor = self.dropout(x)
        return dropped

    def _finished(self, x: Tensor, means: Tensor) -> Tensor:
        x = self.final_norm(x) / self.input_scale + means
        return functional.normalize(x, dim=-1) * self.log_temperature.exp()

    def _mask(self, x: Tensor, lengths: Tensor) -> Tensor:
        """bool [1 or B, 1, S, S]. Right padding needs no mask under causal order: only padding can see it."""
        at = torch.arange(x.shape[1], device=x.device)
        if self.ordered:
            return (at[:, None] >= at[None, :])[None, None]
        return (at[None, :] <= lengths[:, None])[:, None, None, :].expand(-1, 1, x.shape[1], -1)

    def _running_means(self, history: Tensor) -> Tensor:
        """float32 [B, S, D]: at every state, the sum over the rates of each mean's map; 0 at the start."""
        at = torch.arange(history.shape[1], device=history.device)
        states = torch.arange(history.shape[1] + 1, device=history.device)
        age = (states[:, None] - 1 - at[None, :]).to(history.dtype)  # S x T, below 0 = not yet seen
        means = [self._shares(age, rate) @ history for rate in self._rates()]
        return self._mapped(means)

    def _mean(self, history: Tensor, lengths: Tensor) -> Tensor:
        """float32 [B, D]: the same for the state that has seen the whole history."""
        at = torch.arange(history.shape[1], device=history.device)
        age = (lengths[:, None] - 1 - at[None, :]).to(history.dtype)  # B x T
        means = [(self._shares(age, rate)[:, None, :] @ history)[:, 0] for rate in self._rates()]
        return self._mapped(means)

    def _mapped(self, means: list[Tensor]) -> Tensor:
        """The sum of each mean's map, float32 of the means' shape."""
        mapped = [mean @ mapping.T for mean, mapping in zip(means, self.means, strict=True)]
        return torch.stack(mapped).sum(dim=0)

    def _rates(self) -> list[Tensor]:
        """The forgetting rates; the one rate of data without order forgets nothing."""
        if self.log_rates is None:
            return [self.start.new_zeros(())]
        return list(self.log_rates.exp().unbind(0))

    @staticmethod
    def _shares(age: Tensor, rate: Tensor) -> Tensor:
        """Weights that add up to 1 over the seen interactions (age >= 0), or all 0 where nothing was seen."""
        share = torch.where(age >= 0, torch.exp(-rate * age.clamp(min=0)), 0.0)
        return share / share.sum(dim=-1, keepdim=True).clamp(min=1e-6)
