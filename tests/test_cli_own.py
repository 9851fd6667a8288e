"""The commands for own images: what they write, what they say, what they refuse."""
import html, io, json, os, shlex, shutil, sys, tarfile
from pathlib import Path
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from test_cli import command, contents, is_refused
from semdedup import dedup
from semdedup.cli import begin_results

TILES = [Image.fromarray(np.ascontiguousarray(im[y:y + 140, x:x + 140]))
         for im in load_sample_images().images for y in (0, 142, 284) for x in (0, 142, 284, 426)]

@pytest.fixture(scope='module')
def album(tmp_path_factory):
    "Two classes of twelve pictures, of which four are there twice, and a broken file."
    folder = tmp_path_factory.mktemp('cli')/'photos'
    for n, im in enumerate(TILES):
        (folder/'ab'[n % 2]).mkdir(parents=True, exist_ok=True); im.save(folder/'ab'[n % 2]/f'{n}.png')
        if n % 6 == 5: im.save(folder/'ab'[n % 2]/f'{n}-again.jpg', quality=90)
    (folder/'a'/'broken.jpg').write_bytes(b'')
    return folder

@pytest.fixture
def folder(tmp_path, album):
    "A folder to work in, with the album in it."
    (tmp_path/'work').mkdir(); shutil.copytree(album, tmp_path/'work'/'photos')
    return tmp_path/'work'

def run(folder, *args, **kwargs):
    code, out, err = command(folder, *args, **kwargs)
    assert code == 0, err
    return out, err
def manifest(folder, name='manifest'): return pd.read_parquet(folder/f'{name}.parquet')
def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())

def test_dedup_and_nothing_is_deleted(folder):
    before = contents(folder)
    out, _ = run(folder, 'dedup', 'photos', '--eps', '.5')
    assert (files(folder/'photos-deduped') == ['config.json', 'index.html', 'manifest.parquet']
            and {k: v for k, v in contents(folder).items() if not k.startswith('photos-deduped')} == before)
    t = manifest(folder/'photos-deduped')
    assert len(t) == 29 and t['kept'].sum() == 24 and '4: 0 the same file, 0 the same pixels, 4 near-copies' in out and '1 cannot be read' in out

@pytest.mark.parametrize('args', [['dedup', 'photos', '--eps', '0.5', '--keep', 'first', '--no-verify', '--out', 'my out', '--csv'],
                                  ['leaks', 'photos/a', 'photos/b', '--eps', '0.2', '--out', 'out']])
def test_the_page_says_what_made_it(folder, args):
    run(folder, *args)
    page = (folder/args[args.index('--out') + 1]/'index.html').read_text(encoding='utf-8')
    assert shlex.join(['semdedup', *args]) in html.unescape(page)

def test_what_goes_to_reach_a_target_is_not_called_a_copy(folder):
    out, _ = run(folder, 'dedup', 'photos', '--target', '20', '--out', 'out')
    t = manifest(folder/'out'); gone = t[t['duplicate_of'] >= 0]
    copies = gone['id'].str.contains('again')
    assert len(gone) == 8 and copies.sum() == 4 and (gone['reason'][copies] == 'near-duplicate of an image that stays').all()
    assert (gone['reason'][~copies] == 'no copy, but similar to an image that stays').all() and '4 near-copies, and 4 to reach the target: no copies' in out

def test_the_same_is_said_after_a_page_has_chosen_another_size(album):
    "Where the pictures were compared, their similarity decides; beyond that nobody knows."
    found = dedup(album, target=24)
    assert set(found.table['reason'][found.table['duplicate_of'] >= 0]) == {'near-duplicate of an image that stays'}
    assert ('near-duplicate of an image that stays' in set(found.resize(25).table['reason'])
            and set(dedup(album, target=20, verify=False, encoder='pixels').table['reason']) & {'similar to an image that stays'})

