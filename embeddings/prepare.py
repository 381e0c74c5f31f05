"""The first phase of encoding, ahead of the device: contents → features, in order, those refused among them.

Pictures and sound are decoded in isolated processes, because a file from anywhere may be hostile; texts are tokenised
in a thread, some hundreds at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

from embeddings.contents import Candidate
from embeddings.encoder import Encoder
from embeddings.preprocess.features import Content, Features
from embeddings.preprocess.text import TextPreprocessor
from embeddings.refused import Refused
from recsys.errors import InputError

Prepared = tuple[Candidate, Features | Refused]
CHUNK = 256


def prepared(
    contents: Iterator[tuple[Candidate, Content]], encoder: Encoder, *, decode_workers: int
) -> Generator[Prepared, None, None]:
    """Features of each content.

    Args:
        decode_workers: processes for pictures and sound; 0 decodes in this process, which is for files that you made.
    """
    if encoder.space.modality in ("image", "audio") and decode_workers > 0:
        yield from _isolated(contents, encoder, decode_workers)
    else:
        yield from _in_a_thread(contents, encoder)


def _isolated(contents: Iterator[tuple[Candidate, Content]], encoder: Encoder, workers: int) -> Iterator[Prepared]:
    first = next(contents, None)
    if first is None:  # nothing to decode: no process is started
        return

    from embeddings.isolation import DecodePool

    contents = chain([first], contents)
    as_bytes = ((candidate, content) for candidate, content in contents if isinstance(content, bytes))
    with DecodePool(encoder.space.preprocessing, workers=workers) as pool:
        yield from pool.map(as_bytes)


def _in_a_thread(contents: Iterator[tuple[Candidate, Content]], encoder: Encoder) -> Iterator[Prepared]:
    def work(chunk: list[tuple[Candidate, Content]]) -> list[Prepared]:
        if isinstance(encoder.preprocessor, TextPreprocessor):
            features = encoder.preprocessor.many([content for _, content in chunk])
            return [(candidate, each) for (candidate, _), each in zip(chunk, features, strict=True)]
        return [(candidate, features_of(encoder, content)) for candidate, content in chunk]

    size = CHUNK if encoder.space.modality == "text" else 4
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
        ahead = deque([pool.submit(work, chunk)]) if (chunk := list(islice(contents, size))) else deque()
        while ahead:
            if chunk := list(islice(contents, size)):
                ahead.append(pool.submit(work, chunk))
            yield from ahead.popleft().result()


def features_of(encoder: Encoder, content: Content) -> Features | Refused:
    """One content's features, in this process."""
    try:
        return encoder.preprocess(content)
    except Refused as refused:
        return refused
    except InputError as error:
        return Refused("damaged", str(error))
