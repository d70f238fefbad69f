"""Panels of attention's scores: (keys, COLUMNS), turned, so that each lane of the registers belongs to a query.

So only the queries of a panel are turned before the products, never the keys; the greatest score and the sum of a query are taken lane by
lane; each of attention's five products is one of `tiles`, which reads keys, values and gradients where they lie; and keys that a whole panel
may not look at are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..runtime.compiling import inner
from ..runtime.native import clear_floats, exp_falling, floats, integers
from ..runtime.tasks import FLOAT_BYTES, Address, at, row, span, word_at
from ..runtime.tiles import COLUMNS, ROWS, tile_of_rows
from .products.matrices import matrix_row

f32 = np.float32
MINUS_INFINITY = f32(-np.inf)
AT_ONCE = 4  # rows of a panel that are put together before they meet what memory holds of their lanes, which each row would wait for
TABLES = 4  # of addresses of rows: of k, v, scores and their gradients


class Work(NamedTuple):
    """Where a block is worked out, and tables of addresses for `tiles`: all addresses, which compile in half the time that arrays take."""

    panel: Address  # queries, turned; in backward those of a block, panel by panel
    g_panel: Address  # backward alone: gradients, turned
    scores: Address  # panels (keys, COLUMNS): scores, then weights
    dscores: Address  # backward alone: their gradients
    base: Address  # of each lane: what is taken from its scores
    top: Address  # the greatest score; in backward 1 / the sum of its exponentials
    total: Address  # that sum; in backward D
    nothing: Address  # (COLUMNS,) zeros
    k_rows: Address  # where rows of k begin
    v_rows: Address  # of v
    scores_rows: Address
    dscores_rows: Address
    last_rows: Address  # room for the end of such a table
    lanes_apart: Address  # 0, 1, 2, ...: a tile's rows are lanes of a panel
    rows_apart: Address  # 0, COLUMNS, ...: they are rows of it


@inner
def room_for(queries, keys, sizes):
    """How many floats, and how many int64, the work on panels of so many queries and keys takes, of which COLUMNS and ROWS are factors."""
    return queries * (sizes.width + sizes.features + 2 * keys + 3) + COLUMNS, TABLES * keys + 3 * ROWS


@inner
def work_in(room, words, queries, keys, sizes, k, v):
    """The work in arrays of these sizes, at these addresses."""
    g_panel = at(room, queries * sizes.width)
    scores = at(g_panel, queries * sizes.features)
    dscores = at(scores, queries * keys)
    base = at(dscores, queries * keys)
    nothing, last = at(base, 3 * queries), word_at(words, TABLES * keys)
    clear_floats(nothing, COLUMNS)
    tables, apart = integers(words, TABLES * keys), integers(last, 3 * ROWS)
    for j in range(keys):
        tables[j], tables[keys + j] = at(k.start, j * k.row_pitch), at(v.start, j * v.row_pitch)
        tables[2 * keys + j], tables[3 * keys + j] = at(scores, j * COLUMNS), at(dscores, j * COLUMNS)
    for r in range(ROWS):
        apart[ROWS + r], apart[2 * ROWS + r] = r, r * COLUMNS
    return Work(room, g_panel, scores, dscores, base, at(base, queries), at(base, 2 * queries), nothing, words, word_at(words, keys),
                word_at(words, 2 * keys), word_at(words, 3 * keys), last, word_at(last, ROWS), word_at(last, 2 * ROWS))  # fmt: skip


@inner
def pack_panel(at_panel, x, first, count, width, factor):
    """A panel (width, COLUMNS) = factor times rows first .. first + count - 1 of x, turned; lanes without a row are 0."""
    panel = floats(at_panel, width * COLUMNS)
    for lane in range(COLUMNS):
        if lane < count:
            source = matrix_row(x, first + lane, width)
            for c in range(width):
                panel[c * COLUMNS + lane] = factor * source[c]
        else:
            for c in range(width):
                panel[c * COLUMNS + lane] = f32(0)


@inner
def rows_times_panel(x, table, start, count, panel, width, targets, shift, w):
    """Rows of products (count, COLUMNS) = rows start .. start + count - 1 of x times the panel (width, COLUMNS).

    table: addresses of rows of a matrix with x's pitch, from its row 0 on.  targets: where rows of products begin, `shift` floats later;
    up to ROWS - 1 more are written than there are.
    """
    rows, last_rows = integers(table, start + count), integers(w.last_rows, ROWS)
    skip = (x.start - rows[0]) // FLOAT_BYTES + start * x.pitch
    for j in range(0, count, ROWS):
        sources = word_at(table, j)
        if count - j < ROWS:
            for r in range(ROWS):
                last_rows[r] = rows[min(j + r, count - 1)]
            sources = w.last_rows
        tile_of_rows(sources, skip, 1, width, 0, panel, COLUMNS, word_at(targets, j), shift, COLUMNS, w.nothing)


@inner
def mask_row(s, added):
    """Scores (COLUMNS,) of one key + a number that is the same for all queries; a key that is masked may be NaN."""
    for lane in range(s.size):
        s[lane] = MINUS_INFINITY if added == MINUS_INFINITY else s[lane] + added


@inner
def mask_panel(at_scores, mask, first, lanes, start, count, shift):
    """Add the mask to scores (count, COLUMNS) of keys from `start` on and queries from `first` on; -inf from key `query + shift + 1` on."""
    scores = floats(at_scores, count * COLUMNS)
    if mask.start and mask.pitch == 0:  # one row for all queries, as padding has it
        added = span(mask.start, start, start + count)
        for j in range(count):
            if added[j] != f32(0):
                mask_row(row(at_scores, j, COLUMNS), added[j])
    elif mask.start:
        for lane in range(lanes):
            added = span(at(mask.start, (first + lane) * mask.pitch), start, start + count)
            for j in range(count):
                i = j * COLUMNS + lane
                scores[i] = MINUS_INFINITY if added[j] == MINUS_INFINITY else scores[i] + added[j]
    for j in range(max(0, first + shift + 1 - start), count):
        for lane in range(max(0, min(COLUMNS, start + j - shift - first))):
            scores[j * COLUMNS + lane] = MINUS_INFINITY


@inner
def larger(a, b):
    """b if a is NaN."""
    return a if a > b else b


@inner
def raise_greatest(at_top, scores, count):
    """top[lane] = the greatest of itself and of its lane of scores (count, COLUMNS)."""
    top, whole = floats(at_top, COLUMNS), count // AT_ONCE * AT_ONCE
    for j in range(0, whole, AT_ONCE):
        s = floats(at(scores, j * COLUMNS), AT_ONCE * COLUMNS)
        for lane in range(COLUMNS):
            a, b = larger(s[lane], s[lane + COLUMNS]), larger(s[lane + 2 * COLUMNS], s[lane + 3 * COLUMNS])
            top[lane] = larger(larger(a, b), top[lane])
    for j in range(whole, count):
        s = row(scores, j, COLUMNS)
        for lane in range(COLUMNS):
            top[lane] = larger(s[lane], top[lane])


@inner
def add_lanes(at_total, weights, count):
    """total[lane] += the sum of its lane of weights (count, COLUMNS)."""
    total, whole = floats(at_total, COLUMNS), count // AT_ONCE * AT_ONCE
    for j in range(0, whole, AT_ONCE):
        w = floats(at(weights, j * COLUMNS), AT_ONCE * COLUMNS)
        for lane in range(COLUMNS):
            total[lane] += (w[lane] + w[lane + COLUMNS]) + (w[lane + 2 * COLUMNS] + w[lane + 3 * COLUMNS])
    for j in range(whole, count):
        w = row(weights, j, COLUMNS)
        for lane in range(COLUMNS):
            total[lane] += w[lane]


@inner
def exponentials_of_panel(scores, count, at_base, lanes):
    """scores (count, COLUMNS) become e^(score - base), lane by lane."""
    base = floats(at_base, lanes)
    for j in range(count):
        s = row(scores, j, COLUMNS)
        for lane in range(lanes):
            s[lane] = exp_falling(s[lane] - base[lane])


@inner
def weights_backward(weights, dweights, count, at_base, at_share, at_dot, lanes, scale):
    """weights (count, COLUMNS), which hold scores, become P; dweights, which hold dP, become scale dS = scale P (dP - D)."""
    base, share, dot = floats(at_base, lanes), floats(at_share, lanes), floats(at_dot, lanes)
    for j in range(count):
        s, d = row(weights, j, COLUMNS), row(dweights, j, COLUMNS)
        for lane in range(lanes):
            p = exp_falling(s[lane] - base[lane]) * share[lane]
            s[lane] = p
            d[lane] = scale * p * (d[lane] - dot[lane])
