"""Files from elsewhere, from another version, or damaged: computed again or refused, never trusted."""
import json, warnings
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from semdedup import Selection, UserError, embed, embeddings, grids, kmeans, load_images, prune, rank
from semdedup.datasets import holdout
from semdedup.pruning import FORMAT

# Embeddings

class Rows:
    "An encoder that counts its calls: the sums of the rows of each image."
    name = 'rows'
    def __init__(self, version=1): self.config, self.calls = dict(encoder='rows', version=version), 0
    def __call__(self, images): self.calls += 1; return images.sum((1, 3), dtype=np.float32)

@pytest.fixture(scope='module')
def images(): return np.random.default_rng(0).integers(1, 256, (40, 1, 8, 8)).astype(np.uint8)

def metadata_of(file):
    with safe_open(file, 'np') as f: return f.metadata()

def rewritten(x=None, **changes):
    "A damage: a file that is sound, with other numbers, or other metadata (None leaves an entry out)."
    return lambda file: save_file(load_file(file) if x is None else x, file, {k: v for k, v in (metadata_of(file) | changes).items() if v is not None})

def bit_flipped(file):
    content = bytearray(file.read_bytes()); content[-7] ^= 1
    file.write_bytes(content)

DAMAGES = {
    'empty': lambda file: file.write_bytes(b''), 'text': lambda file: file.write_text('no embeddings'),
    'cut': lambda file: file.write_bytes(file.read_bytes()[:-100]), 'cut in its header': lambda file: file.write_bytes(file.read_bytes()[:50]),
    'a bit flipped': bit_flipped, 'other numbers': rewritten(dict(x=np.ones((40, 8), np.float32))),
    'another tensor': rewritten(dict(weight=np.ones((40, 8), np.float32))),
    'foreign': lambda file: save_file(dict(weight=np.ones(3)), file), 'without checksum': rewritten(sha256=None),
    'another configuration': rewritten(config='{"encoder": "rows", "version": 2}'), 'no configuration': rewritten(config=None),
    'no JSON': rewritten(config='{'),
}

@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_a_cache_that_cannot_be_trusted_is_computed_again(tmp_path, images, damage):
    "With a warning, and only once: then the file is whole."
    x = embed(images, Rows(), cache=tmp_path)
    [file] = tmp_path.iterdir()
    damage(file)
    with pytest.warns(UserWarning, match='computed again'): again = embed(images, Rows(), cache=tmp_path)
    np.testing.assert_array_equal(again, x)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        np.testing.assert_array_equal(embed(images, encoder := Rows(), cache=tmp_path), x)
    assert encoder.calls == 0 and list(tmp_path.iterdir()) == [file]

def test_other_images_or_another_encoder_have_files_of_their_own(tmp_path, images):
    for version, data in (1, images), (2, images), (1, images[::-1]), (1, images[:, :, ::-1]):
        embed(data, encoder := Rows(version), cache=tmp_path)
        assert encoder.calls
    assert len(list(tmp_path.iterdir())) == 4
    assert metadata_of(next(tmp_path.iterdir())).keys() == {'config', 'sha256'}

def test_embeddings_that_are_not_finite_are_not_kept(tmp_path, images):
    class Broken(Rows):
        batch_size = 20
        def __call__(self, images): return np.where(np.arange(len(images))[:, None] == 5, np.nan, super().__call__(images))
    with pytest.raises(UserError, match='2 of 40 rows hold NaN or infinity .rows 5, 25.'): embed(images, Broken(), cache=tmp_path)
    assert list(tmp_path.iterdir()) == []

def test_a_cache_that_cannot_be_written_is_named(tmp_path, images, monkeypatch):
    (tmp_path/'file').touch()
    with pytest.raises(UserError, match='Cannot write .*file/below.*choose another folder'): embed(images, Rows(), cache=tmp_path/'file'/'below')
    monkeypatch.setenv('SEMDEDUP_CACHE', str(tmp_path/'file')) # the usual one is a convenience, and no reason to stop
    with pytest.warns(UserWarning, match='The cache .*file cannot be written to .*SEMDEDUP_CACHE names another folder'): x = embed(images, Rows())
    assert len(x) == len(images)

def test_a_folder_in_the_place_of_the_file_is_named(tmp_path, images):
    embed(images, Rows(), cache=tmp_path)
    [file] = tmp_path.iterdir()
    file.unlink(); file.mkdir()
    with pytest.raises(UserError, match='Cannot write'), pytest.warns(UserWarning, match='computed again'): embed(images, Rows(), cache=tmp_path)
    assert list(tmp_path.iterdir()) == [file]

# Manifests

@pytest.fixture(scope='module')
def selection(images):
    groups = kmeans(embed(images, 'pixels'), 3)
    return prune(groups, rank(groups), .5)

def stamped(**changes):
    "A forgery: the same table with other entries in its metadata (None leaves one out)."
    def forge(path):
        table = pq.read_table(path)
        meta = {k: v for k, v in (json.loads(table.schema.metadata[b'semdedup']) | changes).items() if v is not None}
        pq.write_table(table.replace_schema_metadata({'semdedup': json.dumps(meta)}), path)
    return forge

def with_table(change, metadata=lambda m: m):
    "A forgery: another table, with the same metadata or other."
    def forge(path):
        table = pq.read_table(path)
        pq.write_table(change(table).replace_schema_metadata(metadata(table.schema.metadata)), path)
    return forge