def test_a_run_that_is_refused_changes_nothing(folder):
    "Another selection must not go into the same folder of images, and the manifest must go on saying what is there."
    run(folder, 'dedup', 'photos', '--eps', '.5', '--link', '--out', 'out')
    before = contents(folder)
    for more in ['dedup', 'photos', '--target', '20'], ['dedup', 'photos', '--eps', '0']:
        code, _, err = command(folder, *more, '--link', '--out', 'out')
        if code: assert (code, contents(folder)) == (2, before) and 'holds other files' in err
    assert code == 0 # all that is there stays, and more

def test_from_inside_of_the_folder(folder):
    run(folder/'photos', 'dedup', '.', '--eps', '.5')
    assert (folder/'photos-deduped'/'manifest.parquet').exists() and not (folder/'photos'/'photos-deduped').exists()

def test_fewer_images_than_clusters(folder):
    for p in sorted((folder/'photos'/'b').iterdir())[3:]: p.unlink()
    out, _ = run(folder, 'prune', 'photos/b', '--encoder', 'pixels', '--ratio', '50%')
    assert 'stay        2 of 3' in out and '3 clusters' in out
    is_refused(folder, 'prune', 'photos/b', '--encoder', 'pixels', '--n-clusters', '20', says='only 3 images')

def test_a_suggested_threshold_is_said(folder):
    _, err = run(folder, 'dedup', 'photos', '--out', 'out')
    assert 'is suggested' in err and json.loads((folder/'out'/'config.json').read_text())['suggested']

def test_lists_are_for_pipes(folder):
    out, _ = run(folder, 'dedup', 'photos', '--eps', '.5', '--list', '--out', 'out')
    t = manifest(folder/'out')
    assert ([os.path.relpath(p, folder/'photos').replace(os.sep, '/') for p in out.splitlines()] == t['id'][t['kept']].tolist()
            and all((folder/p).exists() for p in out.splitlines()))

@pytest.mark.parametrize('verb, table', [(['dedup', 'photos', '--eps', '.05'], 'manifest'),
                                         (['leaks', 'photos/a', 'photos/b', '--eps', '.05'], 'leaks'),
                                         (['prune', 'photos', '--n-clusters', '2'], 'manifest')])
def test_a_network_in_sixteen_bits(folder, verb, table):
    for precision in 'float32', 'bfloat16': run(folder, *verb, '--encoder', 'efficientnet-lite0', '--precision', precision, '--out', precision)
    exact, short = [manifest(folder/p, table) for p in ('float32', 'bfloat16')]
    column = 'similarity' if verb[0] == 'prune' else 'duplicate_similarity'
    assert not np.array_equal(exact[column], short[column], equal_nan=True) and len(exact) == len(short)

@pytest.mark.parametrize('flag', ['--copy', '--link', '--symlink'])
def test_a_folder_of_what_stays_and_csv(folder, flag):
    for _ in range(2): run(folder, 'dedup', 'photos', '--eps', '.5', flag, '--csv', '--out', 'out')
    t = manifest(folder/'out')
    assert files(folder/'out'/'images') == sorted(t['id'][t['kept']]) and len(pd.read_csv(folder/'out'/'manifest.csv')) == 29

@pytest.mark.parametrize('eps', [.5, .4], ids=['the same again', 'another configuration'])
def test_what_a_killed_run_was_writing_goes(tmp_path, eps):
    "And nothing else that is hidden; with another configuration the old tables go too, and images never."
    begin_results(tmp_path, 'dedup', dict(eps=.5))
    for name in '.index.html.abc123.tmp', '.manifest.parquet.x.tmp', '.config.json.y.tmp', '.notes.tmp', 'manifest.parquet', 'index.html', 'images/a.png':
        (tmp_path/name).parent.mkdir(exist_ok=True); (tmp_path/name).touch()
    begin_results(tmp_path, 'dedup', dict(eps=eps))
    assert files(tmp_path) == sorted(['.notes.tmp', 'config.json', 'images/a.png', *(['manifest.parquet', 'index.html'] if eps == .5 else [])])
    assert json.loads((tmp_path/'config.json').read_text()) == {'made by': 'dedup', 'format': 1, 'eps': eps}

