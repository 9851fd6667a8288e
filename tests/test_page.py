"""The page: one file that loads nothing, runs nothing, and shows names as they are. And unusual reports."""
import base64, os, re, shlex
from html.parser import HTMLParser
from xml.etree import ElementTree
import numpy as np, pandas as pd, pytest
from semdedup import UserError, answers, embed, grids, load_images, reports
from semdedup.datasets import holdout

NAME = '''<img src=x onerror=alert(1)> "&' '''.strip()
CLASSES = [f'<b>{NAME}</b>', '</svg><script>alert(2)</script>', '{{ 7 * 7 }}']

def arrays(classes, n=90, m=30):
    "Random images, alike within a class, of as many classes as there are names."
    rng = np.random.default_rng(0)
    patterns = rng.integers(1, 200, (len(classes), 8, 8))
    images = lambda labels: (patterns[labels] + rng.integers(0, 50, (len(labels), 8, 8))).astype(np.uint8)
    y, y_test = np.arange(n) % len(classes), np.arange(m) % len(classes)
    return dict(train_images=images(y), train_labels=y, test_images=images(y_test), test_labels=y_test, classes=np.array(classes))

class Page(HTMLParser):
    "What there is in a page: tags with their attributes, and text."
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text); self.close()
        self.text = ' '.join(self.words)
    def handle_starttag(self, tag, attrs): self.tags.append((tag, dict(attrs)))
    def handle_data(self, data): self.words.append(data)
    def all(self, tag): return [attrs for t, attrs in self.tags if t == tag]

@pytest.fixture(scope='module')
def out(tmp_path_factory):
    "The folder of a small report on images with names that would be code, if they were not escaped."
    folder = tmp_path_factory.mktemp('page')
    np.savez(folder/f'{NAME}.npz', **arrays(CLASSES))
    config = grids.Config(str(folder/f'{NAME}.npz'), encoders=('pixels',), ratios=(.5,), rank_types=('cossim',), prune_types=('diverse',),
                          n_clusters=3, epochs=1, seeds=2)
    assert reports.make_report(config, folder/'out') == folder/'out'/'index.html'
    return folder/'out'

@pytest.fixture(scope='module')
def source(out): return (out/'index.html').read_text(encoding='utf-8')
@pytest.fixture(scope='module')
def page(source): return Page(source)

def test_nothing_runs(page):
    assert {tag for tag, _ in page.tags} & {'script', 'iframe', 'object', 'embed', 'form', 'base', 'link', 'svg'} == set()
    assert [(tag, name) for tag, attrs in page.tags for name in attrs if name.startswith('on')] == []
    [policy] = [m['content'] for m in page.all('meta') if m.get('http-equiv') == 'Content-Security-Policy']
    assert "default-src 'none'" in policy and 'script-src' not in policy and 'http' not in policy

def test_nothing_is_loaded(page, source):
    "Every picture is in the page, and no address leads to another host."
    assert page.all('img') and all(a['src'].startswith('data:image/') for a in page.all('img'))
    addresses = [attrs[name] for _, attrs in page.tags for name in ('href', 'src', 'srcset', 'action', 'data', 'poster') if attrs.get(name)]
    assert [a[:80] for a in addresses if not a.startswith(('data:image/', '#'))] == []
    styles = re.findall(r'<style>(.*?)</style>', source, re.S) + [attrs.get('style') or '' for _, attrs in page.tags]
    assert not re.search(r'@import|url\(', ' '.join(styles))

def test_every_picture_is_told_in_words(page):
    assert all(a.get('alt', '').strip() for a in page.all('img')) and page.all('html') == [{'lang': 'en'}] and len(page.all('h1')) == 1

def test_every_picture_is_whole(page):
    "PNGs have their signature; SVGs are XML without scripts, whatever classes are called."
    for a in page.all('img'):
        kind, content = re.fullmatch('data:image/(.*?);base64,(.*)', a['src']).groups()
        content = base64.b64decode(content, validate=True)
        if kind == 'png': assert content.startswith(b'\x89PNG')
        else: assert not [e.tag for e in ElementTree.fromstring(content).iter() if 'script' in e.tag.lower()]

def test_names_are_shown_as_they_are(page, source):
    "Escaped in the source, and whole in what is read: data set, classes, path."
    assert page.text.count(NAME) >= 3 and page.all('title') and f'semdedup: {NAME}' in page.text
    alts = ' '.join(a['alt'] for a in page.all('img'))
    for name in CLASSES: assert name in page.text and name in alts
    assert '<img src=x' not in source and '&lt;img src=x' in source and '<b><img' not in source

