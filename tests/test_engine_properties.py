"""The engine against ten lines of brute force, on small data made to be difficult: copies,
multiples, pairs exactly at the threshold, one item, one dimension."""
import os
from contextlib import contextmanager
from unittest import mock
import numpy as np, pandas as pd
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from semdedup import Clusters, UserError, deduplicate
from semdedup.pairwise import SLACK
from semdedup.pruning import RULES

MODES = (dict(), dict(probes=3), dict(exact=True))
few = lambda n: settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

def unit(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

def similarities(x):
    "Of all pairs: numbers with nine digits, in float64."
    return np.round(unit(x) @ unit(x).T, 9)

def brute(sims, threshold, order, together, rule):
    "Who stays: item after item."
    stays, seen = [], []
    for i in order:
        against = stays if rule == 'cover' else seen
        if not any(together[i, j] and sims[i, j] >= threshold - SLACK for j in against): stays.append(i)
        seen.append(i)
    return sorted(stays)

def compared(x, groups, probes=1, exact=False):
    "Which pairs are compared: those of a cluster, and those of an item with the clusters nearest to it."
    near = np.argsort(-(unit(x) @ unit(groups.centroids).T), axis=1, kind='stable')
    seen = groups.labels[:, None] == groups.labels
    for i, row in enumerate(near): seen[i] |= np.isin(groups.labels, row[row != groups.labels[i]][:probes - 1])
    return seen | seen.T | exact

def keep_places(keep, groups):
    "All items, the best claim first."
    s, index = groups.similarity, np.arange(len(groups))
    if isinstance(keep, str): return {'hard': np.lexsort((-index, s)), 'easy': np.lexsort((index, -s)), 'first': index}[keep]
    return np.lexsort((index, -keep))

@st.composite
def problems(draw, noises=(0, 0, 1e-2, .3), longest=60):
    "Rows drawn from a few, some of them longer, some with noise; and clusters, some of them empty, around rows or anywhere."
    n, d, k = draw(st.integers(1, longest)), draw(st.integers(1, 8)), draw(st.integers(1, 8))
    few_rows, noise, dtype = draw(st.integers(1, 12)), draw(st.sampled_from(noises)), draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = rng.integers(-2, 3, (few_rows, d)) + rng.normal(size=(few_rows, d)).round(2) * rng.choice([0, 1])
    pool[(pool == 0).all(1)] = 1
    x = pool[rng.integers(few_rows, size=n)] * rng.choice([1, 1, 3, .1], (n, 1))
    x = (x + noise * rng.normal(size=(n, d)) * rng.choice([0, 1, 1], (n, 1))).astype(dtype)
    x[(x == 0).all(1)] = 1
    centroids = x[rng.integers(n, size=k)] + rng.choice([0, 1e-3, 1]) * rng.normal(size=(k, d)) if draw(st.booleans()) else rng.normal(size=(k, d))
    labels = (unit(x) @ unit(centroids).T).argmax(1) if draw(st.booleans()) else rng.integers(k, size=n)
    similarity = np.einsum('ij,ij->i', unit(x), unit(centroids)[labels]).astype(np.float32)
    return x, Clusters(labels, centroids.astype(np.float32), similarity)

@st.composite
def thresholds(draw, x):
    "An eps at which some pair is exactly as similar as it has to be, or a little off."
    sims = unit(x) @ unit(x).T
    i, j = draw(st.integers(0, len(x) - 1)), draw(st.integers(0, len(x) - 1))
    return float(np.clip(1 - sims[i, j] + draw(st.sampled_from([0, 1e-6, -1e-6])), 0, 2))

keeps = st.sampled_from(['hard', 'easy', 'first', 'priorities'])

def with_priorities(keep, n): return keep if keep != 'priorities' else (np.arange(n) * 7 % 5).astype(float)

@contextmanager
def small_tiles(size):
    "Tiles of so many rows, where a real run has at least 256."
    with (mock.patch('semdedup.comparison.tile_size', lambda *a: size), mock.patch('semdedup.evidence.tile_size', lambda *a: size),
          mock.patch('semdedup.pairwise.STRIP', max(1, size // 2))): yield

def threads(n): return mock.patch.dict(os.environ, SEMDEDUP_THREADS=str(n))

def random_centroids(x, groups):
    "The same clusters around points of their own: of two that are equally near, the one with the smaller number would be probed."
    assume(x.shape[1] > 1) # in one dimension there are but two directions
    return Clusters(groups.labels, np.random.default_rng(len(x)).normal(size=groups.centroids.shape).astype(np.float32), groups.similarity)

@few(100)
@given(st.data(), problems(), st.sampled_from(RULES), st.sampled_from(MODES), keeps, st.sampled_from(['1GB', '70kB']))
def test_who_stays_is_what_brute_force_says(data, problem, rule, mode, keep, memory):
    x, groups = problem
    if 'probes' in mode: groups = random_centroids(x, groups)
    keep, eps = with_priorities(keep, len(x)), data.draw(thresholds(x))
    found = deduplicate(x, eps=eps, rule=rule, keep=keep, groups=groups, memory=memory, **mode)
    assert found.keep.tolist() == brute(similarities(x), 1 - eps, keep_places(keep, groups), compared(x, groups, **mode), rule)

@few(100)
@given(st.data(), problems(), st.sampled_from(RULES), st.sampled_from(MODES), keeps, st.integers(2, 30))
def test_each_removal_is_explained(data, problem, rule, mode, keep, size):
    "By the most similar item that stands earlier, and with `cover` stays; of equals the first in order."
    x, groups = problem
    if 'probes' in mode: groups = random_centroids(x, groups)
    keep, eps = with_priorities(keep, len(x)), data.draw(thresholds(x))
    with small_tiles(size): t = deduplicate(x, eps=eps, rule=rule, keep=keep, groups=groups, **mode).table
    sims, together, order = similarities(x), compared(x, groups, **mode), keep_places(keep, groups)
    for place, i in enumerate(order):
        if t.kept[i]: assert t.duplicate_of[i] == -1 and np.isnan(t.duplicate_similarity[i]); continue
        able = [j for j in order[:place] if together[i, j] and (rule == 'semdedup' or t.kept[j])]
        best = max(sims[i, j] for j in able)
        assert best >= 1 - eps - SLACK
        assert t.duplicate_of[i] == next(j for j in able if sims[i, j] >= best - SLACK)
        np.testing.assert_allclose(t.duplicate_similarity[i], best, atol=1e-6)

@few(100)
@given(st.data(), problems(), st.sampled_from(MODES), keeps)
def test_no_two_that_stay_are_duplicates(data, problem, mode, keep):
    x, groups = problem
    eps = data.draw(thresholds(x))
    kept = deduplicate(x, eps=eps, keep=with_priorities(keep, len(x)), groups=groups, **mode).keep
    close = np.triu(similarities(x[kept]) >= 1 - eps - SLACK, 1)
    assert not (close & ((groups.labels[kept][:, None] == groups.labels[kept]) | ('exact' in mode))).any()

noisy = problems(noises=(0, 1e-7, 1e-5, 2e-5, 5e-5, 1e-4, 1e-2)) # so that some pairs differ by less than what counts as a difference

def attempt(fn, *args, **kwargs):
    "What it returns, or what it says is wrong."
    try: return fn(*args, **kwargs)
    except UserError as e: return str(e)

def assert_same(got, want):
    if isinstance(want, str) or isinstance(got, str): assert got == want; return
    pd.testing.assert_frame_equal(got.table, want.table)
    assert got.hash == want.hash

@st.composite
def goals(draw, x): return dict(target=draw(st.integers(1, len(x)))) if draw(st.booleans()) else dict(eps=draw(thresholds(x)))

@few(100)
@given(st.data(), noisy, st.sampled_from(RULES), st.sampled_from(MODES), st.integers(1, 8) | st.integers(9, 70))
def test_tiles_and_threads_change_nothing(data, problem, rule, mode, size):
    x, groups = problem
    run = lambda goal=data.draw(goals(x)): attempt(deduplicate, x, rule=rule, groups=groups, **goal, **mode)
    with threads(1): want = run()
    with threads(2), small_tiles(size): assert_same(run(), want)

@few(60)
@given(st.data(), noisy, st.sampled_from(RULES), st.sampled_from(MODES), st.sampled_from(['70kB', '300 kB', 10**6]), st.integers(1, 70))
def test_memory_changes_nothing(data, problem, rule, mode, memory, size):
    "Also where there are more pairs than it holds."
    x, groups = problem
    eps = data.draw(thresholds(x))
    want = deduplicate(x, eps=eps, rule=rule, groups=groups, **mode)
    with small_tiles(size): got = deduplicate(x, eps=eps, rule=rule, groups=groups, memory=memory, **mode)
    assert_same(got, want)

@few(60)
@given(st.data(), noisy, st.sampled_from(RULES))
def test_borders_of_shards_change_nothing(data, problem, rule):
    x, _ = problem
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    eps = data.draw(thresholds(x))
    want, got = (deduplicate(d, eps=eps, rule=rule, n_clusters=1, probes=2) for d in (x, np.split(x, cuts)))
    assert_same(got, want)

@few(80)
@given(st.data(), noisy, st.sampled_from(RULES), st.sampled_from(MODES), keeps)
def test_numbers_of_clusters_change_nothing(data, problem, rule, mode, keep):
    x, groups = problem
    if 'probes' in mode: groups = random_centroids(x, groups)
    number = np.array(data.draw(st.permutations(range(len(groups.centroids)))))
    other = Clusters(number[groups.labels], groups.centroids[np.argsort(number)], groups.similarity)
    keep, eps = with_priorities(keep, len(x)), data.draw(thresholds(x))
    want, got = (deduplicate(x, eps=eps, rule=rule, keep=keep, groups=g, **mode).table for g in (groups, other))
    assert got.cluster.tolist() == number[want.cluster].tolist()
    pd.testing.assert_frame_equal(got.drop(columns='cluster'), want.drop(columns='cluster'))

@few(60)
@given(st.data(), noisy, st.sampled_from(RULES), st.sampled_from(MODES))
def test_another_eps_is_as_a_fresh_run_where_memory_is_scarce(data, problem, rule, mode):
    "So that the pairs at hand do not reach down to all eps, or were not kept at all."
    x, groups = problem
    before, after = (data.draw(thresholds(x)) for _ in range(2))
    run = lambda eps: deduplicate(x, eps=eps, rule=rule, groups=groups, memory='1kB', **mode)
    assert_same(run(before).rethreshold(after), run(after))

@few(80)
@given(st.data(), noisy, st.sampled_from(RULES), st.sampled_from(MODES))
def test_another_eps_or_size_is_as_a_fresh_run(data, problem, rule, mode):
    "Up and down, and whatever came before."
    x, groups = problem
    before, after = data.draw(goals(x)), data.draw(goals(x))
    try: found = deduplicate(x, rule=rule, groups=groups, **before, **mode)
    except UserError: return
    fresh = attempt(deduplicate, x, rule=rule, groups=groups, **after, **mode)
    assert_same(attempt(found.resize, after['target']) if 'target' in after else found.rethreshold(after['eps']), fresh)

@few(60)
@given(problems(), st.sampled_from(RULES), st.sampled_from(MODES), st.integers(1, 60))
def test_a_size_is_reached_or_the_smallest_is_named(problem, rule, mode, m):
    "One item a cluster stays whatever eps; with `semdedup`, also what has none before it in what is compared."
    x, groups = problem
    m, smallest = min(m, len(x)), 1 if 'exact' in mode else (groups.sizes > 0).sum()
    try: found = deduplicate(x, rule=rule, groups=groups, target=m, **mode)
    except UserError as e: assert m < smallest and f'target {m}' in str(e)
    else: assert len(found.keep) == m

@few(80)
@given(st.data(), problems(), st.sampled_from(MODES), st.sampled_from(['keep', 'drop']))
def test_adding_is_as_deciding_in_the_order_of_the_data(data, problem, mode, on_invalid):
    "In two or three parts; rows without direction are treated as they were at first."
    x, groups = problem
    centroids = np.random.default_rng(0).normal(size=groups.centroids.shape).astype(np.float32)
    home = (unit(x) @ unit(centroids).T).argmax(1)
    bad = np.zeros(len(x), bool); bad[data.draw(st.lists(st.integers(1, len(x)), max_size=3, unique=True).map(lambda i: [j for j in i if j < len(x)]))] = True
    x = np.where(bad[:, None], data.draw(st.sampled_from([np.nan, 0, np.inf])), x).astype(x.dtype)
    cuts, eps = sorted(data.draw(st.sets(st.integers(1, max(1, len(x) - 1)), min_size=1, max_size=2))) if len(x) > 1 else [], data.draw(thresholds(x[~bad]))
    first, *rest = np.split(x, cuts)
    m = len(first)
    found = deduplicate(first, eps=eps, keep='first', groups=Clusters(home[:m], centroids, np.zeros(m, np.float32)), on_invalid=on_invalid, **mode)
    for part in rest: found = found.add(part)
    at_once = deduplicate(x, eps=eps, keep='first', groups=Clusters(home, centroids, found.table.similarity.to_numpy()), on_invalid=on_invalid, **mode)
    pd.testing.assert_frame_equal(found.table, at_once.table)

@few(60)
@given(problems(noises=[.3]).filter(lambda p: len(np.unique(p[0], axis=0)) == len(p[0])), st.sampled_from(MODES)) # equal rows need not be compared
def test_pairs_are_counted_once(problem, mode):
    x, groups = problem
    if 'probes' in mode: groups = random_centroids(x, groups)
    stats = deduplicate(x, eps=2., groups=groups, **mode).stats
    want = int(np.triu(compared(x, groups, **mode), 1).sum())
    assert stats['pairs_compared'] == want and stats['pairs_possible'] == len(x) * (len(x) - 1) // 2
