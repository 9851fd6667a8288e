"""Tiles and what is made of them, against a matrix of all similarities: small, so that a change anywhere in the module is noticed soon."""
from functools import lru_cache
import numpy as np, pytest, torch
from semdedup import Clusters, open_vectors, pairwise
from semdedup.pairwise import (SLACK, STRIP, Loaded, Tile, cluster_histograms, cut, first_best, histogram_quantiles, largest_earlier, margin, merge_best,
                               nearest_kept, nearest_pairs, nearest_rows, pair_histogram, strip_best, strip_best_wide, tile_best, tile_pairs, tile_size,
                               where_at_least)

def unit(x): return x / np.linalg.norm(x, axis=1, keepdims=True)

def rows(n=160, d=6, seed=0):
    "Of which a quarter equals, and a quarter nearly equals, another one; of different lengths."
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)); q = n // 4
    x[q:2 * q], x[2 * q:3 * q] = 3 * x[:q], x[:q] + .1 * rng.normal(size=(q, d))
    return x[rng.permutation(n)]

X = rows()
S = np.round(unit(X) @ unit(X).T, 9)                                   # nine digits, as the engine has them
V = open_vectors(X).check()
TILES = {'diagonal': Tile(np.arange(100)), 'odd rows': Tile(np.arange(1, 160, 2)), 'all before': Tile(np.arange(80, 160), np.arange(80)),
         'all after': Tile(np.arange(80), np.arange(80, 160)), 'mixed': Tile(np.arange(0, 160, 2), np.arange(1, 160, 2))}
# the place of each row in keep order
PLACES = {'in order': np.arange(160), 'but for two': np.r_[:79, 80, 79, 81:160], 'shuffled': np.random.default_rng(1).permutation(160)}
tiles = pytest.mark.parametrize('tile', TILES.values(), ids=TILES)
strips = pytest.mark.parametrize('strip', [1, 7, 512])

def both_sides(tile): return [(i, j) for a, i in enumerate(tile.rows) for j in (tile.rows[:a] if tile.cols is None else tile.cols)]

# Tiles

@pytest.mark.parametrize('n, m', [(10, None), (9, None), (1, None), (10, 4), (3, 7)])
@pytest.mark.parametrize('size', [1, 4, 5, 99])
def test_each_pair_is_in_one_tile(n, m, size):
    a, b = np.arange(100, 100 + n), None if m is None else np.arange(m)
    parts = cut(a, b, size)
    found = [p for t in parts for p in both_sides(t)]
    assert sorted(found) == sorted(both_sides(Tile(a, b))) and sum(t.n_pairs for t in parts) == len(found)
    assert all(len(t.rows) <= size and (t.cols is None or len(t.cols) <= size) for t in parts)

@pytest.mark.parametrize('memory, d, n_workers', [(2**30, 512, 8), (10**9, 64, 16), (2**32, 2048, 8)])
def test_tiles_fill_the_memory_that_they_are_given_and_no_more(memory, d, n_workers):
    a_row = 3 * n_workers * (24 * d + 12 * STRIP)
    assert 256 < tile_size(memory, d, n_workers) < 4096 and tile_size(memory, d, n_workers) * a_row <= memory < (tile_size(memory, d, n_workers) + 1) * a_row
    assert tile_size(1, d, n_workers) == 256 and tile_size(2**60, d, n_workers) == 4096

@pytest.mark.parametrize('d', [2, 64, 1000])
@pytest.mark.parametrize('half', [False, True])
def test_no_product_is_wronger_than_the_margin(d, half):
    "Rows in all lengths, of which the products are near 1 and far from it; and the margin is not so wide that it would be of no use."
    x = rows(d=d)
    v, t = open_vectors(x).check(), torch.float16 if half else torch.float32
    a = torch.from_numpy(v.unit(slice(None))).to(t).float()
    wrong = np.abs((a @ a.T).double().numpy() - unit(x) @ unit(x).T).max()
    assert wrong <= margin(v, half) < (.006 if half else 1e-6 * (d + 10)) and margin(v) < margin(v, True)

