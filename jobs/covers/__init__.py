"""Covers drawn from title, year and genres, where real pictures may not be redistributed.

    batch       many covers into a folder, resumable, in worker processes
    layouts     one cover: where picture and words stand
    scenes, emblems   the pictures: landscapes, and abstract forms
    palettes    colours of each genre
    typography  faces, and words fitted into boxes
    pen         anti-aliased shapes

A cover is a pure function of (item_id, title, year, genres): the same bytes on each run with the same Pillow and fonts.
"""

from jobs.covers.batch import CoverItem, CoverReport, cover_file_name, draw_covers, read_cover_items
from jobs.covers.layouts import COVER_SIZE, draw_cover

__all__ = ["COVER_SIZE", "CoverItem", "CoverReport", "cover_file_name", "draw_cover", "draw_covers", "read_cover_items"]
