"""Replicas that train together are what each would be alone; what cannot be trained on is refused; whatever stops a training stops all of it."""
import math
import numpy as np, pandas as pd, pytest, torch
from torch import nn
from semdedup import UserError, evaluate, kmeans, load_images, prune, rank
from semdedup.training import CNN, MODELS, Batches, Recipe, Run, conv_features, difference, gradients, interval, paired_p, scale_of, train, train_stack

@pytest.fixture(scope='module')
def digits(): return load_images('digits')

def replicas(model, shape, n_classes=10, seeds=(0, 1)):
    return [p.requires_grad_() for p in model.init(shape, n_classes, [torch.Generator().manual_seed(s) for s in seeds])]

def alone(kind, params, r, shape, n_classes=10):
    "The same network as torch has it, with the weights of one replica."
    c, h, w = shape
    if kind == 'mlp': net = nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, n_classes))
    else: net = nn.Sequential(*(o for a, b in ((c, 16), (16, 32), (32, 64)) for o in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))),
                              nn.Flatten(), nn.Linear(64 * (h // 8) * (w // 8), 128), nn.ReLU(), nn.Linear(128, n_classes))
    with torch.no_grad():
        for p, q in zip(net.parameters(), params): p.copy_(q[r].T if p.ndim == 2 else q[r])
    return net

@pytest.mark.parametrize('kind, shape', [('mlp', (1, 9, 11)), ('cnn', (1, 8, 8)), ('cnn', (3, 17, 25))])
def test_each_replica_is_a_network_of_its_own(kind, shape):
    "The same logits, the same gradients, the same errors."
    model = MODELS[kind]; params = replicas(model, shape)
    g = torch.Generator().manual_seed(7)
    x, y = torch.randn((2, 6, *shape), generator=g), torch.randint(0, 10, (2, 6), generator=g)
    logits, errors = model.forward(params, x), gradients(model, params, x, y, 'float32')
    for r in range(2):
        net = alone(kind, params, r, shape)
        want = net(x[r])
        nn.functional.cross_entropy(want, y[r]).backward()
        torch.testing.assert_close(logits[r], want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(errors[r], want.softmax(1) - nn.functional.one_hot(y[r], 10), rtol=1e-4, atol=1e-5)
        for p, q in zip(net.parameters(), params): torch.testing.assert_close(q.grad[r].T if p.ndim == 2 else q.grad[r], p.grad, rtol=1e-3, atol=1e-5)

def test_one_convolution_in_groups_is_as_good():
    "As a GPU does it: the same numbers, and the same gradients."
    g = torch.Generator().manual_seed(0)
    x, *params = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_()
                  for s in ((3, 4, 2, 12, 14), (3, 5, 2, 3, 3), (3, 5), (3, 6, 5, 3, 3), (3, 6)))
    results = [conv_features(x, params, grouped) for grouped in (False, True)]
    torch.testing.assert_close(*results)
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), (x, *params)) for y in results)): torch.testing.assert_close(one, other)

@pytest.mark.parametrize('kind', MODELS)
def test_sixteen_bits_are_nearly_as_good(kind):
    "And do no more than they should: the gradients point the same way, and stay in thirty-two."
    model, shape = MODELS[kind], (1, 8, 8)
    x, y = torch.randn((2, 64, *shape), generator=torch.Generator().manual_seed(7)), torch.arange(128).view(2, 64) % 10
    found = []
    for precision in 'float32', 'bfloat16':
        params = replicas(model, shape)
        gradients(model, params, x, y, precision)
        found.append([p.grad for p in params])
    for a, b in zip(*found):
        assert b.dtype == torch.float32 and not torch.equal(a, b) and nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > .99

@pytest.mark.parametrize('shape', [(1, 7, 8), (1, 8, 7), (3, 4, 40)])
def test_images_too_small_for_a_model_are_refused(shape):
    with pytest.raises(UserError, match=f'images of {shape[1]} × {shape[2]} pixels are too small. Use model mlp'): CNN().init(shape, 10, [torch.Generator()])