@tiles
@strips
@pytest.mark.parametrize('device', ['cpu', 'cpu:0'])
@pytest.mark.parametrize('threshold', [-1, .3, .99, 1])
def test_the_pairs_of_a_tile(monkeypatch, tile, strip, device, threshold):
    "On cpu:0 in half precision, as on a GPU."
    monkeypatch.setattr(pairwise, 'STRIP', strip)
    i, j, s = tile_pairs(tile, V, threshold, device=device)
    assert sorted(zip(i.tolist(), j.tolist())) == sorted((a, b) for a, b in both_sides(tile) if S[a, b] >= threshold - SLACK)
    np.testing.assert_allclose(s, S[i, j], rtol=0, atol=1e-9)
    assert (i.dtype, j.dtype, s.dtype) == (np.int32, np.int32, np.float64)

@strips
def test_too_many_pairs_are_none(monkeypatch, strip):
    monkeypatch.setattr(pairwise, 'STRIP', strip)
    n = len(tile_pairs(TILES['mixed'], V, .3)[0])
    assert n > 10 and len(tile_pairs(TILES['mixed'], V, .3, most=n)[0]) == n and tile_pairs(TILES['mixed'], V, .3, most=n - 1) is None

def test_a_pair_that_is_as_similar_as_it_must_be_is_one():
    "Within what counts as the same, and not below. Similarities have nine digits: more than half a step apart, and less than a whole one."
    assert .5e-9 < SLACK < 1e-9
    x = np.array([[1, 0], [.8, .6]])
    v = open_vectors(x).check()
    assert [len(tile_pairs(Tile(np.arange(2)), v, .8 + d)[0]) for d in (-1e-6, 0, .9 * SLACK, 1.1 * SLACK + 1e-9, 1e-6)] == [1, 1, 1, 0, 0]

def in_order(name, places):
    "A tile on the diagonal holds its rows in keep order."
    tile, place = TILES[name], PLACES[places]
    return Tile(tile.rows[np.argsort(place[tile.rows])]) if tile.cols is None else tile

@lru_cache(None)
def best_by_hand(name, places, both):
    "For each item the most similar one that stands before it; of equals the first."
    tile, place, best = in_order(name, places), PLACES[places].tolist(), {}
    for i, j in both_sides(tile):
        for item, other in ((i, j), (j, i)) if both else ((i, j),):
            if place[other] < place[item]: best[item] = min(best.get(item, (9, 9, 9)), (-S[item, other], place[other], other))
    return {k: (v[2], -v[0]) for k, v in best.items()}

@pytest.mark.parametrize('name', TILES)
@pytest.mark.parametrize('places', PLACES)
@strips
@pytest.mark.parametrize('device', ['cpu', 'cpu:0'])
def test_the_most_similar_earlier_row(monkeypatch, name, strip, device, places):
    monkeypatch.setattr(pairwise, 'STRIP', strip)
    for both in True, False:
        want = best_by_hand(name, places, both)
        item, other, s = tile_best(in_order(name, places), V, PLACES[places], both, device)
        assert dict(zip(item.tolist(), other.tolist())) == {k: o for k, (o, _) in want.items()} and len(item) == len(want)
        np.testing.assert_allclose(s, [want[k][1] for k in item], rtol=0, atol=1e-9)
        assert (item.dtype, other.dtype, s.dtype) == (np.int32, np.int32, np.float64)