def test_another_eps_in_the_same_folder(folder):
    "Tables and page are made anew; images of another selection are in the way."
    run(folder, 'dedup', 'photos', '--eps', '.5', '--csv', '--out', 'out'); run(folder, 'dedup', 'photos', '--eps', '0', '--out', 'out')
    assert manifest(folder/'out')['kept'].sum() == 28 and not (folder/'out'/'manifest.csv').exists()

@pytest.mark.parametrize('target, kept', [('50%', 15), ('10', 10)])
def test_targets(folder, target, kept):
    run(folder, 'dedup', 'photos', '--target', target, '--out', 'out')
    assert manifest(folder/'out')['kept'].sum() == kept

def test_flags_take_both_dashes(folder):
    run(folder, 'dedup', 'photos', '--eps', '.5', '--n_clusters', '3', '--no_verify', '--out', 'a')
    assert manifest(folder/'a')['cluster'].max() == 2

def test_leaks(folder):
    (folder/'test'/'a').mkdir(parents=True); (folder/'test'/'b').mkdir()
    TILES[0].resize((99, 99)).save(folder/'test'/'b'/'x.jpg')
    Image.effect_noise((140, 140), 90).save(folder/'test'/'a'/'y.png')
    Image.effect_noise((100, 140), 90).save(folder/'test'/'a'/'z.png')
    TILES[9].save(folder/'test'/'b'/'w.webp', quality=90)
    out, _ = run(folder, 'leaks', 'photos', 'test', '--eps', '.5', '--csv')
    t = manifest(folder/'test-leaks', 'leaks').set_index('id')
    assert sorted(t.index[t['leak']]) == ['b/w.webp', 'b/x.jpg'] and t['duplicate_id']['b/x.jpg'] == 'a/0.png' and len(t) == 4
    assert ([Path(p).name for p in (folder/'test-leaks'/'clean.txt').read_text().splitlines()] == ['y.png', 'z.png']
            and '2 of 4 test images' in out and '1 of them with another label' in out)
    out, _ = run(folder, 'leaks', 'photos', 'test', '--eps', '.5', '--list')
    assert [Path(p).name for p in out.splitlines()] == ['y.png', 'z.png']

def test_leaks_of_a_data_set_by_name(folder):
    run(folder, 'leaks', 'digits:train', 'digits:test', '--encoder', 'pixels', '--eps', '.001', '--out', 'out')
    t = manifest(folder/'out', 'leaks')
    assert (len(t) == 360
            and list(t)[:8] == ['index', 'id', 'label', 'duplicate_of', 'duplicate_id', 'duplicate_label', 'duplicate_similarity', 'leak']
            and (t['duplicate_of'] >= 0).all() and t['duplicate_similarity'].notna().all())

def test_prune(folder):
    out, _ = run(folder, 'prune', 'photos', '--ratio', '25', '--floor', '25%', '--encoder', 'pixels', '--n-clusters', '3', '--link')
    t = manifest(folder/'photos-pruned')
    assert (t['kept'].sum() == 7 and t[t['kept']]['label'].value_counts().min() >= 3
            and len(files(folder/'photos-pruned'/'images')) == 7 and '2; the fewest stay of' in out)

def test_a_run_on_labelled_photographs(folder):
    out, _ = run(folder, 'run', '--dataset', 'photos', '--encoder', 'pixels', '--size', '16', '--n-clusters', '3',
                 '--ratio', '50', '--epochs', '1', '--out', 'out')
    assert "Images('photos': 23 train + 5 test, 3×16×16, 2 classes)" in out and len(manifest(folder/'out', 'selection')) == 23

def test_a_sweep_on_labelled_photographs(folder):
    run(folder, 'sweep', '--dataset', 'photos', '--encoder', 'pixels', '--size', '16', '--n-clusters', '3',
        '--ratio', '50', '--epochs', '1', '--seeds', '1', '--rank-type', 'cossim', '--prune-type', 'common', '--holdout', '.2', '--out', 'out')
    assert (folder/'out'/'index.html').exists() and json.loads((folder/'out'/'config.json').read_text())['size'] == 16

