"""The filter language: one typed expression that is true or false of each item.

    categories has "Comedy" and attributes.year >= 1995
    tags has any ("beach", "sea") and not tags has "nsfw"
    price < 20 or price is null
    available_from <= "2026-01-01T00:00:00Z" and title contains "wars"

Columns     item_id, title, description (texts), price (a number), available_from, available_until (times), hidden (true
            or false), categories, tags (lists), and attributes.NAME, attributes.NAME.NAME: whatever an item has there.
            A name that is not of letters, digits, _ and - is quoted: attributes."screen size". `tags` is the item's
            field of that name, or where it has none, attributes.tags if that is a list.
Values      "text" with JSON's escapes, numbers as in JSON, true, false. A time is a text in RFC 3339 with a zone.
Tests       = != < <= > >=, in (...), not in (...), has, has any (...), has all (...), contains, is null, is not null.
            Texts compare exactly, by code point; `contains` alone ignores case. Numbers compare as doubles.
Joined by   not, and, or, in falling precedence, and parentheses. Keywords in either case.

What is missing (absent, null, an empty list, an empty object) makes every test false but `is null`. There is no third
truth value: `not` of a test that is false is true. So `price != 5` holds for items that have a price other than 5,
`not price = 5` for those without a price too, and `x not in (...)` is short for `not x in (...)`.
A test against a value of another type (a text in a column of numbers) is false in the same way, `!=` included; where
a column has one type by definition, it is refused.

    parsing     text to `Expression` (syntax); refuses with the column at fault
    columns     the items of a release as typed columns (values), each made when first asked for
    overlay     what was upserted since, over them
    evaluation  `mask_of` a whole catalogue, `matches` of some rows
    planning    from a mask to a search under it
"""
