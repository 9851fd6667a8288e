"""The same picture or not: changes that pictures meet, pictures that show nothing, tiny ones, bad pairs, one thread or two."""
import importlib.util, json
from pathlib import Path
import numpy as np, pytest
from sklearn.datasets import load_sample_images
from semdedup import UserError, embed
from semdedup.copies import FEATURES, OFFSET, VIEWS, WEIGHTS, Copies, best_matches, find_candidates, measure_pairs, verify

BENCHMARKS = Path(__file__).parents[1]/'benchmarks'

@pytest.fixture(scope='module')
def tiles():
    "Pieces of scikit-learn's two photographs, 60 different pictures of one place or another, (60, 3, 64, 64)."
    photos = [p[:384, :640] for p in load_sample_images().images]
    pieces = np.concatenate([p.reshape(6, 64, 10, 64, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 64, 64) for p in photos])
    return pieces[np.argsort(-pieces.std((1, 2, 3)), kind='stable')[:60]]

@pytest.fixture(scope='module')
def benchmark():
    spec = importlib.util.spec_from_file_location('benchmark_of_copies', BENCHMARKS/'copies.py')
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module

KINDS = ['saved again', 'other light', 'other colours', 'grey', 'cropped', 'squeezed', 'moved', 'resampled', 'mirrored', 'turned',
         'captioned', 'framed', 'filtered', 'several']

def test_all_kinds_are_tried(benchmark): assert list(benchmark.CHANGES) == KINDS

@pytest.mark.parametrize('kind', KINDS)
def test_changed_pictures_are_found_and_others_are_not(kind, tiles, benchmark):
    changed = benchmark.change(tiles[:20], kind, np.random.default_rng(0))
    assert changed.shape == (20, 3, 64, 64) and changed.dtype == np.uint8
    left, match, similarity = best_matches(pairs := find_candidates(changed, embed(tiles, 'copies', cache=False)), s := verify(pairs, changed, tiles))
    own = match == left
    assert own.mean() >= (.7 if kind == 'several' else .8)                              # the picture that it was made of
    assert np.median(similarity[own]) > .5
    assert (s[pairs[:, 0] != pairs[:, 1]] > .5).mean() < .05                            # and no other

@pytest.mark.parametrize('change', [lambda x: x[..., ::-1], lambda x: x // 2, lambda x: np.repeat(x.mean(1, keepdims=True), 3, 1).astype(np.uint8),
                                    lambda x: x[..., 4:, 4:], lambda x: x[..., ::2, ::2]],
                         ids=['mirrored', 'half as bright', 'grey', 'cropped', 'half as large'])
def test_the_similarity_does_not_depend_on_which_comes_first(change, tiles):
    pairs, other = np.stack([np.arange(20)] * 2, 1), np.ascontiguousarray(change(tiles[:20]))
    there, back = verify(pairs, tiles[:20], other), verify(pairs, other, tiles[:20])
    assert (there > .5).mean() > .9 and (back > .5).mean() > .9

def test_grey_images_have_one_channel_or_three(tiles):
    grey = tiles[:10].mean(1, keepdims=True).astype(np.uint8)
    pairs = np.array([[i, j] for i in range(10) for j in range(10)])
    assert np.allclose(verify(pairs, grey), verify(pairs, np.repeat(grey, 3, 1)), atol=1e-4)
    assert np.allclose(Copies()(grey), Copies()(np.repeat(grey, 3, 1)), atol=1e-3)

# Pictures that show nothing, and tiny ones

@pytest.mark.parametrize('shape', [(1, 1), (2, 3), (5, 5), (32, 32), (1, 200), (301, 40)])
def test_images_of_any_size_have_rows_and_similarities(shape):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, *shape), dtype=np.uint8)
    x = embed(images, 'copies', cache=False)
    assert x.shape == (4, 211) and np.isfinite(x).all()
    s = verify([[0, 0], [0, 1], [2, 3]], images)
    assert s[0] == 1 and ((0 <= s) & (s <= 1)).all()
    assert find_candidates(images, x, k=2).shape == (8, 2)

@pytest.mark.parametrize('level', [0, 128, 255])
def test_blank_pictures_are_copies_of_each_other_and_of_nothing_else(level, tiles):
    blank = np.full((2, 3, 64, 64), level, np.uint8); blank[1, :, ::7] += 1 if level < 255 else 0
    x = embed(np.concatenate([blank, tiles]), 'copies', cache=False)
    assert x[0] @ x[1] > .99 and (x[0] @ x[2:].T).max() < .95
    s = verify([[0, 1]] + [[0, j] for j in range(2, 62)], np.concatenate([blank, tiles]))
    assert s[0] == 1 and (s[1:] < .1).all()

