"""As much of curl as the README uses, over urllib, for machines without it; it knows -s -G -X -H -d --data-binary
--data-urlencode.

A reply that is no success ends with 22 after its body is printed, as `curl --fail-with-body` does.
"""

import argparse
import sys
import urllib.error
import urllib.parse
import urllib.request


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-G", action="store_true")
    parser.add_argument("-X")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", action="append", default=[])
    parser.add_argument("--data-binary", action="append", default=[])
    parser.add_argument("--data-urlencode", action="append", default=[])
    parser.add_argument("url")
    asked = parser.parse_args()
    given = [sys.stdin.read() if part == "@-" else part for part in (*asked.d, *asked.data_binary)]
    parts = given if asked.data_binary else [part.replace("\n", "") for part in given]
    for part in asked.data_urlencode:
        name, _, value = part.partition("=")
        parts.append(f"{name}={urllib.parse.quote(value)}")
    data = "&".join(parts)
    url = f"{asked.url}?{data}" if asked.G else asked.url
    headers = dict(header.split(": ", 1) for header in asked.H)
    request = urllib.request.Request(url, None if asked.G or not data else data.encode(), headers, method=asked.X)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            print(reply.read().decode())
        return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode())
        return 22


if __name__ == "__main__":
    sys.exit(main())