@pytest.mark.parametrize('args, says', [
    ('dedup nowhere', 'nowhere'), ('dedup photos --keep bigest', "Did you mean 'largest'?"),
    ('dedup photos --eps 3', 'eps is 3'), ('dedup photos --eps .1 --target 50%', 'give one of them'),
    ('dedup photos --target lots', "target is 'lots'"), ('dedup photos --target 200%', "target is '200%'"),
    ('dedup photos --target 0', 'target is 0'), ('dedup photos --copy --link', 'Choose one'),
    ('dedup photos --encoder copied', "Did you mean 'copies'?"), ('dedup photos --rule covers', "Did you mean 'cover'?"),
    ('dedup photos --out photos/new', 'lies in photos'), ('dedup photos --out photos', 'lies in photos'),
    ('dedup photos --labels cats', 'labels'), ('dedup photos --weights x.pth', "'copies' takes no weights"),
    ('leaks photos/a photos/b --precision bfloat16', 'computes in float32 only'), ('prune photos --precision half', "Unknown precision 'half'"),
    ('dedup photos --eps abc', '--eps cannot be read: it must be a number'), ('dedup photos --n-clusters 99', 'n_clusters is 99'),
    ('dedup', "Missing argument 'PATH'"), ('leaks photos', "Missing argument 'TEST'"), ('leaks photos nowhere', 'nowhere'),
    ('leaks digits:train digits:tset', 'tset'), ('leaks photos/a photos/b --eps -1', 'eps is -1'),
    ('prune photos --ratio 0', 'ratio is 0'), ('prune photos --ratio 101', 'ratio is 101'),
    ('prune photos --rank-type cosim', "Did you mean 'cossim'?"), ('prune photos --ratio 5 --floor 50% --encoder pixels --n-clusters 2', 'are kept'),
    ('prune photos --floor few', "floor is 'few'"), ('prune photos/a --floor 3 --encoder pixels --n-clusters 2', 'has no labels'),
    ('run --dataset photos/a --epochs 1', 'has no labels'), ('run --ratio abc', 'it must be a percentage, for example 50'),
    ('run --dataset digits --encoder pixels --weights x.pth', "'pixels' takes no weights"),
    ('sweep --dataset digits --encoder pixels --weights x.pth', 'takes no weights'),
    ('report --dataset digits --encoder pixels,copies --weights x.pth', 'takes no weights'),
    ('report photos --test-share 0', "--test-share is '0'; give a share as 10% or 0.1"),
    ('dedup photos --label-column x', 'photos is a folder of images, which has no columns'),
])
def test_mistakes_are_answered_in_one_sentence(folder, args, says):
    before = contents(folder)
    code, out, err = command(folder, *args.split())
    assert (code, out) == (2, '') and err.splitlines()[-1].startswith('semdedup: ') and says in err.splitlines()[-1] and 'Traceback' not in err, err
    assert contents(folder) == before, 'something was written'

@pytest.mark.parametrize('args', ['dedup photos', 'leaks photos/a photos/b', 'prune photos --encoder pixels --n-clusters 2'])
def test_a_folder_of_somebody_else_is_refused(folder, args):
    (folder/'out').mkdir(); (folder/'out'/'thesis.txt').write_text('mine')
    is_refused(folder, *args.split(), '--out', 'out', says="such as 'thesis.txt'")