def test_a_tile_whose_columns_all_stand_before_its_rows_is_looked_at_from_one_side(monkeypatch):
    "From the other side nothing counts."
    looks, look = [], pairwise.strip_candidates
    monkeypatch.setattr(pairwise, 'strip_candidates', lambda t, s, c, sims, before, swap, *more: looks.append(swap) or look(t, s, c, sims, before, swap, *more))
    tile, place = TILES['all before'], np.arange(160)
    item, other, _ = tile_best(tile, V, place)
    assert looks == [False] and item.tolist() == list(range(80, 160)) and other.max() < 80
    looks.clear(); item, other, _ = tile_best(tile, V, place[::-1])
    assert looks == [False, True] and item.tolist() == list(range(80)) and other.min() >= 80

def test_the_first_of_equal_rows_is_taken_in_the_order_of_the_side_that_is_looked_at():
    "Rows and columns stand in opposite orders, and all are the same: whoever mixes them up takes the wrong one."
    v, tile, place = open_vectors(np.ones((6, 2))).check(), Tile(np.arange(3), np.arange(3, 6)), np.array([2, 1, 0, 3, 4, 5])
    item, other, _ = tile_best(tile, v, place)
    assert dict(zip(item.tolist(), other.tolist())) == {3: 2, 4: 2, 5: 2}
    item, other, _ = tile_best(tile, v, 5 - place)                     # now the columns stand before the rows, the last one first
    assert dict(zip(item.tolist(), other.tolist())) == {0: 5, 1: 5, 2: 5}

def test_half_precision_on_accelerators_only():
    tile = TILES['mixed']
    assert not Loaded(tile, V).half and Loaded(tile, V).product(slice(4), slice(5)).dtype == np.float32
    t = Loaded(tile, V, 'cpu:0')
    assert t.half and [m.dtype for m in t.on] == [torch.float16] * 2 and t.product(slice(4), slice(5)).dtype == torch.float32

def test_a_tile_without_rows_has_no_pairs():
    for tile in Tile(np.arange(0)), Tile(np.arange(0), np.arange(5)):
        assert [len(a) for a in tile_pairs(tile, V, -1.)] == [len(a) for a in tile_best(tile, V, np.arange(160))] == [0, 0, 0]

def test_exact_and_wide_similarities_are_the_same():
    for tile in TILES.values():
        t = Loaded(tile, V)
        i, j = (a.ravel() for a in np.meshgrid(np.arange(len(t.a)), np.arange(len(t.b)), indexing='ij'))
        np.testing.assert_allclose(t.exact(i, j), S[tile.rows[i], t.cols[j]], rtol=0, atol=1e-9)
        np.testing.assert_allclose(t.wide_product(slice(3, 9), slice(2, 20)), S[np.ix_(tile.rows[3:9], t.cols[2:20])], rtol=0, atol=1e-9)

# What strips are asked

SIMS = np.array([[.1, .5, .5, -np.inf], [-np.inf] * 4, [.9, .2, .9 - 1e-3, .3]], np.float32)

@pytest.mark.parametrize('kind', [np.asarray, torch.from_numpy], ids=['numpy', 'torch'])
def test_entries_of_a_strip(kind):
    listed = lambda found: [list(map(int, a)) for a in found]
    assert listed(where_at_least(kind(SIMS.copy()), .5)) == [[0, 0, 2, 2], [1, 2, 0, 2]]
    assert listed(strip_best(kind(SIMS.copy()), 0.)) == [[0, 0, 2], [1, 2, 0]]
    assert listed(strip_best(kind(SIMS.copy()), 1e-3)) == [[0, 0, 2, 2], [1, 2, 0, 2]]
    assert listed(strip_best(kind(SIMS.copy()), .4e-3)) == [[0, 0, 2], [1, 2, 0]]

def test_of_many_that_are_as_similar_the_first_in_order_is_best():
    wide = SIMS.astype(float); wide[2, 2] = wide[2, 0] - .5 * SLACK
    assert [a.tolist() for a in strip_best_wide(wide, np.array([3, 2, 1, 0]))[:2]] == [[0, 2], [2, 2]]
    assert [a.tolist() for a in strip_best_wide(wide, np.arange(4))[:2]] == [[0, 2], [1, 0]]
    assert strip_best_wide(wide, np.array([3, 2, 1, 0]))[2].tolist() == [.5, wide[2, 2]]
    wide[2, 2] = wide[2, 0] - 2 * SLACK
    assert strip_best_wide(wide, np.array([3, 2, 1, 0]))[1].tolist() == [2, 0]

