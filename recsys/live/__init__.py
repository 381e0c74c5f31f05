"""The catalogue as it is now: a release's items plus everything upserted or deleted since.

view          the snapshot that a request looks at
updating      from one snapshot to the next, at the cost of what changed
newcomers     items that came after the release: their rows, vectors and content
availability  who is hidden, and from when until when the others are shown
unjudged      content of upserted items that no head has looked at
searches      the indexes over what is shown
layered       a mapping that is changed by copying little of it
"""

from recsys.live.availability import ALWAYS_MS, NEVER_MS
from recsys.live.updating import make_ready, updated, view_of
from recsys.live.view import CatalogView

__all__ = ["ALWAYS_MS", "NEVER_MS", "CatalogView", "make_ready", "updated", "view_of"]