FORGERIES = {
    'empty': (lambda path: path.write_bytes(b''), 'not a Parquet file'), 'text': (lambda path: path.write_text('index,kept\n0,True\n'), 'not a Parquet file'),
    'cut': (lambda path: path.write_bytes(path.read_bytes()[:-200]), 'damaged'),
    'foreign': (lambda path: pd.DataFrame(dict(a=[1])).to_parquet(path), 'not a selection'),
    'its table alone': (lambda path: pd.read_parquet(path).to_parquet(path), 'not a selection'),
    'no JSON': (with_table(lambda t: t, lambda m: {'semdedup': '{'}), 'not a selection'),
    'a list': (with_table(lambda t: t, lambda m: {'semdedup': '[]'}), 'selection'),
    'a later format': (stamped(format=FORMAT + 1), f'format {FORMAT + 1}; this version of semdedup reads format {FORMAT}'),
    'no format': (stamped(format=None), 'format None'),
    'no configuration': (stamped(config=None), 'selection.parquet'), 'a column missing': (with_table(lambda t: t.drop_columns('kept')), 'lacks .*kept'),
    'text for numbers': (with_table(lambda t: t.set_column(t.column_names.index('cluster'), 'cluster', pa.array(['a'] * len(t)))), 'selection.parquet'),
}

@pytest.mark.parametrize('forge, says', FORGERIES.values(), ids=FORGERIES)
def test_a_manifest_that_cannot_be_trusted_is_refused(tmp_path, selection, forge, says):
    forge(selection.to_parquet(tmp_path/'selection.parquet'))
    with pytest.raises(UserError, match=says): Selection.from_parquet(tmp_path/'selection.parquet')

def test_a_manifest_is_what_was_written(tmp_path, selection):
    again = Selection.from_parquet(selection.to_parquet(tmp_path/'selection.parquet'))
    pd.testing.assert_frame_equal(again.table, selection.table)
    assert (again.hash, again.config) == (selection.hash, selection.config)

def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match='no such file'): Selection.from_parquet(tmp_path/'selection.parquet')
    with pytest.raises(UserError, match=tmp_path.name): Selection.from_parquet(tmp_path)

# Results of trainings

def four_trainings(out, regime):
    "The function that makes, or goes on with, four small trainings in a folder."
    config = grids.Config('digits', encoders=('pixels',), ratios=(.5,), rank_types=('cossim',), prune_types=('common',), n_clusters=4, epochs=1,
                          regimes=(regime,), seeds=1)
    images, _ = holdout(load_images('digits'))
    return lambda: grids.train_grid(images, {'pixels': embed(images, 'pixels')}, config, out, checkpoints=2)[:2]

@pytest.fixture(scope='module')
def grid(tmp_path_factory):
    "A folder with four trainings, and the function that goes on with them."
    out = tmp_path_factory.mktemp('grid')
    go_on = four_trainings(out, 'steps')
    assert [len(t) for t in go_on()] == [4, 6]
    return out, go_on

@pytest.mark.parametrize('regime', ['epochs', 'steps'])
@pytest.mark.parametrize('there', [['full'], ['full', 'random'], ['cossim-common', 'semdedup']], ids='+'.join)
def test_any_part_of_the_results_is_taken_up(tmp_path, regime, there):
    "Also parts without curves, or without the name of an encoder."
    go_on = four_trainings(tmp_path, regime)
    for name, table in zip(('results', 'curves'), whole := go_on()):
        if len(table): grids.write_results(table[table.selection.isin(there)], tmp_path/f'{name}.parquet')
    if there == ['full']: (tmp_path/'curves.parquet').unlink(missing_ok=True)
    results, curves = go_on()
    assert sorted(results.selection) == sorted(whole[0].selection) and len(curves) == len(whole[1])
    assert set(whole[0][whole[0].selection.isin(there)].train_seconds) <= set(results.train_seconds)

@pytest.mark.parametrize('name', ['results.parquet', 'curves.parquet'])
@pytest.mark.parametrize('damage', ['cut', 'foreign'])
def test_results_that_cannot_be_trusted_are_refused(grid, name, damage):
    "And what to do about it is said."
    out, go_on = grid
    whole = (out/name).read_bytes()
    try:
        if damage == 'cut': (out/name).write_bytes(whole[:-50])
        else: pd.DataFrame(dict(a=[1])).to_parquet(out/name)
        with pytest.raises(UserError, match=f'{name}.*Delete it'): go_on()
    finally: (out/name).write_bytes(whole)

def test_results_are_not_trained_again(grid):
    out, go_on = grid
    before = {name: (out/name).read_bytes() for name in ('results.parquet', 'curves.parquet')}
    go_on()
    assert {name: (out/name).read_bytes() for name in before} == before

def test_curves_without_results_are_not_doubled(grid):
    "As a process leaves them that is killed between the two files."
    out, go_on = grid
    pd.read_parquet(out/'results.parquet').head(1).to_parquet(out/'results.parquet')
    results, curves = go_on()
    assert len(results) == 4 and len(curves) == 6 and not curves.duplicated(['selection', 'step']).any()

@pytest.mark.parametrize('said, kind', [('I/O error: No space left on device (os error 28)', UserError), ('header too large', SafetensorError)])
def test_what_safetensors_says_of_the_system(tmp_path, monkeypatch, said, kind):
    "A full disk is a sentence; anything else is passed on, and nothing is left behind."
    def refuse(*args, **kwargs): raise SafetensorError(said)
    monkeypatch.setattr(embeddings, 'save_file', refuse)
    with pytest.raises(kind, match='disk is full' if kind is UserError else 'header'):
        embeddings.write_cache(tmp_path/'x.safetensors', np.eye(2, dtype=np.float32), {})
    assert list(tmp_path.iterdir()) == []