def test_one_candidate_an_item():
    item, s, place = np.array([5, 3, 5, 3, 5, 4]), np.array([.9, .2, .9 - .5 * SLACK, .3, .9 - 2 * SLACK, -1]), np.array([7, 1, 2, 9, 0, 4])
    assert first_best(item, s, place).tolist() == [3, 5, 2]             # items 3, 4 and 5
    assert first_best(item[:0], s[:0], place[:0]).tolist() == []
    found = merge_best([(item[:3], np.array([0, 1, 2]), s[:3]), (item[3:], np.array([3, 4, 5]), s[3:])], np.array([7, 1, 2, 9, 0, 4]))
    assert [a.tolist() for a in found] == [[3, 4, 5], [3, 5, 2], s[[3, 5, 2]].tolist()]
    assert [(len(a), a.dtype) for a in merge_best([], place)] == [(0, np.int32), (0, np.int32), (0, float)]

# What is made of them

@pytest.mark.parametrize('block', [1, 3, 512])
def test_the_largest_earlier(block):
    holder, s = largest_earlier(X[:40], block)
    want = [max(range(i), key=lambda j: (S[i, j], -j)) for i in range(1, 40)]
    assert holder.tolist() == [0, *want] and s[0] == 0 and s.dtype == np.float32
    np.testing.assert_allclose(s[1:], [S[i + 1, j] for i, j in enumerate(want)], atol=1e-6)

U = unit(np.random.default_rng(0).normal(size=(30, 5))).astype(np.float32)

@pytest.mark.parametrize('part', [slice(0, 30), slice(7, 19)])
@pytest.mark.parametrize('k', [1, 4, 29])
@pytest.mark.parametrize('itself', [False, True])
def test_the_nearest_rows(monkeypatch, part, k, itself):
    "Also where rows come in several blocks."
    sims = (U @ U.T).astype(float)
    if itself: np.fill_diagonal(sims, -9)
    blocks = pairwise.blocks
    for size in None, 1, 8:
        if size: monkeypatch.setattr(pairwise, 'blocks', lambda n, _, size=size: blocks(n, size))
        at, s = nearest_rows(part, U, U, k, *[True] * itself)          # by default rows of another matrix
        assert at.tolist() == np.argsort(-sims[part], axis=1)[:, :k].tolist() and s.shape == at.shape
        np.testing.assert_allclose(s, np.take_along_axis(sims[part], at, 1), atol=1e-6)

def groups_of(labels): return Clusters(np.asarray(labels), np.ones((max(labels) + 1, 5), np.float32), np.ones(len(labels), np.float32))

@pytest.mark.parametrize('block', [1, 4, 512])
def test_the_nearest_that_stays(block):
    "In the first cluster some stay, in the second none, in the third all."
    labels, keep = np.repeat([0, 1, 2], 10), np.r_[np.arange(0, 10, 3), np.arange(20, 30)]
    nearest, s = nearest_kept(U, groups_of(labels), keep, block)
    for i in range(30):
        if labels[i] == 0 and i not in keep: assert nearest[i] == max(range(0, 10, 3), key=lambda j: U[i] @ U[j]) and abs(s[i] - U[i] @ U[nearest[i]]) < 1e-6
        else: assert nearest[i] == -1 and np.isnan(s[i])

EDGES = np.array([-.5, -.1, 0, .3, .5])                                # some pairs lie outside

def histogram_by_hand(x):
    sims = (x @ x.T)[np.tril_indices(len(x), -1)]
    return np.histogram(np.clip(sims, EDGES[0], EDGES[-1]), EDGES)[0].tolist()