def test_names_in_any_encoding(folder):
    "A name that is no UTF-8, one that would be code, one with a line break: listed, copied, shown."
    if os.name != 'posix': pytest.skip('names are text here')
    try: Path(os.fsdecode(bytes(folder/'photos'/'a') + b'/caf\xe9.png')).write_bytes((folder/'photos'/'a'/'0.png').read_bytes())
    except OSError: pytest.skip('the file system wants UTF-8')
    shutil.copy(folder/'photos'/'a'/'2.png', folder/'photos'/'a'/'<img src=x onerror=alert(1)>.png')
    TILES[4].rotate(180).save(folder/'photos'/'a'/'two\nlines.png')
    run(folder, 'dedup', 'photos', '--eps', '.5', '--keep', 'random', '--copy', '--csv', '--out', 'out')
    t = manifest(folder/'out')
    assert len(list((folder/'out'/'images').rglob('*.*'))) == t['kept'].sum() and t['id'].str.contains(r'caf\\xe9').any()
    assert '<img src=x' not in (folder/'out'/'index.html').read_text(encoding='utf-8')

@pytest.mark.parametrize('verb', ['dedup', 'leaks', 'prune', 'embeddings'])
def test_help_teaches(folder, verb):
    code, out, err = command(folder, verb, '--help', env={'COLUMNS': '150'})
    assert (code, err) == (0, '') and 'Examples' in out and f'semdedup {verb} ' in out

@pytest.fixture
def vectors(tmp_path):
    "A folder to work in, with 600 embeddings in two files, of which the last 100 are near-copies of the first."
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 16)).astype(np.float32)
    x[500:] = x[:100] + .02 * rng.standard_normal((100, 16))
    (tmp_path/'work'/'shards').mkdir(parents=True)
    for i, part in enumerate(np.split(x, [250])): np.save(tmp_path/'work'/'shards'/f'{i}.npy', part)
    pq.write_table(pa.table({'id': [f'item {i}' for i in range(600)], 'vector': list(x), 'other': list(x[:, :3])}), tmp_path/'work'/'x.parquet')
    return tmp_path/'work'

def test_embeddings(vectors):
    before = contents(vectors)
    out, _ = run(vectors, 'embeddings', 'shards', '--csv')
    t = manifest(vectors/'shards-deduped')
    assert len(t) == 600 and set(t.index[~t['kept']] % 500) == set(range(100))
    assert 'go          100 at eps 0.05: near-duplicate of an image that stays (100)' in out
    assert '            100 at eps 0.025, 100 at eps 0.01\n' in out
    assert 'found       100.0 % of all near-duplicates (95 % ' in out and 'measured on 600 random items' in out
    assert {k: v for k, v in contents(vectors).items() if not k.startswith('shards-deduped')} == before
    assert sorted(p.name for p in (vectors/'shards-deduped').iterdir()) == ['config.json', 'manifest.csv', 'manifest.parquet'] # and no .work
    assert (t['duplicate_id'] == [str(i) if i >= 0 else '' for i in t['duplicate_of']]).all()

def test_embeddings_are_listed_by_their_names(vectors):
    out, err = run(vectors, 'embeddings', 'x.parquet', '--column', 'vector', '--list', '--gone', '--keep', 'first', '--recall', '0', '--out', 'out')
    assert out.splitlines() == [f'item {i}' for i in range(500, 600)] and 'stay        500 of 600' in err and 'found' not in err
    (vectors/'names.txt').write_text('\n'.join(f'{i}.jpg' for i in range(600)) + '\n', encoding='utf-8-sig') # as some editors write it
    out, err = run(vectors, 'embeddings', 'shards', '--ids', 'names.txt', '--list', '--target', '300', '--keep', 'first', '--out', 'half')
    assert len(out.splitlines()) == 300 and set(out.splitlines()) <= {f'{i}.jpg' for i in range(600)} and 'go          300 to reach the target, at eps ' in err
    pq.write_table(pa.table({'url': [f'u{i}' for i in range(600)], 'v': pq.read_table(vectors/'x.parquet')['vector']}), vectors/'urls.parquet')
    run(vectors, 'embeddings', 'urls.parquet', '--id-column', 'url', '--keep', 'first', '--recall', '0', '--out', 'named')
    t = manifest(vectors/'named')
    assert t['id'][599] == 'u599' and t['duplicate_id'][599] == 'u99'