def test_black_is_no_copy_of_white():
    images = np.stack([np.zeros((3, 32, 32), np.uint8), np.full((3, 32, 32), 255, np.uint8)])
    assert verify([[0, 1]], images)[0] < .1 and np.prod(embed(images, 'copies', cache=False), 0).sum() < 0

# Always the same

def test_threads_do_not_change_a_byte(tiles, monkeypatch):
    pairs = np.random.default_rng(0).integers(0, 60, (700, 2))
    def with_threads(n):
        monkeypatch.setenv('SEMDEDUP_THREADS', str(n))
        x = embed(tiles, 'copies', cache=False)
        return x, *measure_pairs(pairs, tiles), find_candidates(tiles, x)
    for one, two in zip(with_threads(1), with_threads(2)): assert (one == two).all()

def test_the_company_of_other_images_changes_nothing_that_matters(tiles):
    assert np.allclose(Copies()(tiles)[7:9], Copies()(tiles[7:9]), atol=1e-3)
    pairs = np.random.default_rng(0).integers(0, 60, (300, 2))
    assert np.allclose(verify(pairs, tiles)[[5]], verify(pairs[[5]], tiles), atol=1e-3)

# Turned

@pytest.mark.parametrize('turns', [1, 2, 3])
@pytest.mark.parametrize('mirrored', [False, True])
def test_pictures_on_their_sides_are_found_if_that_is_asked_for(turns, mirrored, tiles):
    "Upright ones still are."
    lying = np.rot90(tiles[:15], turns, axes=(2, 3))[..., ::-1 if mirrored else 1]
    both = np.ascontiguousarray(np.concatenate([lying, tiles[:15]]))
    pairs = find_candidates(both, embed(tiles, 'copies', cache=False), turned=True)
    left, match, similarity = best_matches(pairs, verify(pairs, both, tiles, turned=True))
    assert (match == left % 15).mean() > .9 and (similarity[match == left % 15] > .5).mean() > .9
    assert (verify(np.stack([np.arange(15)] * 2, 1), both, tiles) < .5).mean() > .8        # not asked for

# Candidates and pairs

def test_candidates_are_each_images_own_number_of_rows_in_order(tiles):
    x = embed(tiles, 'copies', cache=False)
    pairs = find_candidates(tiles[:9], x, k=4)
    assert (pairs[:, 0] == np.repeat(np.arange(9), 4)).all() and (np.diff(pairs[:, 1].reshape(9, 4)) > 0).all()
    assert all(i in pairs[pairs[:, 0] == i, 1] for i in range(9))
    assert len(find_candidates(tiles[:9], x[:3], k=5)) == 27 and find_candidates(tiles[:0], x).shape == (0, 2)

def test_views_find_what_a_single_look_misses(tiles, benchmark):
    x, framed = embed(tiles, 'copies', cache=False), benchmark.change(tiles, 'framed', np.random.default_rng(0))
    single = (embed(framed, 'copies', cache=False) @ x.T).argmax(1)
    several = find_candidates(framed, x, k=1)[:, 1]
    assert len(VIEWS) == 7 and (several == np.arange(60)).sum() >= (single == np.arange(60)).sum()

@pytest.mark.parametrize('pairs, said', [([[0, 60]], 'rows up to'), ([[-1, 0]], 'rows up to'), ([[0, 1, 2]], 'shape'),
                                         ([[.5, 1]], 'whole numbers'), ([0, 1], 'shape')])
def test_bad_pairs_are_named(pairs, said, tiles):
    with pytest.raises(UserError, match=said): verify(pairs, tiles)

def test_no_pairs_no_similarities(tiles): assert verify([], tiles).shape == (0,)

def test_four_channels_are_refused():
    with pytest.raises(UserError, match='4 channels'): Copies()(np.ones((2, 4, 8, 8), np.uint8))

# What is committed

def test_the_weights_are_those_that_the_benchmark_fitted():
    fitted = json.loads((BENCHMARKS/'copies.json').read_text())['fitted']
    assert fitted == dict(zip(FEATURES, WEIGHTS)) | dict(offset=OFFSET)

def test_the_pairs_that_were_looked_at_are_pairs(benchmark):
    pairs = benchmark.judged()
    everything = [p for group in pairs.values() for p in group]
    assert set(pairs) == {'same', 'unsure', 'different'} and len(set(everything)) == len(everything)
    assert all(0 <= a < 10_000 and 0 <= b < 50_000 for a, b in everything)

def test_average_precision(benchmark):
    hit, score = np.array([True, False, True, False]), np.array([.9, .8, .7, .1])
    assert benchmark.average_precision(hit, score, 2) == pytest.approx((1 + 2/3) / 2)
    assert benchmark.average_precision(hit, score, 4) == pytest.approx((1 + 2/3) / 4)   # two were never found
