"""A grid of trainings in which something goes wrong: a training diverges, a class vanishes, two
sizes are one, the table is not ours. The rest goes on, and it is said."""
import math, threading
import numpy as np, pandas as pd, pytest
from semdedup import UserError, answers, grids, load_images, selections, training
from semdedup.core import Workers
from semdedup.datasets import Images, holdout
from semdedup.answers import summarise
from semdedup.grids import Config, Part, train_grid

@pytest.fixture(scope='module')
def digits(): return holdout(load_images('digits'), .1)[0]

@pytest.fixture
def grid(digits, tmp_path, monkeypatch):
    "Trains some selections on digits, for an epoch: results, and how many are missing."
    x = digits.train.images.reshape(len(digits.train), -1).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    def train(*names, ratios=(.5,), images=digits, regimes=('epochs',), **config):
        parts = [Part(('full',), (1.,), 'pixels', n_clusters=5), Part(names, ratios, 'pixels', regimes, n_clusters=5)]
        monkeypatch.setitem(grids.GRIDS, 'evidence', lambda config, results: iter(parts))
        results, _, missing = train_grid(images, {'pixels': x[:len(images.train)]},
                                         Config('digits', encoders=('pixels',), n_clusters=5, grid='evidence', **{'epochs': 1, 'seeds': 2, **config}), tmp_path)
        return results, missing
    return train

def test_a_short_training_that_diverges_is_a_row_and_the_others_go_on(grid, monkeypatch, tmp_path):
    real = selections.train_stack
    def diverging(data, evaluations, subsets, seeds, *args, on_step, **how):
        return real(data, evaluations, subsets, seeds, *args,
                    on_step=(lambda rows, errors: on_step(rows, errors * math.nan)) if seeds == [1] else on_step, **how)
    monkeypatch.setattr(selections, 'train_stack', diverging)
    with pytest.warns(UserWarning, match='The short training of seed 1, which judges how hard images are, diverged'):
        results, missing = grid('random', 'ours-labels', 'ccs', ratios=(.25, .5))
    assert missing == 0 and len(results) == 2 + 3 * 2 * 2
    diverged = results[results.accuracy.isna()]
    assert set(zip(diverged.selection, diverged.seed)) == {('ours-labels', 1), ('ccs', 1)} and len(diverged) == 4
    table = summarise(results).set_index(['selection', 'ratio'])
    assert table.loc[('ours-labels', .5), ['seeds', 'diverged']].tolist() == [1, 1] and table.loc[('random', .5), ['seeds', 'diverged']].tolist() == [2, 0]
    assert table.accuracy.notna().all() and table.loc[('ours-labels', .5), 'n_train'] == table.loc[('random', .5), 'n_train']
    monkeypatch.setattr(grids, 'train', lambda *args, **kwargs: pytest.fail('what is known is trained again'))
    assert len(grid('random', 'ours-labels', 'ccs', ratios=(.25, .5))[0]) == len(results)

def test_ctrl_c_keeps_the_short_trainings_that_are_finished(grid, monkeypatch, tmp_path):
    "Seed 0 is slow and stopped; those beside it were finished before."
    real, learn, kept = grids.difficulty, grids.Grid.learn, threading.Event()
    def learn_and_tell(self, *args): learn(self, *args); kept.set()
    def slow(images, recipe, seed, **how):
        if seed: return real(images, recipe, seed, **how)
        assert kept.wait(60)
        raise KeyboardInterrupt
    monkeypatch.setattr(grids.Grid, 'learn', learn_and_tell)
    monkeypatch.setattr(grids, 'difficulty', slow)
    monkeypatch.setattr(grids, 'Workers', lambda: Workers(2))
    with pytest.raises(KeyboardInterrupt): grid('random', 'ours-labels')
    assert sorted(p.name for p in (tmp_path/'.state').glob('difficulty-*')) == ['difficulty-1.parquet']
    again = []
    monkeypatch.setattr(grids, 'difficulty', lambda images, recipe, seed, **how: again.append(seed) or real(images, recipe, seed, **how))
    assert grid('random', 'ours-labels')[1] == 0 and again == [0]

@pytest.mark.parametrize('model, precision', [('mlp', 'float32'), ('mlp', 'bfloat16'), ('cnn', 'float32')])
def test_a_replica_of_nan_leaves_the_others_as_they_are(digits, monkeypatch, model, precision):
    "Not a number from its first step on; beside it in the stack is what was there before."
    runs = [training.Run(np.arange(200), seed) for seed in range(3)]
    recipe = training.Recipe(model, 1, precision=precision)
    sound, kind, real = training.train(digits, runs, recipe), type(training.MODELS[model]), type(training.MODELS[model]).init
    def poisoned(self, shape, n_classes, generators):
        params = real(self, shape, n_classes, generators)
        for r, g in enumerate(generators):
            if g.initial_seed() == runs[1].seed: params[0][r] = math.nan
        return params
    monkeypatch.setattr(kind, 'init', poisoned)
    with pytest.warns(UserWarning, match='1 of 3 trainings diverged'): table = training.train(digits, runs, recipe)
    assert table.accuracy.isna().tolist() == [False, True, False]
    assert table.accuracy[[0, 2]].tolist() == sound.accuracy[[0, 2]].tolist()