def test_rows_of_embeddings_that_cannot_be_compared(vectors):
    x = np.load(vectors/'shards'/'0.npy'); x[7] = np.nan; np.save(vectors/'shards'/'0.npy', x)
    is_refused(vectors, 'embeddings', 'shards', says='7')
    out, _ = run(vectors, 'embeddings', 'shards', '--on-invalid', 'drop', '--list', '--gone', '--out', 'listed')
    assert '7' not in out.splitlines() and len(out.splitlines()) == 99 # what cannot be compared is no near-duplicate
    out, _ = run(vectors, 'embeddings', 'shards', '--on-invalid', 'drop')
    assert 'stay        500 of 600' in out and 'embeddings  600 × 16, float32' in out and not manifest(vectors/'shards-deduped')['kept'][7]
    np.save(vectors/'zeros.npy', np.zeros((9, 4), np.float32))
    out, _ = run(vectors, 'embeddings', 'zeros.npy', '--on-invalid', 'keep')
    assert 'stay        9 of 9' in out and 'compared    0 of 0 pairs' in out

def test_embeddings_go_on_after_ctrl_c(vectors, monkeypatch):
    from typer.testing import CliRunner
    from semdedup import evidence, pruning
    from semdedup.cli import app
    monkeypatch.chdir(vectors)
    def ctrl_c(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(pruning, 'select', ctrl_c)
        stopped = CliRunner().invoke(app, ['embeddings', 'shards'])
    assert stopped.exit_code == 130 and 'the same command goes on from there' in stopped.output and (vectors/'shards-deduped'/'.work').is_dir()
    for mistake in ['--keep', 'larges'], ['--n-clusters', '999'], ['--ids', 'names.txt']:
        (vectors/'names.txt').write_text('just one'); before = contents(vectors)
        assert CliRunner().invoke(app, ['embeddings', 'shards', *mistake]).exit_code == 2 and contents(vectors) == before, mistake
    monkeypatch.setattr(evidence, 'kmeans', lambda *args, **kwargs: pytest.fail('what was finished is computed again'))
    assert CliRunner().invoke(app, ['embeddings', 'shards']).exit_code == 0 and not (vectors/'shards-deduped'/'.work').exists()

def test_embeddings_leave_the_files_of_others_alone(vectors):
    (vectors/'out'/'.work').mkdir(parents=True); (vectors/'out'/'.work'/'thesis.txt').write_text('mine')
    is_refused(vectors, 'embeddings', 'shards', '--out', 'out', says='holds other files')
    (vectors/'mine').mkdir()
    is_refused(vectors, 'embeddings', 'shards', '--out', 'mine', '--n-clusters', '999', says='n_clusters is 999')
    is_refused(vectors, 'embeddings', 'shards', '--out', 'new/er', '--n-clusters', '999', says='n_clusters is 999')

def test_a_manifest_of_other_names_does_not_stand_beside_an_old_table(vectors):
    for name in 'ab': (vectors/f'{name}.txt').write_text('\n'.join(f'{name}{i}' for i in range(600)))
    run(vectors, 'embeddings', 'shards', '--recall', '0', '--ids', 'a.txt', '--csv', '--out', 'out')
    run(vectors, 'embeddings', 'shards', '--recall', '0', '--ids', 'b.txt', '--out', 'out')
    assert files(vectors/'out') == ['config.json', 'manifest.parquet'] and manifest(vectors/'out')['id'][3] == 'b3'
    x = pq.read_table(vectors/'x.parquet').select(['id', 'vector'])
    pq.write_table(x.append_column('url', pa.array([f'u{i}' for i in range(600)])), vectors/'urls.parquet')
    run(vectors, 'embeddings', 'urls.parquet', '--recall', '0', '--csv', '--out', 'urls')
    run(vectors, 'embeddings', 'urls.parquet', '--recall', '0', '--id-column', 'url', '--out', 'urls')
    assert files(vectors/'urls') == ['config.json', 'manifest.parquet'] and manifest(vectors/'urls')['id'][3] == 'u3'

def test_stricter_thresholds_are_told_where_they_cost_nothing(tmp_path, monkeypatch):
    from typer.testing import CliRunner
    from semdedup import pruning
    from semdedup.cli import app
    monkeypatch.chdir(tmp_path)
    np.save('dense.npy', np.ones((400, 8), np.float32) + .01 * np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32))
    calls, compare = [], pruning.compare
    monkeypatch.setattr(pruning, 'compare', lambda *args: calls.append(1) or compare(*args))
    for memory, told in ('1GB', True), ('1KB', False):
        calls.clear()
        out = CliRunner().invoke(app, ['embeddings', 'dense.npy', '--memory', memory, '--recall', '0', '--out', memory]).output
        assert len(calls) == 1 and ('at eps 0.025' in out) == told