def test_code_is_not_shown(page):
    assert 'import pandas' not in page.text and 'Traceback' not in page.text

def test_figures_have_their_tables_beside_them(page, out):
    named = re.findall(r'Table: (figures/\w+\.csv)', page.text)
    assert len(named) >= 7
    for name in named: assert len(pd.read_csv(out/name)) > 0
    for figure in [*out.glob('figures/*.svg'), *out.glob('figures/*.png')]: assert figure.with_suffix('.csv').exists() and figure.with_suffix('.json').exists()

def test_the_command_repeats_it(page, out):
    "As the shell will read it."
    [command] = [w for w in page.words if w.startswith('semdedup report ')]
    words = shlex.split(command)
    assert words[words.index('--dataset') + 1] == str(out.parent/f'{NAME}.npz') and words[words.index('--out') + 1] == str(out)

# Parameters of notebooks

@pytest.mark.parametrize('notebook, parameters, says', [
    ('E1_cosine_similarity', {'n_cluster': 5}, "'n_cluster'.*Did you mean 'n_clusters'"),
    ('E2_pruning_performance', {'epoch': 5}, "'epoch'.*Did you mean 'epochs'"),
    ('report', {'output': 'x'}, "'output'"), ('E3', {}, "experiment 'E3'"),
])
def test_misspelt_parameters_are_refused(tmp_path, notebook, parameters, says):
    with pytest.raises(UserError, match=says): reports.run_notebook(notebook, tmp_path/'out', parameters)
    assert list(tmp_path.iterdir()) == []

def test_a_mistake_inside_a_notebook_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^Unknown data set 'digit'\. Did you mean 'digits'\?"):
        reports.run_notebook('E1_cosine_similarity', tmp_path, {'dataset': 'digit'})

def test_what_is_no_mistake_of_the_user_is_shown_whole(tmp_path, monkeypatch):
    "And the environment is left as it was."
    import papermill
    from papermill.exceptions import PapermillExecutionError
    def broken(*args, **kwargs): raise PapermillExecutionError(3, 7, 'x = 1 / 0', 'ZeroDivisionError', 'division by zero', ['the traceback'])
    monkeypatch.setattr(papermill, 'execute_notebook', broken); monkeypatch.delenv('SEMDEDUP_PROGRESS', raising=False)
    with pytest.raises(PapermillExecutionError, match='the traceback'): reports.run_notebook('E1_cosine_similarity', tmp_path, {})
    assert 'SEMDEDUP_PROGRESS' not in os.environ

# Unusual reports

def test_classes_without_images_and_with_odd_names(tmp_path):
    "E1 draws them: no training images of the last two; and names that are no plain text for matplotlib, pandas or XML."
    data = arrays(['$\\no$', '$', 'a_$x^$', '', 'nan', '猫', '\x1b[1m', 'in test only', 'nowhere'])
    data['train_labels'] %= 7; data['test_labels'] %= 8
    np.savez(tmp_path/'my.npz', **data)
    reports.run_notebook('E1_cosine_similarity', tmp_path/'out', dict(dataset=str(tmp_path/'my.npz'), n_clusters=3, out=str(tmp_path/'out')))
    for file in (tmp_path/'out'/'figures').glob('*.svg'): ElementTree.parse(file)

SMALL = dict(dataset='digits', encoders=('pixels',), ratios=(.5,), rank_types=('cossim',), prune_types=('diverse',),
             n_clusters=4, epochs=1, seeds=2, regimes=('epochs',))

@pytest.fixture(scope='module')
def digits():
    images = load_images('digits')
    return images, embed(images, 'pixels')

@pytest.mark.parametrize('changes', [dict(regimes=('steps',)), dict(regimes=('steps', 'epochs')), dict(seeds=1),
                                     dict(ratios=(1.,)), dict(rank_types=('random',)), dict(n_clusters=1)], ids=str)
def test_every_configuration_has_an_answer(tmp_path, digits, changes):
    config = grids.Config(**SMALL | changes)
    images, stay = holdout(digits[0], config.holdout)
    results, _, _ = grids.train_grid(images, {'pixels': digits[1][stay]}, config, tmp_path, checkpoints=1)
    summary = answers.summarise(results)
    assert re.match(rf'(Keeping|With as many optimiser steps, keeping) {100 * config.ratios[0]:g} % chosen by .* costs .* points', answers.answer(summary))
    assert summary[summary.selection != 'full'].groupby('regime').size().to_dict().keys() == set(config.regimes)