def test_the_means_of_those_that_did_not_diverge():
    "Eight of ten did: two seeds are two seeds."
    rows = [dict(dataset='d', selection=name, encoder=None, n_clusters=5, rank_type=None, prune_type=None, rule=None, ratio=ratio, model='mlp',
                 epochs=30, regime='epochs', seed=s, eps=None, n_train=50, n_classes=3, steps=9,
                 accuracy=math.nan if name == 'ours' and s > 1 else 80. + s, val_accuracy=70. + s, train_seconds=1., select_seconds=1.,
                 precision=None, recall=None, selection_hash='')
            for name, ratio in (('full', 1.), ('random', .5), ('ours', .5)) for s in range(10)]
    ours = summarise(pd.DataFrame(rows)).set_index('selection').loc['ours']
    assert (ours.seeds, ours.diverged, ours.accuracy, ours.val_accuracy, ours.gain) == (2, 8, 80.5, 70.5, 0)
    lost = pd.DataFrame(rows).assign(accuracy=lambda t: t.accuracy.where(t.selection != 'ours'))
    ours = summarise(lost).set_index('selection').loc['ours']
    assert (ours.seeds, ours.diverged) == (0, 10) and math.isnan(ours.accuracy) and math.isnan(ours.p_holm)

def test_a_class_that_vanishes_is_counted(grid, digits):
    "Of ten classes one has three images: chance may lose it, and whoever goes class by class keeps one."
    rare = np.flatnonzero(digits.train.labels == 9)
    rows = np.sort(np.r_[np.flatnonzero(digits.train.labels != 9), rare[:3]])
    part = Images('digits', digits.train.take(rows), digits.test, digits.classes, digits.val)
    results, _ = grid('random', 'random-labels', 'medoids-labels', 'moderate-labels', ratios=(.05,), images=part, seeds=6)
    left = results[results.selection != 'full'].groupby('selection').n_classes.agg(['min', 'max'])
    assert left.loc['random', 'min'] == 9 and (left.drop('random')['min'] == 10).all()
    table = summarise(results).set_index('selection')
    assert table.n_classes['random'] == 9 and table.n_classes['random-labels'] == 10

def test_sizes_that_are_one_are_trained_once(grid, digits, monkeypatch):
    n, real, replicas = len(digits.train), training.train_stack, []
    def counting(data, evaluations, subsets, *args, **how):
        replicas.extend(subsets)
        return real(data, evaluations, subsets, *args, **how)
    monkeypatch.setattr(training, 'train_stack', counting)
    results, _ = grid('random', 'cossim-common', ratios=(.5, .5 - .2 / n))
    assert len(results) == 2 + 2 * 2 * 2 and len(replicas) == 2 + 2 * 2
    for _, same in results.groupby(['selection', 'seed']): assert same.accuracy.nunique() == 1

def test_a_device_is_asked_for_by_name(grid, monkeypatch):
    "cpu:0 takes the way of a GPU: all replicas of a size in one stack."
    sizes, real = [], training.train_stack
    def counting(data, evaluations, subsets, *args, **how):
        sizes.append(len(subsets))
        return real(data, evaluations, subsets, *args, **how)
    monkeypatch.setattr(training, 'train_stack', counting)
    results, _ = grid('random', 'cossim-common', seeds=9, device='cpu:0')
    assert sizes == [9, 18] and results.accuracy.notna().all()
    with pytest.raises(UserError, match="Unknown device 'tpu'"): Config(device='tpu')
    assert Config(device='cpu:0').facts == Config().facts # the same trainings, wherever they run

@pytest.mark.parametrize('change, says', [
    (lambda t: t.assign(ratio=100 * t.ratio), 'column ratio holds something else than numbers from 0 to 1'),
    (lambda t: t.assign(accuracy=t.accuracy + 100), 'column accuracy'), (lambda t: t.assign(seed=t.seed.astype(str)), 'column seed'),
    (lambda t: t.assign(accuracy='high'), 'column accuracy'), (lambda t: pd.concat([t, t]), 'holds trainings more than once'),
    (lambda t: t.assign(dataset='mnist'), 'holds trainings on mnist, not on digits'), (lambda t: t.drop(columns='regime'), 'lacks the columns regime')])
def test_a_table_of_another_version_is_not_gone_on_with(grid, tmp_path, change, says):
    results, _ = grid('random', seeds=1)
    change(results).to_parquet(tmp_path/'results.parquet')
    with pytest.raises(UserError, match=says): grid('random', seeds=1)

def test_what_random_images_of_as_many_steps_would_reach():
    "Half of the images, and scores for a tenth of the steps: between a half and all, along the logarithm."
    rows = [dict(selection=name, ratio=ratio, regime='epochs', scoring=s, trainings=pd.DataFrame({'accuracy': [a, a + 2]}))
            for name, ratio, a, s in (('full', 1., 90., 0), ('random', .5, 80., 0), ('ours-labels', .5, 85., .1))]
    table = pd.DataFrame(rows)
    want = 80 + 10 * np.log(.6 / .5) / np.log(2)
    np.testing.assert_allclose(answers.as_long(table, table.iloc[2]), [want, want + 2])
