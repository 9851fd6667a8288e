"""Selections by name from pools of few images, of equal ones, and of classes with a single image: as many as were asked for."""
import numpy as np, pytest
from semdedup import UserError
from semdedup.selections import METHODS, Pool, choose, coverage_centric, principal, selection_names

def unit(x): return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

RNG = np.random.default_rng(0)
POOLS = {'two': unit(RNG.normal(size=(2, 5))), 'equal': unit(np.ones((8, 5))), 'opposite': unit(np.repeat([[1, 2, 3.], [-1, -2, -3]], 4, 0)),
         'twins': unit(np.repeat(RNG.normal(size=(4, 5)), 2, 0)), 'one dimension': np.ones((8, 1), np.float32), 'few': unit(RNG.normal(size=(9, 20)))}
UNTRAINED = [n for n, m in METHODS.items() if m.uses not in ('training', 'copies') and n != 'distinct']

@pytest.mark.filterwarnings('ignore:.*clusters are used', 'ignore:invalid value')
@pytest.mark.parametrize('name', UNTRAINED)
@pytest.mark.parametrize('x', POOLS.values(), ids=POOLS)
def test_as_many_as_were_asked_for(name, x):
    "A class holds a single image, another one none."
    n = len(x)
    pool = Pool(x, np.r_[3, np.zeros(n - 1, int)], n_clusters=1)
    for m in sorted({1, n // 2, n - 1, n}):
        s = choose(pool, name, m / n)
        assert len(s.keep) == m == len(choose(pool, name, m / n).keep) and choose(pool, name, m / n).hash == s.hash

@pytest.mark.filterwarnings('ignore:invalid value')
def test_directions_of_few_rows():
    for x in POOLS.values(): np.testing.assert_allclose(np.linalg.norm(principal(x, 64), axis=1), 1, rtol=1e-5)

@pytest.mark.parametrize('name, ratio, says', [
    ('our', .5, "Unknown selection 'our'"), ('ours', 0, 'ratio 0 keeps no image of 9'), ('ours', 1.5, 'ratio is 1.5'),
    ('moderate-labels', .5, 'needs labels: give labels= to Pool'), ('random-labels', .5, 'needs labels'),
    ('el2n', .5, 'needs images'), ('distinct', .5, 'needs images')])
def test_what_a_selection_lacks_is_said(name, ratio, says):
    with pytest.raises(UserError, match=says): choose(Pool(POOLS['few'], n_clusters=2), name, ratio)

def test_names_are_all_known():
    assert len(set(selection_names())) == len(selection_names()) and {'ours', 'cossim-diverse', 'semdedup', 'cover'} <= set(selection_names())

def test_strata_of_equal_difficulty():
    "All in one stratum: chance decides, and the hardest go first."
    assert len(coverage_centric(np.ones(20), 7, np.random.default_rng(0))) == 7
    score = np.r_[np.ones(18), 5, 5]
    assert coverage_centric(score, 18, np.random.default_rng(0), cut=.1).tolist() == list(range(18))
