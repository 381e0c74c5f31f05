"""Why each item of a slate has its value: `explain` gives parts that add up to it, and what of the history leads there.

shapley     what each player brings to a game, from the worth of all coalitions
towers      the similarity when the towers see only what some players know
values      the value when only some players take part
because     what each item would lose without one of the history's items
explaining  these together, for one slate
"""

from recsys.explanations.explaining import NOT_ASKED, UNEXPLAINED, Explanation, Explanations, as_one, explain

__all__ = ["NOT_ASKED", "UNEXPLAINED", "Explanation", "Explanations", "as_one", "explain"]