@pytest.mark.parametrize('args, says', [
    ('embeddings nowhere.npy', 'nowhere.npy'), ('embeddings shards --keep larges', 'There are: hard, easy'), ('embeddings shards --rule covers', "'cover'"),
    ('embeddings shards --eps .1 --target 50%', 'give one of them'), ('embeddings shards --n-clusters 999', 'n_clusters is 999'),
    ('embeddings shards --probes 0', 'probes is 0'),
    ('embeddings shards --gone', 'give --list, too'), ('embeddings shards --ids none.txt', 'none.txt cannot be read'),
    ('embeddings shards --memory lots', "memory is 'lots'"), ('embeddings shards --out shards/new', 'lies in shards'),
    ('dedup shards/0.npy', 'semdedup embeddings'), ('dedup x.parquet', 'semdedup embeddings'), ('dedup shards', 'semdedup embeddings'),
    ('embeddings x.parquet --column vector --id-column url', "has no column 'url'"), ('embeddings shards --id-column url', 'have no columns'),
    ('embeddings .. --out ../new', 'not looked into: name one of work'),
])
def test_mistakes_with_embeddings_are_answered_in_one_sentence(vectors, args, says):
    before = contents(vectors)
    code, out, err = command(vectors, *args.split())
    assert (code, out) == (2, '') and err.splitlines()[-1].startswith('semdedup: ') and says in err.splitlines()[-1] and 'Traceback' not in err, err
    assert contents(vectors) == before, 'something was written'

# What came to light in a review

def png(i, side=64):
    b = io.BytesIO(); Image.fromarray(np.random.default_rng(i).integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC).save(b, 'PNG')
    return b.getvalue()

def test_labels_do_not_lead_out_of_the_folder(tmp_path):
    pq.write_table(pa.table({'image': [png(i) for i in range(5)], 'label': ['', '..', '.', 'a/b', '../../x']}), tmp_path/'t.parquet')
    run(tmp_path, 'dedup', 't.parquet', '--copy', '--out', 'out')
    assert sorted(p.relative_to(tmp_path/'out'/'images').parts[0] for p in (tmp_path/'out'/'images').rglob('*.png')) == ['.._.._x', '_', '_', '_', 'a_b']
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out', 't.parquet']

def test_names_that_a_tar_holds_twice(tmp_path):
    with tarfile.open(tmp_path/'t.tar', 'w') as t:
        for i, name in enumerate(['a.png', 'b.png', 'a.png', 'dir.png', 'dir.png/x.png', 'sub/a.png']):
            m = tarfile.TarInfo(name); m.size = len(png(i)); t.addfile(m, io.BytesIO(png(i)))
    for _ in range(2): run(tmp_path, 'dedup', 't.tar', '--copy', '--out', 'out')
    assert files(tmp_path/'out'/'images') == ['a.png', 'a~2.png', 'b.png', 'dir.png/x.png', 'dir~2.png', 'sub/a.png']
    assert (tmp_path/'out'/'images'/'a~2.png').read_bytes() == png(2)

