"""Panels of attention's scores: (keys, COLUMNS), turned, so that each lane of the registers belongs to a query.

So only the queries of a panel are turned before the products, never the keys; the greatest score and the sum of a query are taken lane by
lane; each of attention's five products is one of `tiles`, which reads keys, values and gradients where they lie; and keys that a whole panel
may not look at are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..runtime.compiling import inner
from ..runtime.native import address, exp_falling, keep_alive
from ..runtime.tasks import FLOAT_BYTES, at, span, word_at
from ..runtime.tiles import COLUMNS, ROWS, tile_of_rows
from .linear import matrix_row

f32 = np.float32
MINUS_INFINITY = f32(-np.inf)
AT_ONCE = 4  # rows of a panel that are put together before they meet what memory holds of their lanes, which each row would wait for


class Work(NamedTuple):
    """What a block is worked out in, and tables of addresses for `tiles`."""

    panel: np.ndarray  # queries, turned; in backward those of a block, panel by panel
    g_panel: np.ndarray  # backward alone: gradients, turned
    scores: np.ndarray  # panels (keys, COLUMNS): scores, then weights
    dscores: np.ndarray  # backward alone: their gradients
    base: np.ndarray  # of each lane: what is taken from its scores
    top: np.ndarray  # the greatest score; in backward 1 / the sum of its exponentials
    total: np.ndarray  # that sum; in backward D
    k_rows: np.ndarray  # where rows of k begin
    v_rows: np.ndarray  # of v
    scores_rows: np.ndarray
    dscores_rows: np.ndarray
    last_rows: np.ndarray  # room for the end of such a table
    lanes_apart: np.ndarray  # 0, 1, 2, ...: a tile's rows are lanes of a panel
    rows_apart: np.ndarray  # 0, COLUMNS, ...: they are rows of it
    nothing: np.ndarray  # zeros


@inner
def work_for(queries, keys, sizes, k, v, backward):
    """Room for panels of so many queries and keys, of which COLUMNS and ROWS are factors."""
    again = queries if backward else 0
    scores, dscores = np.empty(queries * keys, np.float32), np.empty(again * keys, np.float32)
    lanes, tables, small = np.empty((3, queries), np.float32), np.empty((4, keys), np.int64), np.empty((3, ROWS), np.int64)
    for j in range(keys):
        tables[0, j], tables[1, j] = at(k.start, j * k.row_pitch), at(v.start, j * v.row_pitch)
        tables[2, j], tables[3, j] = at(address(scores), j * COLUMNS), at(address(dscores), j * COLUMNS)
    for r in range(ROWS):
        small[1, r], small[2, r] = r, r * COLUMNS
    return Work(
        np.empty(queries * sizes.width, np.float32), np.empty(again * sizes.features, np.float32), scores, dscores, lanes[0], lanes[1], lanes[2],
        tables[0], tables[1], tables[2], tables[3], small[0], small[1], small[2], np.zeros(COLUMNS, np.float32),
    )  # fmt: skip


@inner
def keep_work(w):
    keep_alive(w.panel), keep_alive(w.g_panel), keep_alive(w.scores), keep_alive(w.dscores), keep_alive(w.nothing)
    keep_alive(w.k_rows), keep_alive(w.v_rows), keep_alive(w.scores_rows), keep_alive(w.dscores_rows)
    keep_alive(w.last_rows), keep_alive(w.lanes_apart), keep_alive(w.rows_apart)


@inner
def pack_panel(panel, x, first, count, width, factor):
    """panel (width, COLUMNS) = factor times rows first .. first + count - 1 of x, turned; lanes without a row are 0."""
    for lane in range(COLUMNS):
        if lane < count:
            source = matrix_row(x, first + lane, width)
            for c in range(width):
                panel[c * COLUMNS + lane] = factor * source[c]
        else:
            for c in range(width):
                panel[c * COLUMNS + lane] = f32(0)


@inner
def rows_times_panel(x, table, start, count, panel, width, targets, shift, last_rows, nothing):
    """Rows of products (count, COLUMNS) = rows start .. start + count - 1 of x times the panel (width, COLUMNS).

    table: addresses of rows of a matrix with x's pitch, from its row 0 on.  targets: where rows of products begin, `shift` floats later;
    up to ROWS - 1 more are written than there are.  last_rows (ROWS,): room for a table.  nothing (COLUMNS,): zeros.
    """
    skip = (x.start - table[0]) // FLOAT_BYTES + start * x.pitch
    for j in range(0, count, ROWS):
        sources = word_at(address(table), j)
        if count - j < ROWS:
            for r in range(ROWS):
                last_rows[r] = table[min(j + r, count - 1)]
            sources = address(last_rows)
        tile_of_rows(sources, skip, 1, width, 0, address(panel), COLUMNS, word_at(address(targets), j), shift, COLUMNS, address(nothing))


@inner
def mask_panel(scores, mask, first, lanes, start, count, shift):
    """Add the mask to scores (count, COLUMNS) of keys from `start` on and queries from `first` on; -inf from key `query + shift + 1` on."""
    if mask.start:
        for lane in range(lanes):
            added = span(at(mask.start, (first + lane) * mask.pitch), start, start + count)
            for j in range(count):
                i = j * COLUMNS + lane
                scores[i] = MINUS_INFINITY if added[j] == MINUS_INFINITY else scores[i] + added[j]  # a key that is masked may be NaN
    for j in range(max(0, first + shift + 1 - start), count):
        s = scores[j * COLUMNS:(j + 1) * COLUMNS]
        for lane in range(COLUMNS):
            s[lane] = MINUS_INFINITY if start + j > first + lane + shift else s[lane]


@inner
def raise_greatest(top, scores, count):
    """top[lane] = the greatest of itself and of its lane of scores (count, COLUMNS)."""
    whole = count // AT_ONCE * AT_ONCE
    for j in range(0, whole, AT_ONCE):
        s = scores[j * COLUMNS:(j + AT_ONCE) * COLUMNS]
        for lane in range(COLUMNS):
            a, b = max(s[lane], s[lane + COLUMNS]), max(s[lane + 2 * COLUMNS], s[lane + 3 * COLUMNS])
            top[lane] = max(max(a, b), top[lane])
    for j in range(whole, count):
        for lane in range(COLUMNS):
            top[lane] = max(scores[j * COLUMNS + lane], top[lane])


@inner
def add_lanes(total, weights, count):
    """total[lane] += the sum of its lane of weights (count, COLUMNS)."""
    whole = count // AT_ONCE * AT_ONCE
    for j in range(0, whole, AT_ONCE):
        w = weights[j * COLUMNS:(j + AT_ONCE) * COLUMNS]
        for lane in range(COLUMNS):
            total[lane] += (w[lane] + w[lane + COLUMNS]) + (w[lane + 2 * COLUMNS] + w[lane + 3 * COLUMNS])
    for j in range(whole, count):
        for lane in range(COLUMNS):
            total[lane] += weights[j * COLUMNS + lane]


@inner
def exponentials_of_panel(scores, count, base, lanes):
    """scores (count, COLUMNS) become e^(score - base), lane by lane."""
    for j in range(count):
        s = scores[j * COLUMNS:(j + 1) * COLUMNS]
        for lane in range(lanes):
            s[lane] = exp_falling(s[lane] - base[lane])


@inner
def weights_backward(weights, dweights, count, base, share, dot, scale):
    """weights (count, COLUMNS), which hold scores, become P; dweights, which hold dP, become scale dS = scale P (dP - D)."""
    for j in range(count):
        s, d = weights[j * COLUMNS:(j + 1) * COLUMNS], dweights[j * COLUMNS:(j + 1) * COLUMNS]
        for lane in range(COLUMNS):
            p = exp_falling(s[lane] - base[lane]) * share[lane]
            s[lane] = p
            d[lane] = scale * p * (d[lane] - dot[lane])