@pytest.mark.parametrize('name', ['encoders', 'ratios', 'rank_types', 'prune_types', 'regimes'])
def test_what_is_asked_twice_is_trained_once(name):
    "Else intervals would be too narrow."
    config = grids.Config(**SMALL | {name: SMALL[name] * 2})
    wanted = grids.keys(pd.concat([grids.plan(config, part) for part in grids.GRIDS[config.grid](config, pd.DataFrame)]))
    assert (len(wanted), len(set(wanted))) == (2 * 4, 2 * 4)

@pytest.mark.parametrize('grid', grids.GRIDS)
def test_every_grid_recommends_something(tmp_path, digits, grid):
    "All names, all parts, one seed of two clusters: what is there is not selected or trained again."
    config = grids.Config(**SMALL | dict(grid=grid, seeds=2))
    images, stay = holdout(digits[0], .1)
    again = lambda: grids.train_grid(images, {'pixels': digits[1][stay]}, config, tmp_path, checkpoints=1)[0]
    results = again()
    summary = answers.summarise(results)
    assert not summary.duplicated(['regime', 'ratio', 'selection', 'encoder', 'n_clusters']).any() and (summary.seeds == 2).all()
    assert 'training' in ' '.join(answers.recommend(summary))
    pd.testing.assert_frame_equal(again(), grids.read_results(tmp_path/'results.parquet'), check_dtype=False)
    assert again().train_seconds.tolist() == results.train_seconds.tolist()

def test_more_clusters_than_images_are_left_out(tmp_path, digits, monkeypatch):
    "A sweep goes as far as there are images, and nothing of it is missing for ever."
    parts = [grids.Part((name,), (.5,), 'pixels', n_clusters=k) for name, k in (('random', 2), ('cossim-common', 5000))]
    monkeypatch.setitem(grids.GRIDS, 'original', lambda config, results: iter(parts))
    results, _, missing = grids.train_grid(digits[0], {'pixels': digits[1]}, grids.Config(**SMALL), tmp_path)
    assert set(results.selection) == {'random'} and missing == 0

def test_copies_that_are_found():
    "Images 0 and 1 are there twice, image 2 once: of three that go, two are still represented, and no more could have been."
    assert (grids.copies_found(np.array([0, 0, 1, 1, 2]), np.array([0, 2])) == (2 / 3, 1.)
            and grids.copies_found(np.array([0, 0, 1, 1, 2]), np.array([0, 2, 3, 4])) == (1., .5))
    for index, keep in ([0, 1, 2], [0]), ([0, 0, 1], [0, 1, 2]): assert np.isnan(grids.copies_found(np.array(index), np.array(keep))).all()

def test_recommendation_says_so_where_chance_is_as_good():
    row = lambda selection, ratio, **more: dict(regime='epochs', ratio=ratio, selection=selection, encoder='', n_clusters=20, seeds=1,
                                                val_accuracy=1., accuracy=90., ci95=.1, p=.5, cost=.2, cost_ci95=.1, gain=.1, gain_ci95=.3, p_holm=.8,
                                                n_train=int(100 * ratio), scoring=0.,
                                                trainings=pd.DataFrame(dict(val_accuracy=[1.], accuracy=90., gain=.1, cost=.2))) | more
    table = pd.DataFrame([row('full', 1.), row('random', .5, val_accuracy=0.), row('ours', .5)])
    assert answers.recommend(table)[0].startswith('Remove 50 %: that costs 0.2 points (95 % 0.1 … 0.3), '
                                                  'and a training of as many epochs takes 2.0 times fewer steps. '
                                                  'Select with random: nothing is better as far as can be seen; ours did best on the validation images')
    table.loc[2, ['p_holm', 'gain_ci95']] = .01, .05
    assert 'it beats a random subset by 0.1 points' in answers.recommend(table)[0]
    assert answers.recommend(table.assign(scoring=.1))[0].startswith('Remove 50 %: that costs 0.2 points (95 % 0.1 … 0.3), '
                                                                     'and a training of as many epochs takes 2.0 times fewer steps '
                                                                     '(1.7 times with those of the short training')
    assert 'Select with random' in answers.recommend(table.assign(gain=-.1))[0]
    table.loc[1, 'val_accuracy'] = 2.
    assert 'Select with random: no selection did better than chance' in answers.recommend(table)[0]
    table['cost'] = 3.
    assert answers.recommend(table)[0].startswith('Remove nothing, if 0.5 points matter')