@pytest.mark.parametrize('block', [1, 7, 512])
def test_how_many_pairs_are_how_similar(block):
    got = pair_histogram(U, EDGES, block)
    assert got.tolist() == histogram_by_hand(U) and got.sum() == 30 * 29 // 2 and got.dtype == np.int64
    assert pair_histogram(U[:1], EDGES).tolist() == [0] * 4 == pair_histogram(U[:0], EDGES).tolist()

def test_histograms_of_clusters():
    labels, keep = np.arange(30) % 3, np.arange(0, 30, 2)
    assert cluster_histograms(U, groups_of(labels), EDGES).tolist() == [histogram_by_hand(U[labels == c]) for c in range(3)]
    assert cluster_histograms(U, groups_of(labels), EDGES, keep).tolist() == [histogram_by_hand(U[keep][labels[keep] == c]) for c in range(3)]

def test_quantiles_of_bins():
    q = histogram_quantiles(np.array([1, 0, 3]), np.array([0., 1, 2, 5]), [0, .125, .25, .5, 1])
    np.testing.assert_allclose(q[[0, 1, 3, 4]], [0, .5, 3, 5])
    np.testing.assert_allclose(histogram_quantiles(np.array([0, 4, 0]), np.array([0., 1, 2, 5]), [.25, 1]), [1.25, 2])
    np.testing.assert_allclose(histogram_quantiles(np.array([0, 0, 4]), np.array([0., 1, 2, 5]), [.25, 1]), [2.75, 5])
    assert np.isnan(histogram_quantiles(np.zeros(3), np.arange(4.), [.1, .9])).tolist() == [True, True]

@pytest.mark.parametrize('n_pairs', [0, 1, 4, 99])
def test_the_most_similar_pairs(n_pairs):
    """Of each item and its most similar earlier one in its cluster, the most similar first, each
    item once. A cluster of two has one pair, a cluster of one has none."""
    x, labels = unit(X).astype(np.float32), np.r_[np.arange(157) % 2, 2, 3, 3]
    every = sorted(((-S[i, j], i, j) for c in (0, 1, 3) for m in [np.flatnonzero(labels == c)]
                    for a, i in enumerate(m[1:], 1) for j in [max(m[:a], key=lambda j: (S[i, j], -j))]),
                   key=lambda p: (round(p[0], 6), labels[p[1]], p[1]))
    want, seen = [], set()
    for _, i, j in every:
        if len(want) < n_pairs and not {i, j} & seen: want.append([j, i]); seen |= {i, j}
    pairs, s = nearest_pairs(x, groups_of(labels), n_pairs)
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, want)) and pairs.shape == (len(want), 2)
    np.testing.assert_allclose(s, [S[i, j] for i, j in want], atol=1e-6)

def test_where_no_cluster_has_two_items_there_are_no_pairs():
    pairs, s = nearest_pairs(unit(X[:3]).astype(np.float32), groups_of([0, 2, 4]), 9) # clusters 1 and 3 have none
    assert (pairs.shape, s.shape, pairs.dtype, s.dtype) == ((0, 2), (0,), np.int64, np.float32)

# What `tools/mutate.py pairwise --tests tests/test_pairwise.py` leaves alive, of all the changes it knows, changes no result:
# - how wide the bound is on errors that are smaller still (`margin`), and that SLACK, hundreds of times smaller, is taken from it and not added;
# - which of two exact ways a strip goes (.03), how many rows are looked at in a go (STRIP, 1024, 65,536, the defaults of `block`),
#   and one more pair than a billion (`most`);
# - `>` for `>=` at a distance of SLACK, on which no two similarities of nine digits lie; `<=` for `<` between places that all differ;
# - whether a tile is looked at the quick way (`ordered`) whose columns are the first row or two;
# - -3 for -2 as less similar than anything; whether what lies above the last bin is taken for its upper or for its lower edge;
#   and -2 for the -1 of `reshape`, where numpy takes any negative number.
