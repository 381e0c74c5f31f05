"""Pictures that come in a JSON body."""

from __future__ import annotations

import base64
import binascii

from recsys.errors import InvalidRequest

FIELD = "/image_base64"


def decoded_base64(text: str, max_bytes: int) -> bytes:
    """The bytes of a picture's file. Raises InvalidRequest when it is no base64, or too large."""
    try:
        picture = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidRequest(f"image_base64 is not base64: {error}", field=FIELD) from None
    if len(picture) > max_bytes:
        raise InvalidRequest(f"the picture has {len(picture)} bytes; at most {max_bytes}", field=FIELD)
    return picture