@pytest.mark.parametrize('kind', MODELS)
def test_company_does_not_matter(digits, kind):
    "Three replicas on different images, together and one by one."
    data, test = [Batches(s, *scale_of(digits.train), 'cpu') for s in (digits.train, digits.test)]
    subsets, recipe = [np.arange(i, 600, 3) for i in range(3)], Recipe(kind, epochs=2, batch_size=64)
    together, curve = train_stack(data, {'accuracy': test}, subsets, [5, 6, 7], 10, recipe, checkpoints=2)
    for r in range(3):
        one, _ = train_stack(data, {'accuracy': test}, subsets[r:r + 1], [5 + r], 10, recipe)
        assert abs(one['accuracy'][0] - together['accuracy'][r]) < .6     # two of 360 images may fall the other way
    assert curve.step.tolist() == [4] * 3 + [8] * 3 and curve[curve.step == 8].accuracy.tolist() == together['accuracy'].tolist()

def test_a_selection_beside_chance(digits):
    "By itself, not in a list; and a table for a notebook."
    x = digits.train.images.reshape(len(digits.train), -1).astype(np.float32)
    groups = kmeans(x, 5)
    picked = prune(groups, rank(groups), .1)
    scores = evaluate(digits, picked, seeds=2, epochs=1, regime='steps')
    s = scores.summary.set_index('selection')
    name = f'0: {picked.config["name"]}'
    assert s.index.tolist() == ['full', name] and s.kept.tolist() == [1437, len(picked.keep)] and scores.runs.steps.nunique() == 1 and len(scores.runs) == 6
    runs = scores.runs.set_index(['selection', 'kind', 'seed']).accuracy
    own, chance = (np.array([runs[name, kind, seed] for seed in range(2)]) for kind in (name, 'random'))
    assert s.gain[name] == pytest.approx((own - chance).mean()) and s.random[name] == pytest.approx(chance.mean()) and math.isnan(s.gain['full'])
    assert name in repr(scores) and f'<td>{name}</td>' in scores._repr_html_()

@pytest.mark.parametrize('of, says', [
    (lambda images: [np.array([3, -1])], 'Selection 0 names row -1; digits has 1437 training images'),
    (lambda images: [np.arange(9), np.array([1437])], 'Selection 1 names row 1437'), (lambda images: [np.arange(0)], 'keeps no image'),
    (lambda images: [np.r_[np.arange(9), 3, 3]], 'names 2 of its rows more than once'), (lambda images: None, 'There is no selection'),
    (lambda images: prune(groups := kmeans(np.eye(9, 4) + 1, 2), rank(groups), .5), 'was made of 9 images; digits has 1437')],
    ids=['below 0', 'too large', 'nothing', 'twice', 'none', 'of other images'])
def test_selections_of_other_images_are_refused(digits, of, says):
    with pytest.raises(UserError, match=says): evaluate(digits, of(digits), seeds=1, epochs=1)

def test_whole_numbers_are_whole_in_any_type(digits):
    assert len(evaluate(digits, [np.arange(90)], seeds=2., epochs=1.).runs) == 6 and Recipe(epochs=8.) == Recipe(epochs=8)

def test_a_training_that_diverges_is_said(digits, monkeypatch):
    monkeypatch.setattr('semdedup.training.accuracy', lambda model, params, data: np.array([math.nan, 50.]))
    with pytest.warns(UserWarning, match='1 of 2 trainings diverged'): table = train(digits, [Run(np.arange(50), seed) for seed in range(2)], Recipe(epochs=1))
    assert table.accuracy.isna().tolist() == [True, False]

@pytest.mark.parametrize('threads', ['1', '2'])
def test_whatever_stops_one_stops_all(digits, monkeypatch, threads):
    "As Ctrl-C does, after the first stack of three."
    monkeypatch.setenv('SEMDEDUP_THREADS', threads)
    seen = []
    def done(positions, results, curve):
        seen.append(positions.tolist()); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): train(digits, [Run(np.arange(100), seed) for seed in range(6)], Recipe(epochs=1), at_once=2, done=done)
    assert seen == [[0, 1]]
    assert len(train(digits, [Run(np.arange(100), seed) for seed in range(6)], Recipe(epochs=1), at_once=2)) == 6

def test_statistics_of_few():
    a, b = pd.Series([1., 2], [0, 1]), pd.Series([5.], [1])
    assert math.isnan(paired_p(a, b)) and difference(a, b)[0] == -3 and math.isnan(difference(a, b)[1])
    assert all(map(math.isnan, interval([]))) and paired_p(a, a) == 1 and math.isnan(paired_p(a, a + 1)) and math.isnan(difference(a, a + 1)[1])