def test_hard_links_of_symbolic_links(tmp_path):
    (tmp_path/'photos').mkdir()
    (tmp_path/'a.png').write_bytes(png(0))
    (tmp_path/'photos'/'b.png').write_bytes(png(1))
    (tmp_path/'photos'/'link.png').symlink_to('../a.png')
    for _ in range(2): run(tmp_path, 'dedup', 'photos', '--link', '--out', 'out')
    link = tmp_path/'out'/'images'/'link.png'
    assert not link.is_symlink() and link.samefile(tmp_path/'a.png')

@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such names')
def test_names_that_are_no_unicode(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b'f\xff'); os.mkdir(folder)
    for i in range(2):
        with open(os.path.join(folder, b'x\xff%d.png' % i), 'wb') as f: f.write(png(i))
    for verb in ['dedup', '--copy'], ['prune', '--encoder', 'pixels', '--link']: run(tmp_path, verb[0], os.fsdecode(folder), *verb[1:], '--out', verb[0])
    assert [len(os.listdir(tmp_path/v/'images')) for v in ('dedup', 'prune')] == [2, 1]

def test_pictures_that_differ_beyond_eight_bits_are_not_the_same(tmp_path):
    "Depth maps, drawings in white on nothing, and animations with one cover."
    (tmp_path/'p').mkdir(); cover = Image.open(io.BytesIO(png(99)))
    for i in range(3):
        rng = np.random.default_rng(i)
        Image.fromarray((30_000 + rng.integers(0, 100, (64, 64))).astype(np.uint16)).save(tmp_path/'p'/f'depth{i}.png')
        Image.fromarray(np.dstack([np.full((64, 64, 3), 255, np.uint8),
                                   255 * rng.integers(0, 2, (8, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)])).save(tmp_path/'p'/f'icon{i}.png')
        cover.save(tmp_path/'p'/f'film{i}.gif', save_all=True, append_images=[Image.open(io.BytesIO(png(i)))])
    run(tmp_path, 'dedup', 'p', '--out', 'out')
    t = manifest(tmp_path/'out')
    assert (t['exact'] == '').all() and t['kept'][t['id'].str.startswith('icon')].all()

def test_sets_that_overlap_are_refused(folder):
    for a, b in ('photos', 'photos'), ('photos', 'photos/a'), ('photos/b', 'photos'): is_refused(folder, 'leaks', a, b, says='hold the same images')
    is_refused(folder, 'leaks', 'photos/a', 'photos/b', '--out', 'photos/a/out', says='lies in photos/a')

def test_results_for_another_folder_are_not_replaced(folder):
    shutil.copytree(folder/'photos'/'a', folder/'other'/'photos')
    run(folder, 'dedup', 'photos'); run(folder, 'dedup', './photos/')
    is_refused(folder, 'dedup', 'other/photos', says=f'holds what was found in {(folder/"photos").resolve()}. Choose another --out')

def test_images_of_an_earlier_run_are_mentioned(folder):
    run(folder, 'dedup', 'photos', '--eps', '.5', '--link', '--out', 'out')
    _, err = run(folder, 'dedup', 'photos', '--eps', '.1', '--out', 'out')
    assert 'out/images is of an earlier run' in err.replace(os.sep, '/')

def test_the_command_of_the_slider_can_be_typed(folder):
    run(folder, 'dedup', 'photos', '--target', '20', '--out', 'out')
    page = html.unescape((folder/'out'/'index.html').read_text(encoding='utf-8'))
    assert 'data-command="semdedup dedup photos --out out --no-verify"' in page and 'are no copies, but the most similar that there are' in page

def test_labels_of_nothing(tmp_path):
    pq.write_table(pa.table({'image': [png(i) for i in range(4)], 'label': pa.array([None] * 4, pa.string())}), tmp_path/'t.parquet')
    run(tmp_path, 'prune', 't.parquet', '--encoder', 'pixels', '--out', 'out')

def test_a_folder_with_a_file_called_state(folder):
    (folder/'photos'/'state.json').write_text('{}')
    run(folder, 'dedup', 'photos')
